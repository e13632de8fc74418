"""Biases and normalisation only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from headstart.adapt.plan import Budget, Phase, Plan
from headstart.adapt.strategies.rates import BIAS


@dataclass(frozen=True)
class Bias:
    """BitFit (Ben Zaken et al. 2022) for transformers, the affine part of BatchNorm (Frankle et al. 2021) for CNNs.

    Fewer than one parameter in a hundred learns, so very few examples suffice. Running statistics stay: scale and
    shift can do what they could.
    """

    name: ClassVar[str] = "bias"
    in_words: ClassVar[str] = "only biases, normalisation and the head learn; for very few examples"

    def plan(self, stages: Sequence[str], budget: Budget) -> Plan:
        phase = Phase("biases", budget.steps, BIAS.over(stages), only="norm-and-bias", statistics="fixed")
        return Plan(self.name, (phase,), budget.batch_size)
