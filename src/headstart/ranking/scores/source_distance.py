"""How far the target examples lie from those the network was trained on, in the network's own features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headstart.adapt.heads.rotated import row_blocks
from headstart.base.errors import DataError
from headstart.ranking.scores.checks import check_features
from headstart.ranking.scores.score import About
from headstart.ranking.scores.subsample import drawn


@dataclass(frozen=True)
class SourceDistance:
    """Energy distance between two sets of examples, as a share of the mean distance between them; 0 alike, 1 apart.

    E = (2 E|x − s| − E|x − x'| − E|s − s'|) / (2 E|x − s|), each mean over pairs of different examples, so unbiased
    above the line and at times a little below 0. Zero in expectation only when the distributions are equal. Chosen over
    the Fréchet distance, which needs D² moments and is biased at few examples, and over MMD with a Gaussian kernel,
    which has a bandwidth to choose: this is MMD with the distance kernel (Sejdinovic et al. 2013, arXiv:1207.6076), has
    no setting, and stays the same under rotation and scaling, which is what different networks differ by.

    The second array holds the features of source examples by the same network, (m, D).
    most: above so many rows, of either, a draw.
    """

    most: int = 3000
    seed: int = 0

    about: ClassVar[About] = About(
        name="source_distance",
        in_words="energy distance of the examples from those of the source",
        low=float("-inf"),
        high=1.0,
        higher_is_better=False,
        reads="features here and at the source",
        targets=(),
        cost="(n + m)²·D, n and m at most 3000",
        source="Székely & Rizzo 2013, J. Stat. Plan. Inference 143(8), eq. 6 (the energy coefficient), unbiased means",
    )

    def __call__(self, X: np.ndarray, y: np.ndarray, /) -> float:
        check_features(X, None, self.about)
        check_features(y, None, self.about)
        if X.shape[1] != y.shape[1]:
            raise DataError(
                f"source_distance: {X.shape[1]} features here and {y.shape[1]} at the source. Both must come from the "
                "same layer of the same network."
            )
        here = X[drawn(np.zeros(len(X), np.int64), self.most, self.seed)].astype(np.float64)
        source = y[drawn(np.zeros(len(y), np.int64), self.most, self.seed)].astype(np.float64)
        centre = source.mean(axis=0)  # distances by |a|² + |b|² − 2ab lose least near the origin
        here, source = here - centre, source - centre
        between = _distances(here, source) / (len(here) * len(source))
        within = _distances(here, here) / (len(here) * (len(here) - 1))
        within_source = _distances(source, source) / (len(source) * (len(source) - 1))
        return 1 - (within + within_source) / (2 * between)


def _distances(a: np.ndarray, b: np.ndarray) -> float:
    """Sum of the Euclidean distances over all pairs."""
    total, lengths = 0.0, (b**2).sum(axis=1)
    for rows in row_blocks(len(a), len(b)):
        squares = (a[rows] ** 2).sum(axis=1)[:, None] + lengths - 2 * a[rows] @ b.T
        if a is b:  # a row from itself, exactly
            squares[np.arange(squares.shape[0]), np.arange(rows.start, rows.stop)] = 0
        total += float(np.sqrt(np.maximum(squares, 0)).sum())
    return total
