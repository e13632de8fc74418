"""Linear probe, then fine-tune everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from headstart.adapt.plan import HEAD, Budget, Phase, Plan
from headstart.adapt.strategies.rates import LP_FT, PROBE_HEAD
from headstart.adapt.strategies.strategy import statistics
from headstart.base.errors import PlanError


@dataclass(frozen=True)
class LpFt:
    """Kumar et al. 2022, arXiv:2202.10054: a head in a good place sends no large first gradients into the network.

    The head starts from the probe on plain images; its phase lets it get used to augmented ones.
    probe: share of the steps for the head alone, in [0, 1).
    """

    name: ClassVar[str] = "lp-ft"
    in_words: ClassVar[str] = "first the head, then everything at a lower rate; a good first choice"

    probe: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.probe < 1:
            raise PlanError(f"PL10 lp-ft: probe is {self.probe}; it is a share of the steps, at least 0 and below 1.")

    def plan(self, stages: Sequence[str], budget: Budget) -> Plan:
        first = min(round(self.probe * budget.steps), budget.steps - 1)
        probe = (Phase("probe", first, {HEAD: PROBE_HEAD}),) if first > 0 else ()
        tune = Phase("fine-tune", budget.steps - first, LP_FT.over(stages), statistics=statistics(budget))
        return Plan(self.name, (*probe, tune), budget.batch_size)
