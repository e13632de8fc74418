"""Linear discriminant analysis: left-out accuracy of one Gaussian per class with a shared, shrunk covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headstart.base.errors import DataError
from headstart.ranking.scores.checks import Targets, targets_of
from headstart.ranking.scores.hscore import shrinkage
from headstart.ranking.scores.score import About
from headstart.ranking.scores.spectrum import Spectrum, eigh, spectrum


@dataclass(frozen=True)
class LDA:
    """Share of the rows that are right when the row itself is left out, exactly.

    Leaving row i of class c out moves the mean of c and takes n_c/(n_c − 1)·d dᵀ, d = x_i − mean_c, from the scatter;
    the inverse follows by Sherman and Morrison. Only the shrinkage (Ledoit–Wolf, of all rows) is not estimated again.
    shrink: off, the score is the same for any invertible linear map of the features, and needs n > D + C.
    """

    shrink: bool = True

    about: ClassVar[About] = About(
        name="lda",
        in_words="left-out accuracy of linear discriminant analysis",
        low=0.0,
        high=1.0,
        cost="n·D·min(n, D) + min(n, D)³ + n·min(n, D)² + n·min(n, D)·C",
        source="Fisher 1936; covariance shrunk as in Ledoit & Wolf 2004; the basis of SFDA and NCTI (METHODS A.1)",
    )

    def __call__(self, X: np.ndarray, y: np.ndarray, /) -> float:
        return float(self.by_example(X, y).mean())

    def by_example(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(n,) 1 where the left-out prediction is right, else 0."""
        targets = targets_of(X, y, self.about)
        return (self._posteriors(X, targets).argmax(axis=1) == targets.codes).astype(np.float64)

    def _posteriors(self, X: np.ndarray, targets: Targets) -> np.ndarray:
        """(n, C) log posterior of each class by the model without the row, up to a constant for each row."""
        parts = spectrum(X)
        means = (parts.sums(targets.columns) / targets.counts).T  # (C, k)
        whiten, kept = self._whitening(parts, targets, means)
        centres = means @ whiten
        out = np.empty((len(X), len(centres)))
        for rows, z in parts.blocks():
            out[rows] = _left_out(z @ whiten, centres, targets, rows, kept)
        return out

    def _whitening(self, parts: Spectrum, targets: Targets, means: np.ndarray) -> tuple[np.ndarray, float]:
        """(T (k, r), share): rows times T have unit covariance within classes; share of the scatter that is left."""
        n = len(parts.X)
        within = np.diag(parts.values) - (means.T * targets.counts) @ means
        values, vectors = eigh(within / n)
        values = np.maximum(values, 0)
        a, level = 0.0, 0.0
        if self.shrink:
            a, level = shrinkage(values, self._fourth(parts, targets, means), n, parts.X.shape[1])
        elif values[0] <= 1e-12 * values[-1]:
            raise DataError(
                f"lda: without shrinkage the covariance within classes must be invertible, but {n} rows of "
                f"{parts.X.shape[1]} features leave directions without spread. Use shrink=True."
            )
        variance = (1 - a) * values + a * level
        variance = np.maximum(variance, np.finfo(np.float64).eps * variance.max())
        return vectors / np.sqrt(variance), (1 - a) / n

    def _fourth(self, parts: Spectrum, targets: Targets, means: np.ndarray) -> float:
        total = 0.0
        for rows, z in parts.blocks():
            total += float((((z - means[targets.codes[rows]]) ** 2).sum(axis=1) ** 2).sum())
        return total / len(parts.X)


def _left_out(z: np.ndarray, centres: np.ndarray, targets: Targets, rows: slice, kept: float) -> np.ndarray:
    """(b, C) log posteriors of some rows. z, centres: whitened."""
    own, counts = targets.codes[rows], targets.counts
    d = z - centres[own]
    lost = kept * counts[own] / (counts[own] - 1)
    to_own = (d**2).sum(axis=1)
    across = (d * z).sum(axis=1)[:, None] - d @ centres.T  # (x − mean_k)·d
    away = (z**2).sum(axis=1)[:, None] - 2 * z @ centres.T + (centres**2).sum(axis=1)
    room = np.maximum(1 - lost * to_own, np.finfo(np.float64).eps)
    away += (lost / room)[:, None] * across**2
    share = np.broadcast_to(np.log(counts), away.shape).copy()
    at = np.arange(len(z)), own
    away[at] *= (counts[own] / (counts[own] - 1)) ** 2  # the own mean without this row lies further off
    share[at] = np.log(counts[own] - 1)
    return share - away / 2
