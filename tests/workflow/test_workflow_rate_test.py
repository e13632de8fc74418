"""The rate test: what it takes from a curve of losses, and that it moves a plan on real trainings."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.workflow.climbing import ground_of, paint

import headstart as hs
from headstart.adapt.plan import HEAD, Head, Optimizer, Phase, Plan, Schedule
from headstart.adapt.strategies.options import Options
from headstart.base.errors import PlanError
from headstart.records.history import History, PhaseRecord, StepRecord
from headstart.workflow.config import TuneConfig
from headstart.workflow.rate_test import HIGHEST, LOWEST, STEPS, TENTH, best_share, find_rates, rising, smoothed

PLAN = Plan("full", (Phase("head", 10, {HEAD: 1e-2}), Phase("all", 90, {"top": 1e-3, HEAD: 1e-2})), ema=0.1, patience=3)


def history(losses):
    shares = [(LOWEST / HIGHEST) ** (1 - (i + 1) / len(losses)) for i in range(len(losses))]
    steps = tuple(
        StepRecord(i, 0, loss, 1.0, share, 0.1) for i, (loss, share) in enumerate(zip(losses, shares, strict=True))
    )
    return History((PhaseRecord("all", 0, {}),), steps, (), len(steps), len(steps), "finished", 8, 8, 1.0, 1.0)


def test_the_rate_rises_evenly_on_a_log_scale_up_to_the_whole():
    schedule = Schedule("rising", warmup=0.0, floor=1e-4)
    shares = np.array([schedule.at(step, 40) for step in range(40)])
    assert shares[-1] == 1.0 and shares[0] == pytest.approx(1e-4 ** (39 / 40))
    np.testing.assert_allclose(np.diff(np.log(shares)), np.log(1e4) / 40)
    with pytest.raises(PlanError, match="PL01"):
        Schedule("rising", floor=0.0)


def test_the_test_tries_the_last_phase_from_a_thirtieth_to_thirty_times_its_rates():
    trial = rising(PLAN, HIGHEST)
    (phase,) = trial.phases
    assert (phase.name, trial.steps, trial.ema, trial.patience) == ("all", STEPS, None, None)
    assert phase.lr == pytest.approx({"top": 3e-2, HEAD: 0.3})
    first = phase.schedule.at(0, STEPS) * phase.lr["top"]
    assert first == pytest.approx(1e-3 * LOWEST, rel=0.2) and phase.schedule.at(STEPS - 1, STEPS) == 1.0


def test_a_valley_gives_the_rate_at_its_bottom_a_little_late_for_the_smoothing():
    at = np.arange(STEPS)
    share = best_share(history((2 + ((at - 30) / 20) ** 2).tolist()))
    bottom, late = history([0.0] * STEPS).steps[30].share, history([0.0] * STEPS).steps[36].share
    assert bottom <= share <= late


def test_losses_that_only_rise_choose_nothing():
    assert best_share(history(np.linspace(1, 5, STEPS).tolist())) is None


def test_a_constant_stays_what_it_is_when_smoothed():
    np.testing.assert_allclose(smoothed([3.0] * 9), 3.0)
    assert smoothed([1.0, 2.0])[0] == 1.0


def test_losses_are_compared_where_the_noise_of_one_batch_says_little():
    rng = np.random.default_rng(0)
    at = np.arange(STEPS)
    losses = 2 + ((at - 30) / 12) ** 2 + 0.3 * rng.standard_normal(STEPS)
    losses[3] -= 1.0  # one lucky batch
    assert best_share(history(losses.tolist())) > history([0.0] * STEPS).steps[20].share


def test_the_history_that_is_read_is_one_of_a_rising_schedule():
    steps = history([1.0] * STEPS).steps
    schedule = rising(PLAN, HIGHEST).phases[0].schedule
    assert [row.share for row in steps] == pytest.approx([schedule.at(i, STEPS) for i in range(STEPS)])


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    return ground_of(tmp_path_factory.mktemp("rates"))


def test_a_test_finds_a_factor_and_leaves_the_network_as_it_was(ground):
    before = {name: tensor.clone() for name, tensor in ground.backbone.network.state_dict().items()}
    stages = ground.backbone.tunable
    plan = Plan(
        "full",
        (Phase("all", 90, {**dict.fromkeys(stages, 1e-4), HEAD: 1e-3}),),
        batch_size=8,
        augment="none",
        head=Head("random"),
    )
    rows = np.arange(len(ground.known))
    factor, found = find_rates(ground, plan, rows, None)
    assert LOWEST * TENTH <= factor <= HIGHEST * TENTH and f"{factor:.2g} times" in found
    after = ground.backbone.network.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert find_rates(ground, plan, rows, None) == (factor, found)


def test_rates_that_end_in_nan_are_tested_more_mildly_and_then_left_alone(ground):
    wild = Plan(
        "full",
        (Phase("all", 90, {ground.backbone.tunable[-1]: 1e36, HEAD: 1e36}),),
        batch_size=8,
        augment="none",
        head=Head("random"),
    )
    wild = replace(wild, clip_norm=None, optimizer=Optimizer("sgd"))
    factor, found = find_rates(ground, wild, np.arange(len(ground.known)), None)
    assert factor == 1.0 and "end in NaN" in found


@pytest.mark.parametrize(
    "wish",
    [{}, {"strategy": "auto"}, {"strategy": "full", "options": Options(lr=1e-3)}],
    ids=["probe", "ladder", "rate given"],
)
def test_there_is_nothing_to_test_without_a_strategy_or_beside_a_given_rate(wish):
    with pytest.raises(PlanError, match="PL67"):
        TuneConfig(rate_test=True, **wish)


def test_a_run_with_a_rate_test_trains_at_what_it_found_and_says_so(tmp_path):
    tuning = {"strategy": "last-stages", "epochs": 2.0, "options": Options(augment="none")}
    plans, notes = [], ()
    for wanted in (False, True):
        config = hs.FitConfig(
            backbone="toy/conv", tuning=TuneConfig(rate_test=wanted, **tuning), random_baseline="off", device="cpu"
        )
        run = hs.fit(paint(tmp_path / "p"), out=tmp_path / str(wanted), cache=tmp_path / "cache", config=config)
        plans.append(json.loads((run.folder.path / "plan.json").read_text())["phases"][-1]["lr"])
        notes = json.loads((run.folder.path / "ladder.json").read_text())["notes"]
    factor = plans[1]["head"] / plans[0]["head"]
    assert factor != 1 and plans[1] == pytest.approx({name: rate * factor for name, rate in plans[0].items()})
    assert any("rate test" in note and f"{factor:.2g} times the usual" in note for note in notes)
