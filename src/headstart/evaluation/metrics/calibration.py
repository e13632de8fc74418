"""Do the probabilities mean what they say?

Bins hold equally many examples ('equal mass'), so that no bar of the diagram rests on three of them.
"""

from __future__ import annotations

import math

import numpy as np

from headstart.evaluation.metrics.counts import weighted
from headstart.records.evaluation import Bin

BINS = 15


def top_label(targets: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(confidence (N,), right (N,) 0/1) of the predicted class."""
    return probabilities.max(axis=1), (probabilities.argmax(axis=1) == targets).astype(np.float64)


def ece(
    confidence: np.ndarray,
    right: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    bins: int = BINS,
    debiased: bool = False,
) -> np.ndarray:
    """(R,) expected calibration error: mean |share right − confidence| over equal-mass bins.

    confidence, right: (N,), or (N, K) where an example has several answers; weights: (R, N).

    With few examples per bin a perfect model scores above 0 by noise alone. ``debiased`` takes that part away, after
    Kumar, Liang, Ma 2019 (arXiv:1909.10155), with the folded normal's mean in closed form, not below 0.
    """
    n, conf, acc = _in_bins(confidence, right, weights, bins)
    gap = np.abs(acc - conf)
    if debiased:
        noise = np.sqrt(acc * (1 - acc) / np.maximum(n - 1, 1))
        gap = 2 * gap - _folded_normal_mean(gap, noise)
    return np.maximum((n * gap).sum(axis=1) / n.sum(axis=1), 0.0)


def reliability(confidence: np.ndarray, right: np.ndarray, *, bins: int = BINS) -> tuple[Bin, ...]:
    """The bars of a reliability diagram, from least to most confident; empty bins are left out."""
    n, conf, acc = (a[0] for a in _in_bins(confidence, right, None, bins))
    return tuple(Bin(float(c), float(a), round(m)) for m, c, a in zip(n.tolist(), conf, acc, strict=True) if m > 0)


def _in_bins(
    confidence: np.ndarray, right: np.ndarray, weights: np.ndarray | None, bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weight, mean confidence and share right, each (R, bins)."""
    index = equal_mass(confidence.ravel(), bins).reshape(len(confidence), -1)
    answers = [a.reshape(len(a), -1) for a in (np.ones_like(confidence), confidence, right)]
    by_example = [np.stack([np.where(index == b, a, 0.0).sum(axis=1) for b in range(bins)], axis=1) for a in answers]
    n, conf, acc = (weighted(a, weights) for a in by_example)
    below = np.maximum(n, 1)
    return n, conf / below, acc / below


def equal_mass(confidence: np.ndarray, bins: int) -> np.ndarray:
    """(N,) bin of each example by rank; equal confidences share a bin, so the order of rows does not matter."""
    _, first, where = np.unique(np.sort(confidence), return_index=True, return_inverse=True)
    start = np.empty(len(confidence), np.int64)
    start[np.argsort(confidence, kind="stable")] = first[where.ravel()]
    return start * bins // max(1, len(confidence))


def _folded_normal_mean(mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """E|X| for X ~ N(mean, sd²)."""
    safe = np.where(sd > 0, sd, 1.0)
    z = mean / safe
    erf = np.vectorize(math.erf, otypes=[float])(z / math.sqrt(2))
    return np.where(sd > 0, sd * math.sqrt(2 / math.pi) * np.exp(-(z**2) / 2) + mean * erf, mean)
