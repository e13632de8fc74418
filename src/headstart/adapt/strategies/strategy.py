"""What a strategy is, and the two decisions that most of them share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Protocol

from headstart.adapt.plan import Budget, Plan

_STEADY_BATCH = 32  # examples from which a batch's mean and variance are worth learning from
_SETTLED = 1000  # steps after which running statistics have followed even with a momentum of 0.01


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

    In a short training the running statistics lag behind the weights: those of EfficientNet-Lite0, with a momentum of
    0.01, are a third of the way after 40 steps. 428 digits, last stages, 234 steps: 0.908 on the test set with moving
    statistics, 0.942 with fixed ones (the frozen probe: 0.913).
    Below 32 examples a batch, mean and variance of a batch are noise that the pretrained layers above were never shown
    (Wu & He 2018, figure 1, draw the line near there); the statistics of millions of images serve better.
    """
    steady = budget.batch_size >= _STEADY_BATCH and budget.steps >= _SETTLED
    return "moving" if steady else "fixed"
