"""Gradual unfreezing from the top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from headstart.adapt.plan import HEAD, Budget, Phase, Plan
from headstart.adapt.strategies.rates import GRADUAL
from headstart.adapt.strategies.strategy import statistics
from headstart.base.errors import PlanError


@dataclass(frozen=True)
class Gradual:
    """Howard & Ruder 2018, arXiv:1801.06146: the head, then one group of stages more each phase, from the top.

    Each group learns at 1/2.6 of the rate of the group above it. We thaw groups of neighbouring stages where the
    network has many: 2.6 to the power of a transformer's 14 stages would leave the first ones frozen in all but name.

    thaws: at most so many groups.  share: of the steps that pass before everything learns, in (0, 1).
    """

    name: ClassVar[str] = "gradual"
    in_words: ClassVar[str] = "thaws the network from the top, a group of stages each phase, lower ones at lower rates"

    thaws: int = 5
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.thaws < 1 or not 0 < self.share < 1:
            raise PlanError(
                f"PL10 gradual: thaws is {self.thaws} and share {self.share}; "
                "there is at least 1 thaw, and the share of the steps lies between 0 and 1."
            )

    def plan(self, stages: Sequence[str], budget: Budget) -> Plan:
        groups = _groups(stages, max(1, min(self.thaws, int(self.share * budget.steps))))
        each = int(self.share * budget.steps) // len(groups)
        names = ["head", *(f"thaw {number}" for number in range(1, len(groups)))]
        early = [
            Phase(name, each, _rates(groups[:thawed]), statistics=statistics(budget))
            for thawed, name in enumerate(names)
            if each > 0
        ]
        rest = budget.steps - each * len(early)
        last = Phase("everything", rest, _rates(groups), statistics=statistics(budget))
        return Plan(self.name, (*early, last), budget.batch_size)


def _groups(stages: Sequence[str], most: int) -> list[Sequence[str]]:
    """Neighbouring stages together, top group first, sizes as equal as can be, the larger ones at the top."""
    count = min(most, len(stages))
    ends = [len(stages) - -(-number * len(stages) // count) for number in range(count + 1)]
    return [stages[low:high] for high, low in pairwise(ends)]


def _rates(groups: Sequence[Sequence[str]]) -> dict[str, float]:
    rates = {s: GRADUAL.top * GRADUAL.decay**depth for depth, group in enumerate(groups) for s in group}
    return {HEAD: GRADUAL.head} | rates
