"""What a strategy is, and the two decisions that most of them share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Protocol

from headstart.adapt.plan import Budget, Plan

_STEADY_BATCH = 32  # examples from which a batch's mean and variance are worth learning from


class Strategy(Protocol):
    """A frozen dataclass whose only job is to return a plan; the loop knows no strategy by name.

    name: how users ask for it.  in_words: one line, for --help and the report.
    Its fields say what is special about it (how many stages, which rank). Rates and all else that strategies have in
    common are chosen through options.py, after the plan is made.
    """

    name: ClassVar[str]
    in_words: ClassVar[str]

    def plan(self, stages: Sequence[str], budget: Budget) -> Plan:
        """Phases whose steps sum to ``budget.steps``.

        stages: names of the network's stages, input side first, at least one.  A pure function of its arguments.
        """
        ...


def statistics(budget: Budget) -> Literal["moving", "fixed"]:
    """Whether BatchNorm of learning stages follows the data.

    Below 32 examples a batch, mean and variance of a batch are noise that the pretrained layers above were never shown
    (Wu & He 2018, figure 1, draw the line near there); the statistics of millions of images serve better.
    """
    return "moving" if budget.batch_size >= _STEADY_BATCH else "fixed"
