"""Labels that look wrong, by confident learning on probabilities from models that have not seen the example.

Northcutt, Jiang, Chuang 2021 (arXiv:1911.00068): an example is confidently of class j when p_j reaches the mean p_j of
the examples labelled j. Those confidently of another class than their own are the issues; the least plausible first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headstart.base.errors import DataError
from headstart.records.evaluation import LabelIssue


def confident_class(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(N,) the class each example is confidently of, −1 for none.

    targets: (N,) given classes.  probabilities: (N, K), out of fold. Of several classes above their thresholds, the
    most probable one.
    """
    over = probabilities >= thresholds(targets, probabilities)
    best = np.where(over, probabilities, -np.inf).argmax(axis=1)
    return np.where(over.any(axis=1), best, -1)


def thresholds(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(K,) mean p_k over the examples labelled k; infinite for a class without examples."""
    classes = probabilities.shape[1]
    n = np.bincount(targets, minlength=classes)
    own = np.take_along_axis(probabilities, targets[:, None], axis=1)[:, 0]
    sums = np.bincount(targets, weights=own, minlength=classes)
    return np.where(n > 0, sums / np.maximum(n, 1), np.inf)


def confident_joint(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(K, K) int64: [i, j] examples labelled i that are confidently j. Off the diagonal: the issues."""
    classes = probabilities.shape[1]
    sure = confident_class(targets, probabilities)
    rows = sure >= 0
    return np.bincount(targets[rows] * classes + sure[rows], minlength=classes**2).reshape(classes, classes)


def label_margin(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(N,) p(given label) minus the highest other; below 0 the given label loses."""
    rows = np.arange(len(targets))
    others = np.array(probabilities, np.float64)
    own = others[rows, targets]
    others[rows, targets] = -np.inf
    return own - others.max(axis=1)


def label_issues(
    ids: Sequence[str],
    targets: np.ndarray,
    probabilities: np.ndarray,
    labels: Sequence[str],
    *,
    most: int | None = None,
) -> tuple[LabelIssue, ...]:
    """Suspected label errors, worst first; at most ``most``.

    targets: (N,) class indices.  probabilities: (N, K), calibrated and out of fold; rows with NaN were never judged
    and are left out.  Equal margins keep the order of the rows.
    """
    if probabilities.shape != (len(targets), len(labels)) or len(ids) != len(targets):
        raise DataError(
            f"label check: {len(ids)} ids, {len(targets)} targets, {len(labels)} labels do not fit "
            f"probabilities of shape {probabilities.shape}. Give (N, K) probabilities for N ids and K labels."
        )
    judged = np.flatnonzero(np.isfinite(probabilities).all(axis=1))
    y, p = targets[judged], np.asarray(probabilities, np.float64)[judged]
    if not len(judged):
        return ()
    sure, margin = confident_class(y, p), label_margin(y, p)
    wrong = np.flatnonzero((sure >= 0) & (sure != y))
    ranked = wrong[np.argsort(margin[wrong], kind="stable")][:most]
    return tuple(
        LabelIssue(str(ids[judged[i]]), labels[y[i]], labels[sure[i]], float(margin[i])) for i in ranked.tolist()
    )
