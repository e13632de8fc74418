"""Scores for one label per example. Probabilities come in; nothing here knows the model."""

from __future__ import annotations

import numpy as np

from headstart.evaluation.metrics.counts import Counts, macro, recall
from headstart.evaluation.metrics.ranking import average_precision, ranked, roc_auc


def accuracy(counts: Counts) -> np.ndarray:
    """(R,) share called by their own class."""
    return counts.right.sum(axis=1) / counts.total


def balanced_accuracy(counts: Counts) -> np.ndarray:
    """(R,) mean recall over the classes that are present."""
    return macro(recall(counts))


def log_loss(targets: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(R,) mean −ln p(own class), p not below 1e-15 as in scikit-learn."""
    return mean(example_loss(targets, probabilities), weights)


def example_loss(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(N,) −ln p(own class)."""
    own = np.take_along_axis(np.asarray(probabilities, np.float64), targets[:, None], axis=1)[:, 0]
    return -np.log(np.clip(own, 1e-15, 1.0))


def brier(targets: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(R,) mean squared distance of the probabilities to the truth.

    Two classes: of one class's probability, in [0, 1]. More: summed over classes, in [0, 2], as Brier 1950 and
    scikit-learn's ``scale_by_half='auto'``.
    """
    truth = targets[:, None] == np.arange(probabilities.shape[1])
    squared = ((probabilities - truth) ** 2).sum(axis=1)
    return mean(squared / 2 if probabilities.shape[1] == 2 else squared, weights)


def confusion(targets: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """(K, K) int64: [i, j] examples of class i that were called j."""
    return np.bincount(targets * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def class_ranking(
    targets: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """ROC-AUC and average precision, each (R,): of the second class when there are two, else one-vs-rest, macro.

    A class without examples, or with nothing else, has no ranking and is left out of the mean.
    """
    columns = [1] if probabilities.shape[1] == 2 else list(range(probabilities.shape[1]))
    curves = [ranked(probabilities[:, k], targets == k, weights) for k in columns]
    auc = np.stack([roc_auc(c) for c in curves], axis=1)
    precision = np.stack([average_precision(c) for c in curves], axis=1)
    return macro(auc), macro(np.where(np.isnan(auc), np.nan, precision))


def mean(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """(R,) weighted means of values (N,), summed in float64."""
    if weights is None:
        return np.asarray([values.mean()])
    return weights.astype(np.float64, copy=False) @ values / weights.sum(axis=1, dtype=np.float64)
