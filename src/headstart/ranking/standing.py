"""How candidates stand after a round of the race, and who leaves it. numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.evaluation.intervals import estimate, independent, proportion
from headstart.ranking.combine import chance_in_top, combined_rank, resampled
from headstart.records.estimate import Estimate

FAINT = 0.05  # chance to be in the top k below which a candidate leaves


@dataclass(frozen=True, eq=False)
class Beliefs:
    """What is known of M candidates besides the probe; NaN where nothing is.

    prior: (M,) z.  source_accuracy: (M,).  stand_ins: (M,) each, in place of an unknown source accuracy.
    """

    prior: np.ndarray
    source_accuracy: np.ndarray
    stand_ins: Sequence[np.ndarray] = ()

    def combined(self, probe: np.ndarray) -> np.ndarray:
        """probe: (M,) or (R, M)."""
        return combined_rank(
            probe=probe, source_accuracy=self.source_accuracy, features=self.stand_ins, prior=self.prior
        )


@dataclass(frozen=True, eq=False)
class Standing:
    """After one round. probe, combined, chance: (M,).  draws: (R, M) probe scores of resampled examples.

    combined_draws: (R, M) what the combination would have been on these.  counts: whether the score is a share of n
    independent examples that are right or wrong, so that Wilson's interval holds, at 0 and 1 too.
    """

    probe: np.ndarray
    combined: np.ndarray
    chance: np.ndarray
    draws: np.ndarray
    combined_draws: np.ndarray
    n: int
    counts: bool

    def interval(self, m: int) -> Estimate:
        if self.counts:
            return proportion(round(float(self.probe[m]) * self.n), self.n)
        return estimate(float(self.probe[m]), self.draws[:, m], n=self.n)

    def surely_better(self, a: int, b: int) -> bool:
        """Whether other examples of this kind would hardly have put b level with a or above it (one side, 2.5 %)."""
        return float((self.combined_draws[:, a] <= self.combined_draws[:, b]).mean()) < 0.025


def standing(by_example: np.ndarray, beliefs: Beliefs, *, k: int, groups: np.ndarray, seed: int) -> Standing:
    """by_example: (M, n) how each example fares when it is left out.  k: of the chance.  groups: (n,)."""
    probe = by_example.mean(axis=1)
    draws = resampled(by_example, groups=groups, seed=seed)
    combined_draws = beliefs.combined(draws)
    return Standing(
        probe,
        beliefs.combined(probe),
        chance_in_top(combined_draws, k),
        draws,
        combined_draws,
        by_example.shape[1],
        independent(groups) and bool(np.isin(by_example, (0, 1)).all()),
    )


def survivors(standing: Standing, prior: np.ndarray) -> np.ndarray:
    """Positions that stay, rising: no faint chance, at least half, and always the best by probe and by prior."""
    m = len(standing.chance)
    order = np.lexsort((-standing.combined, -standing.chance))
    kept = {int(i) for i in order[: -(-m // 2)]}
    kept |= {int(i) for i in np.flatnonzero(standing.chance >= FAINT)}
    kept.add(int(np.argmax(standing.probe)))
    if not np.isnan(prior).all():
        kept.add(int(np.nanargmax(prior)))
    return np.array(sorted(kept))


def leader_of(standing: Standing, among: Sequence[int]) -> int:
    """The best by the combination, of the positions ``among``."""
    return max(among, key=lambda m: (standing.combined[m], standing.probe[m], -m))


def cheapest_of_the_best(standing: Standing, cost: Sequence[float], among: Sequence[int]) -> int:
    """The position to recommend: the leader, or the cheapest that is not surely worse than it."""
    leader = leader_of(standing, among)
    level = [m for m in among if m == leader or not standing.surely_better(leader, m)]
    return min(level, key=lambda m: (cost[m], -standing.combined[m], m))
