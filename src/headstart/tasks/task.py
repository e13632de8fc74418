"""The contract of a task. Arrays only: losses for training live with the loop that needs them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np


class Task(ABC):
    """How raw targets become numbers and logits become answers. Subclasses are frozen dataclasses and final.

    name: 'classification' | 'multilabel' | 'regression', as in Predictions.task.
    labels: the K names, in the order of the head's outputs.
    headline: the metric that people quote and that chooses between heads; greater_is_better says its direction.
    """

    name: str
    labels: tuple[str, ...]
    headline: str
    greater_is_better: bool

    @property
    def outputs(self) -> int:
        """Width of the head, K."""
        return len(self.labels)

    @abstractmethod
    def encode(self, targets: Sequence[Any]) -> np.ndarray:
        """Raw targets → (N,) class index int64, (N, K) 0/1 int8, or (N, K) float64. Unknown labels: DataError DA41."""

    @abstractmethod
    def decode(self, logits: np.ndarray) -> np.ndarray:
        """(N, K) logits → (N, K) probabilities, or the values themselves for regression."""

    @abstractmethod
    def regress_on(self, y: np.ndarray) -> np.ndarray:
        """(N, K) float64 targets for least squares: one-hot ±1, ±1 per label, or the values."""

    @abstractmethod
    def strata(self, y: np.ndarray) -> np.ndarray:
        """(N,) int64 by which a split is stratified: class, label set, or quantile."""
