"""Logistic regression with an L2 penalty: softmax for classes, one sigmoid per label for multi-label.

    minimise Σ ω_i loss(W x_i + b, y_i) + λ/2 |W|²        (scikit-learn's C is 1/λ; b is not penalised)

Two classes share one sigmoid, as in scikit-learn. All folds are solved at once: the features are read once per step
for all of them. L-BFGS (Liu & Nocedal 1989) starts from a Hessian that is nearly right, because in rotated axes
XᵀX is diagonal; some ten steps do. A step along a line costs no product with the features, since logits are linear.
Inner loops are float32; the final fit is polished in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from headstart.adapt.heads.folds import Folds
from headstart.adapt.heads.head import LinearHead, OutOfFold, Setting
from headstart.adapt.heads.rotated import Rotated, row_blocks
from headstart.tasks.task import Task

PATH = np.logspace(-4, 2, 7)  # C for features of mean variance 1, strongest penalty first
MEMORY = 8  # pairs that L-BFGS remembers
ROUGH, FINE = 1e-5, 1e-12  # estimated distance to the minimum, in nats per example
MOST_STEPS = 200


@dataclass(frozen=True)
class Logistic:
    """C is chosen by out-of-fold log-loss on a path that starts with the strongest penalty, each fit from the last.

    The path ends when the loss has risen twice: beyond that point fits only get slower and worse.
    """

    name: str = "logistic"
    rank: int = 3
    linear: bool = True

    def fits(self, task: Task) -> bool:
        return task.name in ("classification", "multilabel")

    def cross_validate(self, rotated: Rotated, y: np.ndarray, task: Task, folds: Folds) -> OutOfFold:
        rows, tried, start = folds.judged, [], None
        for c in PATH:
            logits, start = _out_of_fold(rotated, y, task, folds, float(c), start)
            tried.append((_log_loss(task, logits[rows], y[rows]), logits))
            losses = [loss for loss, _ in tried]
            if len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]:
                break
        best = int(np.argmin([loss for loss, _ in tried]))
        return OutOfFold(tried[best][1], {"C": float(PATH[best])})

    def fit(self, rotated: Rotated, y: np.ndarray, task: Task, setting: Setting) -> LinearHead:
        variance = float(rotated.spectrum.sum()) / (rotated.total * rotated.width)
        return logistic(rotated, y, task, penalty=variance / float(setting["C"]))


def logistic(rotated: Rotated, y: np.ndarray, task: Task, *, penalty: float) -> LinearHead:
    """The minimiser on all rows, on raw features. penalty: λ above, so 1/C of scikit-learn on the same features."""
    truth = _truth(y, task)
    problem = Problem(rotated.Z, rotated.spectrum, rotated.weights[None], truth, np.asarray([penalty]), _softmax(task))
    start = minimise(problem, None, accuracy=ROUGH)
    found = minimise(replace(problem, dtype=np.float64), start, accuracy=FINE)
    coefficients, bias = _all_classes(found[0], task)
    weight = rotated.back(coefficients.T)
    return LinearHead(weight, bias - weight @ rotated.mean)


# --- cross-validation


def _out_of_fold(
    rotated: Rotated, y: np.ndarray, task: Task, folds: Folds, c: float, start: list[np.ndarray] | None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Logits of held-out rows at one C, and the solutions by portion of folds to start the next C from."""
    truth = _truth(y, task)
    parts: list[np.ndarray] = []
    found = []
    for i, some in enumerate(_portions(len(folds.pairs), truth.shape[0], rotated.Z.shape[1])):
        pairs = folds.pairs[some]
        used = np.zeros((len(pairs), len(y)))
        for p, (train, _) in enumerate(pairs):
            used[p, train] = rotated.weights[train]
        penalties = _variances(rotated, used) / c
        problem = Problem(rotated.Z, rotated.spectrum, used, truth, penalties, _softmax(task))
        found.append(minimise(problem, None if start is None else start[i], accuracy=ROUGH))
        for w, (_, val) in zip(found[-1], pairs, strict=True):
            coefficients, bias = _all_classes(w.astype(np.float64), task)
            parts.append(rotated.at(val, coefficients.T) + bias)
    return folds.average(parts), found


def _portions(folds: int, columns: int, width: int) -> Iterator[slice]:
    """Folds solved together: few enough that logits and memory stay small beside the features."""
    step = max(1, max(width // 8, 32) // columns)
    for start in range(0, folds, step):
        yield slice(start, min(folds, start + step))


def _variances(rotated: Rotated, used: np.ndarray) -> np.ndarray:
    """(P,) mean variance of a feature over the rows that each fold trains on."""
    squares = np.concatenate([(z**2).sum(axis=1) for _, z in rotated.blocks()])
    total = used.sum(axis=1)
    means = rotated.sums(used.T) / total
    variance = ((used @ squares) / total - (means**2).sum(axis=0)) / rotated.width
    return np.maximum(variance, np.finfo(np.float32).tiny)


def _softmax(task: Task) -> bool:
    return task.name == "classification" and task.outputs > 2


def _truth(y: np.ndarray, task: Task) -> np.ndarray:
    """(columns, n) 0/1: one row a class, one for two classes, one a label."""
    if task.name == "multilabel":
        return (y > 0).T.astype(np.float32)
    if task.outputs == 2:
        return (y == 1)[None].astype(np.float32)
    return (y == np.arange(task.outputs)[:, None]).astype(np.float32)


def _all_classes(w: np.ndarray, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (K, r) and bias (K,) of a solution (columns, r + 1).

    What a softmax adds to all classes alike means nothing; the penalty makes it 0, and rounding is taken out here.
    """
    if task.name == "classification":
        w = np.concatenate([-w / 2, w / 2]) if task.outputs == 2 else w - w.mean(axis=0)
    return w[:, :-1], w[:, -1]


def _log_loss(task: Task, logits: np.ndarray, y: np.ndarray) -> float:
    p = task.decode(logits)
    if task.name == "classification":
        p = p[np.arange(len(y)), y]
    else:
        p = np.where(y > 0, p, 1 - p)
    return float(-np.log(np.clip(p, 1e-15, 1.0)).mean())


# --- the solver


@dataclass(frozen=True)
class Problem:
    """P fits on the same rows, each with its own weights and penalty.

    Z: (n, r) centred features in rotated axes.  spectrum: (r,) of all rows.  used: (P, n) row weights, 0 for rows
    left out.  truth: (K, n) 0/1.  penalties: (P,).  softmax: K columns share one softmax, else each is a sigmoid.
    """

    Z: np.ndarray
    spectrum: np.ndarray
    used: np.ndarray
    truth: np.ndarray
    penalties: np.ndarray
    softmax: bool
    dtype: type = np.float32

    def logits(self, w: np.ndarray) -> np.ndarray:
        """w (P, K, r + 1), the last a bias → (P, K, n)."""
        flat = w.reshape(-1, w.shape[-1])
        if self.Z.dtype == self.dtype:
            out = flat[:, :-1] @ self.Z.T
        else:
            out = np.empty((len(flat), len(self.Z)), dtype=flat.dtype)
            for rows in row_blocks(*self.Z.shape):
                out[:, rows] = flat[:, :-1] @ self.Z[rows].astype(self.dtype).T
        out += flat[:, -1:]
        return out.reshape(*w.shape[:2], -1)

    def residual(self, logits: np.ndarray) -> np.ndarray:
        """(P, K, n) derivative of the weighted loss by the logits: ω (p − y)."""
        p = self.probabilities(logits)
        p -= self.truth
        p *= self.used[:, None].astype(self.dtype, copy=False)
        return p

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        if self.softmax:
            p = np.exp(logits - logits.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            return p
        return 0.5 * (1 + np.tanh(0.5 * logits))

    def gradient(self, w: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """(P, K, r + 1)."""
        flat = residual.reshape(-1, residual.shape[-1])
        out: np.ndarray = np.empty((len(flat), w.shape[-1]), self.dtype)
        if self.Z.dtype == self.dtype:
            out[:, :-1] = flat @ self.Z
        else:
            out[:, :-1] = 0
            for rows in row_blocks(*self.Z.shape):
                out[:, :-1] += flat[:, rows] @ self.Z[rows].astype(self.dtype)
        out[:, -1] = flat.sum(axis=1)
        out = out.reshape(w.shape)
        out[..., :-1] += self.penalties[:, None, None].astype(self.dtype) * w[..., :-1]
        return out

    def inverse_curvature(self, logits: np.ndarray) -> np.ndarray:
        """(P, K, r + 1) reciprocal of the Hessian's diagonal, with p(1 − p) replaced by its mean over the rows."""
        p = self.probabilities(logits)
        total = self.used.sum(axis=1)
        bend = np.einsum("pkn,pn->pk", p * (1 - p), self.used.astype(self.dtype)) / total[:, None]
        bend = np.maximum(bend, 1e-3)[..., None]
        share = (total / len(self.Z))[:, None, None]
        diagonal = bend * share * np.append(self.spectrum, 1.0) + self.penalties[:, None, None]
        diagonal[..., -1:] = bend * total[:, None, None]
        return (1 / diagonal).astype(self.dtype)


def minimise(problem: Problem, start: np.ndarray | None, *, accuracy: float) -> np.ndarray:
    """(P, K, r + 1) solutions, the last entry the bias.

    accuracy: stop a fit when half of gᵀ H⁻¹ g, the expected distance to the minimum, is below this times its rows.
    """
    w = _start(problem) if start is None else start.astype(problem.dtype)
    logits = problem.logits(w)
    gradient = problem.gradient(w, problem.residual(logits))
    enough = 2 * accuracy * problem.used.sum(axis=1)
    pairs: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    first = problem.inverse_curvature(logits)
    for _ in range(MOST_STEPS):
        direction = -_inverse_hessian_times(gradient, pairs, first)
        going = -_dot(gradient, direction) > enough
        if not going.any():
            break
        direction *= going[:, None, None]
        steps, logits, residual = _search(problem, w, direction, logits, gradient)
        moved = steps[:, None, None] * direction
        w = w + moved
        new = problem.gradient(w, residual)
        pairs = [*pairs, _pair(moved, new - gradient)][-MEMORY:]
        gradient = new
    return w


def _start(problem: Problem) -> np.ndarray:
    """No slope, and the biases that say how common each column is."""
    weighted = problem.used / problem.used.sum(axis=1, keepdims=True)
    share = np.clip(weighted @ problem.truth.T, 1e-3, 1 - 1e-3)
    w = np.zeros((len(problem.used), len(problem.truth), problem.Z.shape[1] + 1), problem.dtype)
    w[..., -1] = np.log(share) if problem.softmax else np.log(share / (1 - share))
    return w


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(P,) products over columns and coefficients."""
    return np.einsum("pkr,pkr->p", a, b, dtype=np.float64)


def _pair(moved: np.ndarray, bent: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(s, y, 1 / sᵀy); 0 instead of the last where rounding hides the curvature, or the fit has ended."""
    product = _dot(moved, bent)
    there = product > 1e-10 * np.sqrt(_dot(moved, moved) * _dot(bent, bent))
    return moved, bent, np.where(there, 1 / np.where(there, product, 1.0), 0.0)


def _inverse_hessian_times(
    gradient: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray, np.ndarray]], first: np.ndarray
) -> np.ndarray:
    """The two loops of L-BFGS for all fits side by side (Nocedal & Wright 2006, algorithm 7.4)."""
    q = gradient.copy()
    kept = []
    for moved, bent, inverse in reversed(pairs):
        a = (inverse * _dot(moved, q))[:, None, None].astype(q.dtype)
        q -= a * bent
        kept.append(a)
    q *= first
    for (moved, bent, inverse), a in zip(pairs, reversed(kept), strict=True):
        b = (inverse * _dot(bent, q))[:, None, None].astype(q.dtype)
        q += (a - b) * moved
    return q


def _search(
    problem: Problem, w: np.ndarray, direction: np.ndarray, logits: np.ndarray, gradient: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps (P,) to about the minimum along each direction, with logits and residual there.

    The loss is convex, so its slope along the line rises; a step is good when little of the slope is left. The test
    looks at slopes only: differences of losses drown in float32.
    """
    along = problem.logits(direction)
    slope0 = _dot(gradient, direction)
    # the penalty's part of the slope is linear in the step
    bend = problem.penalties * _dot(direction[..., :-1], direction[..., :-1])
    start = problem.penalties * _dot(w[..., :-1], direction[..., :-1])
    steps: np.ndarray = np.ones(len(w), problem.dtype)
    low, high = np.zeros(len(w)), np.full(len(w), np.inf)
    for _ in range(20):
        there = logits + steps[:, None, None] * along
        residual = problem.residual(there)
        slope = np.einsum("pkn,pkn->p", residual, along, dtype=np.float64) + start + steps * bend
        bad = (slope > -0.3 * slope0) | (slope < 0.9 * slope0)
        bad &= slope0 < 0
        if not bad.any():
            break
        low, high = np.where(slope < 0, np.maximum(low, steps), low), np.where(slope > 0, np.minimum(high, steps), high)
        steps = np.where(bad, _next_step(steps, slope, slope0, low, high), steps).astype(problem.dtype)
    return steps, there, residual


def _next_step(
    steps: np.ndarray, slope: np.ndarray, slope0: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """The secant's zero, within the bracket and not more than four times further."""
    bend = slope - slope0
    secant = steps * -slope0 / np.where(bend > 0, bend, 1.0)
    secant = np.where(bend > 0, secant, 4 * steps)
    secant = np.clip(secant, 0.1 * steps, 4 * steps)
    middle = np.where(np.isfinite(high), (low + high) / 2, 2 * steps)
    return np.where((secant > low) & (secant < high), secant, middle)
