"""Each stage at a rate in proportion to how much the data pulls at it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from headstart.adapt.plan import HEAD, Budget, Phase, Plan
from headstart.adapt.strategies.rates import SURGICAL
from headstart.adapt.strategies.strategy import statistics
from headstart.base.errors import PlanError, did_you_mean, listed, shown

_FAINT = 1e-6  # share of the strongest pull below which a stage is frozen: such a rate would not move a float32 weight


@dataclass(frozen=True)
class Surgical:
    """Auto-RGN of Lee et al. 2023, arXiv:2210.11466: rates scaled by the relative gradient norm over its maximum.

    relative_gradient: stage → ‖gradient‖ / ‖weights‖ on first batches, at least 0, for all stages or for none; who
    calls measures it. A stage with 0, or next to it, stays frozen; without any measurement all stages learn alike.
    """

    name: ClassVar[str] = "surgical"
    in_words: ClassVar[str] = "each stage learns in proportion to how much the first gradients pull at it"

    relative_gradient: Mapping[str, float] | None = None

    def plan(self, stages: Sequence[str], budget: Budget) -> Plan:
        pulls = self._checked(stages)
        most = max(pulls.values())
        learning = {stage: SURGICAL.top * (pulls[stage] / most) for stage in stages if pulls[stage] / most >= _FAINT}
        phase = Phase("fine-tune", budget.steps, learning | {HEAD: SURGICAL.head}, statistics=statistics(budget))
        return Plan(self.name, (phase,), budget.batch_size)

    def _checked(self, stages: Sequence[str]) -> Mapping[str, float]:
        """PlanError unless every stage and no other has a finite number, and one of them is above 0."""
        pulls = dict.fromkeys(stages, 1.0) if self.relative_gradient is None else self.relative_gradient
        unknown = [name for name in pulls if name not in stages]
        if unknown:
            raise PlanError(
                f"PL11 surgical: '{shown(unknown[0])}' is no stage of this network."
                f"{did_you_mean(unknown[0], stages)} Its stages: {', '.join(stages)}."
            )
        bad = [s for s in stages if not (math.isfinite(pulls.get(s, math.nan)) and pulls[s] >= 0)]
        if bad or not any(pulls.values()):
            what = f"none or no usable number for {listed(bad)}" if bad else "0 for every stage"
            raise PlanError(
                f"PL11 surgical: the relative gradient norms hold {what}. "
                "Each stage needs a finite number of at least 0, one of them above 0; measure again on other batches."
            )
        return pulls
