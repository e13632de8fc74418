"""The ways to fine-tune that a rung of the ladder chooses between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from headstart.adapt.plan import Budget, Plan, default_budget
from headstart.adapt.strategies import Options, by_name, planned
from headstart.adapt.strategies.last_stages import LastStages
from headstart.adapt.strategies.lp_ft import LpFt
from headstart.adapt.strategies.options import scaled
from headstart.adapt.strategies.sequences import DEFAULTS, LONGEST_EPOCHS
from headstart.adapt.strategies.setfit import SetFit
from headstart.adapt.strategies.strategy import Strategy
from headstart.backbones.backbone import Backbone
from headstart.base.errors import PlanError

MOST_EPOCHS = 60.0  # that are tried where there is time


@dataclass(frozen=True)
class Way:
    """cost: seconds of a step.  is_cheap: most of the network is frozen, and runs once."""

    name: str
    strategy: Strategy
    options: Options
    factor: float = 1.0
    is_cheap: bool = True
    cost: float = math.nan
    of: str = "image"

    def plan(self, stages: Sequence[str], budget: Budget) -> Plan:
        return scaled(planned(self.strategy, stages, budget, self.options, of=self.of), self.factor)


def budget_of(
    backbone: Backbone,
    n: int,
    classes: int,
    *,
    strategy: str = "",
    epochs: float | None = None,
    batch_size: int | None = None,
) -> Budget:
    """What suits ``n`` examples of this network's modality: pictures are gone through more often than the others."""
    if strategy == SetFit.name:
        epochs, batch_size = epochs or SetFit.epochs, batch_size or min(SetFit.batch_size, n)
    most = LONGEST_EPOCHS if backbone.card.modality in DEFAULTS else math.inf
    return default_budget(n, classes, epochs=epochs, batch_size=batch_size, most_epochs=most)


def most_steps(usual: Budget, strategy: str) -> int:
    """Beyond which more time is of no use: pairs of few texts are soon learnt by heart."""
    if strategy == SetFit.name:
        return usual.steps
    return max(usual.steps, round(MOST_EPOCHS * usual.n / usual.batch_size))


def rungs_of(backbone: Backbone, options: Options, *, few: bool, pairs: bool = False) -> list[tuple[str, list[Way]]]:
    """(name of the rung, its candidates), the cheapest first.

    few: so few examples that pulling back may pay.  pairs: so few of each class that pairs of texts may.
    """
    if backbone.card.modality in DEFAULTS:
        return _rungs_of_sequences(backbone, options, pairs=pairs)
    stages = list(backbone.tunable)
    third = max(1, round(len(stages) / 3))
    top = f"last {third} stages"
    # No lower rate among them: in a short screening it always leads, and then learns too little (textiles, 208
    # steps: +0.020 at a third of the rate, +0.058 at the rate).
    partly = [Way(top, LastStages(third), options)]
    if options.lr is None:  # the user's rate is not swept
        partly.append(Way(f"{top}, 3 times the rate", LastStages(third), options, 3.0))
    if 2 * third < len(stages):
        partly.append(Way(f"last {2 * third} stages", LastStages(2 * third), options))
    if few and options.penalty is None:
        partly.append(Way(f"{top}, L2-SP", LastStages(third), replace(options, penalty="l2-sp")))
    partly += [way for way in _all_through(backbone, options) if _has_place(way, stages)]
    # The head starts from the probe, so that LP-FT needs no phase for it alone.
    full = [
        Way("all stages at one rate", LpFt(probe=0.0), options, is_cheap=False),
        Way("full", by_name("full"), options, is_cheap=False),
    ]
    return [("last stages", partly), ("full", full)]


def _rungs_of_sequences(backbone: Backbone, options: Options, *, pairs: bool) -> list[tuple[str, list[Way]]]:
    """No border is cached for texts and sounds, so that the last stages cost little less than all of them."""
    of = backbone.card.modality
    half = max(1, round(len(backbone.tunable) / 2))
    partly = [
        Way(f"last {half} stages", LastStages(half), options, is_cheap=False, of=of),
        Way("LoRA", by_name("lora", of=of), options, is_cheap=False, of=of),
    ]
    if pairs and of == "text":
        # A step of pairs goes through twice as many texts, so its cost is measured for itself, as a cheap way's is.
        partly.append(Way("setfit", by_name("setfit", of=of), options, of=of))
    partly = [way for way in partly if _has_place(way, backbone.tunable)]
    full = [Way("full", by_name("full", of=of), options, is_cheap=False, of=of)]
    if options.lr is None:
        full.append(replace(full[0], name="full, 3 times the rate", factor=3.0))
    return [("last stages", partly), ("full", full)] if partly else [("full", full)]


def _all_through(backbone: Backbone, options: Options) -> list[Way]:
    """A little of every layer: scales and shifts where there is BatchNorm, low-rank products elsewhere (METHODS H).

    On pictures as they are, unless the user says otherwise: the test of augmentations would cost more than a screening.
    """
    plain = options if options.augment is not None else replace(options, augment="none")
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in backbone.network.modules()):
        return [Way("biases and normalisation", by_name("bias"), plain, is_cheap=False)]
    return [Way("LoRA", by_name("lora"), plain, is_cheap=False)]


def _has_place(way: Way, stages: Sequence[str]) -> bool:
    """Whether what the user chose means something for this way; it does for the stages, which were asked first."""
    try:
        way.plan(stages, Budget(10, 1, 1, 2))
    except PlanError:
        return False
    return True
