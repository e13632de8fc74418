"""How the error falls with the number of labels, and what that says about the labels that transfer was worth.

error = a + b·n^(−c) with a, b ≥ 0 and c in (0, 2] (METHODS F). For a given c this is a linear problem with two
unknowns, solved in closed form; c is searched on a grid and refined. Everything is done for many resamples at once.

Two networks are compared at an error that both have been seen to reach: the larger of their errors with all labels.
So no curve is ever followed beyond the sizes that were measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.base.seeds import stream
from headstart.evaluation.intervals import estimate
from headstart.evaluation.scores import LOWER_IS_BETTER
from headstart.records.estimate import Estimate
from headstart.records.proof import Multiplier, PowerLaw

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
FEWEST_SIZES = 3  # a curve has three unknowns
EXPONENTS = np.geomspace(0.02, 2, 40)  # where the search for c begins
GOLDEN = (math.sqrt(5) - 1) / 2
REFINED = 36  # golden sections; each leaves 0.62 of the bracket
ROUNDS = 4  # of reweighting
HUBER = 1.345  # standard deviations beyond which a residual counts less (95 % efficient for Gaussian noise)

# --- subsets


def nested_subsets(
    strata: np.ndarray, groups: np.ndarray, *, shares: Sequence[float] = SHARES, seed: int = 0
) -> list[np.ndarray]:
    """Positions for each share, sorted; each subset holds the one before it, all strata, and groups as a whole.

    strata, groups: (n,).  shares: ascending in (0, 1].  Without larger groups each stratum has its share to within a
    row, except that none is ever missing: a subset is never smaller than that takes.
    """
    strata = np.unique(strata, return_inverse=True)[1].ravel()
    groups = np.unique(groups, return_inverse=True)[1].ravel()
    order, needed = _spread_order(strata, groups, stream(seed, "nested-subsets"))
    sizes = np.bincount(groups)[order]
    filled = np.cumsum(sizes)
    subsets = []
    for share in shares:
        nearest = int(np.abs(filled - share * len(groups)).argmin()) + 1
        taken = order[: max(needed, nearest)]
        subsets.append(np.flatnonzero(np.isin(groups, taken)))
    return subsets


def _spread_order(strata: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """(all groups, how many of them hold every stratum): any beginning of the list is stratified, as far as it can be.

    Within a stratum the j-th row stands at (j + u) / rows with one random u: sorted by that, strata take turns.
    """
    table = np.zeros((groups.max() + 1, strata.max() + 1))
    np.add.at(table, (groups, strata), 1)
    own = table.argmax(axis=1)  # the stratum that a group mostly belongs to
    place = np.empty(len(table))
    start = rng.random(table.shape[1])
    for stratum in range(table.shape[1]):
        members = rng.permutation(np.flatnonzero(own == stratum))
        rows = table[members].sum(axis=1)
        place[members] = (np.cumsum(rows) - rows + start[stratum]) / max(1.0, rows.sum())
    order = np.argsort(place, kind="stable")
    seen = np.zeros(table.shape[1], bool)
    first = []
    for group in order:
        if not seen[table[group] > 0].all():
            first.append(group)
            seen |= table[group] > 0
    return np.concatenate([first, order[~np.isin(order, first)]]).astype(np.int64), len(first)


# --- curves


@dataclass(frozen=True, eq=False)
class PowerLaws:
    """R curves: floor + drop · (n / most)^(−exponent), the three (R,) each; most: the largest n measured."""

    floor: np.ndarray
    drop: np.ndarray
    exponent: np.ndarray
    most: float

    def at(self, n: float) -> np.ndarray:
        """(R,) errors with ``n`` labels."""
        return np.asarray(self.floor + self.drop * (n / self.most) ** -self.exponent)

    def labels_for(self, error: np.ndarray) -> np.ndarray:
        """(R,) labels with which the error is ``error`` (R,); ∞ where it never is, 0 for a flat curve below it."""
        above = error - self.floor
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            n = self.most * (above / self.drop) ** (-1 / self.exponent)
        n = np.where(self.drop > 0, n, 0.0)
        return np.where((above > 0) | ((above == 0) & (self.drop == 0)), n, np.inf)

    def first(self) -> PowerLaw:
        return PowerLaw(float(self.floor[0]), float(self.drop[0]), float(self.exponent[0]), self.most)


def error_of(metric: str, values: np.ndarray) -> np.ndarray:
    """What should fall with more labels: 1 − score, or the score itself where less is better."""
    return values if metric in LOWER_IS_BETTER else 1 - values


def fit_power_laws(n: np.ndarray, errors: np.ndarray) -> PowerLaws:
    """The curves through ``errors`` (R, P), measured with ``n`` (P,) labels, at least three different ones.

    Robust least squares: residuals beyond 1.345 standard deviations (by their median) lose weight, Huber 1964. Weights
    of 1 to begin with, so points on a curve give that curve. Rising errors give a flat curve.
    """
    assert len(np.unique(n)) >= FEWEST_SIZES, "a curve has three unknowns"
    depth = np.log(n / n.max())  # (P,), at most 0
    errors = np.asarray(errors, np.float64)
    weights = np.ones_like(errors)
    for _ in range(ROUNDS):
        exponent = _best_exponent(depth, errors, weights)
        floor, drop, residuals = _solve(depth, errors, weights, exponent)
        size = np.abs(residuals)
        scale = 1.4826 * np.median(size, axis=1, keepdims=True)
        weights = np.minimum(1.0, HUBER * np.maximum(scale, 1e-9) / np.maximum(size, 1e-12))
    return PowerLaws(floor, drop, exponent, float(n.max()))


def _solve(
    depth: np.ndarray, errors: np.ndarray, weights: np.ndarray, exponent: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(floor, drop, residuals (R, P)) for given exponents (R,): weighted least squares with neither below 0."""
    x = np.exp(-exponent[:, None] * depth)
    total = weights.sum(axis=1)
    mean_x, mean_y = (weights * x).sum(axis=1) / total, (weights * errors).sum(axis=1) / total
    spread = (weights * (x - mean_x[:, None]) ** 2).sum(axis=1)
    drop = (weights * (x - mean_x[:, None]) * (errors - mean_y[:, None])).sum(axis=1) / spread
    floor = mean_y - drop * mean_x
    through_zero = (weights * x * errors).sum(axis=1) / (weights * x * x).sum(axis=1)
    drop = np.where(floor < 0, through_zero, drop)
    floor = np.where(floor < 0, 0.0, floor)
    flat = drop < 0
    drop, floor = np.where(flat, 0.0, drop), np.where(flat, mean_y, floor)
    return floor, drop, errors - floor[:, None] - drop[:, None] * x


def _best_exponent(depth: np.ndarray, errors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(R,) the exponent with the least squares: the best of a grid, then golden sections between its neighbours."""

    def loss(exponent: np.ndarray) -> np.ndarray:
        return np.asarray((weights * _solve(depth, errors, weights, exponent)[2] ** 2).sum(axis=1))

    every = np.stack([loss(np.full(len(errors), c)) for c in EXPONENTS])
    best = every.argmin(axis=0)
    low, high = EXPONENTS[np.maximum(best - 1, 0)], EXPONENTS[np.minimum(best + 1, len(EXPONENTS) - 1)]
    for _ in range(REFINED):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        go_left = loss(left) <= loss(right)
        low, high = np.where(go_left, low, left), np.where(go_left, right, high)
    middle = (low + high) / 2
    return np.where(loss(middle) <= every.min(axis=0), middle, EXPONENTS[best])


# --- what transfer was worth


def worth(transfer: PowerLaws, rival: PowerLaws | np.ndarray, *, least: float) -> np.ndarray:
    """(R,) labels of the rival over labels of transfer at equal error; above 1 transfer saves labels.

    rival: its curves, or (R,) its error with all labels where it has no curve; then never below 1.
    least: the smallest n measured.  The error is the larger of the two with all labels, so that the worse network
    needs all of them and the better one is looked up on its curve; never beyond the sizes that were measured.
    """
    every = transfer.most
    own = transfer.at(every)
    theirs = rival.at(every) if isinstance(rival, PowerLaws) else np.asarray(rival)
    ahead = every / np.clip(transfer.labels_for(theirs), least, every)
    behind = np.clip(rival.labels_for(own), least, every) / every if isinstance(rival, PowerLaws) else np.ones(len(own))
    return np.where(own < theirs, ahead, np.where(own > theirs, behind, 1.0))


def multiplier(value: float, drawn: np.ndarray, *, least: float, most: float, n: int, units: int) -> Multiplier:
    """``value`` with the interval of its resamples (R,), on the scale of ratios.

    least, most: what the curves can tell apart.  n, units: judged examples, and what was resampled of them.
    """
    on_logs = estimate(math.log(value), np.log(drawn), n=n, units=units)
    found = np.clip(np.exp([on_logs.value, on_logs.low, on_logs.high]), least, most)
    for end in (least, most):
        found[np.isclose(found, end, rtol=1e-6)] = end  # exp(log x) is not x
    middle, low, high = found.tolist()
    times = Estimate(middle, low, high, n, on_logs.level)
    if times.low == least and times.high == most:
        return Multiplier(times, least, most, "cannot be told")
    if times.value == most:
        return Multiplier(times, least, most, "at least")
    return Multiplier(times, least, most, "at most" if times.value == least else "measured")


# --- a few of each class


def few_of_each(y: np.ndarray, groups: np.ndarray, sizes: Sequence[int], *, seed: int) -> list[np.ndarray]:
    """Positions of at most ``size`` examples of each class for each of ``sizes``, sorted; smaller lie in larger.

    y: (n,) class index.  groups: (n,) rows that belong together: other groups come first, so that few examples are
    as different as they can be.  A class with fewer examples gives all of them.
    """
    order = stream(seed, "few of each").permutation(len(y))
    _, first = np.unique(groups[order], return_index=True)
    again = np.ones(len(y), bool)
    again[first] = False
    order = order[np.argsort(again, kind="stable")]
    place = np.empty(len(y), np.int64)  # of each row among those of its class
    for k in np.unique(y):
        members = order[y[order] == k]
        place[members] = np.arange(len(members))
    return [np.flatnonzero(place < size) for size in sizes]


def ahead(n: np.ndarray, errors: np.ndarray, drawn: np.ndarray, *, to: float) -> tuple[float, np.ndarray, PowerLaws]:
    """(error with ``to`` labels, the same in each resample (R,), the law).

    n: (P,) labels.  errors: (P,).  drawn: (P, R).  The law is robust and knows no error but that of its resamples:
    whoever follows it beyond n should first have seen it meet a point that it was not shown.
    """
    law, laws = fit_power_laws(n, errors[None]), fit_power_laws(n, drawn.T)
    return float(law.at(to)[0]), laws.at(to), law
