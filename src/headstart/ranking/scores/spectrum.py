"""Features turned onto their principal axes, without a second copy of them.

With Z the features on these axes, ZᵀZ is diagonal. Few rows (n ≤ D): Z comes from the kernel matrix, n × n. Many rows:
from the Gram matrix, D × D, and Z is computed again whenever it is read, some rows at a time; so beside the features
only (min(n, D))² numbers are held. Axes whose eigenvalue is below rounding error are left out: of these the Gram matrix
tells less than an SVD would, but nothing that float32 features could carry.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from headstart.base.errors import DataError
from headstart.ranking.scores.checks import row_blocks

LARGE = 500  # columns from which the number of threads matters


@dataclass(frozen=True)
class Spectrum:
    """X: (n, D) as handed in.  mean: (D,), zeros where X was not centred.  values: (k,) eigenvalues, falling.

    axes: (D, k), n > D only.  dual: (n, k) = Z, n ≤ D only.
    """

    X: np.ndarray
    mean: np.ndarray
    values: np.ndarray
    axes: np.ndarray | None
    dual: np.ndarray | None

    @property
    def mean_value(self) -> float:
        """tr(G)/D: what penalties are measured in."""
        return float(self.values.sum()) / self.X.shape[1]

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Rows of Z, (b, k) float64."""
        for rows in row_blocks(*self.X.shape):
            if self.dual is not None:
                yield rows, self.dual[rows]
            else:
                yield rows, (self.X[rows] - self.mean) @ self.axes

    def sums(self, columns: np.ndarray) -> np.ndarray:
        """Zᵀ columns: (n, C) → (k, C)."""
        if self.dual is not None:
            return self.dual.T @ columns
        assert self.axes is not None
        out = np.zeros((self.X.shape[1], columns.shape[1]))
        for rows in row_blocks(*self.X.shape):
            out += (self.X[rows] - self.mean).T @ columns[rows]
        return self.axes.T @ out


def spectrum(X: np.ndarray, *, centre: bool = True) -> Spectrum:
    """X: (n, D) checked features.  centre: subtract the mean of each column first."""
    n, width = X.shape
    mean = np.zeros(width)
    if centre:
        for rows in row_blocks(n, width):
            mean += X[rows].sum(axis=0, dtype=np.float64)
        mean /= n
    if n > width:
        values, axes = _falling(_gram(X, mean), n)
        return Spectrum(X, mean, values, axes, None)
    values, U = _falling(_kernel(X, mean), width)
    return Spectrum(X, mean, values, None, U * np.sqrt(values))


def eigh(symmetric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, rising, and their vectors as columns.

    On one thread when it takes long: two threads wait for each other and spin (2,048 columns, two cores, other work on
    them: 3.4 s with one thread, 16 s with two).
    """
    if len(symmetric) < LARGE:
        return np.linalg.eigh(symmetric)
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        return np.linalg.eigh(symmetric)


def _gram(X: np.ndarray, mean: np.ndarray) -> np.ndarray:
    out = np.zeros((X.shape[1], X.shape[1]))
    for rows in row_blocks(*X.shape):
        block = X[rows] - mean
        out += block.T @ block
    return out


def _kernel(X: np.ndarray, mean: np.ndarray) -> np.ndarray:
    out = np.zeros((len(X), len(X)))
    for columns in row_blocks(X.shape[1], len(X)):
        block = X[:, columns] - mean[columns]
        out += block @ block.T
    return out


def _falling(symmetric: np.ndarray, longer: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues above rounding error, largest first, and their vectors as columns."""
    values, vectors = eigh(symmetric)
    above = values > max(longer, len(values)) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    if not above.any():
        raise DataError(f"features: all {len(values)} rows or columns are alike. Nothing can be told from them.")
    return values[above][::-1].copy(), np.ascontiguousarray(vectors[:, above][:, ::-1])
