"""What most people would use on a table: scikit-learn's linear model and its gradient boosting, as they come."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from headstart.data.rows import Row, column_of
from headstart.inputs.columns import encode, learn_columns
from headstart.records.predictions import Predictions
from headstart.tasks.task import Task
from headstart.workflow.judge import Known, judgement

MOST_CODES = 255  # categories that gradient boosting can tell apart
STRENGTHS = np.logspace(-4, 4, 9)

# (training rows, their targets, task, new rows) → (n, K) logits or values
Rival = Callable[[Sequence[Row], np.ndarray, Task, Sequence[Row]], np.ndarray]


def linear(rows: Sequence[Row], y: np.ndarray, task: Task, new: Sequence[Row]) -> np.ndarray:
    """LogisticRegressionCV or RidgeCV on the encoded columns."""
    columns = learn_columns(rows)
    return _fitted(_linear_model, encode(rows, columns), y, task, encode(new, columns))


def boosting(rows: Sequence[Row], y: np.ndarray, task: Task, new: Sequence[Row]) -> np.ndarray:
    """HistGradientBoosting with its defaults, on the columns as they are."""
    names = _names(rows)
    is_category = [name in names for name in rows[0].frame.kinds]

    def model(task: Task, y: np.ndarray) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        kind = HistGradientBoostingRegressor if task.name == "regression" else HistGradientBoostingClassifier
        return kind(categorical_features=is_category, random_state=0)

    return _fitted(model, _as_codes(rows, names), y, task, _as_codes(new, names))


def predicted(
    rival: Rival, rows: Sequence[Row], known: Known, parts: Sequence[tuple[np.ndarray, np.ndarray]]
) -> list[Predictions]:
    """For each (train, judged) of ``parts``: the rival's answers on what it has not seen."""
    found = []
    for train, judged in parts:
        logits = rival([rows[i] for i in train], known.y[train], known.task, [rows[i] for i in judged])
        found.append(judgement(known.take(judged), logits, logits).after)
    return found


def _linear_model(task: Task, y: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegressionCV, RidgeCV

    if task.name == "regression":
        return RidgeCV(alphas=STRENGTHS * len(y) / 100)
    few = int(np.bincount(y)[np.unique(y)].min())
    if few < 3:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(max_iter=300)
    return LogisticRegressionCV(Cs=STRENGTHS[:7], cv=min(5, few), scoring="neg_log_loss", max_iter=300)


def _fitted(model: Callable[[Task, np.ndarray], Any], X: np.ndarray, y: np.ndarray, task: Task, Z: np.ndarray) -> Any:
    """(n, K) outputs for Z; one model a column where there are several."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence and of names that change: rivals are used as they come
        if task.name == "classification":
            return _log_probabilities(model(task, y).fit(X, y), Z, task.outputs)
        if task.name == "multilabel":
            return np.stack([_log_odds(model, X, y[:, k].astype(int), task, Z) for k in range(task.outputs)], axis=1)
        columns = [model(task, y[:, k]).fit(X, y[:, k]).predict(Z) for k in range(task.outputs)]
        return np.stack(columns, axis=1)


def _log_probabilities(fitted: Any, Z: np.ndarray, outputs: int) -> np.ndarray:
    """Classes that the training rows lack are called all but impossible."""
    logits = np.full((len(Z), outputs), -30.0)
    logits[:, np.asarray(fitted.classes_, int)] = np.log(fitted.predict_proba(Z).clip(1e-12))
    return logits


def _log_odds(
    model: Callable[[Task, np.ndarray], Any], X: np.ndarray, y: np.ndarray, task: Task, Z: np.ndarray
) -> np.ndarray:
    if len(np.unique(y)) < 2:
        return np.full(len(Z), 30.0 if y[0] else -30.0)
    p = model(task, y).fit(X, y).predict_proba(Z)[:, 1].clip(1e-12, 1 - 1e-12)
    return np.log(p / (1 - p))


def _names(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Column → number of each of its names, the commonest first; for categories only."""
    found = {}
    for name, kind in rows[0].frame.kinds.items():
        if kind == "category":
            values, counts = np.unique(column_of(rows, name).astype(str), return_counts=True)
            order = [v for v in values[np.argsort(-counts, kind="stable")].tolist() if v][: MOST_CODES - 1]
            found[name] = {v: i for i, v in enumerate(order)}
    return found


def _as_codes(rows: Sequence[Row], names: dict[str, dict[str, int]]) -> np.ndarray:
    """(n, columns) float64; NaN for what is missing or was not there in training."""
    columns = []
    for name in rows[0].frame.kinds:
        values = column_of(rows, name)
        if name in names:
            values = np.array([names[name].get(v, np.nan) for v in values], np.float64)
        columns.append(values)
    return np.stack(columns, axis=1)
