"""Scores for any number of labels per example, each yes or no by itself."""

from __future__ import annotations

import numpy as np

from headstart.evaluation.metrics.classification import mean
from headstart.evaluation.metrics.counts import macro
from headstart.evaluation.metrics.ranking import average_precision, ranked, roc_auc


def subset_accuracy(targets: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(R,) share of examples whose whole label set is right."""
    right = (np.asarray(targets, bool) == np.asarray(predicted, bool)).all(axis=1)
    return mean(right.astype(np.float64), weights)


def label_ranking(
    targets: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """ROC-AUC and mean average precision, each (R,), macro over labels that some but not all examples carry."""
    curves = [ranked(probabilities[:, k], targets[:, k] > 0, weights) for k in range(probabilities.shape[1])]
    auc = np.stack([roc_auc(c) for c in curves], axis=1)
    precision = np.stack([average_precision(c) for c in curves], axis=1)
    return macro(auc), macro(np.where(np.isnan(auc), np.nan, precision))


def binary_log_loss(targets: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(R,) mean over examples and labels of −ln p(truth), p within [1e-15, 1 − 1e-15]."""
    return mean(example_losses(targets, probabilities).mean(axis=1), weights)


def example_losses(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(N, K) −ln p(truth)."""
    p = np.clip(np.asarray(probabilities, np.float64), 1e-15, 1 - 1e-15)
    return np.where(targets > 0, -np.log(p), -np.log1p(-p))


def binary_brier(targets: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(R,) mean squared error of the probabilities over examples and labels, in [0, 1]."""
    return mean(((probabilities - (targets > 0)) ** 2).mean(axis=1), weights)
