"""One label for each example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.base.errors import DataError, did_you_mean, shown
from headstart.tasks.task import Task


@dataclass(frozen=True)
class Classification(Task):
    """Classes in sorted order; the strings are kept as the user wrote them ('no', 'NA', '007')."""

    labels: tuple[str, ...]
    headline: str = "accuracy"
    name: str = "classification"
    greater_is_better: bool = True

    @classmethod
    def from_targets(cls, targets: Sequence[str]) -> Classification:
        labels = tuple(sorted(set(targets)))
        if len(labels) < 2:
            only = f" ('{shown(labels[0])}')" if labels else ""
            raise DataError(
                f"DA45 only one class{only} among {len(targets)} examples. Nothing to learn. "
                "Give at least two class folders, or a target column with at least two values."
            )
        return cls(labels)

    def encode(self, targets: Sequence[Any]) -> np.ndarray:
        index = {label: i for i, label in enumerate(self.labels)}
        unknown = sorted({str(t) for t in targets if t not in index})
        if unknown:
            raise DataError(
                f"DA41 '{shown(unknown[0])}' is not among the {len(self.labels)} classes that were learnt "
                f"({len(unknown)} such names).{did_you_mean(unknown[0], self.labels)} "
                "Rename the class or leave those examples out."
            )
        return np.asarray([index[t] for t in targets], dtype=np.int64)

    def decode(self, logits: np.ndarray) -> np.ndarray:
        shifted = np.asarray(logits, np.float64)
        shifted = shifted - shifted.max(axis=1, keepdims=True)
        e = np.exp(shifted)
        return e / e.sum(axis=1, keepdims=True)

    def regress_on(self, y: np.ndarray) -> np.ndarray:
        return np.where(y[:, None] == np.arange(self.outputs), 1.0, -1.0)

    def strata(self, y: np.ndarray) -> np.ndarray:
        return y
