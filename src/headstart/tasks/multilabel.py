"""Any number of labels for each example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.base.errors import DataError, shown
from headstart.tasks.task import Task


@dataclass(frozen=True)
class MultiLabel(Task):
    """Labels in sorted order, each yes or no by itself."""

    labels: tuple[str, ...]
    headline: str = "macro_f1"
    name: str = "multilabel"
    greater_is_better: bool = True

    @classmethod
    def from_targets(cls, targets: Sequence[Sequence[str]]) -> MultiLabel:
        labels = tuple(sorted({label for row in targets for label in row}))
        if not labels:
            raise DataError("DA45 no example carries a label. Nothing to learn.")
        return cls(labels)

    def encode(self, targets: Sequence[Any]) -> np.ndarray:
        index = {label: i for i, label in enumerate(self.labels)}
        unknown = sorted({str(t) for row in targets for t in row if t not in index})
        if unknown:
            raise DataError(
                f"DA41 label '{shown(unknown[0])}' is not among the {len(self.labels)} that were learnt "
                f"({len(unknown)} such names)."
            )
        y = np.zeros((len(targets), self.outputs), np.int8)
        for i, row in enumerate(targets):
            y[i, [index[t] for t in row]] = 1
        return y

    def decode(self, logits: np.ndarray) -> np.ndarray:
        z = np.asarray(logits, np.float64)
        e = np.exp(-np.abs(z))
        return np.where(z >= 0, 1 / (1 + e), e / (1 + e))

    def regress_on(self, y: np.ndarray) -> np.ndarray:
        return y * 2.0 - 1.0

    def strata(self, y: np.ndarray) -> np.ndarray:
        """The rarest label that an example carries, 0 for none."""
        if not len(y):
            return np.zeros(0, np.int64)
        order = np.argsort(y.sum(axis=0), kind="stable")  # rarest first
        has = y[:, order] > 0
        return np.where(has.any(axis=1), order[has.argmax(axis=1)] + 1, 0).astype(np.int64)
