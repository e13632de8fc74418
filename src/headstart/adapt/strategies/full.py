"""Everything at once, with rates that fall towards the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from headstart.adapt.plan import Budget, Phase, Plan
from headstart.adapt.strategies.rates import FULL
from headstart.adapt.strategies.strategy import statistics
from headstart.base.errors import PlanError


@dataclass(frozen=True)
class Full:
    """Layer-wise rate decay as of Clark et al. 2020 (ELECTRA) and Bao et al. 2022 (BEiT), and a mean of the weights.

    ema: half-life of that mean as a share of the steps.
    """

    name: ClassVar[str] = "full"
    in_words: ClassVar[str] = "everything learns from the first step, lower stages at lower rates; weights are averaged"

    ema: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.ema < 1:
            raise PlanError(
                f"PL10 full: ema is {self.ema}; it is a share of the steps between 0 and 1. "
                "Options(ema=0) turns it off."
            )

    def plan(self, stages: Sequence[str], budget: Budget) -> Plan:
        phase = Phase("fine-tune", budget.steps, FULL.over(stages), statistics=statistics(budget))
        return Plan(self.name, (phase,), budget.batch_size, ema=self.ema)
