"""Strategies: small frozen dataclasses whose only job is to return a plan. STRATEGIES lists them all.

plan = planned(by_name("lp-ft"), stages, budget, Options(lr=3e-5))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from headstart.adapt.plan import Budget, Plan
from headstart.adapt.strategies.adapter import Adapter
from headstart.adapt.strategies.bias import Bias
from headstart.adapt.strategies.fields import Field, fields_of, with_fields
from headstart.adapt.strategies.full import Full
from headstart.adapt.strategies.gradual import Gradual
from headstart.adapt.strategies.last_stages import LastStages
from headstart.adapt.strategies.linear_probe import LinearProbe
from headstart.adapt.strategies.lora import Lora
from headstart.adapt.strategies.lp_ft import LpFt
from headstart.adapt.strategies.options import Options, with_options
from headstart.adapt.strategies.sequences import DEFAULTS, FIELDS, check_options, for_sequences
from headstart.adapt.strategies.setfit import SetFit
from headstart.adapt.strategies.strategy import Strategy
from headstart.adapt.strategies.surgical import Surgical
from headstart.base.errors import PlanError, did_you_mean, shown

__all__ = [
    "STRATEGIES",
    "Adapter",
    "Bias",
    "Field",
    "Full",
    "Gradual",
    "LastStages",
    "LinearProbe",
    "Lora",
    "LpFt",
    "Options",
    "SetFit",
    "Strategy",
    "Surgical",
    "by_name",
    "fields_of",
    "planned",
    "with_fields",
    "with_options",
]

STRATEGIES: tuple[Strategy, ...] = (
    LinearProbe(),
    LpFt(),
    Gradual(),
    Full(),
    LastStages(),
    Bias(),
    Lora(),
    Adapter(),
    Surgical(),
    SetFit(),
)


def by_name(name: str, chosen: Mapping[str, Field] = MappingProxyType({}), *, of: str = "image") -> Strategy:
    """The strategy of that name, its fields as ``chosen`` or by default; PlanError PL09 for an unknown one.

    of: the modality of the examples; some defaults depend on it.

    PL14 for a field that it has not, or a value that the field cannot hold.
    """
    for strategy in STRATEGIES:
        if strategy.name == name:
            return with_fields(strategy, {**(FIELDS.get(name, {}) if of in DEFAULTS else {}), **chosen})
    names = [strategy.name for strategy in STRATEGIES]
    raise PlanError(f"PL09 no strategy '{shown(name)}'.{did_you_mean(name, names)} There are: {', '.join(names)}.")


def planned(
    strategy: Strategy, stages: Sequence[str], budget: Budget, options: Options | None = None, *, of: str = "image"
) -> Plan:
    """The strategy's plan with the user's explicit choices in it, checked against the network's stages.

    of: the modality of the examples.
    """
    plan = strategy.plan(stages, budget)
    plan.check(stages)
    if of in DEFAULTS:
        check_options(options or Options(), strategy.name, of=of)
        plan = for_sequences(plan, stages, of=of)
    return plan if options is None else with_options(plan, options, stages)
