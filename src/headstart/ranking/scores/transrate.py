"""TransRate: how many more bits the features take together than class by class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headstart.ranking.scores.checks import targets_of
from headstart.ranking.scores.score import About


@dataclass(frozen=True)
class TransRate:
    """R(X) − mean over classes of R(X_c), with R(Z) = ½ ln det(I + ZᵀZ / (n ε)) of the centred features.

    scaled: divide the features by their mean standard deviation first; the rate grows with their scale, which differs
    between networks for no reason that concerns the task. The published score does not.
    """

    epsilon: float = 1e-4
    scaled: bool = True

    about: ClassVar[About] = About(
        name="transrate",
        in_words="coding rate of all features minus that of each class",
        low=float("-inf"),
        high=float("inf"),
        cost="n·D·min(n, D) + C·min(n/C, D)³",
        source="Huang et al. 2022, arXiv:2106.09362, eq. 4; scale taken out first",
    )

    def __call__(self, X: np.ndarray, y: np.ndarray, /) -> float:
        targets = targets_of(X, y, self.about)
        centred = X - X.mean(axis=0, dtype=np.float64)
        if self.scaled:
            centred /= np.sqrt((centred**2).mean())
        by_class = [self._rate(centred[targets.codes == c]) for c in range(len(targets.counts))]
        return self._rate(centred) - float(np.mean(by_class))

    def _rate(self, Z: np.ndarray) -> float:
        gram = Z.T @ Z if len(Z) > Z.shape[1] else Z @ Z.T  # the determinant is the same
        gram /= len(Z) * self.epsilon
        gram.flat[:: len(gram) + 1] += 1
        return 0.5 * float(np.linalg.slogdet(gram)[1])
