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
from headstart.data.split import group_rows
from headstart.records.audit import Audit, SplitRecord
from headstart.workflow.config import FitConfig, cache_folder
from headstart.workflow.dividing import divide
from headstart.workflow.judge import Known
from headstart.workflow.reading import look_of, read, task_of


@dataclass(frozen=True)
class Inspection:
    """split is None where the data cannot be learnt from; problem says why."""

    audit: Audit
    split: SplitRecord | None
    problem: str = ""


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
    dataset = read(data, y, config.data)
    seen = look_of(dataset, config.data).survey(dataset, cache_folder(cache), observer=observer)
    found = audit(dataset, seen)
    try:
        usable = dataset.take(seen.rows)
        task = task_of(usable)
        groups = group_rows(dataset, seen.rows, found.clusters, by=config.data.group_by)
        nothing = np.zeros((len(usable), 0), np.float32)
        known = Known(nothing, task.encode(usable.targets or ()), groups, np.asarray(usable.ids, object), task)
        return Inspection(found, divide(known, usable, config, found)[2])
    except HeadstartError as problem:
        return Inspection(found, None, str(problem))
