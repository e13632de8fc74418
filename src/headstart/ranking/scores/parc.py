"""PARC: whether rows that the network finds alike have like classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headstart.ranking.scores.checks import targets_of
from headstart.ranking.scores.score import About
from headstart.ranking.scores.spectrum import spectrum
from headstart.ranking.scores.subsample import drawn


@dataclass(frozen=True)
class PARC:
    """100 × Spearman correlation, over all pairs of rows, of 1 − corr of their features and 1 − corr of their targets.

    dims: principal axes that are kept, standardised; 0 for the features as they are, standardised. Correlation of rows
    is not the same after a rotation, so the axes need a sign: the largest loading of each is positive.
    Pairs of one class are exactly alike here. ``numpy.corrcoef`` in the authors' code makes some of them 0 and some
    2e-16, by class, and the ranks follow that rounding: on iris it gives 61.2 where 58.7 is right.
    most: above so many rows a stratified draw, the same for every network.
    """

    dims: int = 32
    most: int = 3000
    seed: int = 0

    about: ClassVar[About] = About(
        name="parc",
        in_words="rank correlation of likeness in features and in classes, × 100",
        low=-100.0,
        high=100.0,
        targets=("classes", "labels"),
        cost="n·D·min(n, D) + min(n, D)³ + m²·log m, m = min(n, 3000)",
        source="Bolya, Mittapalli & Hoffman 2021, arXiv:2111.06977, section 4; exact principal axes",
    )

    def __call__(self, X: np.ndarray, y: np.ndarray, /) -> float:
        targets = targets_of(X, y, self.about)
        codes = targets.codes if len(targets.codes) else np.zeros(len(y), np.int64)
        rows = drawn(codes, self.most, self.seed)
        if self.dims and X.shape[1] > self.dims:
            features = _components(X, self.dims)[rows]
        else:
            features = X[rows].astype(np.float64)
        spread = features.std(axis=0)
        features = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        pairs = np.triu_indices(len(rows), 1)
        columns = targets.columns[rows]
        if columns.shape[1] == 1:  # a single label: a row has no correlation, but agreement is the same order
            columns = np.hstack([columns, 1 - columns])
        return 100 * _pearson(_ranks(_alike(features)[pairs]), _ranks(_alike(columns)[pairs]))


def _components(X: np.ndarray, dims: int) -> np.ndarray:
    parts = spectrum(X)
    if parts.axes is not None:
        axes = parts.axes[:, :dims]
    else:
        assert parts.dual is not None
        axes = (X - parts.mean).T @ (parts.dual[:, :dims] / parts.values[:dims])
    largest = np.abs(axes).argmax(axis=0)
    return (X - parts.mean) @ (axes * np.sign(axes[largest, np.arange(axes.shape[1])]))


def _alike(rows: np.ndarray) -> np.ndarray:
    """(m, m) correlation of rows; 0 with a row that is flat. Rounded, so that equal pairs stay equal."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    length = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    unit = centred / np.where(length > 0, length, 1.0)
    return np.round(unit @ unit.T, 12)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, equal values sharing their mean rank."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts + 1) / 2)[where.ravel()]


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    length = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / length) if length > 0 else 0.0
