"""Features turned onto their principal axes, without a second copy of them.

With Z the features on these axes, ZᵀZ is diagonal. Few rows (n ≤ D): Z comes from the kernel matrix, n × n. Many rows:
from the Gram matrix, D × D, and Z is computed again whenever it is read, some rows at a time; so beside the features
only (min(n, D))² numbers are held (``adapt.heads.rotated`` keeps Z: heads read it many times). Axes whose eigenvalue
is below rounding error are left out: of these the Gram matrix tells less than an SVD would, but nothing that float32
features could carry.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from headstart.adapt.heads.rotated import descending, gram_of, kernel_of, row_blocks
from headstart.adapt.heads.threads import blas_for


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
    mean, alike = np.zeros(width), np.ones(n)
    if centre:
        for rows in row_blocks(n, width):
            mean += X[rows].sum(axis=0, dtype=np.float64)
        mean /= n
    if n > width:
        values, axes = descending(gram_of(X, mean, alike), n)
        return Spectrum(X, mean, values, axes, None)
    values, U = descending(kernel_of(X, mean, alike), width)
    return Spectrum(X, mean, values, None, U * np.sqrt(values))


def eigh(symmetric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, rising, and their vectors as columns; on one thread (``adapt.heads.threads`` says why)."""
    with blas_for(0):
        return np.linalg.eigh(symmetric)
