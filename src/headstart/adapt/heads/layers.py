"""Which layers of an encoder to learn from: a mixture of them all, kept only where it is shown to beat the last one.

SUPERB (Yang et al. 2021, arXiv:2105.01051, section 2) sums the layers of a frozen encoder with softmax weights that are
learnt together with the head. The mean over time commutes with that sum, so the mean of each layer, which one pass
gives, is all that is needed. Where SUPERB follows the loss on the training rows, we follow that of rows held out from
a ridge head, in closed form: with more features than rows any mixture fits the training rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.adapt.calibration import fit_temperature
from headstart.adapt.heads.folds import Folds
from headstart.adapt.heads.head import LinearHead
from headstart.adapt.heads.ridge import Ridge
from headstart.adapt.heads.rotated import rotate
from headstart.adapt.heads.threads import blas_for
from headstart.base.progress import QUIET, Observer, track
from headstart.base.seeds import stream
from headstart.data.split import folds
from headstart.evaluation.intervals import Resamples, paired_difference
from headstart.evaluation.scores import is_better, resampled, score
from headstart.records.estimate import Estimate
from headstart.tasks.task import Task

FOLDS = 5
MOST_ROWS = 320  # from which weights are learnt: one number for each layer needs no more
_ROUNDS = 40  # of L-BFGS
_DIGITS = 4


@dataclass(frozen=True)
class Mixture:
    """weights: (L,) of the layers, input side first, none negative, with sum 1.

    gain: score of a ridge head on the mixture less that on the last layer, on held-out rows.  metric: which score.
    """

    weights: tuple[float, ...]
    gain: Estimate
    metric: str

    @property
    def is_better(self) -> bool:
        """Whether more than chance speaks for the mixture."""
        return is_better(self.gain, self.metric)

    @property
    def in_words(self) -> str:
        gain = f"{self.gain.value:+.3f} [{self.gain.low:+.3f}, {self.gain.high:+.3f}]"
        compared = f"{self.metric.replace('_', '-')} on held-out rows {gain} against the last layer alone"
        if self.is_better:
            return f"a mixture of the {len(self.weights)} layers is kept: {compared}"
        return f"the last layer is kept: with a mixture of all {len(self.weights)}, {compared}, may be chance"


def weigh(
    layers: np.ndarray,
    y: np.ndarray,
    *,
    task: Task,
    groups: np.ndarray,
    metric: str | None = None,
    seed: int = 0,
    observer: Observer = QUIET,
) -> Mixture:
    """The mixture for these rows, and what it gains over the last layer by cross-validation inside them.

    layers: (n, L, D) floats.  y: as ``task.encode`` gives it.  groups: (n,) rows that stay on one side.
    In each part the weights, too, are learnt from the other parts alone.
    """
    metric = metric or task.headline
    parts = folds(task.strata(y), groups, k=FOLDS, seed=seed)
    mixed, last = (np.full((len(y), task.outputs), np.nan) for _ in range(2))
    for train, rest in track(parts, observer, "weighing the layers", unit="parts"):
        weights = learnt_weights(layers[train], y[train], task=task, groups=groups[train], seed=seed)
        for logits, X in ((mixed, mixture(layers, weights)), (last, layers[:, -1])):
            logits[rest] = _ridge(X[train], y[train], task, groups[train], seed).logits(X[rest])
    rows = np.sort(np.concatenate([rest for _, rest in parts]))
    drawn = Resamples(len(rows), 1000, seed, groups[rows])
    (value, ours), (other, theirs) = (_scores(logits[rows], y[rows], task, metric, drawn) for logits in (mixed, last))
    gain = paired_difference(value - other, ours, theirs, n=len(rows), units=drawn.units)
    return Mixture(learnt_weights(layers, y, task=task, groups=groups, seed=seed), gain, metric)


def mixture(layers: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """(n, D) float32 of (n, L, D)."""
    return np.einsum("nld,l->nd", layers, np.asarray(weights, np.float32)).astype(np.float32, copy=False)


def learnt_weights(
    layers: np.ndarray, y: np.ndarray, *, task: Task, groups: np.ndarray, seed: int = 0
) -> tuple[float, ...]:
    """(L,) weights with which a ridge head errs least, in squares, on rows that are held out from it."""
    from scipy.optimize import minimize

    rows = _some(len(y), seed)
    Z = np.moveaxis(layers[rows], 1, 0).astype(np.float64)
    Z -= Z.mean(axis=1, keepdims=True)
    # Layers differ in scale, and a softmax should begin with an equal say for each.
    scale = np.maximum(np.sqrt(np.square(Z).mean(axis=(1, 2))), 1e-12)
    Z /= scale[:, None, None] * np.sqrt(Z.shape[2])
    Y = task.regress_on(y[rows]).astype(np.float64)
    Y = (Y - Y.mean(axis=0)) / max(float(Y.std()), 1e-12)
    held = [rest for _, rest in folds(task.strata(y[rows]), groups[rows], k=FOLDS, seed=seed)]
    start = np.append(np.zeros(len(Z)), np.log(0.1))
    with blas_for(Z.size):
        found = minimize(_loss, start, (Z, Y, held), "L-BFGS-B", jac=True, options={"maxiter": _ROUNDS})
    weights = _softmax(found.x[:-1]) / scale
    return tuple(float(f"{w:.{_DIGITS}g}") for w in weights / weights.sum())


def _loss(at: np.ndarray, Z: np.ndarray, Y: np.ndarray, held: Sequence[np.ndarray]) -> tuple[float, np.ndarray]:
    """(half the mean squared error of held-out rows, its gradient) of a kernel ridge head on a mixture of layers.

    at: (L + 1,) logits of the weights, then ln λ.  Z: (L, n, D) and Y: (n, K), both centred.
    With M = (F Fᵀ + λ)⁻¹ and A = M Y the rows k miss by E = (M_kk)⁻¹ A_k when they are left out.
    """
    weights, penalty = _softmax(at[:-1]), np.exp(at[-1])
    F = np.tensordot(weights, Z, 1)
    M = np.linalg.inv(F @ F.T + penalty * np.eye(len(Y)))
    A = M @ Y
    loss, by_kernel = 0.0, np.zeros_like(M)
    for rows in held:
        block = M[np.ix_(rows, rows)]
        E = np.linalg.solve(block, A[rows])
        P = np.linalg.solve(block, E)
        loss += 0.5 * float(np.square(E).sum())
        by_kernel += (M[:, rows] @ P) @ (M[:, rows] @ E - A).T
    by_F = (by_kernel + by_kernel.T) @ F
    by_weight = np.tensordot(Z, by_F, 2)
    gradient = np.append(weights * (by_weight - weights @ by_weight), penalty * np.trace(by_kernel))
    return loss / Y.size, gradient / Y.size


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def _some(n: int, seed: int) -> np.ndarray:
    """Up to MOST_ROWS of n rows."""
    if n <= MOST_ROWS:
        return np.arange(n)
    return np.sort(stream(seed, "layers").choice(n, MOST_ROWS, replace=False))


def _ridge(X: np.ndarray, y: np.ndarray, task: Task, groups: np.ndarray, seed: int) -> LinearHead:
    """A ridge head whose penalty is chosen inside these rows."""
    family = Ridge(groups)
    with blas_for(X.size * task.outputs):
        rotated = rotate(X)
        inside = Folds.checked(len(X), folds(task.strata(y), groups, k=FOLDS, seed=seed))
        return family.fit(rotated, y, task, family.cross_validate(rotated, y, task, inside).setting)


def _scores(logits: np.ndarray, y: np.ndarray, task: Task, metric: str, drawn: Resamples) -> tuple[float, np.ndarray]:
    """(the score, (R,) the same on resamples)."""
    said = task.decode(logits / fit_temperature(logits, y, task))
    value = float(score(task.name, y, said, [metric])[metric][0])
    return value, resampled(task.name, y, said, [metric], drawn)[metric]
