"""Every strategy, with defaults and without, through the shipped contract; and the contract finds broken ones."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.adapt.plan import HEAD, Budget, Phase, Plan
from headstart.adapt.strategies import STRATEGIES
from headstart.adapt.strategies.adapter import Adapter
from headstart.adapt.strategies.full import Full
from headstart.adapt.strategies.gradual import Gradual
from headstart.adapt.strategies.last_stages import LastStages
from headstart.adapt.strategies.linear_probe import LinearProbe
from headstart.adapt.strategies.lora import Lora
from headstart.adapt.strategies.lp_ft import LpFt
from headstart.adapt.strategies.surgical import Surgical
from headstart.testing.strategies import check_options, check_plan, check_strategy

OTHERS = (
    LinearProbe(views=1),
    LpFt(probe=0.0),
    LpFt(probe=0.99),
    Gradual(thaws=1),
    Gradual(thaws=100, share=0.9),
    Full(ema=0.5),
    LastStages(stages=1),
    Lora(rank=1, where="attention"),
    Adapter(rank=64),
)
BUDGET = st.builds(
    Budget,
    steps=st.integers(1, 5000),
    batch_size=st.integers(1, 256),
    n=st.integers(1, 10**6),
    classes=st.integers(1, 1000),
)
STAGES = st.integers(1, 60).map(lambda count: tuple(f"blocks.{i}" for i in range(count)))


@pytest.mark.parametrize("strategy", [*STRATEGIES, *OTHERS], ids=str)
def test_the_strategy_keeps_the_contract(strategy):
    check_strategy(strategy)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s.name)
@settings(max_examples=60, deadline=None)
@given(stages=STAGES, budget=BUDGET)
def test_any_network_and_any_budget_give_a_plan(strategy, stages, budget):
    check_plan(strategy, stages, budget)


@settings(max_examples=60, deadline=None)
@given(pulls=st.lists(st.floats(0, 1e6), min_size=1, max_size=30).filter(any), budget=BUDGET)
def test_any_measurement_gives_a_surgical_plan(pulls, budget):
    stages = tuple(f"blocks.{i}" for i in range(len(pulls)))
    strategy = Surgical(dict(zip(stages, pulls, strict=True)))
    check_plan(strategy, stages, budget, slower_below=False)
    check_options(strategy, stages, budget)


def test_names_are_unique():
    assert len({strategy.name for strategy in STRATEGIES}) == len(STRATEGIES)


# ------------------------------------------------------------------------------------- the contract finds what is wrong


@dataclass(frozen=True)
class Broken:
    """LP-FT with one thing changed."""

    change: str
    name: ClassVar[str] = "lp-ft"
    in_words: ClassVar[str] = "something is wrong with it"

    def plan(self, stages, budget):
        plan = LpFt().plan(stages, budget)
        last = plan.phases[-1]
        if self.change == "a step too many":
            return replace(plan, phases=(*plan.phases[:-1], replace(last, steps=last.steps + 1)))
        if self.change == "a frozen head":
            return replace(plan, phases=(replace(last, steps=budget.steps, lr={stages[0]: 1e-3}),))
        if self.change == "the lower the faster":
            return replace(
                plan,
                phases=(*plan.phases[:-1], replace(last, lr=dict.fromkeys(stages, 1e-4) | {stages[0]: 1e-2, HEAD: 1})),
            )
        if self.change == "another name":
            return replace(plan, strategy="lpft")
        if self.change == "an unknown stage":
            return replace(plan, phases=(*plan.phases[:-1], replace(last, lr={"nowhere": 1e-3, HEAD: 1e-3})))
        return replace(plan, batch_size=budget.batch_size + 1)


@pytest.mark.parametrize(
    "change",
    ["a step too many", "a frozen head", "the lower the faster", "another name", "an unknown stage", "another batch"],
)
def test_the_contract_finds(change):
    with pytest.raises((AssertionError, ValueError)):
        check_strategy(Broken(change))


@dataclass(frozen=True)
class Restless:
    name: ClassVar[str] = "restless"
    in_words: ClassVar[str] = "another plan each time"

    def plan(self, stages, budget):
        rate = 1e-3 + 1e-6 * len(CALLS)
        CALLS.append(rate)
        return Plan(self.name, (Phase("all", budget.steps, {HEAD: rate}),), budget.batch_size)


CALLS: list[float] = []


def test_the_contract_finds_a_strategy_that_is_no_function_of_its_arguments():
    with pytest.raises(AssertionError, match="two plans"):
        check_strategy(Restless())
