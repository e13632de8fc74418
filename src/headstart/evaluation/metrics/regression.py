"""Scores for numbers. With several outputs each score is the mean over outputs, as in scikit-learn."""

from __future__ import annotations

import numpy as np


def rmse(targets: np.ndarray, values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(R,) root mean squared error, in the unit of the target."""
    return np.sqrt(_means((values - targets) ** 2, weights)).mean(axis=1)


def mae(targets: np.ndarray, values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(R,) mean absolute error, in the unit of the target."""
    return _means(np.abs(values - targets), weights).mean(axis=1)


def r2(targets: np.ndarray, values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(R,) share of the variance explained: 1 is perfect, 0 is no better than the mean; NaN for constant targets."""
    # Centred first: a variance from raw squares would cancel for targets far from 0.
    centred = targets - targets.mean(axis=0)
    left = _means((values - targets) ** 2, weights)
    variance = _means(centred**2, weights) - _means(centred, weights) ** 2
    there = variance > 1e-12 * np.maximum((centred**2).mean(axis=0), np.finfo(float).tiny)
    return np.where(there, 1 - left / np.where(there, variance, 1.0), np.nan).mean(axis=1)


def _means(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    if weights is None:
        return values.mean(axis=0)[None]
    w = weights.astype(np.float64, copy=False)
    return w @ values / w.sum(axis=1, keepdims=True)
