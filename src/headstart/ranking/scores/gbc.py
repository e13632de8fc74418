"""GBC: by how much the classes, each taken as a Gaussian, overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from headstart.ranking.scores.checks import targets_of
from headstart.ranking.scores.score import About
from headstart.ranking.scores.spectrum import spectrum

FLOOR = 1e-4  # of a variance


@dataclass(frozen=True)
class GBC:
    """−Σ exp(−D_B(i, j)) over ordered pairs of classes, D_B the Bhattacharyya distance; 0 apart, −C(C − 1) identical.

    variance: one a class ('spherical') or one a class and feature ('diagonal').  dims: principal axes that are kept; 0
    for the features as they are.  once: count the log determinant of a spherical covariance once instead of D times,
    as the code that made the published figures does.
    """

    variance: Literal["spherical", "diagonal"] = "spherical"
    dims: int = 64
    once: bool = False

    about: ClassVar[About] = About(
        name="gbc",
        in_words="minus the overlap of the classes as Gaussians",
        low=float("-inf"),
        high=0.0,
        cost="n·D·min(n, D) + min(n, D)³ + 64·C²",
        source="Pándy et al. 2022, arXiv:2111.12780, eq. 2 and 3; log determinant over all dimensions",
    )

    def __call__(self, X: np.ndarray, y: np.ndarray, /) -> float:
        targets = targets_of(X, y, self.about)
        features = _main_axes(X, self.dims) if self.dims else X.astype(np.float64)
        means = targets.columns.T @ features / targets.counts[:, None]  # (C, d)
        squares = targets.columns.T @ (features - features.mean(axis=0)) ** 2 / targets.counts[:, None]
        variance = np.maximum(squares - (means - features.mean(axis=0)) ** 2, FLOOR)
        dims = features.shape[1]
        if self.variance == "spherical":
            variance = variance.mean(axis=1, keepdims=True)
        times = dims if self.variance == "spherical" and not self.once else 1
        overlap = 0.0
        for i in range(len(means)):
            shared = (variance[i] + variance) / 2
            apart = ((means[i] - means) ** 2 / shared).sum(axis=1) / 8
            apart += times * (np.log(shared) - np.log(variance[i]) / 2 - np.log(variance) / 2).sum(axis=1) / 2
            overlap += float(np.exp(-np.delete(apart, i)).sum())
        return -overlap


def _main_axes(X: np.ndarray, dims: int) -> np.ndarray:
    """(n, dims) principal components, unscaled."""
    parts = spectrum(X)
    return np.concatenate([z[:, :dims] for _, z in parts.blocks()])
