"""The head alone, by gradient descent on augmented views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from headstart.adapt.plan import HEAD, Budget, Phase, Plan
from headstart.adapt.strategies.rates import PROBE_HEAD
from headstart.base.errors import PlanError


@dataclass(frozen=True)
class LinearProbe:
    """Unlike the heads in closed form, which see each image once as it is, this one sees augmented views.

    views: at most so many views of each image are drawn once, so that the network runs over them once.
    """

    name: ClassVar[str] = "linear-probe"
    in_words: ClassVar[str] = "only the head learns, on augmented views; the network stays as it was loaded"

    views: int = 8

    def __post_init__(self) -> None:
        if self.views < 1:
            raise PlanError(f"PL10 linear-probe: views is {self.views}; each image needs at least 1.")

    def plan(self, stages: Sequence[str], budget: Budget) -> Plan:
        # More views than epochs would be drawn and never looked at.
        views = max(1, min(self.views, budget.steps * budget.batch_size // max(1, budget.n)))
        phase = Phase("probe", budget.steps, {HEAD: PROBE_HEAD})
        return Plan(self.name, (phase,), budget.batch_size, views=views)
