"""Plans, schedules and budgets: closed forms, a slow reference, torch's own schedule, and what is refused."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.adapt.plan import HEAD, Phase, Plan, Schedule, default_budget
from headstart.base.errors import PlanError


def plan_of(*steps, **more):
    return Plan("test", tuple(Phase(f"phase {i}", s, {HEAD: 1e-3}) for i, s in enumerate(steps)), **more)


# ----------------------------------------------------------------------------------------------------------------- Plan


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=8))
def test_where_a_step_is_agrees_with_walking_there(steps):
    plan = plan_of(*steps)
    walked = [(number, plan.phases[number], within) for number, count in enumerate(steps) for within in range(count)]
    assert plan.steps == len(walked)
    assert [plan.at(step) for step in range(plan.steps)] == walked


@pytest.mark.parametrize("step", [-1, -5, 5, 100])
def test_a_step_outside_the_plan_is_an_error(step):
    with pytest.raises(IndexError):
        plan_of(2, 3).at(step)


def test_a_plan_without_phases_is_refused():
    with pytest.raises(PlanError, match="PL05"):
        Plan("test", ()).check(["stem"])


def test_an_unknown_stage_is_refused_with_the_known_ones():
    plan = Plan("test", (Phase("tune", 1, {"layer5": 1e-3}),))
    with pytest.raises(PlanError, match=r"PL06 phase 'tune' .*'layer5'.* Did you mean 'layer4'\? .*layer4, head"):
        plan.check(["stem", "layer4"])


def test_additions_without_surgery_train_nothing_and_are_refused():
    plan = Plan("test", (Phase("low-rank", 1, {"stem": 1e-3, HEAD: 1e-3}, only="added"),))
    with pytest.raises(PlanError, match="PL08 phase 'low-rank'"):
        plan.check(["stem"])
    replace(plan, phases=(Phase("head", 1, {HEAD: 1e-3}, only="added"),)).check(["stem"])


@pytest.mark.parametrize("rate", [0, -1e-3, math.nan, math.inf])
def test_a_rate_is_a_positive_number(rate):
    with pytest.raises(PlanError, match="PL03"):
        Phase("tune", 1, {HEAD: rate})


def test_a_phase_has_a_step_and_trains_something():
    with pytest.raises(PlanError, match="PL02"):
        Phase("tune", 0, {HEAD: 1e-3})
    with pytest.raises(PlanError, match="PL04"):
        Phase("tune", 1, {})


# ------------------------------------------------------------------------------------------------------------- Schedule

KINDS = ("cosine", "step", "constant")


@pytest.mark.parametrize("steps", [1, 2, 7, 100])
@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_cosine_without_warm_up_is_that_of_torch(steps, floor):
    schedule = Schedule("cosine", warmup=0, floor=floor)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps, eta_min=floor)
    for step in range(steps):
        assert schedule.at(step, steps) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        theirs.step()


def test_cosine_after_warm_up_is_that_of_the_rest():
    warm, plain = Schedule(warmup=0.25), Schedule(warmup=0)
    assert [warm.at(25 + step, 100) for step in range(75)] == [plain.at(step, 75) for step in range(75)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("warmup, steps", [(0.1, 100), (0.5, 9), (0.9, 30), (0.33, 3)])
def test_warm_up_rises_by_equal_steps_and_ends_at_the_peak(kind, warmup, steps):
    schedule = Schedule(kind, warmup=warmup, drops=(0.95,))
    warm = round(warmup * steps)
    values = [schedule.at(step, steps) for step in range(warm + 1)]
    assert values == pytest.approx([(step + 1) / (warm + 1) for step in range(warm + 1)])
    assert values[-1] == 1


def test_steps_fall_where_they_are_asked_to():
    schedule = Schedule("step", warmup=0, drops=(0.5, 0.75), factor=0.1)
    assert [schedule.at(step, 8) for step in range(8)] == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_constant_stays():
    assert {Schedule("constant", warmup=0).at(step, 50) for step in range(50)} == {1.0}


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    warmup=st.floats(0, 0.99),
    floor=st.floats(0, 1),
    factor=st.floats(0.001, 1),
    steps=st.integers(1, 300),
)
def test_multipliers_stay_between_0_and_1_and_rise_only_in_warm_up(kind, warmup, floor, factor, steps):
    schedule = Schedule(kind, warmup, floor, factor=factor)
    values = [schedule.at(step, steps) for step in range(steps)]
    assert all(0 < value <= 1 for value in values)
    after = values[round(warmup * steps) :]
    assert all(high >= low for high, low in pairwise(after))


@pytest.mark.parametrize(
    "wrong",
    [
        {"warmup": 1.0},
        {"warmup": -0.1},
        {"warmup": math.nan},
        {"floor": 1.1},
        {"factor": 0.0},
        {"factor": 1.5},
        {"factor": math.nan},
        {"drops": (0.8, 0.5)},
        {"drops": (-0.5,)},
        {"drops": (2.0,)},
    ],
    ids=str,
)
def test_a_schedule_out_of_range_is_refused(wrong):
    with pytest.raises(PlanError, match="PL01"):
        Schedule(**wrong)


# --------------------------------------------------------------------------------------------------------------- Budget


@settings(max_examples=200, deadline=None)
@given(n=st.integers(1, 10**7), classes=st.integers(1, 1000))
def test_budgets_are_possible_and_bounded(n, classes):
    budget = default_budget(n, classes)
    assert 1 <= budget.batch_size <= min(n, 64)
    assert 100 <= budget.steps <= 2000


def test_budgets_are_those_of_the_docstring():
    found = [default_budget(n, 2) for n in (50, 1000, 5000)]
    assert [(b.steps, b.batch_size) for b in found] == [(212, 12), (949, 32), (2000, 64)]
    assert [round(b.steps * b.batch_size / b.n) for b in found] == [51, 30, 26]


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 10**5), epochs=st.floats(0.01, 100), data=st.data())
def test_epochs_and_batch_size_are_taken_as_given(n, epochs, data):
    batch = data.draw(st.integers(1, n))
    budget = default_budget(n, 2, epochs=epochs, batch_size=batch)
    assert budget.batch_size == batch
    assert abs(budget.steps - epochs * n / batch) <= 0.5 or budget.steps == 1


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"epochs": -3}, {"epochs": math.nan}, {"batch_size": 0}], ids=str)
def test_epochs_and_batch_size_are_above_zero(wrong):
    with pytest.raises(PlanError, match=f"PL07 {next(iter(wrong))} is .*above 0"):
        default_budget(50, 2, **wrong)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(PlanError, match="PL07 batch_size is 64, but there are 50 training examples; give at most 50"):
        default_budget(50, 2, batch_size=64)
