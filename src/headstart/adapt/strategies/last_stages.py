"""The last stages only, on plain images, so that the frozen part of the network runs once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from headstart.adapt.plan import Budget, Phase, Plan
from headstart.adapt.strategies.rates import LAST_STAGES
from headstart.adapt.strategies.strategy import statistics
from headstart.base.errors import PlanError


@dataclass(frozen=True)
class LastStages:
    """Images are not augmented, so that what comes out of the frozen stages can be kept; steps are cheap.

    stages: how many of the network's last ones learn; None: a third of them. PlanError where there are not so many.
    """

    name: ClassVar[str] = "last-stages"
    in_words: ClassVar[str] = "only the last stages learn, on plain images; the frozen rest runs once, so it is fast"

    stages: int | None = None

    def plan(self, stages: Sequence[str], budget: Budget) -> Plan:
        count = max(1, round(len(stages) / 3)) if self.stages is None else self.stages
        if not 1 <= count <= len(stages):
            raise PlanError(
                f"PL10 last-stages: {count} stages cannot learn; this network has {len(stages)} "
                f"({', '.join(stages)}). Give a number from 1 to {len(stages)}, or leave it out for a third of them."
            )
        phase = Phase("fine-tune", budget.steps, LAST_STAGES.over(stages[-count:]), statistics=statistics(budget))
        return Plan(self.name, (phase,), budget.batch_size, augment="none")
