"""Answers for new examples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from headstart.base.errors import DataError, shown
from headstart.base.progress import QUIET, Observer
from headstart.inputs.spec import modality_of
from headstart.records.audit import Quarantined
from headstart.records.predictions import Predictions
from headstart.workflow.config import DataConfig
from headstart.workflow.evaluate import answered, learnt_columns
from headstart.workflow.reading import read


@dataclass(frozen=True)
class Predicted:
    predictions: Predictions
    quarantined: tuple[Quarantined, ...]


def predict(
    model: str | Path,
    data: Any,
    *,
    out: str | Path | None = None,
    config: DataConfig | None = None,
    cache: str | Path | None = None,
    device: str = "auto",
    observer: Observer = QUIET,
) -> Predicted:
    """Predict every example in ``data`` (folder, table, list, one path); labels in it are not looked at.

    out: CSV file to write, one row an example; files that could not be used are rows too, with their reason.
    Raises DataError if not one example can be used.
    """
    from headstart.bundle.csv import write_predictions_csv
    from headstart.bundle.load import load

    config = config or DataConfig()
    if out is not None and Path(out).is_dir():
        raise DataError(f"EN66 {shown(out)} is a folder; --out needs the name of a CSV file.")
    predictor = load(Path(model), device=device)
    dataset = read(as_asked(data, modality_of(predictor.manifest.input)), None, config, learnt_columns(predictor))
    answers, looked = answered(predictor, dataset, config, cache, device, observer)
    ids = np.asarray([dataset.ids[row] for row in looked.rows], object)
    predictions = replace(answers, ids=ids)
    problems = tuple(looked.problems[row] for row in sorted(looked.problems))
    if out is not None:
        write_predictions_csv(Path(out), predictions, problems)
    return Predicted(predictions, problems)


TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".json", ".txt")


def as_asked(data: Any, modality: str) -> Any:
    """One picture or sound is a list of one; all else is told by the readers."""
    return [Path(data)] if modality in ("image", "audio") and _is_one_file(data) else data


def _is_one_file(data: Any) -> bool:
    return isinstance(data, str | Path) and Path(data).is_file() and Path(data).suffix.lower() not in TABLES
