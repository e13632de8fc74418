"""A small branch beside each block; the network itself stays frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from headstart.adapt.plan import Budget, Phase, Plan, Surgery
from headstart.adapt.strategies.rates import ADAPTER


@dataclass(frozen=True)
class Adapter:
    """Convpass (Jie & Deng 2022, arXiv:2207.07039): the best single method on VTAB-1k's tasks (METHODS B.1).

    rank: width of the branch.  alpha: what the branch says counts alpha / rank times.
    """

    name: ClassVar[str] = "adapter"
    in_words: ClassVar[str] = "a small convolutional branch beside each block learns; for data unlike the network's"

    rank: int = 8
    alpha: float = 8.0

    def plan(self, stages: Sequence[str], budget: Budget) -> Plan:
        phase = Phase("branches", budget.steps, ADAPTER.over(stages), only="added", statistics="fixed")
        return Plan(self.name, (phase,), budget.batch_size, surgery=(Surgery("adapter", self.rank, self.alpha),))
