"""Probabilities that mean what they say: one temperature for all logits.

Guo et al. 2017 (arXiv:1706.04599), fitted on out-of-fold logits, so that no example is set aside for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from headstart.tasks.task import Task

COLDEST, HOTTEST = 0.05, 20.0

Slope = Callable[[float], tuple[float, float]]  # b = 1/T → first and second derivative of the loss by b


def fit_temperature(logits: np.ndarray, y: np.ndarray, task: Task) -> float:
    """The T in [0.05, 20] for which decode(logits / T) has the least log-loss; 1 for regression.

    logits: (N, K), rows with NaN are left out.  y: (N,) class indices or (N, K) 0/1.

    Truths are softened by one example in N + 2, as in Platt 1999: N perfect answers are no ground for certainty.
    The loss is convex in 1/T, so its derivative has one root, found by Newton's method kept inside a shrinking bracket.
    Logits times k give T times k, and the predicted class never changes.
    """
    if task.name == "regression":
        return 1.0
    known = np.isfinite(logits).all(axis=1)
    if not known.any():
        return 1.0
    z = np.asarray(logits[known], np.float64)
    slope = _softmax_slope(z, y[known]) if task.name == "classification" else _sigmoid_slope(z, y[known])
    return math.exp(-_root(slope, -math.log(HOTTEST), -math.log(COLDEST)))


def _softmax_slope(z: np.ndarray, y: np.ndarray) -> Slope:
    n = len(z)
    z = z - z.max(axis=1, keepdims=True)
    soft = 1 / (n + 2)
    wanted = (1 - soft) * z[np.arange(n), y].sum() + soft * z.mean(axis=1).sum()

    def slope(b: float) -> tuple[float, float]:
        e = np.exp(b * z)
        p = e / e.sum(axis=1, keepdims=True)
        mean = (p * z).sum(axis=1)
        return float(mean.sum() - wanted), float((p * z**2).sum() - (mean**2).sum())

    return slope


def _sigmoid_slope(z: np.ndarray, y: np.ndarray) -> Slope:
    n = len(z)
    soft = 1 / (n + 2)
    truth = (1 - soft) * (y > 0) + soft / 2

    def slope(b: float) -> tuple[float, float]:
        p = 0.5 * (1 + np.tanh(0.5 * b * z))
        return float((z * (p - truth)).sum()), float((z**2 * p * (1 - p)).sum())

    return slope


def _root(slope: Slope, low: float, high: float) -> float:
    """log b where the derivative by b is 0, within [low, high]; the nearer end when it has one sign throughout."""
    if slope(math.exp(low))[0] >= 0:
        return low
    if slope(math.exp(high))[0] <= 0:
        return high
    at = min(max(0.0, low), high)
    for _ in range(100):
        first, second = slope(math.exp(at))
        low, high = (low, at) if first > 0 else (at, high)
        curvature = second * math.exp(at)  # of the same slope, by log b
        step = at - first / curvature if curvature > 0 else math.nan
        new = step if low < step < high else (low + high) / 2
        if abs(new - at) < 1e-10:
            return new
        at = new
    return at
