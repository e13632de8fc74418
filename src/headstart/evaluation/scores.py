"""The scores of each kind of task by name, on the sample itself or on resamples of it.

One place says which scores exist; the choice of a head, the baselines and the evaluation all ask here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headstart.base.errors import DataError, did_you_mean, shown
from headstart.evaluation.intervals import Resamples
from headstart.evaluation.metrics import classification, multilabel, regression
from headstart.evaluation.metrics.counts import count_classes, count_labels, f1, macro, micro_f1, precision, recall
from headstart.records.estimate import Estimate

CLASSIFICATION = (
    "accuracy",
    "balanced_accuracy",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "roc_auc",
    "average_precision",
    "log_loss",
    "brier",
)
MULTILABEL = (
    "macro_f1",
    "micro_f1",
    "macro_precision",
    "macro_recall",
    "subset_accuracy",
    "roc_auc",
    "average_precision",
    "log_loss",
    "brier",
)
REGRESSION = ("rmse", "mae", "r2")
SCORES = {"classification": CLASSIFICATION, "multilabel": MULTILABEL, "regression": REGRESSION}
HEADLINES = {"classification": "accuracy", "multilabel": "macro_f1", "regression": "rmse"}
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "rmse", "mae", "ece", "ece_before"})


def is_better(difference: Estimate, name: str) -> bool:
    """Whether a difference in the score of this name is shown to be for the better."""
    return difference.high < 0 if name in LOWER_IS_BETTER else difference.low > 0


def is_worse(difference: Estimate, name: str) -> bool:
    return difference.low > 0 if name in LOWER_IS_BETTER else difference.high < 0


def check_score(name: str, task: str) -> str:
    """``name`` when ``task`` has such a score, else DataError."""
    if name not in SCORES[task]:
        known = ", ".join(SCORES[task])
        raise DataError(f"no score '{shown(name)}' for {task}.{did_you_mean(name, SCORES[task])} There are: {known}.")
    return name


def score(
    task: str, targets: np.ndarray, scores: np.ndarray, names: Sequence[str], weights: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """name → (R,) values; scores are probabilities (N, K) or values, as in Predictions.

    weights: (R, N) resamples as counts; without them R = 1 and the sample itself is scored.
    """
    by_task = {"classification": _classification, "multilabel": _multilabel, "regression": _regression}
    return by_task[task](targets, scores, [check_score(n, task) for n in names], weights)


def resampled(
    task: str, targets: np.ndarray, scores: np.ndarray, names: Sequence[str], resamples: Resamples
) -> dict[str, np.ndarray]:
    """name → (count,) values on every resample."""
    parts = [score(task, targets, scores, names, w) for w in resamples.chunks()]
    return {n: np.concatenate([p[n] for p in parts]) for n in names}


def _classification(y: np.ndarray, p: np.ndarray, names: Sequence[str], w: np.ndarray | None) -> dict[str, np.ndarray]:
    out: dict[str, np.ndarray] = {}
    counts = count_classes(y, p.argmax(axis=1), p.shape[1], w)
    if {"roc_auc", "average_precision"} & set(names):
        out["roc_auc"], out["average_precision"] = classification.class_ranking(y, p, w)
    for name in names:
        match name:
            case "accuracy":
                out[name] = classification.accuracy(counts)
            case "balanced_accuracy":
                out[name] = classification.balanced_accuracy(counts)
            case "log_loss":
                out[name] = classification.log_loss(y, p, w)
            case "brier":
                out[name] = classification.brier(y, p, w)
            case "macro_precision" | "macro_recall" | "macro_f1":
                out[name] = macro({"precision": precision, "recall": recall, "f1": f1}[name[6:]](counts))
    return {name: out[name] for name in names}


def _multilabel(y: np.ndarray, p: np.ndarray, names: Sequence[str], w: np.ndarray | None) -> dict[str, np.ndarray]:
    out: dict[str, np.ndarray] = {}
    said = p >= 0.5
    counts = count_labels(y, said, w)
    if {"roc_auc", "average_precision"} & set(names):
        out["roc_auc"], out["average_precision"] = multilabel.label_ranking(y, p, w)
    for name in names:
        match name:
            case "micro_f1":
                out[name] = micro_f1(counts)
            case "subset_accuracy":
                out[name] = multilabel.subset_accuracy(y, said, w)
            case "log_loss":
                out[name] = multilabel.binary_log_loss(y, p, w)
            case "brier":
                out[name] = multilabel.binary_brier(y, p, w)
            case "macro_precision" | "macro_recall" | "macro_f1":
                out[name] = macro({"precision": precision, "recall": recall, "f1": f1}[name[6:]](counts))
    return {name: out[name] for name in names}


def _regression(y: np.ndarray, v: np.ndarray, names: Sequence[str], w: np.ndarray | None) -> dict[str, np.ndarray]:
    functions = {"rmse": regression.rmse, "mae": regression.mae, "r2": regression.r2}
    return {name: functions[name](y, v, w) for name in names}
