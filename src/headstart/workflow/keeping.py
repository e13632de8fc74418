"""The model folder: saved, loaded back, compared. And the examples that the report will want to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.adapt.heads.choose import Chosen
from headstart.bundle.save import Agreement, ModelFacts, save, verify_opens_alike
from headstart.data.dataset import Dataset
from headstart.data.looks import Look, look_for
from headstart.features.choose import make_runner
from headstart.features.feeds import feed_for
from headstart.features.runners.runner import Runner, run_all
from headstart.inputs.spec import InputSpec, VectorSpec
from headstart.records.audit import Audit, SplitRecord
from headstart.records.evaluation import Evaluation
from headstart.records.predictions import Predictions
from headstart.records.run import RunFolder
from headstart.tasks.task import Task
from headstart.workflow.judge import Known
from headstart.workflow.modalities import EVIDENCE, Shown
from headstart.workflow.modalities.evidence import Scores
from headstart.workflow.pictures import samples

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone

COMPARED = 8  # samples on which the saved model must say what the evaluated one said
SHOWN = 12  # mistakes, doubts and label issues that are shown


def save_model(
    run: RunFolder,
    *,
    backbone: Backbone,
    chosen: Chosen,
    task: Task,
    runner: str,
    evaluation: Evaluation,
    split: SplitRecord,
    created: str,
) -> str:
    """Write the model folder; its seal, which names it: two folders with one seal are equal.

    runner: by which this network was judged; it serves, too.
    """
    facts = ModelFacts(
        head_family=chosen.record.chosen,
        head_setting=chosen.setting,
        runner=runner,
        evaluation=evaluation,
        counts=split.counts_train,
        trained_on_n=len(split.train),
        created=created,
        rounded=not isinstance(backbone.card.input, VectorSpec),
    )
    saved = save(run.model, backbone=backbone, head=chosen.head, task=task, temperature=chosen.temperature, facts=facts)
    return saved.seal


def check_saved(
    run: RunFolder,
    dataset: Dataset,
    rows: np.ndarray,
    known: Known,
    chosen: Chosen,
    backbone: Backbone,
    look: Look,
    device: str,
    runner: str,
) -> Agreement:
    """Load the folder back and compare on up to eight examples; BundleError when the scores differ.

    rows: rows of ``dataset`` that ``known`` holds, in the same order.  runner: the one that made their features. Where
    it was in float32, plain torch is asked: it needs no conversion, and it is what others will open the folder with.
    """
    at = np.unique(np.linspace(0, len(known) - 1, COMPARED).astype(int))
    feed = feed_for(backbone)
    values = [
        look.value(dataset.content(int(row))[1], name=dataset.ids[row], at_least=feed.at_least) for row in rows[at]
    ]
    arrays = [example.array for example in feed.prepare(values)]
    expected = known.task.decode(chosen.head.logits(known.X[at]) / chosen.temperature)
    precision = "float32" if "f32" in runner else None
    return verify_opens_alike(
        run.model, arrays if feed.window else np.stack(arrays), expected, device=device, precision=precision
    )


def report_examples(
    dataset: Dataset, learnt: Sequence[str], judged: Predictions, evaluation: Evaluation, found: Audit, page: Page
) -> dict[str, Any]:
    """pictures.json: what examples are shown by, and the sample ids of each class. learnt: ids of the training rows."""
    return examples_shown(
        dataset, learnt, judged, evaluation, found, spec=page.backbone.card.input, look=page.look, scores=page.scores
    )


def examples_shown(
    dataset: Dataset,
    learnt: Sequence[str],
    judged: Predictions,
    evaluation: Evaluation,
    found: Audit,
    *,
    spec: InputSpec,
    scores: Scores,
    look: Look | None = None,
) -> dict[str, Any]:
    """The same for a model that is no single network."""
    target_of = dict(zip(dataset.ids, dataset.targets or (), strict=False))
    some = samples([target_of[i] for i in learnt], learnt)
    wanted = [e.id for e in (*evaluation.worst[:SHOWN], *evaluation.least_certain[:SHOWN])]
    wanted += [i.id for i in evaluation.label_issues[:SHOWN]]
    for cluster in (*found.conflicts[:6], *found.clusters[:6]):
        wanted += cluster.ids[:3]
    seen = [i for ids in some.values() for i in ids]
    row_of = {name: row for row, name in enumerate(judged.ids)}
    mistakes = [(e.id, int(judged.scores[row_of[e.id]].argmax())) for e in evaluation.worst[:SHOWN] if e.id in row_of]
    shown = Shown(wanted, seen, mistakes, scores)
    look = look or look_for(dataset.modality)
    return {"pictures": EVIDENCE[dataset.modality].shown(dataset, shown, spec=spec, look=look), "samples": some}


@dataclass(frozen=True, eq=False)
class Page:
    """What the report's examples are made with: the network, its head, and how examples are read."""

    backbone: Backbone
    chosen: Chosen
    task: Task
    look: Look
    runner: str
    device: str

    @cached_property
    def _running(self) -> Runner:
        made = make_runner(self.backbone, self.runner, self.device)
        assert made is not None, "it has made the features of this run"
        return made

    def scores(self, values: list[Any]) -> np.ndarray:
        """(n, K) calibrated scores of new values."""
        feed = feed_for(self.backbone)
        arrays = [example.array for example in feed.prepare(values)]
        X = run_all(self._running, arrays if feed.window else np.stack(arrays))
        return self.task.decode(self.chosen.head.logits(X) / self.chosen.temperature)
