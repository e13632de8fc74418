"""What a head is: one linear layer, perhaps with hidden ones before it; and what every family of heads can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from headstart.adapt.heads.folds import Folds
from headstart.adapt.heads.rotated import Rotated
from headstart.tasks.task import Task

Setting = Mapping[str, float | str]


@dataclass(frozen=True)
class LinearHead:
    """logits = X weightᵀ + bias.  weight: (K, D) float64, bias: (K,) float64, as in torch.nn.Linear.

    hidden: (weight, bias) of layers before it, input side first, with GELU after each: X goes through them, and D is
    the width of the last. They become a part of the network before anything is saved.
    """

    weight: np.ndarray
    bias: np.ndarray
    hidden: tuple[tuple[np.ndarray, np.ndarray], ...] = ()

    def logits(self, X: np.ndarray) -> np.ndarray:
        """(N, K) float64 for X (N, D) of any float type."""
        out = np.empty((len(X), len(self.bias)))
        for start in range(0, len(X), 4096):  # float64 copies of a block, never of all rows
            rows = slice(start, start + 4096)
            out[rows] = self._deep(np.asarray(X[rows], np.float64)) @ self.weight.T + self.bias
        return out

    def _deep(self, x: np.ndarray) -> np.ndarray:
        from scipy.special import erf

        for weight, bias in self.hidden:
            x = x @ weight.T + bias
            x = 0.5 * x * (1 + erf(x / np.sqrt(2)))
        return x

    def scaled(self, temperature: float) -> LinearHead:
        """The head whose logits are these divided by ``temperature``."""
        return replace(self, weight=self.weight / temperature, bias=self.bias / temperature)

    def shifted(self, bias: np.ndarray) -> LinearHead:
        """The head whose logits are these plus ``bias`` (K,)."""
        return replace(self, bias=self.bias + bias)


@dataclass(frozen=True)
class OutOfFold:
    """logits: (n, K), each row by models that have not seen it (NaN: never held out).  setting: what was kept."""

    logits: np.ndarray
    setting: Setting


class HeadFamily(Protocol):
    """One kind of head. rank: simplicity, the lower the simpler.  linear: can be saved as a layer of the network."""

    @property
    def name(self) -> str: ...

    @property
    def rank(self) -> int: ...

    @property
    def linear(self) -> bool: ...

    def fits(self, task: Task) -> bool:
        """Does this kind of head make sense for the task?"""
        ...

    def cross_validate(self, rotated: Rotated, y: np.ndarray, task: Task, folds: Folds) -> OutOfFold:
        """Choose the setting and judge it on held-out rows, sharing between folds what can be shared."""
        ...

    def fit(self, rotated: Rotated, y: np.ndarray, task: Task, setting: Setting) -> LinearHead:
        """The head from all rows, on raw features. DataError for a kind that is not linear."""
        ...
