"""Low-rank products beside the frozen weights; they are merged into them at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from headstart.adapt.plan import Budget, Phase, Plan, Surgery
from headstart.adapt.strategies.rates import LORA


@dataclass(frozen=True)
class Lora:
    """Hu et al. 2022, arXiv:2106.09685. The saved model is an ordinary network of the same size.

    rank: of each product; 1 to 4 for few examples of a near domain, 32 and more far away (METHODS B.1).
    alpha: the product counts alpha / rank times.  where: 'attention' or 'all' linear and convolution layers.
    """

    name: ClassVar[str] = "lora"
    in_words: ClassVar[str] = "small low-rank changes to every layer learn and are merged into the weights at the end"

    rank: int = 8
    alpha: float = 16.0
    where: Literal["attention", "all"] = "all"

    def plan(self, stages: Sequence[str], budget: Budget) -> Plan:
        phase = Phase("low-rank", budget.steps, LORA.over(stages), only="added", statistics="fixed")
        surgery = Surgery("lora", self.rank, self.alpha, self.where)
        return Plan(self.name, (phase,), budget.batch_size, surgery=(surgery,))
