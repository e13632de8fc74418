"""The model folder: saved, loaded back, compared. And the pictures that the report will want."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.adapt.heads.choose import Chosen
from headstart.bundle.save import Agreement, ModelFacts, save, verify_opens_alike
from headstart.data.dataset import Dataset
from headstart.data.decode import ImageLimits, decode_image
from headstart.inputs.image import prepare
from headstart.inputs.spec import ImageSpec
from headstart.records.audit import Audit, SplitRecord
from headstart.records.evaluation import Evaluation
from headstart.records.run import FeatureRecord, RunFolder
from headstart.tasks.task import Task
from headstart.workflow.judge import Known
from headstart.workflow.pictures import pictures, samples

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone

COMPARED = 8  # samples on which the saved model must say what the evaluated one said
SHOWN = 12  # mistakes, doubts and label issues that get a thumbnail


def save_model(
    run: RunFolder,
    *,
    backbone: Backbone,
    chosen: Chosen,
    task: Task,
    features: FeatureRecord,
    evaluation: Evaluation,
    split: SplitRecord,
    created: str,
) -> str:
    """Write the model folder; its seal, which names it: two folders with one seal are equal."""
    facts = ModelFacts(
        head_family=chosen.record.chosen,
        head_setting=chosen.setting,
        runner=features.runner,
        evaluation=evaluation,
        counts=split.counts_train,
        trained_on_n=len(split.train),
        created=created,
    )
    saved = save(run.model, backbone=backbone, head=chosen.head, task=task, temperature=chosen.temperature, facts=facts)
    return saved.seal


def check_saved(
    run: RunFolder,
    dataset: Dataset,
    rows: np.ndarray,
    known: Known,
    chosen: Chosen,
    spec: ImageSpec,
    limits: ImageLimits,
    device: str,
    runner: str,
) -> Agreement:
    """Load the folder back and compare on up to eight images; BundleError when the scores differ.

    rows: rows of ``dataset`` that ``known`` holds, in the same order.  runner: the one that made their features. Where
    it was in float32, plain torch is asked: it needs no conversion, and it is what others will open the folder with.
    """
    at = np.unique(np.linspace(0, len(known) - 1, COMPARED).astype(int))
    pixels = []
    for row in rows[at]:
        image, _ = decode_image(
            dataset.content(int(row))[1], name=dataset.ids[row], limits=limits, at_least=spec.resized
        )
        pixels.append(prepare(image, spec))
    expected = known.task.decode(chosen.head.logits(known.X[at]) / chosen.temperature)
    precision = "float32" if "f32" in runner else None
    return verify_opens_alike(run.model, np.stack(pixels), expected, device=device, precision=precision)


def report_pictures(
    dataset: Dataset,
    learnt: Sequence[str],
    evaluation: Evaluation,
    found: Audit,
    spec: ImageSpec,
    limits: ImageLimits,
) -> dict[str, Any]:
    """pictures.json: thumbnails by id and the sample ids of each class. learnt: ids of the training rows."""
    target_of = dict(zip(dataset.ids, dataset.targets or (), strict=False))
    some = samples([target_of[i] for i in learnt], learnt)
    wanted = [e.id for e in (*evaluation.worst[:SHOWN], *evaluation.least_certain[:SHOWN])]
    wanted += [i.id for i in evaluation.label_issues[:SHOWN]]
    for cluster in (*found.conflicts[:6], *found.clusters[:6]):
        wanted += cluster.ids[:3]
    seen = [i for ids in some.values() for i in ids]
    return {"pictures": pictures(dataset, wanted, seen, spec=spec, limits=limits), "samples": some}
