"""Each strategy against its closed form, the options, and the errors that users meet."""

import math
import re
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import timm
import timm.optim
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.adapt.plan import HEAD, Budget, Optimizer, Penalty, Surgery, default_budget
from headstart.adapt.strategies import STRATEGIES, by_name, planned, rates
from headstart.adapt.strategies.full import Full
from headstart.adapt.strategies.gradual import Gradual
from headstart.adapt.strategies.last_stages import LastStages
from headstart.adapt.strategies.linear_probe import LinearProbe
from headstart.adapt.strategies.lora import Lora
from headstart.adapt.strategies.lp_ft import LpFt
from headstart.adapt.strategies.options import OPTIMIZERS, PENALTIES, Options, scaled, with_options
from headstart.adapt.strategies.surgical import Surgical
from headstart.backbones.stages import TOP, stages_of
from headstart.base.config import from_dict, to_dict
from headstart.base.errors import DataError, PlanError

RESNET = ("stem", "layer1", "layer2", "layer3", "layer4")
VIT = ("stem", *(f"blocks.{i}" for i in range(12)), "top")
BUDGET = Budget(steps=200, batch_size=32, n=640, classes=4)


def network_rates(phase):
    return {stage: rate for stage, rate in phase.lr.items() if stage != HEAD}


# ----------------------------------------------------------------------------------------------------------- strategies


def test_layer_wise_decay_has_its_closed_form():
    (phase,) = Full().plan(VIT, BUDGET).phases
    expected = {stage: 1e-4 * 0.75 ** (13 - depth) for depth, stage in enumerate(VIT)}
    assert network_rates(phase) == pytest.approx(expected, rel=1e-12)


def test_layer_wise_decay_is_that_of_timm():
    """Up to the last norm: timm counts it with the last block, we (as BEiT's code) one above it."""
    network = timm.create_model("test_vit", num_classes=0)
    stages = [stage for stage in stages_of(network) if stage.name != TOP]
    plan = planned(Full(), [stage.name for stage in stages], BUDGET, Options(lr=1.0, layer_decay=0.65))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = timm.optim.param_groups_layer_decay(network, layer_decay=0.65)
    theirs = {names[id(parameter)]: group["lr_scale"] for group in groups for parameter in group["params"]}
    ours = {n: plan.phases[0].lr[stage.name] for n in theirs for stage in stages if stage.holds(n)}
    assert len(set(ours.values())) == len(stages) > 4
    assert ours == pytest.approx({n: theirs[n] for n in ours}, rel=1e-12)


def test_lp_ft_trains_the_head_first_and_everything_no_faster_afterwards():
    first, second = LpFt(probe=0.3).plan(RESNET, BUDGET).phases
    assert (first.steps, second.steps) == (60, 140)
    assert set(first.lr) == {HEAD}
    assert set(second.lr) == {*RESNET, HEAD}
    assert max(second.lr.values()) < first.lr[HEAD]


def test_lp_ft_without_room_for_a_probe_fine_tunes():
    (phase,) = LpFt().plan(RESNET, Budget(1, 32, 640, 4)).phases
    assert set(phase.lr) == {*RESNET, HEAD}


def test_gradual_thaws_one_stage_more_in_each_phase():
    phases = Gradual().plan(RESNET, BUDGET).phases
    learning = [[stage for stage in RESNET if stage in phase.lr] for phase in phases]
    assert learning == [list(RESNET[len(RESNET) - thawed :]) for thawed in range(6)]
    assert [phase.steps for phase in phases] == [20, 20, 20, 20, 20, 100]
    top_down = [phases[-1].lr[stage] for stage in reversed(RESNET)]
    assert top_down == pytest.approx([2e-4 / 2.6**depth for depth in range(5)], rel=1e-12)


def test_gradual_thaws_neighbours_together_where_there_are_many():
    last = Gradual(thaws=5).plan(VIT, BUDGET).phases[-1]
    top_down = [last.lr[stage] for stage in reversed(VIT)]
    groups = np.repeat(np.arange(5), [3, 3, 3, 3, 2])
    assert top_down == pytest.approx(2e-4 / 2.6**groups, rel=1e-12)


@settings(max_examples=100, deadline=None)
@given(count=st.integers(1, 50), thaws=st.integers(1, 60), steps=st.integers(1, 400))
def test_gradual_never_freezes_again_and_ends_with_everything(count, thaws, steps):
    stages = tuple(f"s{i}" for i in range(count))
    phases = Gradual(thaws=thaws).plan(stages, replace(BUDGET, steps=steps)).phases
    learning = [set(phase.lr) for phase in phases]
    assert all(before < after for before, after in pairwise(learning))
    assert learning[-1] == {*stages, HEAD}
    assert len(phases) <= min(thaws, count) + 1


def test_the_last_third_learns_on_plain_images():
    plan = LastStages().plan(VIT, BUDGET)
    assert set(plan.phases[0].lr) == {*VIT[-5:], HEAD}
    assert plan.augment == "none"
    assert set(LastStages(stages=1).plan(RESNET, BUDGET).phases[0].lr) == {"layer4", HEAD}


def test_no_more_views_are_drawn_than_epochs_look_at():
    assert LinearProbe(views=8).plan(RESNET, Budget(200, 32, 640, 4)).views == 8
    assert LinearProbe(views=8).plan(RESNET, Budget(60, 32, 640, 4)).views == 3
    assert LinearProbe(views=8).plan(RESNET, Budget(1, 32, 640, 4)).views == 1


def test_parameter_efficient_strategies_leave_loaded_weights_and_statistics():
    only = {name: by_name(name).plan(RESNET, BUDGET) for name in ("bias", "lora", "adapter")}
    assert {name: plan.phases[0].only for name, plan in only.items()} == {
        "bias": "norm-and-bias",
        "lora": "added",
        "adapter": "added",
    }
    assert all(plan.phases[0].statistics == "fixed" for plan in only.values())
    assert Lora(rank=2, alpha=4, where="attention").plan(VIT, BUDGET).surgery == (Surgery("lora", 2, 4, "attention"),)
    assert [s.kind for s in only["adapter"].surgery] == ["adapter"]


def test_surgical_rates_follow_the_measurement():
    pulls = {"stem": 4.0, "layer1": 1.0, "layer2": 0.0, "layer3": 2.0, "layer4": 1.0}
    rates_of = network_rates(Surgical(pulls).plan(RESNET, BUDGET).phases[0])
    top = rates.SURGICAL.top
    assert rates_of == {"stem": top, "layer1": top / 4, "layer3": top / 2, "layer4": top / 4}


def test_a_stage_with_next_to_no_pull_stays_frozen():
    pulls = dict.fromkeys(RESNET, 1.0) | {"stem": 1e-300, "layer1": 1e-5}
    assert list(network_rates(Surgical(pulls).plan(RESNET, BUDGET).phases[0])) == list(RESNET[1:])


def test_without_a_measurement_all_stages_learn_alike():
    assert len(set(network_rates(Surgical().plan(RESNET, BUDGET).phases[0]).values())) == 1


@pytest.mark.parametrize("name", ["lp-ft", "gradual", "full", "last-stages", "surgical"])
def test_small_batches_and_short_trainings_leave_the_running_statistics_alone(name):
    for batch, steps, expected in ((12, 2000, "fixed"), (32, 200, "fixed"), (32, 2000, "moving")):
        plan = by_name(name).plan(RESNET, replace(BUDGET, batch_size=batch, steps=steps))
        assert {phase.statistics for phase in plan.phases if network_rates(phase)} == {expected}


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s.name)
def test_defaults_move_no_weight_far_on_fifty_images(strategy):
    """Adam moves a weight by at most about the sum of its rates; those of networks are near 0.05, of heads near 0.1.

    The last stages learn faster: measured, see rates.py.
    """
    plan = strategy.plan(VIT, default_budget(50, 3))
    moved = {"head": 0.0, "network": 0.0}
    for phase in plan.phases:
        multipliers = sum(phase.schedule.at(step, phase.steps) for step in range(phase.steps))
        moved["head"] += phase.lr.get(HEAD, 0.0) * multipliers
        if phase.only == "all" and network_rates(phase):
            moved["network"] += max(network_rates(phase).values()) * multipliers
    faster = 3 if strategy.name == "last-stages" else 1
    assert moved["head"] < 0.15 * faster
    assert moved["network"] < 0.025 * faster


# -------------------------------------------------------------------------------------------------------------- options


def test_no_choice_changes_no_bit():
    for strategy in STRATEGIES:
        plan = strategy.plan(VIT, BUDGET)
        assert with_options(plan, Options(), VIT) == plan


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from([s.name for s in STRATEGIES if s.name != "linear-probe"]),
    lr=st.floats(1e-8, 10),
    head_lr=st.none() | st.floats(1e-8, 10),
    optimizer=st.none() | st.sampled_from(sorted(OPTIMIZERS)),
    layer_decay=st.none() | st.floats(0.2, 1),
    penalty=st.none() | st.sampled_from(["none", "bss", "delta", "co-tuning"]),
    batch=st.integers(1, 64),
)
def test_a_chosen_rate_is_never_rescaled(name, lr, head_lr, optimizer, layer_decay, penalty, batch):
    options = Options(lr=lr, head_lr=head_lr, optimizer=optimizer, layer_decay=layer_decay, penalty=penalty)
    plan = planned(by_name(name), VIT, replace(BUDGET, batch_size=batch), options)
    for phase in plan.phases:
        if network_rates(phase):
            assert max(network_rates(phase).values()) == lr
        assert head_lr is None or phase.lr.get(HEAD, head_lr) == head_lr


def test_a_chosen_decay_has_its_closed_form_in_every_phase():
    plan = planned(Gradual(), VIT, BUDGET, Options(lr=2.0, layer_decay=0.5))
    for phase in plan.phases[1:]:
        assert network_rates(phase) == {
            stage: 2.0 * 0.5 ** (13 - depth) for depth, stage in enumerate(VIT) if stage in phase.lr
        }


def test_default_rates_suit_the_optimiser():
    adam, sgd = (planned(Full(), RESNET, BUDGET, Options(optimizer=kind)) for kind in ("adam", "sgd"))
    assert adam.phases == Full().plan(RESNET, BUDGET).phases
    assert sgd.phases == scaled(Full().plan(RESNET, BUDGET), 10).phases
    assert sgd.phases[0].lr[HEAD] == pytest.approx(0.01)
    assert sgd.phases[0].lr["layer4"] == pytest.approx(0.001)
    assert sgd.optimizer == Optimizer("sgd", weight_decay=5e-4)


def test_one_chosen_rate_leaves_the_other_to_the_optimiser():
    (phase,) = planned(Full(), RESNET, BUDGET, Options(optimizer="sgd", lr=0.02)).phases
    assert phase.lr["layer4"] == 0.02
    assert phase.lr[HEAD] == pytest.approx(0.01)


def test_penalties_stand_where_the_network_learns():
    first, second = planned(LpFt(), RESNET, BUDGET, Options(penalty="bss", penalty_weight=0.5)).phases
    assert first.penalties == ()
    assert second.penalties == (Penalty("bss", 0.5),)
    assert planned(LpFt(), RESNET, BUDGET, Options(penalty="none")).phases == LpFt().plan(RESNET, BUDGET).phases


def test_pulling_towards_the_loaded_weights_replaces_their_decay_unless_it_is_chosen():
    assert planned(Full(), RESNET, BUDGET, Options(penalty="l2-sp")).optimizer.weight_decay == 0
    assert planned(Full(), RESNET, BUDGET, Options(penalty="bss")).optimizer.weight_decay == 0.05
    chosen = planned(Full(), RESNET, BUDGET, Options(penalty="l2-sp", weight_decay=0.01, optimizer="sgd"))
    assert chosen.optimizer.weight_decay == 0.01


def test_zero_turns_off():
    plan = planned(Full(), RESNET, BUDGET, Options(ema=0, clip_norm=0, patience=0, warmup=0))
    assert (plan.ema, plan.clip_norm, plan.patience) == (None, None, None)
    assert plan.phases[0].schedule.warmup == 0


def test_every_option_changes_the_plan():
    """An option that with_options forgot would be a choice that is swallowed."""
    values = dict(lr=0.5, head_lr=0.5, layer_decay=0.5, optimizer="sgd", weight_decay=0.5, schedule="constant")
    values |= dict(warmup=0.5, penalty="bss", penalty_weight=0.5, label_smoothing=0.5, mixup=0.5, ema=0.5)
    values |= dict(clip_norm=0.5, augment="flips", patience=5, hidden=(5,), dropout=0.5, balanced="softmax")
    assert set(values) == {field.name for field in fields(Options)}
    plain = planned(Full(), RESNET, BUDGET)
    for name, value in values.items():
        chosen = {name: value} if name != "penalty_weight" else {"penalty": "bss", name: value}
        before = plain if name != "penalty_weight" else planned(Full(), RESNET, BUDGET, Options(penalty="bss"))
        assert planned(Full(), RESNET, BUDGET, Options(**chosen)) != before, name


def test_options_survive_a_file():
    options = Options(lr=1e-4, optimizer="sgd", hidden=(64, 32), patience=3)
    assert from_dict(Options, to_dict(options)) == options
    with pytest.raises(DataError, match="Did you mean 'layer_decay'"):
        from_dict(Options, {"layer_decai": 0.5})


# --------------------------------------------------------------------------------------------------------------- errors


def test_an_unknown_strategy_is_told_from_the_known_ones():
    with pytest.raises(PlanError, match=r"PL09 no strategy 'lpft'. Did you mean 'lp-ft'\? There are: linear-probe, "):
        by_name("lpft")
    with pytest.raises(PlanError, match=r"'x\\ny'\. There are"):
        by_name("x\ny")


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s.name)
def test_strategies_are_found_by_name(strategy):
    assert by_name(strategy.name) == strategy


@pytest.mark.parametrize("option", ["lr", "layer_decay", "penalty"])
def test_a_choice_without_a_place_is_refused(option):
    value = "bss" if option == "penalty" else 0.5
    with pytest.raises(PlanError, match=f"PL13 {option} = .*'linear-probe' trains the head alone"):
        planned(LinearProbe(), RESNET, BUDGET, Options(**{option: value}))


@pytest.mark.parametrize("name", ["lora", "adapter"])
def test_pulling_weights_that_do_not_learn_is_refused(name):
    with pytest.raises(PlanError, match=f"PL13 penalty 'l2-sp' has no effect.*'{name}'"):
        planned(by_name(name), RESNET, BUDGET, Options(penalty="l2-sp"))


@pytest.mark.parametrize(
    "choice",
    [
        *({name: value} for name in ("lr", "head_lr") for value in (0, -1e-3, math.inf, math.nan, True, "0.1")),
        *({"layer_decay": value} for value in (0, 1.01, math.nan)),
        *({name: value} for name in ("warmup", "label_smoothing", "ema", "dropout") for value in (-0.1, 1, math.nan)),
        *({name: value} for name in ("weight_decay", "mixup", "clip_norm") for value in (-1, math.inf, math.nan)),
        *({name: "other"} for name in ("optimizer", "schedule", "penalty")),
        *({"patience": value} for value in (-1, 2.5, True)),
        *({"hidden": value} for value in ((0,), (1.5,), [64], 64)),
        {"penalty_weight": 1.0},
        {"penalty": "none", "penalty_weight": 1.0},
        {"penalty": "bss", "penalty_weight": 0},
    ],
    ids=str,
)
def test_a_choice_out_of_range_is_refused(choice):
    with pytest.raises(PlanError, match=f"PL12 options: .*{[*choice][-1]}"):
        Options(**choice)


def test_all_wrong_choices_are_told_at_once():
    with pytest.raises(
        PlanError, match=r"lr is -1.*optimizer is 'adamm'; it must be one of sgd, adam, adamw; patience"
    ):
        Options(lr=-1, optimizer="adamm", patience=-3)


def test_a_plan_with_stages_not_of_this_network_is_refused():
    class ForAnotherNetwork:
        name, in_words = "foreign", "a plan for a ResNet whatever the network is"

        def plan(self, stages, budget):
            return Full().plan(RESNET, budget)

    with pytest.raises(PlanError, match=r"PL06 .*'layer1'"):
        planned(ForAnotherNetwork(), VIT, BUDGET)


@pytest.mark.parametrize("count", [0, -1, 6])
def test_more_stages_than_there_are_cannot_learn(count):
    with pytest.raises(PlanError, match=f"PL10 last-stages: {count} stages .* has 5 .* from 1 to 5"):
        LastStages(count).plan(RESNET, BUDGET)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LpFt(probe=1.0),
        lambda: LpFt(probe=-0.1),
        lambda: Gradual(thaws=0),
        lambda: Gradual(share=1.0),
        lambda: Gradual(share=0.0),
        lambda: Full(ema=1.0),
        lambda: LinearProbe(views=0),
    ],
)
def test_a_share_out_of_range_is_refused(make):
    with pytest.raises(PlanError, match="PL10"):
        make()


@pytest.mark.parametrize(
    "pulls, message",
    [
        (dict.fromkeys(RESNET, 0.0), "0 for every stage"),
        ({**dict.fromkeys(RESNET, 1.0), "stem": math.nan}, "no usable number for stem"),
        ({**dict.fromkeys(RESNET, 1.0), "stem": -1.0}, "no usable number for stem"),
        ({"stem": 1.0}, "no usable number for layer1, layer2, layer3 and 1 more"),
        ({**dict.fromkeys(RESNET, 1.0), "layer5": 1.0}, r"'layer5' is no stage .* Did you mean 'layer4'\?"),
    ],
)
def test_a_measurement_that_cannot_be_used_is_refused(pulls, message):
    with pytest.raises(PlanError, match=f"PL11 surgical: .*{message}"):
        Surgical(pulls).plan(RESNET, BUDGET)


def test_a_penalty_has_a_weight_for_every_kind():
    assert all(PENALTIES[kind].kind == kind and PENALTIES[kind].weight > 0 for kind in PENALTIES)
    assert all(OPTIMIZERS[kind].kind == kind for kind in OPTIMIZERS)


def test_the_page_names_every_option_and_every_strategy():
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "choose-a-strategy.md").read_text()
    ticked = set(re.findall(r"`(\w[\w-]*)`", page))
    assert {field.name for field in fields(Options)} <= ticked
    assert {strategy.name for strategy in STRATEGIES} <= ticked
    assert {*OPTIMIZERS, *PENALTIES} <= ticked
