"""What is there, what is wrong with it, and what the split will be. No network, nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.base.errors import HeadstartError
from headstart.base.progress import QUIET, Observer
from headstart.data.audit import audit
from headstart.data.dataset import Dataset
from headstart.data.rows import Row
from headstart.data.split import group_rows
from headstart.inputs.columns import learn_columns
from headstart.records.audit import Audit, SplitRecord
from headstart.records.columns import ColumnRecord
from headstart.workflow.columns import describe
from headstart.workflow.config import FitConfig, cache_folder
from headstart.workflow.dividing import divide
from headstart.workflow.judge import Known
from headstart.workflow.reading import look_of, read, task_of


@dataclass(frozen=True)
class Inspection:
    """split is None where the data cannot be learnt from; problem says why.  columns: of a table of features."""

    audit: Audit
    split: SplitRecord | None
    problem: str = ""
    columns: tuple[ColumnRecord, ...] = ()


def inspect(
    data: Any,
    y: Sequence[Any] | None = None,
    *,
    config: FitConfig | None = None,
    cache: str | Path | None = None,
    observer: Observer = QUIET,
) -> Inspection:
    """Look at every example of ``data`` once. Raises DataError only where not even a dataset can be made of it."""
    config = config or FitConfig()
    dataset = read(data, y, config.data, observer=observer)
    seen = look_of(dataset, config.data).survey(dataset, cache_folder(cache), observer=observer)
    found = audit(dataset, seen)
    try:
        usable = dataset.take(seen.rows)
        task = task_of(usable)
        groups = group_rows(dataset, seen.rows, found.clusters, by=config.data.group_by)
        nothing = np.zeros((len(usable), 0), np.float32)
        nobody = np.zeros(0, object)  # the record takes its names from ``usable``: ten million are a gigabyte
        known = Known(nothing, task.encode(usable.targets or ()), groups, nobody, task)
        train, _, divided = divide(known, usable, config, found)
        return Inspection(found, divided, columns=_columns(usable, train))
    except HeadstartError as problem:
        return Inspection(found, None, str(problem))


def _columns(usable: Dataset, train: np.ndarray) -> tuple[ColumnRecord, ...]:
    """What the columns of a table would be taken for, by the rows that would learn; () for other data."""
    if usable.modality != "vector":
        return ()
    rows: list[Row] = [usable.values[i] for i in train]
    return tuple(describe(column, rows) for column in learn_columns(rows))
