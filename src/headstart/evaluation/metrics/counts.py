"""Right and wrong, counted by class; every score that is a ratio of counts.

A weights matrix W (R, N) holds R resamples of the N examples as counts, so that one matrix product gives the counts of
all resamples at once. Without W there is one row: the sample itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Counts:
    """Weighted counts by resample and class.

    right: (R, K) examples of the class that were called it.  support: (R, K) examples of the class.
    called: (R, K) examples that were called it.  total: (R,) examples.
    """

    right: np.ndarray
    support: np.ndarray
    called: np.ndarray
    total: np.ndarray


def count_classes(
    targets: np.ndarray, predicted: np.ndarray, classes: int, weights: np.ndarray | None = None
) -> Counts:
    """targets, predicted: (N,) class indices below ``classes``."""
    columns = np.arange(classes)
    return count_labels(targets[:, None] == columns, predicted[:, None] == columns, weights)


def count_labels(targets: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None = None) -> Counts:
    """targets, predicted: (N, K) true where the example has, or was given, the label."""
    truth, said = np.asarray(targets, bool), np.asarray(predicted, bool)
    # float32 counts are exact up to 16 million examples of one class
    return Counts(
        right=weighted(truth & said, weights),
        support=weighted(truth, weights),
        called=weighted(said, weights),
        total=np.full(1, float(len(truth))) if weights is None else weights.sum(axis=1, dtype=np.float64),
    )


def weighted(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """(R, …) sums over the examples of values (N, …), one for each row of weights."""
    if weights is None:
        return values.sum(axis=0, dtype=np.float64)[None]
    return (weights @ values.astype(weights.dtype)).astype(np.float64)


def precision(counts: Counts) -> np.ndarray:
    """(R, K) share right among those called the class; 0 for a class never called; NaN for an absent class."""
    return _ratio(counts.right, counts.called, counts)


def recall(counts: Counts) -> np.ndarray:
    """(R, K) share found among the class; NaN for an absent class."""
    return _ratio(counts.right, counts.support, counts)


def f1(counts: Counts) -> np.ndarray:
    """(R, K) harmonic mean of precision and recall; NaN for an absent class."""
    return _ratio(2 * counts.right, counts.support + counts.called, counts)


def micro_f1(counts: Counts) -> np.ndarray:
    """(R,) F1 over all labels together; 0 where nothing is there and nothing was said."""
    below = (counts.support + counts.called).sum(axis=1)
    return 2 * counts.right.sum(axis=1) / np.where(below > 0, below, 1.0)


def macro(by_class: np.ndarray) -> np.ndarray:
    """(R,) mean over the classes that are present; NaN where none is."""
    present = ~np.isnan(by_class)
    n = present.sum(axis=-1)
    return np.where(n > 0, np.where(present, by_class, 0.0).sum(axis=-1) / np.maximum(n, 1), np.nan)


def _ratio(above: np.ndarray, below: np.ndarray, counts: Counts) -> np.ndarray:
    return np.where(counts.support > 0, above / np.where(below > 0, below, 1.0), np.nan)
