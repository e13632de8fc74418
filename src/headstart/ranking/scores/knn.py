"""Nearest neighbours by cosine: what the features know without any fitting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headstart.adapt.heads.rotated import row_blocks
from headstart.ranking.scores.checks import targets_of
from headstart.ranking.scores.score import About
from headstart.ranking.scores.subsample import drawn


@dataclass(frozen=True)
class KNN:
    """Left-out accuracy of the vote of the k nearest rows (classes); else R² of their mean, averaged over columns.

    k: at most; never more than a class has rows on average, or small classes could not win a vote.  most: above so many
    rows a stratified draw is judged, against all rows; it does not depend on the features, so that networks stay
    comparable. Of equal votes the class with the larger sum of cosines wins.
    """

    k: int = 20
    most: int = 5000
    seed: int = 0

    about: ClassVar[About] = About(
        name="knn",
        in_words="left-out accuracy of the 20 nearest neighbours by cosine",
        low=float("-inf"),
        high=1.0,
        targets=("classes", "labels", "values"),
        cost="n·min(n, 5000)·D",
        source="k = 20 and cosine as in METHODS A.1 (kNN beats 23 metrics in arXiv:2503.18528)",
    )

    def __call__(self, X: np.ndarray, y: np.ndarray, /) -> float:
        targets = targets_of(X, y, self.about)
        codes = targets.codes if len(targets.codes) else np.zeros(len(y), np.int64)
        judged = drawn(codes, self.most, self.seed)
        unit = _unit(X)
        k = min(self.k, len(X) - 1, max(1, len(X) // max(1, len(targets.counts))))
        total = 0.0
        for part in row_blocks(len(judged), len(X)):
            rows = judged[part]
            near, cosine = _nearest(unit, rows, k)
            around = targets.columns[near]  # (b, k, K)
            if targets.kind == "classes":
                votes = around.sum(axis=1) + (around * (1 + cosine)[:, :, None]).sum(axis=1) / (4 * k)
                total += float((votes.argmax(axis=1) == targets.codes[rows]).sum())
            else:
                error = (around.mean(axis=1) - targets.columns[rows]) ** 2 / targets.columns.var(axis=0)
                total += float((1 - error.mean(axis=1)).sum())
        return total / len(judged)


def _unit(X: np.ndarray) -> np.ndarray:
    """Rows of length 1 in the precision they came in; rows of zeros stay."""
    lengths = np.sqrt(np.einsum("nd,nd->n", X, X, dtype=np.float64))
    return X / np.where(lengths > 0, lengths, 1.0)[:, None].astype(X.dtype)


def _nearest(unit: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(positions, cosines), each (b, k), the row itself left out."""
    cosine = unit[rows] @ unit.T
    cosine[np.arange(len(rows)), rows] = -np.inf
    near = np.argpartition(cosine, len(unit) - k, axis=1)[:, -k:]
    return near, np.clip(np.take_along_axis(cosine, near, axis=1).astype(np.float64), -1, 1)
