"""The k nearest neighbours by cosine: what the features know without any fitting.

A reference only. It keeps every training row, so it cannot be saved as a layer of the network, and is never chosen; the
record says when it would have won, which means that a straight boundary is not enough for these features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstart.adapt.heads.folds import Folds
from headstart.adapt.heads.head import LinearHead, OutOfFold, Setting
from headstart.adapt.heads.rotated import Rotated
from headstart.base.errors import DataError
from headstart.tasks.task import Task

SIZES = (1, 5, 10, 20)
BLOCK_CELLS = 2_000_000
MOST_ROWS = (
    20_000  # similarities grow with the square of the rows; beyond this the reference would cost most of the run
)


@dataclass(frozen=True)
class Neighbours:
    name: str = "neighbours"
    rank: int = 4
    linear: bool = False

    def fits(self, task: Task) -> bool:
        return True

    def cross_validate(self, rotated: Rotated, y: np.ndarray, task: Task, folds: Folds) -> OutOfFold:
        values = task.regress_on(y)
        parts = [_answers(rotated.X, values, task, train, val) for train, val in folds.pairs]
        by_size = [folds.average([p[i] for p in parts]) for i in range(len(SIZES))]
        rows = folds.judged
        # Squared error of the mean of neighbours: for votes this is the Brier score of the shares.
        shares = [task.decode(logits[rows]) for logits in by_size]
        truth = values[rows] if task.name == "regression" else (values[rows] > 0)
        errors = [float(((s - truth) ** 2).mean()) for s in shares]
        best = int(np.argmin(errors))
        return OutOfFold(by_size[best], {"k": float(SIZES[best])})

    def fit(self, rotated: Rotated, y: np.ndarray, task: Task, setting: Setting) -> LinearHead:
        raise DataError("nearest neighbours cannot be saved as a layer of the network. Choose a linear head.")


def _answers(X: np.ndarray, values: np.ndarray, task: Task, train: np.ndarray, val: np.ndarray) -> np.ndarray:
    """(sizes, held-out, K) mean of the neighbours' values, or the logits of their votes."""
    nearest = _nearest(X, train, val, min(max(SIZES), len(train)))
    sums = np.cumsum(values[nearest], axis=1)  # (held-out, most, K), neighbours from near to far
    at = [min(size, nearest.shape[1]) for size in SIZES]
    means = np.stack([sums[:, k - 1] / k for k in at])
    if task.name == "regression":
        return means
    # ±1 means are shares of votes; one extra vote, split like all training rows, keeps logarithms finite.
    k = np.asarray(at)[:, None, None]
    prior = (values[train].mean(axis=0) + 1) / 2
    share = (k * (means + 1) / 2 + np.clip(prior, 1e-3, 1 - 1e-3)) / (k + 1)
    return np.log(share) if task.name == "classification" else np.log(share) - np.log1p(-share)


def _nearest(X: np.ndarray, train: np.ndarray, val: np.ndarray, most: int) -> np.ndarray:
    """(held-out, most) positions in X of the nearest training rows, by falling cosine."""
    out = np.empty((len(val), most), np.int64)
    lengths = np.sqrt(np.einsum("nd,nd->n", X, X, dtype=np.float64))
    inverse = (1 / np.where(lengths > 0, lengths, 1.0)).astype(X.dtype)
    others = np.setdiff1d(np.arange(len(X)), train)
    step = max(1, BLOCK_CELLS // len(X))
    for start in range(0, len(val), step):
        rows = val[start : start + step]
        # against all rows, the others then moved out of reach: a copy of the training rows would double the memory
        away = (X[rows] * -inverse[rows, None]) @ X.T
        away *= inverse
        away[:, others] = 2.0
        some = np.argpartition(away, most - 1, axis=1)[:, :most]
        order = np.argsort(np.take_along_axis(away, some, axis=1), axis=1, kind="stable")
        out[start : start + step] = np.take_along_axis(some, order, axis=1)
    return out
