"""Scores of an order: does the model put the examples of a class before the others?

One sort serves all resamples: weights are put in that order and summed along it. Ties count half (ROC-AUC) or as one
step (average precision), as in scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ranked:
    """Counts from the top of the order down to each distinct score. found, called: (R, U)."""

    found: np.ndarray
    called: np.ndarray


def ranked(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None) -> Ranked:
    """scores: (N,), higher is more positive.  positive: (N,) bool.  weights: (R, N) counts."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    w = np.ones((1, len(order)), np.float32) if weights is None else weights[:, order]
    # counts stay exact in float32 up to 16 million examples, and halve the memory traffic
    called = np.cumsum(w, axis=1)
    found = np.cumsum(w * positive[order], axis=1)
    if len(ends) < len(order):
        called, found = called[:, ends], found[:, ends]
    return Ranked(found, called)


def roc_auc(curve: Ranked) -> np.ndarray:
    """(R,) chance that a positive stands before a negative; NaN where either is missing."""
    found, wrong = curve.found, curve.called - curve.found
    p, n = found[:, -1].astype(np.float64), wrong[:, -1].astype(np.float64)
    # the area by trapezoids: each step right of width Δwrong has the mean height of its two ends
    area = np.einsum("ru,ru->r", found[:, 1:] + found[:, :-1], np.diff(wrong, axis=1), dtype=np.float64)
    area += found[:, 0].astype(np.float64) * wrong[:, 0]
    return _where_both(p, n, area / 2)


def average_precision(curve: Ranked) -> np.ndarray:
    """(R,) precision averaged over the steps in recall; NaN where there is no positive."""
    steps = np.diff(curve.found, axis=1, prepend=0)
    precision = curve.found / np.maximum(curve.called, 1)
    p = curve.found[:, -1].astype(np.float64)
    area = np.einsum("ru,ru->r", steps, precision, dtype=np.float64)
    return np.where(p > 0, area / np.where(p > 0, p, 1.0), np.nan)


def _where_both(p: np.ndarray, n: np.ndarray, area: np.ndarray) -> np.ndarray:
    there = (p > 0) & (n > 0)
    return np.where(there, area / np.where(there, p * n, 1.0), np.nan)
