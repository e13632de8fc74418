"""Features along the axes of their own covariance: one eigendecomposition that all heads share.

Centred features are turned, not stretched, so distances, angles and L2 penalties stay what they were. In these axes
the Gram matrix is diagonal: ridge is a division, leave-one-out is exact for a whole path of penalties, and the Hessian
of logistic regression is nearly diagonal. Directions in which the features do not vary are left out.

There is no scaling by column. A constant factor for all columns is enough, because penalties are given in units of the
mean variance, and it keeps every head independent of the basis in which the network happens to give its features.
Dividing by column deviations would also blow up columns that are almost always 0, common after a ReLU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from headstart.adapt.heads.folds import Folds
from headstart.adapt.heads.threads import blas_for
from headstart.base.errors import DataError

BLOCK_CELLS = 1_000_000  # 8 MB of float64 at once


@dataclass(frozen=True)
class Rotated:
    """n rows of D features in r axes; ω are the row weights, N their sum.

    X: (n, D) the features as given, never changed.  mean: (D,) weighted mean.  Z: (n, r) centred and rotated.
    spectrum: (r,) Σ ω z² by axis, descending.  weights: (n,) ω, all 1 when not given.
    axes: (D, r), or None when n ≤ D, where X itself spans them.
    """

    X: np.ndarray
    mean: np.ndarray
    Z: np.ndarray
    spectrum: np.ndarray
    weights: np.ndarray
    axes: np.ndarray | None

    @property
    def width(self) -> int:
        """D, the number of features; r counts only the axes along which they vary."""
        return self.X.shape[1]

    @property
    def total(self) -> float:
        """N, the sum of the weights."""
        return float(self.weights.sum())

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Rows of Z as float64, some at a time."""
        for rows in row_blocks(len(self.Z), self.Z.shape[1]):
            yield rows, self.Z[rows].astype(np.float64, copy=False)

    def times(self, coefficients: np.ndarray) -> np.ndarray:
        """Z @ coefficients (r, C) → (n, C) float64."""
        out = np.empty((len(self.Z), coefficients.shape[1]))
        for rows, z in self.blocks():
            out[rows] = z @ coefficients
        return out

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Zᵀ @ values (n, C) → (r, C) float64."""
        out = np.zeros((self.Z.shape[1], values.shape[1]))
        for rows, z in self.blocks():
            out += z.T @ values[rows]
        return out

    def at(self, positions: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
        """Z[positions] @ coefficients (r, C) → (P, C) float64."""
        out = np.empty((len(positions), coefficients.shape[1]))
        for some in row_blocks(len(positions), self.Z.shape[1]):
            out[some] = self.Z[positions[some]].astype(np.float64, copy=False) @ coefficients
        return out

    def gram(self, positions: np.ndarray) -> np.ndarray:
        """Σ ω z zᵀ over some rows, (r, r) float64."""
        out = np.zeros((self.Z.shape[1], self.Z.shape[1]))
        for some in row_blocks(len(positions), self.Z.shape[1]):
            rows = positions[some]
            z = self.Z[rows] * np.sqrt(self.weights[rows])[:, None]
            out += z.T @ z
        return out

    def back(self, coefficients: np.ndarray) -> np.ndarray:
        """Coefficients (r, K) on Z → (K, D) on centred X."""
        if self.axes is not None:
            return (self.axes @ coefficients).T
        # axes = X̃ᵀ Ω Z / spectrum
        dual = self.weights[:, None] * self.times(coefficients / self.spectrum[:, None])
        out = -np.outer(dual.sum(axis=0), self.mean)
        for rows in row_blocks(len(self.X), self.width):
            out += dual[rows].T @ self.X[rows].astype(np.float64)
        return out


@dataclass(frozen=True)
class Moments:
    """The training rows of one fold. gram: (r, r) around their own mean.  mean: (r,).  total: sum of weights."""

    gram: np.ndarray
    mean: np.ndarray
    total: float

    @property
    def spread(self) -> float:
        """Σ ω z² around the mean over all axes; kept above 0 for rows that happen to be all alike."""
        return max(float(np.trace(self.gram)), float(np.finfo(np.float32).tiny))


def fold_moments(rotated: Rotated, train: np.ndarray) -> Moments:
    """Mean and centred Gram matrix of some rows, from those that are left out when they are fewer."""
    rest = np.setdiff1d(np.arange(len(rotated.Z)), train, assume_unique=True)
    used = np.zeros((len(rotated.Z), 1))
    used[train, 0] = rotated.weights[train]
    total = float(used.sum())
    mean = rotated.sums(used)[:, 0] / total
    if len(rest) < len(train):
        # All rows together have mean 0 and a diagonal Gram matrix. In place: the matrix is large.
        gram = rotated.gram(rest)
        np.negative(gram, out=gram)
        gram.flat[:: len(gram) + 1] += rotated.spectrum
    else:
        gram = rotated.gram(train)
    gram -= np.outer(total * mean, mean)
    return Moments(gram, mean, total)


def rotate(X: np.ndarray, *, weights: np.ndarray | None = None, dtype: type = np.float32) -> Rotated:
    """X: (n, D) finite floats, n ≥ 2.  weights: (n,) above 0.  dtype: of Z; sums are float64 throughout.

    Memory beside X: Z, and (min(n, D))² float64 twice or three times during the decomposition.
    """
    mean, omega = _checked(X, weights)
    n, width = X.shape
    if n > width:
        spectrum, axes = descending(gram_of(X, mean, omega), n)
        Z: np.ndarray = np.empty((n, len(spectrum)), dtype)
        for rows in row_blocks(n, width):
            Z[rows] = (X[rows] - mean) @ axes
        return Rotated(X, mean, Z, spectrum, omega, axes)
    spectrum, U = descending(kernel_of(X, mean, omega), width)
    return Rotated(X, mean, (U * np.sqrt(spectrum) / np.sqrt(omega)[:, None]).astype(dtype), spectrum, omega, None)


def row_blocks(n: int, width: int) -> Iterator[slice]:
    """Slices that cover n rows, each of about 8 MB in float64."""
    step = max(1, BLOCK_CELLS // max(1, width))
    for start in range(0, n, step):
        yield slice(start, min(n, start + step))


def check_features(X: np.ndarray) -> None:
    """DataError unless X is (n, D) with finite floats, n ≥ 2, D ≥ 1."""
    if not isinstance(X, np.ndarray) or X.ndim != 2 or not np.issubdtype(X.dtype, np.floating):
        raise DataError(f"features: expected a float array (rows, features), got {_kind(X)}.")
    if len(X) < 2 or X.shape[1] < 1:
        raise DataError(f"features: {len(X)} rows of {X.shape[1]} features are too few. At least 2 rows and 1 feature.")
    bad = np.concatenate([~np.isfinite(X[rows]).all(axis=1) for rows in row_blocks(*X.shape)])
    if bad.any():
        raise DataError(
            f"features: {int(bad.sum())} of {len(X)} rows hold NaN or infinite values (first: row "
            f"{int(bad.argmax())}). "
            "Features come from the network: check its weights and precision, then extract again."
        )


def _kind(X: object) -> str:
    return f"{X.dtype} of shape {X.shape}" if isinstance(X, np.ndarray) else type(X).__name__


def _checked(X: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    check_features(X)
    omega = np.ones(len(X)) if weights is None else np.asarray(weights, np.float64)
    if omega.shape != (len(X),) or not (np.isfinite(omega) & (omega > 0)).all():
        raise DataError(f"row weights: expected {len(X)} positive numbers. Leave a row out instead of giving it 0.")
    mean = np.zeros(X.shape[1])
    for rows in row_blocks(*X.shape):
        mean += omega[rows] @ X[rows].astype(np.float64)
    return mean / omega.sum(), omega


def gram_of(X: np.ndarray, mean: np.ndarray, omega: np.ndarray) -> np.ndarray:
    """Σ ω (x − mean)(x − mean)ᵀ, (D, D) float64, without a copy of X."""
    out = np.zeros((X.shape[1], X.shape[1]))
    for rows in row_blocks(*X.shape):
        centred = (X[rows] - mean) * np.sqrt(omega[rows])[:, None]
        out += centred.T @ centred
    return out


def kernel_of(X: np.ndarray, mean: np.ndarray, omega: np.ndarray) -> np.ndarray:
    """Products of the centred rows, each times √ω, (n, n) float64, without a copy of X."""
    out = np.zeros((len(X), len(X)))
    for columns in row_blocks(X.shape[1], len(X)):
        centred = (X[:, columns] - mean[columns]) * np.sqrt(omega)[:, None]
        out += centred @ centred.T
    return out


def descending(symmetric: np.ndarray, longer: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues above rounding error, largest first, and their vectors as columns."""
    with blas_for(0):
        values, vectors = np.linalg.eigh(symmetric)
    above = values > max(longer, len(values)) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    if not above.any():
        raise DataError(
            f"features: all {len(values)} rows or columns are constant. Nothing can be learnt from them: "
            "check the weights of the network and the preprocessing."
        )
    return values[above][::-1].copy(), np.ascontiguousarray(vectors[:, above][:, ::-1])


def fold_parts(rotated: Rotated, folds: Folds) -> Iterator[tuple[Moments, np.ndarray, np.ndarray]]:
    """(moments of the training rows, train, held-out) fold by fold; one Gram matrix is in memory at a time."""
    for train, val in folds.pairs:
        yield fold_moments(rotated, train), train, val
