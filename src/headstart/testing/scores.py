"""The contract of transferability scores. Third parties run it over their own:

check_score(MyScore()); check_score(MyScore(), reference=slow_version)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from headstart.base.errors import DataError
from headstart.ranking.scores.score import Kind, Score

Reference = Callable[[np.ndarray, np.ndarray], float]
KINDS: tuple[Kind, ...] = ("classes", "labels", "values")


def check_score(score: Score, *, reference: Reference | None = None) -> None:
    """All that the race and the table rely on. reference: a slow version, compared on small inputs."""
    check_about(score)
    for kind in score.about.targets or (None,):
        for n, width in ((90, 12), (60, 80)):  # more rows than features, and fewer
            check_values(score, kind, n=n, width=width, reference=reference)
        check_tells_signal_from_noise(score, kind)
    check_refusals(score)


def check_about(score: Score) -> None:
    about = score.about
    assert about.name and about.name == about.name.lower() and " " not in about.name, f"name: '{about.name}'"
    assert about.in_words and "\n" not in about.in_words and len(about.in_words) <= 100, "in_words: one line"
    assert about.low < about.high, f"range: {about.low} to {about.high}"
    assert about.cost and about.source, "cost or source is missing"
    assert set(about.targets) <= set(KINDS), f"targets: {about.targets}"


def check_values(score: Score, kind: Kind | None, *, n: int, width: int, reference: Reference | None = None) -> None:
    """In range, the same each time and for any order of rows, nearly so in float32; leaves its arguments alone."""
    X, y = material(score, kind, n=n, width=width, seed=1)
    where = f"{score.about.name}, {kind}, {X.shape}: "
    before = X.copy(), y.copy()
    value = score(X, y)
    assert type(value) is float and math.isfinite(value), where + f"{value!r}"
    assert score.about.low <= value <= score.about.high, where + f"{value} is out of its range"
    assert np.array_equal(X, before[0]) and np.array_equal(y, before[1]), where + "it changed its arguments"
    assert score(X, y) == value, where + "another value the second time"
    order = np.random.default_rng(2).permutation(len(X))
    mixed = score(X[order], y[order] if score.about.targets else y)
    assert math.isclose(mixed, value, rel_tol=1e-7, abs_tol=1e-9), where + f"{mixed} in another order, {value} before"
    single = score(X.astype(np.float32), y)
    assert math.isclose(single, value, rel_tol=2e-2, abs_tol=2e-2), where + f"{single} in float32, {value} in float64"
    if kind == "classes":
        names = np.array([f"class {c:03d}" for c in range(y.max() + 1)])
        assert score(X, names[y]) == value, where + "class names change the value"
    if reference is not None:
        expected = reference(X, y)
        assert math.isclose(value, expected, rel_tol=1e-6, abs_tol=1e-9), where + f"{value}, slowly {expected}"


def check_tells_signal_from_noise(score: Score, kind: Kind | None) -> None:
    """Better where features and targets belong together than after shuffling, for three draws."""
    sign = 1 if score.about.higher_is_better else -1
    for seed in range(3):
        X, y = material(score, kind, n=200, width=16, seed=seed)
        if score.about.targets:
            worse = score(X, y[np.random.default_rng(seed + 100).permutation(len(y))])
        else:
            worse = score(X + 3 * X.std(), y)  # further from the source
        better = score(X, y)
        where = f"{score.about.name}, {kind}, draw {seed}: "
        assert sign * better > sign * worse, where + f"{better} with signal, {worse} without"


def check_refusals(score: Score) -> None:
    """DataError, naming the score, for whatever cannot be judged."""
    kind = score.about.targets[0] if score.about.targets else None
    X, y = material(score, kind, n=40, width=8, seed=0)
    cases = {
        "features of one dimension": (X[:, 0], y),
        "features that are no array": (X.tolist(), y),
        "features in integers": (np.arange(X.size).reshape(X.shape), y),
        "a single row": (X[:1], y[:1]),
        "NaN": (_with(X, np.nan), y),
        "infinity": (_with(X, np.inf), y),
        "constant features": (np.full_like(X, 1 / X.shape[1]), y),
    }
    if score.about.targets:
        cases |= {
            "swapped arguments": (y, X),
            "one row of targets short": (X, y[:-1]),
            "targets of three dimensions": (X, np.zeros((len(X), 2, 2), np.int64)),
            "targets that are no array": (X, y.tolist()),
            "targets of objects": (X, np.array([object()] * len(X))),
            "a single value": (X, np.zeros_like(y)),
            "one row of targets": (X, y[None]),
        }
    else:
        cases |= {"another width at the source": (X, X[:, :-1]), "NaN at the source": (X, _with(X, np.nan))}
    if kind == "classes":
        lonely = np.zeros(len(X), np.int64)
        lonely[0] = 1
        cases |= {"a class with one row": (X, lonely), "as many classes as rows": (X, np.arange(len(X)))}
    if score.about.targets and "values" not in score.about.targets:
        cases["values"] = (X, np.linspace(0, 1, len(X)))
    if "values" in score.about.targets:
        cases["values with NaN"] = (X, np.where(np.arange(len(X)) == 3, np.nan, 1.0 * np.arange(len(X))))
    if score.about.reads == "source probabilities":
        cases |= {"logits": (np.log(X), y), "unnormalised probabilities": (2 * X, y)}
    for name, (features, targets) in cases.items():
        _check_refused(score, name, features, targets)


def material(score: Score, kind: Kind | None, *, n: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(X, y) with signal, of the kind the score takes; about four classes."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(n) % 4)
    X = rng.standard_normal((n, width)) + 1.5 * rng.standard_normal((4, width))[codes]
    if score.about.reads == "source probabilities":
        X = np.exp(X - X.max(axis=1, keepdims=True))
        X /= X.sum(axis=1, keepdims=True)
    if kind is None:
        return X, X + 0.1 * rng.standard_normal((n, width)) if n < width else X[: n // 2] + 0.1
    if kind == "classes":
        return X, codes
    linear = X @ rng.standard_normal((width, 3)) + rng.standard_normal((n, 3))
    return X, (linear > 0).astype(np.int64) if kind == "labels" else linear


def _with(X: np.ndarray, value: float) -> np.ndarray:
    out = X.copy()
    out[len(X) // 2, -1] = value
    return out


def _check_refused(score: Score, case: str, X: np.ndarray, y: np.ndarray) -> None:
    where = f"{score.about.name}: {case} "
    try:
        value = score(X, y)
    except DataError as error:
        assert len(str(error)) > 20, where + f"gives no help: '{error}'"
    else:
        raise AssertionError(where + f"gave {value}")
