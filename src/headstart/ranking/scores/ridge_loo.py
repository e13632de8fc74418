"""Exact leave-one-out ridge regression: how well a linear head on these features predicts examples it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headstart.ranking.scores.checks import Targets, targets_of
from headstart.ranking.scores.score import About
from headstart.ranking.scores.spectrum import Spectrum, spectrum

RELATIVE_LAMBDAS = np.logspace(-3, 4, 15)


@dataclass(frozen=True)
class RidgeLoo:
    """Left-out accuracy (classes), or left-out R² averaged over the columns (labels, values).

    METHODS A.2a: with Z the features on their axes and w the spectrum, the prediction of row i without row i is
    y_i − (y_i − ŷ_i) / (1 − h_i), h_i = Σ_j z_ij² / (w_j + λ) + 1/n, for all penalties λ from one eigendecomposition.
    The penalty with the best score is kept; ties go to the larger.
    """

    about: ClassVar[About] = About(
        name="ridge_loo",
        in_words="left-out accuracy of a ridge head (R² for labels and values)",
        low=float("-inf"),
        high=1.0,
        targets=("classes", "labels", "values"),
        cost="n·D·min(n, D) + min(n, D)³ + 15·n·min(n, D)·C",
        source="Golub, Heath & Wahba 1979, Technometrics 21(2), for the leave-one-out residual; targets ±1",
    )

    def __call__(self, X: np.ndarray, y: np.ndarray, /) -> float:
        return float(self.by_example(X, y).mean())

    def by_example(self, X: np.ndarray, y: np.ndarray, *, parts: Spectrum | None = None) -> np.ndarray:
        """(n,) whose mean is the score: 1 where the left-out prediction is right (classes), else 1 − error² / variance.

        What a bootstrap over examples needs: drawing rows of it again costs no refit.  parts: ``spectrum(X)``, where
        another score needed it too.
        """
        targets = targets_of(X, y, self.about)
        parts = parts or spectrum(X)
        scores = left_out_scores(parts, targets, RELATIVE_LAMBDAS * parts.mean_value)
        means = scores.mean(axis=1)
        return scores[len(means) - 1 - int(means[::-1].argmax())].astype(np.float64)


def left_out_scores(parts: Spectrum, targets: Targets, lambdas: np.ndarray) -> np.ndarray:
    """(L, n) float32: for each penalty, how each row fares when it is left out."""
    Y = targets.columns if targets.kind == "values" else 2 * targets.columns - 1
    mean, n = Y.mean(axis=0), len(Y)
    sums = parts.sums(Y - mean)
    # Errors count in units of the column's variance, so that no column drowns the others.
    scale = 1 / Y.var(axis=0)
    out = np.empty((len(lambdas), n), np.float32)
    for rows, z in parts.blocks():
        leverage = z**2 @ (1 / (parts.values[:, None] + lambdas)) + 1 / n  # (b, L)
        for i, penalty in enumerate(lambdas):
            residual = Y[rows] - mean - z @ (sums / (parts.values + penalty)[:, None])
            residual /= (1 - leverage[:, i])[:, None]
            if targets.kind == "classes":
                out[i, rows] = (Y[rows] - residual).argmax(axis=1) == targets.codes[rows]
            else:
                out[i, rows] = 1 - (residual**2 * scale).mean(axis=1)
    return out
