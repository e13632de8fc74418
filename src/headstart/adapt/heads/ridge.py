"""Ridge regression with exact leave-one-out for a whole path of penalties, from one eigendecomposition.

METHODS A.2a. With centred features turned onto their axes (Z, spectrum s), the solution for penalty λ is
b = Zᵀ Ω (Y − m) / (s + λ), the leverage of row i is h_i = ω_i (Σ_j z_ij² / (s_j + λ) + 1/N), and its prediction without
itself y_i − (y_i − ŷ_i) / (1 − h_i). For rows that belong
together, (I − H_gg)⁻¹ (y_g − ŷ_g) leaves out the whole group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from headstart.adapt.heads.folds import Folds
from headstart.adapt.heads.head import LinearHead, OutOfFold, Setting
from headstart.adapt.heads.rotated import Moments, Rotated, fold_parts, rotate
from headstart.base.errors import DataError
from headstart.tasks.task import Task

RELATIVE_LAMBDAS = np.logspace(-3, 4, 15)
PORTION_CELLS = 2_000_000  # fitted values held at once: 16 MB
EXACT_BYTES = 256 * 2**20  # up to here rows stay in float64 between penalties
LARGEST_GROUP = 64  # larger groups cost more to leave out one by one than fold by fold

RowScore = Callable[[np.ndarray, np.ndarray], np.ndarray]


def squared(left_out: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """(n,) minus the squared error, each output in units of its own variance."""
    scale = Y.var(axis=0)
    return -((left_out - Y) ** 2 / np.where(scale > 0, scale, 1.0)).mean(axis=1)


def correct(left_out: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """(n,) 1 where the largest output is the class's own."""
    return (left_out.argmax(axis=1) == Y.argmax(axis=1)).astype(np.float64)


@dataclass(frozen=True)
class RidgePath:
    """lambdas: (L,) ascending.  scores: (L,) mean row score of the left-out predictions, higher is better.

    best: index of the kept penalty.  left_out: (n, K) predictions for it, each row by the model without it.
    """

    lambdas: np.ndarray
    scores: np.ndarray
    best: int
    left_out: np.ndarray
    rotated: Rotated
    sums: np.ndarray  # (r, K) Zᵀ Ω (Y − mean)
    target_mean: np.ndarray  # (K,)

    @property
    def best_lambda(self) -> float:
        return float(self.lambdas[self.best])

    def solution(self, penalty: float | None = None) -> LinearHead:
        """The head from all rows, on raw features; for the best penalty when none is given."""
        penalty = self.best_lambda if penalty is None else penalty
        weight = self.rotated.back(self.sums / (self.rotated.spectrum + penalty)[:, None])
        return LinearHead(weight, self.target_mean - weight @ self.rotated.mean)


def ridge_path(
    X: np.ndarray,
    Y: np.ndarray,
    *,
    lambdas: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    score: RowScore = squared,
) -> RidgePath:
    """Minimise Σ ω_i |y_i − W x_i − b|² + λ |W|² for every λ, with exact leave-one-out predictions.

    X: (n, D) floats.  Y: (n, K) targets, ±1 for classes (``task.regress_on``).  lambdas: absolute, all above 0; not
    given: 15 from 10⁻³ to 10⁴ times the mean eigenvalue tr(G)/D.  groups: (n,) rows of one group are left out together.
    score: how a left-out prediction is judged, by row; the best mean is kept, ties go to the larger penalty.
    """
    exact = len(X) * min(X.shape) * 8 <= EXACT_BYTES
    rotated = rotate(X, weights=weights, dtype=np.float64 if exact else np.float32)
    if Y.ndim != 2 or len(Y) != len(X) or not np.isfinite(Y).all():
        raise DataError(f"ridge: expected finite targets of shape ({len(X)}, K), got shape {Y.shape}.")
    if lambdas is None:
        lambdas = RELATIVE_LAMBDAS * mean_eigenvalue(rotated)
    lambdas = np.sort(np.asarray(lambdas, np.float64))
    if not len(lambdas) or not lambdas[0] > 0:
        raise DataError("ridge: every penalty must be above 0. Leave-one-out is not defined without a penalty.")
    return path_on(rotated, np.asarray(Y, np.float64), lambdas, groups, score)


def path_on(
    rotated: Rotated, Y: np.ndarray, lambdas: np.ndarray, groups: np.ndarray | None, score: RowScore
) -> RidgePath:
    """``ridge_path`` on features that are already rotated; lambdas ascending."""
    mean = rotated.weights @ Y / rotated.total
    sums = rotated.sums(rotated.weights[:, None] * (Y - mean))
    together = _groups(groups, len(Y))
    scores = np.empty(len(lambdas))
    best, kept = 0, Y
    for i, residual, leverage in _residuals(rotated, Y - mean, sums, lambdas):
        left_out = Y - _left_out_residual(rotated, residual, leverage, lambdas[i], together)
        scores[i] = np.average(score(left_out, Y), weights=rotated.weights)
        if scores[i] >= scores[best]:
            best, kept = i, left_out
    return RidgePath(lambdas, scores, best, kept, rotated, sums, mean)


def mean_eigenvalue(rotated: Rotated) -> float:
    """tr(G)/D: what penalties are measured in, so that one grid serves every network."""
    return float(rotated.spectrum.sum()) / rotated.width


def _residuals(
    rotated: Rotated, centred: np.ndarray, sums: np.ndarray, lambdas: np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(index of the penalty, residuals (n, K), leverages (n,)), several penalties to one reading of the features."""
    n, outputs = centred.shape
    step = max(1, PORTION_CELLS // (n * (outputs + 1)))
    for start in range(0, len(lambdas), step):
        inverse = 1 / (rotated.spectrum[:, None] + lambdas[start : start + step])  # (r, some)
        columns = (inverse[:, :, None] * sums[:, None, :]).reshape(len(sums), -1)
        fitted = np.empty((n, inverse.shape[1], outputs))
        leverage = np.empty((n, inverse.shape[1]))
        for rows, z in rotated.blocks():
            fitted[rows] = (z @ columns).reshape(len(z), -1, outputs)
            leverage[rows] = z**2 @ inverse
        leverage = rotated.weights[:, None] * (leverage + 1 / rotated.total)
        for i in range(inverse.shape[1]):
            yield start + i, centred - fitted[:, i], leverage[:, i]


def _groups(groups: np.ndarray | None, n: int) -> list[np.ndarray]:
    """Groups of two rows and more, those of equal size stacked: (how many, size) positions."""
    if groups is None:
        return []
    groups = np.asarray(groups)
    if groups.shape != (n,):
        raise DataError(f"ridge: expected one group per row ({n}), got shape {groups.shape}.")
    _, where, size = np.unique(groups, return_inverse=True, return_counts=True)
    if len(size) < 2:
        raise DataError("ridge: all rows are in one group. Leaving it out leaves nothing to learn from.")
    order = np.argsort(where.ravel(), kind="stable")
    members = np.split(order, np.cumsum(size)[:-1])
    return [np.stack([m for m in members if len(m) == s]) for s in np.unique(size) if s > 1]


def _left_out_residual(
    rotated: Rotated, residual: np.ndarray, leverage: np.ndarray, penalty: float, together: list[np.ndarray]
) -> np.ndarray:
    """(n, K) residual of each row under the model that was fitted without it (and without its group)."""
    out = residual / (1 - leverage)[:, None]
    for rows in _in_portions(together, rotated.Z.shape[1]):
        z = rotated.Z[rows].astype(np.float64, copy=False)  # (g, size, r)
        hat = (z / (rotated.spectrum + penalty)) @ z.transpose(0, 2, 1) + 1 / rotated.total
        hat = hat * rotated.weights[rows][:, None, :]
        out[rows] = np.linalg.solve(np.eye(rows.shape[1]) - hat, residual[rows])
    return out


def _in_portions(together: list[np.ndarray], width: int) -> Iterator[np.ndarray]:
    for rows in together:
        step = max(1, 4_000_000 // (width * rows.shape[1]))
        for start in range(0, len(rows), step):
            yield rows[start : start + step]


# --- as one of the heads to choose from


@dataclass(frozen=True)
class Ridge:
    """Least squares on ±1 with an L2 penalty; for regression, ridge regression.

    The penalty is chosen by leave-one-out (by leave-group-out, or by the folds themselves where groups are large),
    then judged on the folds, each with centre and scale of its own training rows.
    """

    groups: np.ndarray | None = None
    name: str = "ridge"
    rank: int = 1
    linear: bool = True

    def fits(self, task: Task) -> bool:
        return True

    def cross_validate(self, rotated: Rotated, y: np.ndarray, task: Task, folds: Folds) -> OutOfFold:
        Y, score = task.regress_on(y), correct if task.name == "classification" else squared
        if self.groups is not None and np.unique(self.groups, return_counts=True)[1].max() > LARGEST_GROUP:
            return _chosen_by_folds(rotated, Y, folds, score)
        path = path_on(rotated, Y, RELATIVE_LAMBDAS * mean_eigenvalue(rotated), self.groups, score)
        relative = float(RELATIVE_LAMBDAS[path.best])
        logits = folds.average([p[0] for p in _fold_predictions(rotated, Y, folds, np.asarray([relative]))])
        return OutOfFold(logits, {"lambda": relative})

    def fit(self, rotated: Rotated, y: np.ndarray, task: Task, setting: Setting) -> LinearHead:
        penalty = float(setting["lambda"]) * mean_eigenvalue(rotated)
        return path_on(rotated, task.regress_on(y), np.asarray([penalty]), None, squared).solution()


def _chosen_by_folds(rotated: Rotated, Y: np.ndarray, folds: Folds, score: RowScore) -> OutOfFold:
    parts = list(_fold_predictions(rotated, Y, folds, RELATIVE_LAMBDAS))
    by_lambda = [folds.average([p[i] for p in parts]) for i in range(len(RELATIVE_LAMBDAS))]
    rows = folds.judged
    scores = [score(logits[rows], Y[rows]).mean() for logits in by_lambda]
    best = max(range(len(scores)), key=lambda i: (scores[i], i))
    return OutOfFold(by_lambda[best], {"lambda": float(RELATIVE_LAMBDAS[best])})


def _fold_predictions(rotated: Rotated, Y: np.ndarray, folds: Folds, relative: np.ndarray) -> Iterator[np.ndarray]:
    """(L, held-out, K) for each fold. Penalties are in units of the fold's own mean eigenvalue."""
    for moments, train, val in fold_parts(rotated, folds):
        omega = rotated.weights[train]
        mean = omega @ Y[train] / moments.total
        # Zᵀ Ω (Y − mean) over the training rows; the centre of Z drops out because Y − mean sums to 0
        values = np.zeros_like(Y)
        values[train] = omega[:, None] * (Y[train] - mean)
        sums = rotated.sums(values)
        unit = moments.spread / rotated.width
        solved = np.stack([_solve(moments, unit * r, sums) for r in relative])  # (L, r, K)
        shift = mean - moments.mean @ solved  # (L, K)
        flat = solved.transpose(1, 0, 2).reshape(len(sums), -1)
        yield rotated.at(val, flat).reshape(len(val), len(relative), -1).transpose(1, 0, 2) + shift[:, None]


def _solve(moments: Moments, penalty: float, sums: np.ndarray) -> np.ndarray:
    """(G + λ)⁻¹ sums."""
    system = moments.gram.copy()
    system.flat[:: len(system) + 1] += penalty
    return np.linalg.solve(system, sums)
