"""One or more numbers for each example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from headstart.base.errors import DataError
from headstart.tasks.task import Task

Link = Literal["identity", "log"]
MOST_LOG = 700.0  # beyond it exp() is no float64 any more


@dataclass(frozen=True)
class Regression(Task):
    """link: 'log' where heads learn the logarithm of the target, which then must be above 0 everywhere."""

    labels: tuple[str, ...] = ("value",)
    headline: str = "rmse"
    name: str = "regression"
    greater_is_better: bool = False
    link: Link = "identity"

    @classmethod
    def from_targets(cls, targets: Sequence[Any], labels: tuple[str, ...] = ("value",)) -> Regression:
        several = len(targets[0]) if len(targets) and isinstance(targets[0], tuple) else 1
        if several > 1 and labels == ("value",):
            labels = tuple(f"value {i + 1}" for i in range(several))
        y = cls(labels).encode(targets)
        if len(y) and (y.max(axis=0) == y.min(axis=0)).all():
            raise DataError(f"DA45 every target is {y[0, 0]:g}. Nothing to learn.")
        return cls(labels)

    def encode(self, targets: Sequence[Any]) -> np.ndarray:
        try:
            y = np.asarray(targets, dtype=np.float64).reshape(len(targets), -1)
        except (TypeError, ValueError) as error:
            raise DataError(f"TB59 the target is not a number everywhere ({error}).") from error
        if y.shape[1] != self.outputs:
            raise DataError(f"TB59 each target has {y.shape[1]} numbers; {self.outputs} were learnt.")
        bad = int((~np.isfinite(y)).any(axis=1).sum())
        if bad:
            raise DataError(f"TB52 {bad} of {len(y)} targets are NaN or infinite. Remove those rows.")
        return y

    def decode(self, logits: np.ndarray) -> np.ndarray:
        values = np.asarray(logits, np.float64)
        return np.exp(np.minimum(values, MOST_LOG)) if self.link == "log" else values

    def regress_on(self, y: np.ndarray) -> np.ndarray:
        return np.log(y) if self.link == "log" else y

    def strata(self, y: np.ndarray) -> np.ndarray:
        """Ten quantile groups of the first target."""
        ranks = np.argsort(np.argsort(y[:, 0], kind="stable"), kind="stable")
        return (ranks * min(10, max(1, len(y) // 5)) // max(1, len(y))).astype(np.int64)
