"""Pairs of texts, like or unlike; then the usual head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from headstart.adapt.plan import HEAD, Budget, Head, Loss, Phase, Plan
from headstart.adapt.strategies.rates import SETFIT


@dataclass(frozen=True)
class SetFit:
    """Tunstall et al. 2022, arXiv:2209.11055: n examples make n² pairs, so few of them go far.

    Two texts of one class learn to point in one direction, two of different classes to be at right angles; a step
    shows as many pairs as a batch holds examples. The head is none of it: its kind is the one that won on frozen
    features, fitted again on those of the trained network.
    """

    name: ClassVar[str] = "setfit"
    in_words: ClassVar[str] = "pairs of texts learn to be near or far by class, then the head; for very few texts"

    def plan(self, stages: Sequence[str], budget: Budget) -> Plan:
        rates = {stage: rate for stage, rate in SETFIT.over(stages).items() if stage != HEAD}
        phase = Phase("pairs", budget.steps, rates, statistics="fixed")
        return Plan(
            self.name, (phase,), budget.batch_size, head=Head(start="after"), loss=Loss(kind="pairs"), augment="none"
        )
