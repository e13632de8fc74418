"""How sure a number is: resamples of the test examples, and what they say.

Rows of one group are drawn together, because photographs of one plant are not independent evidence about plants.
The interval was chosen by coverage under simulation (as in tests/evaluation/test_evaluation_intervals.py): percentiles,
widened for small samples after Hesterberg 2015 (arXiv:1411.5279); Wilson for a single proportion. At nominal 0.95 the
macro-F1 of 20, 60 and 200 examples was covered 0.91, 0.94 and 0.93 times, by plain percentiles 0.88, 0.93 and 0.93, by
BCa 0.88, 0.95 and 0.94; BCa also needs a jackknife.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from headstart.base.errors import DataError
from headstart.base.seeds import stream
from headstart.records.estimate import Estimate

CHUNK_CELLS = 2_000_000  # resamples × examples held at once: 8 MB as float32, which stays in the cache


@dataclass(frozen=True)
class Resamples:
    """``count`` bootstrap resamples of ``n`` examples as weights; equal (seed, names) give equal weights.

    groups: (n,) rows of one group are drawn together.  strata: (n,) drawn within each stratum, sizes kept.
    """

    n: int
    count: int = 1000
    seed: int = 0
    groups: np.ndarray | None = None
    strata: np.ndarray | None = None

    @property
    def units(self) -> int:
        """What is drawn: rows, or groups."""
        return self.n if self.groups is None else len(np.unique(self.groups))

    def chunks(self) -> Iterator[np.ndarray]:
        """(R', n) float32 counts, until ``count`` resamples have been given; never more than about 8 MB at once."""
        rng = stream(self.seed, "bootstrap", self.n, self.count)
        unit_of, strata = self._units()
        step = max(1, CHUNK_CELLS // max(1, self.n))
        for start in range(0, self.count, step):
            drawn = _draw(rng, min(step, self.count - start), strata)
            yield drawn if self.groups is None else drawn[:, unit_of]

    def matrix(self) -> np.ndarray:
        """(count, n) float32, all at once."""
        return np.concatenate(list(self.chunks()))

    def _units(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """The unit of each row, and the units of each stratum."""
        if self.n < 1:
            raise DataError("no examples to resample. Give at least one row with a known target.")
        if self.groups is None:
            unit_of = np.arange(self.n)
        else:
            unit_of = np.unique(self.groups, return_inverse=True)[1].ravel()
        if self.strata is None:
            return unit_of, [np.arange(unit_of.max() + 1)]
        # A group that spans strata belongs to the stratum of its first row.
        first = np.unique(unit_of, return_index=True)[1]
        of_unit = np.asarray(self.strata)[first]
        return unit_of, [np.flatnonzero(of_unit == s) for s in np.unique(of_unit)]


def _draw(rng: np.random.Generator, count: int, strata: list[np.ndarray]) -> np.ndarray:
    """(count, units) float32: how often each unit was drawn."""
    units = sum(len(s) for s in strata)
    out = np.zeros((count, units), np.float32)
    rows = np.arange(count)[:, None]
    for members in strata:
        size = len(members)
        drawn = rng.integers(0, size, (count, size), dtype=np.int32) + rows * size
        out[:, members] = np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size)
    return out


def estimate(value: float, resampled: np.ndarray, *, n: int, units: int | None = None, level: float = 0.95) -> Estimate:
    """``value`` with the percentile interval of its resamples (R,), widened for small samples.

    n: examples the value was measured on.  units: what was drawn, groups or rows (``n`` when not given).
    Resamples in which the value is not defined (NaN) are left out; NaN everywhere gives an undefined Estimate.
    """
    finite = resampled[np.isfinite(resampled)]
    if not math.isfinite(value) or not len(finite):
        return undefined(n, level)
    tail = _tail(units or n, level)
    low, high = np.quantile(finite, [tail, 1 - tail])
    # The value itself is always inside: a skewed score (log-loss with one bad row) can leave its own percentiles.
    return Estimate(float(value), float(min(low, value)), float(max(high, value)), int(n), level)


def independent(groups: np.ndarray | None) -> bool:
    """Does every row stand for itself?"""
    return groups is None or len(np.unique(groups)) == len(groups)


def undefined(n: int, level: float = 0.95) -> Estimate:
    """The Estimate that prints as '–'."""
    return Estimate(math.nan, math.nan, math.nan, int(n), level)


def wilson(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Interval of one proportion (Wilson 1927); right also at 0 of n and n of n, where resampling sees no doubt."""
    if n <= 0:
        return math.nan, math.nan
    z = NormalDist().inv_cdf(0.5 + level / 2)
    p = successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if successes <= 0 else max(0.0, middle - half)
    return low, 1.0 if successes >= n else min(1.0, middle + half)


def proportion(successes: float, n: float, level: float = 0.95, *, of: int | None = None) -> Estimate:
    """successes / n with Wilson's interval.  of: the n to show when it differs (support of a class)."""
    if n <= 0:
        return undefined(of or 0, level)
    low, high = wilson(successes, n, level)
    return Estimate(successes / n, low, high, int(n if of is None else of), level)


def paired_difference(
    value: float, a: np.ndarray, b: np.ndarray, *, n: int, units: int | None = None, level: float = 0.95
) -> Estimate:
    """``value`` = score a − score b on the same examples; a, b: (R,) both scores on the same resamples."""
    return estimate(value, a - b, n=n, units=units, level=level)


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided p-value that b and c differ by chance; b, c: examples that only one of two models gets right.

    2·P(Binomial(b + c, ½) ≤ min(b, c)), at most 1; 1 when the models never disagree.
    """
    n, least = b + c, min(b, c)
    if n == 0:
        return 1.0
    log_half = n * math.log(0.5)
    terms = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + log_half for i in range(least + 1)]
    top = max(terms)
    return min(1.0, 2 * math.exp(top) * math.fsum(math.exp(t - top) for t in terms))


def _tail(units: int, level: float) -> float:
    """Share cut off at each end: Φ(−√(n/(n−1))·t_{n−1}), a little less than (1 − level)/2 when units are few."""
    if units < 2:
        return 0.0
    from scipy.special import stdtrit

    t = float(stdtrit(units - 1, 0.5 + level / 2))
    return NormalDist().cdf(-math.sqrt(units / (units - 1)) * t)
