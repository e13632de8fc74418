"""H-score: how much of the spread of the features lies between the classes, in units of all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headstart.ranking.scores.checks import targets_of
from headstart.ranking.scores.score import About
from headstart.ranking.scores.spectrum import Spectrum, spectrum


@dataclass(frozen=True)
class HScore:
    """tr(Σ⁻¹ Cov(E[X|y])), shrunk and put between 0 (what labels drawn at random give) and 1 (the most there can be).

    shrink: Ledoit–Wolf covariance. Without it the trace is Pillai's, Σ of the squared canonical correlations with the
    classes, and says nothing once n ≤ D + 1: it is C − 1 and the score 0, whatever the labels.
    Both covariances are divided by n, so that the null expectation over all orders of the labels is exact:
    E₀ = (1 − a)(C − 1)/(n − 1)·tr(Σ_a⁻¹ S), which is k(C − 1)/(n − 1) without shrinkage.
    """

    shrink: bool = True

    about: ClassVar[About] = About(
        name="hscore",
        in_words="share of the features' spread that lies between the classes",
        low=float("-inf"),
        high=1.0,
        cost="n·D·min(n, D) + min(n, D)³ + n·D·C",
        source="Bao et al. 2019, ICIP (H-score); Ibrahim et al. 2021, arXiv:2110.06893 (shrinkage); correction ours",
    )

    def __call__(self, X: np.ndarray, y: np.ndarray, /, *, parts: Spectrum | None = None) -> float:
        """parts: ``spectrum(X)``, where another score needed it too."""
        trace, chance, best = self.trace(X, y, parts=parts)
        if best - chance <= 1e-9 * best:
            return 0.0  # any labels would have given the same
        return (trace - chance) / (best - chance)

    def trace(self, X: np.ndarray, y: np.ndarray, *, parts: Spectrum | None = None) -> tuple[float, float, float]:
        """(the H-score as published, its mean over all orders of the labels, the most there can be)."""
        targets = targets_of(X, y, self.about)
        n, classes = len(y), len(targets.counts)
        parts = parts or spectrum(X)
        spread = parts.values / n
        a, level = ledoit_wolf(parts) if self.shrink else (0.0, 0.0)
        kept = (1 - a) * spread / ((1 - a) * spread + a * level)  # (1 − a) S on the axes of Σ_a
        means = parts.sums(targets.columns) / np.sqrt(targets.counts * n)  # Σ_c of their squares is Cov(E[X|y])
        trace = (kept / spread) @ (means**2).sum(axis=1)
        chance = kept.sum() * (classes - 1) / (n - 1)
        best = np.sort(kept)[::-1][: classes - 1].sum()
        return float(trace), float(chance), float(best)


def ledoit_wolf(parts: Spectrum) -> tuple[float, float]:
    """(a, μ): Σ_a = (1 − a) S + a μ I loses least in expectation (Ledoit & Wolf 2004, J. Multivar. Anal. 88)."""
    n = len(parts.X)
    norms = np.empty(n)
    for rows, z in parts.blocks():
        norms[rows] = (z**2).sum(axis=1)
    return shrinkage(parts.values / n, float((norms**2).mean()), n, parts.X.shape[1])


def shrinkage(spread: np.ndarray, fourth: float, n: int, width: int) -> tuple[float, float]:
    """spread: eigenvalues of S (divided by n).  fourth: mean of |x|⁴ over the centred rows."""
    level = float(spread.sum()) / width
    squares = float((spread**2).sum())
    distance = squares - width * level**2
    noise = min((fourth - squares) / n, distance)
    return (noise / distance if distance > 0 else 0.0), level
