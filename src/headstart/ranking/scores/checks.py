"""The door of every score: what arrives is features and targets, not the other way round, and holds something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.adapt.heads.rotated import row_blocks
from headstart.base.errors import DataError, listed, shown
from headstart.ranking.scores.score import About, Kind


@dataclass(frozen=True)
class Targets:
    """Targets of one kind.

    codes: (n,) class of each row, 0 to C − 1 (classes only, else empty).  counts: (C,) rows of each class.
    columns: (n, K) float64: one 0/1 column a class or label, or the values.
    """

    kind: Kind
    codes: np.ndarray
    counts: np.ndarray
    columns: np.ndarray


def check_features(X: np.ndarray, y: np.ndarray | None, about: About) -> None:
    """DataError unless X is (n, D) with finite floats that vary, and y, if given, has n rows."""
    name = about.name
    if not isinstance(X, np.ndarray) or X.ndim != 2 or not np.issubdtype(X.dtype, np.floating):
        raise DataError(f"{name}: expected {about.reads} as floats (rows, columns), got {_kind(X)}.{_swapped(X, y)}")
    if len(X) < 2 or X.shape[1] < 1:
        raise DataError(f"{name}: {len(X)} rows of {X.shape[1]} columns are too few. It takes 2 rows and 1 column.")
    if y is not None and (not isinstance(y, np.ndarray) or y.ndim not in (1, 2) or len(y) != len(X)):
        raise DataError(f"{name}: expected one target for each of {len(X)} rows, got {_kind(y)}.{_swapped(X, y)}")
    _check_finite(X, name)
    if not (X.max(axis=0) > X.min(axis=0)).any():
        raise DataError(
            f"{name}: all {X.shape[1]} columns are constant over {len(X)} rows, so nothing can be told from them. "
            "Check the weights of the network and the preprocessing."
        )


def targets_of(X: np.ndarray, y: np.ndarray, about: About) -> Targets:
    """``check_features``, then y as one of the kinds that the score can judge.

    One column of integers, booleans or words: classes, at least two of them with two rows each. A matrix of 0 and 1 in
    integers or booleans: labels. Floats: values.
    """
    check_features(X, y, about)
    kind = _kind_of(y, about)
    if kind not in about.targets:
        raise DataError(
            f"{about.name}: judges {' and '.join(about.targets)}, but the targets, {_kind(y)}, are {kind}. "
            "Classes are one column of integers or words, labels a matrix of 0 and 1, values floats."
        )
    if kind == "classes":
        return _classes(y, about)
    columns = y.reshape(len(y), -1).astype(np.float64)
    if kind == "values":
        _check_finite(columns, about.name, what="targets")
    flat = np.flatnonzero(columns.max(axis=0) == columns.min(axis=0))
    if len(flat) == columns.shape[1]:
        raise DataError(f"{about.name}: the targets are the same in all {len(y)} rows. There is nothing to tell apart.")
    return Targets(kind, np.empty(0, np.int64), np.empty(0, np.int64), np.delete(columns, flat, axis=1))


def check_probabilities(theta: np.ndarray, about: About) -> None:
    """DataError unless each row is a distribution over the source classes."""
    total = theta.sum(axis=1, dtype=np.float64)
    wrong = (theta < 0).any(axis=1) | (np.abs(total - 1) > 1e-3)
    if wrong.any():
        first = int(wrong.argmax())
        raise DataError(
            f"{about.name}: {int(wrong.sum())} of {len(theta)} rows are no probabilities (row {first} sums to "
            f"{total[first]:.4g}, its smallest entry is {theta[first].min():.4g}). Hand in the softmax of the source "
            "head."
        )


def _classes(y: np.ndarray, about: About) -> Targets:
    names, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise DataError(f"{about.name}: all {len(y)} rows are of class '{shown(names[0])}'. It takes two classes.")
    if counts.min() < 2:
        rare: Sequence[object] = names[counts < 2].tolist()
        raise DataError(
            f"{about.name}: {len(rare)} of {len(names)} classes have a single row ({listed(rare)}); it takes two. "
            "Values rather than classes go in as floats."
        )
    codes = codes.ravel()
    columns = np.zeros((len(y), len(names)))
    columns[np.arange(len(y)), codes] = 1.0
    return Targets("classes", codes, counts, columns)


def _kind_of(y: np.ndarray, about: About) -> Kind:
    if np.issubdtype(y.dtype, np.floating):
        return "values"
    if y.ndim == 1 and (y.dtype == bool or y.dtype.kind in "iuSU"):
        return "classes"
    if y.ndim == 2 and (y.dtype == bool or (y.dtype.kind in "iu" and np.isin(y, (0, 1)).all())):
        return "labels"
    raise DataError(
        f"{about.name}: cannot read the targets, {_kind(y)}. Classes are one column of integers or words, labels a "
        "matrix of 0 and 1, values floats."
    )


def _check_finite(X: np.ndarray, name: str, *, what: str = "rows") -> None:
    bad = np.concatenate([~np.isfinite(X[rows]).all(axis=1) for rows in row_blocks(*X.shape)])
    if bad.any():
        raise DataError(
            f"{name}: {int(bad.sum())} of {len(X)} {what} hold NaN or infinite values (first: row "
            f"{int(bad.argmax())}). "
            "Features come from the network: check its weights and precision, then extract again."
        )


def _swapped(X: object, y: object) -> str:
    floats = isinstance(y, np.ndarray) and y.ndim == 2 and np.issubdtype(y.dtype, np.floating)
    return " It looks as if the two were swapped: features first, targets second." if floats else ""


def _kind(array: object) -> str:
    return f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
