"""What words alone are worth: tf-idf features with a linear model, fitted anew inside every fold.

Words and pairs of words; for texts that are written without spaces one to three characters. The strength of the
regularisation is chosen by cross-validation inside the rows that learn, so it is as fair a rival as is usual.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from headstart.data.split import folds
from headstart.records.predictions import Predictions
from headstart.workflow.judge import Contest, Known, judgement

WORD = r"(?u)\b\w+\b"  # words of one letter too
STRENGTHS = (0.3, 3.0, 30.0)  # C of logistic regression; 1/alpha of ridge
INNER = 3


def judge(texts: Sequence[str], contest: Contest) -> Predictions:
    """Predictions for the rows that the contest judges; texts: of the contest's rows, in their order."""
    known = contest.known
    if not contest.by_folds:
        logits = fitted_logits(_of(texts, contest.train), known.take(contest.train), _of(texts, contest.test))
        seen = known.take(contest.test)
        return judgement(seen, logits, logits).after
    strata = known.task.strata(known.y)
    total, count = np.zeros((len(known), known.task.outputs)), np.zeros(len(known))
    for train, rest in folds(strata, known.groups, k=contest.rules.folds, seed=contest.rules.seed + 1):
        total[rest] += fitted_logits(_of(texts, train), known.take(train), _of(texts, rest))
        count[rest] += 1
    judged = np.flatnonzero(count)
    logits = total[judged] / count[judged, None]
    return judgement(known.take(judged), logits, logits).after


def fitted_logits(texts: Sequence[str], known: Known, new: Sequence[str]) -> np.ndarray:
    """(n, K) outputs for ``new`` of a model that learnt from ``texts``, whose rows ``known`` holds."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    from headstart.workflow.modalities.text import mostly_without_spaces

    by_letter = mostly_without_spaces(texts)
    vectors = TfidfVectorizer(
        analyzer="char" if by_letter else "word",
        ngram_range=(1, 3) if by_letter else (1, 2),
        token_pattern=None if by_letter else WORD,
        sublinear_tf=True,
        max_features=200_000,
    )
    try:
        X = vectors.fit_transform(texts)
    except ValueError:  # not one word in all of the texts
        X, Z = np.zeros((len(texts), 1)), np.zeros((len(new), 1))
    else:
        Z = vectors.transform(new)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence: the rival is as good as its default number of rounds
        return _outputs(X, known, Z)


def _outputs(X: Any, known: Known, Z: Any) -> np.ndarray:
    if known.task.name == "regression":
        return _ridge(X, known.y.reshape(len(known), -1), Z)
    if known.task.name == "multilabel":
        columns = [_two_class(X, known.y[:, k].astype(int), Z) for k in range(known.task.outputs)]
        return np.stack(columns, axis=1)
    return _classes(X, known.y, Z, known.task.outputs)


def _classes(X: Any, y: np.ndarray, Z: Any, outputs: int) -> np.ndarray:
    model = _logistic(X, y)
    logits = np.full((Z.shape[0], outputs), -30.0)
    logits[:, model.classes_] = np.log(model.predict_proba(Z).clip(1e-12))
    return logits


def _two_class(X: Any, y: np.ndarray, Z: Any) -> np.ndarray:
    if len(np.unique(y)) < 2:
        return np.full(Z.shape[0], 30.0 if y[0] else -30.0)
    p = _logistic(X, y).predict_proba(Z)[:, 1].clip(1e-12, 1 - 1e-12)
    return np.log(p / (1 - p))


def _logistic(X: Any, y: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    model = LogisticRegression(max_iter=300)
    if np.bincount(y)[np.unique(y)].min() < INNER:
        return model.fit(X, y)
    return GridSearchCV(model, {"C": list(STRENGTHS)}, cv=INNER, scoring="neg_log_loss").fit(X, y).best_estimator_


def _ridge(X: Any, y: np.ndarray, Z: Any) -> np.ndarray:
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV

    grid = {"alpha": [1 / s for s in STRENGTHS]}
    model = GridSearchCV(Ridge(), grid, cv=INNER) if len(y) >= 2 * INNER else Ridge()
    return np.asarray(model.fit(X, y).predict(Z)).reshape(Z.shape[0], -1)


def _of(texts: Sequence[str], rows: np.ndarray) -> list[str]:
    return [texts[int(row)] for row in rows]
