"""LogME: how probable the targets are under the best Bayesian linear regression on these features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headstart.ranking.scores.checks import targets_of
from headstart.ranking.scores.score import About
from headstart.ranking.scores.spectrum import spectrum

DECADES = (-16, 12)  # where α/β is looked for, around the largest eigenvalue; beyond, the fit is perfect or void
PERFECT = 1e-12  # the smallest squared error, as a share of ‖y‖²
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class LogME:
    """Log maximum evidence per example, averaged over the columns: 0/1 for each class or label, values standardised.

    The authors' code counts D/2·ln α where there are only k = rank(X) directions, which rewards wide features as soon
    as n < D (pure noise, n = 100, D = 512, scores 15.2; it is −0.61). Here k/2·ln α, by METHODS A.2b; equal to the
    evidence of ``sklearn.linear_model.BayesianRidge`` without hyperpriors. Features are not centred, as in the paper.
    """

    about: ClassVar[About] = About(
        name="logme",
        in_words="log evidence of a Bayesian linear head, per example",
        low=float("-inf"),
        high=float("inf"),
        targets=("classes", "labels", "values"),
        cost="n·D·min(n, D) + min(n, D)³ + 150·min(n, D)·C",
        source="You et al. 2021, arXiv:2102.11005, eq. 2 to 6, with k/2·ln α in place of the code's D/2·ln α",
    )

    def __call__(self, X: np.ndarray, y: np.ndarray, /) -> float:
        targets = targets_of(X, y, self.about)
        Y = targets.columns
        if targets.kind == "values":
            Y = (Y - Y.mean(axis=0)) / Y.std(axis=0)
        parts = spectrum(X, centre=False)
        along = parts.sums(Y) / np.sqrt(parts.values)[:, None]  # Uᵀy, (k, C)
        return float(log_evidence(parts.values, along, (Y**2).sum(axis=0), len(Y)).mean())


def log_evidence(spectrum: np.ndarray, along: np.ndarray, squares: np.ndarray, n: int) -> np.ndarray:
    """(C,) L/n for each target column.

    spectrum: (k,) eigenvalues of XᵀX.  along: (k, C) Uᵀy.  squares: (C,) ‖y‖².

    For a given t = α/β the best β is n/q, q = Σ x² t/(σ + t) + what lies outside the span, so that evidence is a
    function of t alone: L = −n/2·(ln(2π q/n) + 1) − ½ Σ ln(1 + σ/t). It is read on a grid and refined by golden
    section. The fixed point of the paper has the same optimum, but creeps there when n < D.
    """
    x2 = along**2
    outside = np.maximum(squares - x2.sum(axis=0), PERFECT * squares)

    def at(log_t: np.ndarray) -> np.ndarray:
        ratio = spectrum[:, None] / np.exp(log_t)
        q = (x2 / (1 + ratio)).sum(axis=0) + outside
        return -0.5 * (np.log(2 * np.pi * q / n) + 1 + np.log1p(ratio).sum(axis=0) / n)

    grid = np.log(spectrum[0]) + np.log(10) * np.arange(DECADES[0], DECADES[1] + 0.5, 0.5)
    best = np.stack([at(np.full(len(squares), g)) for g in grid]).argmax(axis=0)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, len(grid) - 1)]
    for _ in range(45):  # the bracket shrinks to 1e-9
        step = GOLDEN * (high - low)
        left, right = high - step, low + step
        worse = at(left) < at(right)
        low, high = np.where(worse, left, low), np.where(worse, high, right)
    return at((low + high) / 2)
