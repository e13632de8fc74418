"""The same numbers on other labelled data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.base.errors import DataError, listed, shown
from headstart.base.progress import QUIET, Observer, Said
from headstart.data.looks.mixed import together
from headstart.data.mixed import ColumnKind
from headstart.data.parts import parts_of
from headstart.data.rows import column_of
from headstart.evaluation.evaluate import evaluate as judge
from headstart.inputs.columns import kinds_of, unfamiliar
from headstart.inputs.spec import MixedSpec, VectorSpec
from headstart.records.audit import Quarantined
from headstart.records.evaluation import Evaluation
from headstart.records.predictions import Predictions
from headstart.records.run import RunFolder
from headstart.workflow.config import DataConfig, cache_folder
from headstart.workflow.reading import look_of, read

if TYPE_CHECKING:
    from headstart.bundle.mixed_predictor import MixedPredictor
    from headstart.bundle.predictor import Answers, Predictor
    from headstart.data.dataset import Dataset
    from headstart.data.survey import Survey


@dataclass(frozen=True)
class Evaluated:
    """seen_in_training: examples whose very content the model learnt from; they make the score too good."""

    evaluation: Evaluation
    predictions: Predictions
    quarantined: tuple[Quarantined, ...]
    seen_in_training: tuple[str, ...] = ()


def evaluate(
    model: str | Path,
    data: Any,
    y: Sequence[Any] | None = None,
    *,
    config: DataConfig | None = None,
    cache: str | Path | None = None,
    device: str = "auto",
    resamples: int = 1000,
    seed: int = 0,
    observer: Observer = QUIET,
) -> Evaluated:
    """Judge the saved model on labelled ``data``; metrics, intervals and tables as ``fit`` reports them.

    model: run folder or model folder.  Labels must be among those that were learnt (DA41).
    """
    from headstart.bundle.load import load

    config = config or DataConfig()
    predictor = load(Path(model), device=device)
    kind = {"classification": "single-label", "multilabel": "multi-label", "regression": "regression"}
    if config.task is None:
        config = replace(config, task=kind[predictor.task.name])  # type: ignore[arg-type]
    if config.target is None and isinstance(predictor.manifest.input, VectorSpec | MixedSpec) and y is None:
        config = replace(config, target=predictor.manifest.input.target or None)
    dataset = read(data, y, config, learnt_columns(predictor))
    if dataset.targets is None:
        raise DataError(f"DA47 {shown(dataset.origin)} has no labels to compare with. Use 'headstart predict' for it.")
    predictor.task.encode(dataset.targets)  # unknown labels: said before anything is computed
    answers, looked = answered(predictor, dataset, config, cache, device, observer)
    usable = dataset.take(looked.rows)
    predictions = replace(
        answers,
        ids=np.asarray(usable.ids, object),
        targets=predictor.task.encode(usable.targets or ()),
    )
    before = None
    if predictions.logits is not None:
        before = replace(predictions, scores=predictor.task.decode(predictions.logits))
    found = judge(predictions, before=before, how="other data", resamples=resamples, seed=seed)
    problems = tuple(looked.problems[row] for row in sorted(looked.problems))
    seen = _seen_in_training(Path(model), dataset, looked)
    if seen:
        observer(Said(f"DA42 {len(seen)} of these examples were learnt from: the score is too good", "warning"))
    return Evaluated(found, predictions, problems, seen)


def learnt_columns(predictor: Predictor | MixedPredictor) -> dict[str, ColumnKind] | None:
    """Columns that a table must have for this model; None for one that takes something else."""
    spec = predictor.manifest.input
    if isinstance(spec, MixedSpec):
        return dict(spec.kinds)
    return dict(kinds_of(spec.columns)) if isinstance(spec, VectorSpec) else None


def answered(
    predictor: Predictor | MixedPredictor,
    dataset: Dataset,
    config: DataConfig,
    cache: str | Path | None,
    device: str,
    observer: Observer,
) -> tuple[Answers, Survey]:
    """(answers for the usable rows, named by their position, and the look at all rows)."""
    from headstart.bundle.mixed_predictor import MixedPredictor

    if not isinstance(predictor, MixedPredictor):
        X, looked = embed(predictor, dataset, config, cache, device, observer)
        return predictor.predict_features(X), looked
    parts, added, seen = parts_of(dataset), {}, {}
    for part in parts:
        if len(part.rows):
            model = predictor.parts[part.name]
            X, seen[part.name] = embed(model, part.dataset, config, cache, device, observer)
            added[part.name] = part.rows[seen[part.name].rows], model.head.logits(X)
    looked = together(dataset, parts, seen)
    logits = predictor.total(added, len(dataset))[looked.rows]
    return predictor.answers(logits, np.asarray(dataset.take(looked.rows).ids, object), None, ()), looked


def embed(
    predictor: Predictor,
    dataset: Dataset,
    config: DataConfig,
    cache: str | Path | None,
    device: str,
    observer: Observer,
) -> tuple[np.ndarray, Survey]:
    """(n, D) features of the usable rows by the runner that the model was evaluated with, and the look at all rows."""
    from headstart.features.choose import best_device, offered

    _say_unfamiliar(predictor, dataset, observer)
    from headstart.features.extract import extract

    runner = predictor.manifest.runner
    if runner not in offered(best_device() if device == "auto" else device, dataset.modality):
        observer(Said(f"this machine has no runner '{runner}'; torch in float32 takes its place", "warning"))
        runner = "torch-f32"
    features = extract(
        predictor.backbone,
        dataset,
        cache=cache_folder(cache),
        device=device,
        only_runner=runner,
        look=look_of(dataset, config),
        observer=observer,
    )
    return features.X, features.survey


def _say_unfamiliar(predictor: Predictor, dataset: Dataset, observer: Observer) -> None:
    """TB69: names of a category that no training row had; they count as others."""
    spec = predictor.manifest.input
    if not isinstance(spec, VectorSpec):
        return
    for column, names in unfamiliar([*dataset.values], spec.columns).items():
        rows = int(np.isin(column_of([*dataset.values], column), names).sum())
        said = listed([f"'{n}'" for n in names])
        observer(
            Said(f"TB69 column '{shown(column)}': {rows} rows hold names that no training row had ({said})", "warning")
        )


def _seen_in_training(model: Path, dataset: Dataset, looked: Survey) -> tuple[str, ...]:
    """Ids whose content key is among those of the training rows, where the run folder has kept them."""
    folder = RunFolder(model if (model / "run.json").exists() else model.parent)
    if not folder.training_keys.exists():
        return ()
    raw = folder.training_keys.read_bytes()
    learnt = {raw[i : i + 16] for i in range(0, len(raw), 16)}
    return tuple(dataset.ids[row] for row in looked.rows if looked.keys[row] in learnt)
