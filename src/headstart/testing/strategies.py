"""The contract of strategies. Third parties run it over their own:

check_strategy(MyStrategy())
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

from headstart.adapt.plan import HEAD, Budget, Plan, default_budget
from headstart.adapt.strategies import Strategy, planned
from headstart.adapt.strategies.options import Options, network_stages
from headstart.base.config import from_dict, to_dict

NETWORKS = (  # stages as backbones/stages.py finds them
    ("stem",),
    ("stem", "top"),
    ("stem", "layer1", "layer2", "layer3", "layer4"),  # resnet50
    ("stem", *(f"blocks.{i}" for i in range(7)), "top"),  # efficientnet_lite0
    ("stem", *(f"blocks.{i}" for i in range(12)), "top"),  # vit_small_patch16_224
    tuple(f"features.{i}" for i in range(40)),
)
BUDGETS = tuple(
    [Budget(steps, 16, 100, 3) for steps in (1, 2, 3, 4, 5, 7, 10, 100, 1999)]
    + [default_budget(n, 2) for n in (1, 2, 50, 1000, 5000, 10**6)]
)


def check_strategy(strategy: Strategy, *, slower_below: bool = True) -> None:
    """All that the loop, the ladder and the report rely on, for networks of 1 to 40 stages and from 1 step up.

    slower_below: the strategy promises that no stage learns faster than one above it.
    """
    assert strategy.name and strategy.name == strategy.name.lower().strip(), f"name: '{strategy.name}'"
    assert strategy.in_words and "\n" not in strategy.in_words and len(strategy.in_words) <= 100, "in_words: one line"
    for stages in NETWORKS:
        for budget in BUDGETS:
            check_plan(strategy, stages, budget, slower_below=slower_below)
        check_options(strategy, stages, BUDGETS[-1])


def check_plan(strategy: Strategy, stages: Sequence[str], budget: Budget, *, slower_below: bool = True) -> Plan:
    """One plan: the budget's steps exactly, known stages, usable rates, a learning head, the same each time, JSON."""
    where = f"{strategy.name}, {len(stages)} stages, {budget}: "
    plan = planned(strategy, stages, budget)
    assert plan.strategy == strategy.name, where + f"the plan calls itself '{plan.strategy}'"
    assert plan.steps == budget.steps, where + f"{plan.steps} steps"
    assert plan.batch_size == budget.batch_size, where + f"a batch of {plan.batch_size}"
    has_part = plan.head.start != "after"
    assert all((HEAD in phase.lr) == has_part for phase in plan.phases), where + "a phase without the head"
    assert strategy.plan(stages, budget) == strategy.plan(stages, budget), where + "two plans"
    assert plan_from_json(plan_to_json(plan)) == plan, where + "JSON changes the plan"
    for phase in plan.phases:
        learning = network_stages(phase)
        assert set(learning) <= set(stages), where + f"unknown stages in {phase.name}"
        assert all(0 < rate < 1 and math.isfinite(rate) for rate in phase.lr.values()), where + f"rates {phase.lr}"
        rates = [phase.lr[stage] for stage in stages if stage in phase.lr]
        assert not slower_below or rates == sorted(rates), where + f"a lower stage learns faster: {phase.lr}"
        assert not slower_below or not rates or stages[-1] in phase.lr, where + f"{phase.name} leaves the top frozen"
    return plan


def check_options(strategy: Strategy, stages: Sequence[str], budget: Budget) -> None:
    """Explicit choices win, to the last bit, and change nothing else."""
    plain = planned(strategy, stages, budget)
    assert planned(strategy, stages, budget, Options()) == plain, f"{strategy.name}: no options change the plan"
    _check_rates(strategy, stages, budget)
    chosen = Options(weight_decay=0.123, label_smoothing=0.05, mixup=0.3, ema=0.25, augment="none", patience=3)
    plan = planned(strategy, stages, budget, chosen)
    assert plan.optimizer == replace(plain.optimizer, weight_decay=0.123), f"{strategy.name}: weight decay"
    assert (plan.loss.label_smoothing, plan.loss.mixup) == (0.05, 0.3), f"{strategy.name}: loss"
    assert (plan.ema, plan.augment, plan.views, plan.patience) == (0.25, "none", 0, 3), f"{strategy.name}: plan"
    assert plan.phases == plain.phases, f"{strategy.name}: choices for the whole plan change its phases"


def _check_rates(strategy: Strategy, stages: Sequence[str], budget: Budget) -> None:
    """The user's rates reach every phase as they are, whatever the optimiser."""
    plain = planned(strategy, stages, budget)
    tunes = any(network_stages(phase) for phase in plain.phases)
    for optimizer in ("sgd", "adam", "adamw"):
        options = Options(optimizer=optimizer, head_lr=0.0123, lr=0.0321 if tunes else None)
        plan = planned(strategy, stages, budget, options)
        assert plan.optimizer.kind == optimizer, f"{strategy.name}: {plan.optimizer}"
        for phase, before in zip(plan.phases, plain.phases, strict=True):
            where = f"{strategy.name}, {phase.name}, {optimizer}: "
            learning = network_stages(phase)
            assert phase.lr.get(HEAD, 0.0123) == 0.0123, where + f"head {phase.lr[HEAD]}"
            assert set(phase.lr) == set(before.lr), where + "other stages learn"
            if learning:
                assert max(phase.lr[stage] for stage in learning) == 0.0321, where + f"{phase.lr}"
                ratios = [phase.lr[stage] / before.lr[stage] for stage in learning]
                assert max(ratios) <= min(ratios) * (1 + 1e-12), where + f"ratios {ratios}"


def plan_to_json(plan: Plan) -> str:
    return json.dumps(to_dict(plan), allow_nan=False)


def plan_from_json(text: str) -> Plan:
    return from_dict(Plan, json.loads(text))
