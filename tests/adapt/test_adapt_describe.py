"""The table that people read before they start."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.adapt.describe import Description, counted, describe
from headstart.adapt.plan import HEAD, Budget, default_budget
from headstart.adapt.strategies import STRATEGIES, by_name, planned
from headstart.adapt.strategies.options import Options
from headstart.base.config import from_dict, to_dict

LITE0 = {  # stage → parameters of efficientnet_lite0
    "stem": 928,
    "blocks.0": 896,
    "blocks.1": 13_968,
    "blocks.2": 39_712,
    "blocks.3": 198_480,
    "blocks.4": 446_784,
    "blocks.5": 1_652_640,
    "blocks.6": 605_440,
    "top": 412_160,
}
COUNTS = LITE0 | {HEAD: 3_843}
STAGES = tuple(LITE0)
FIFTY = default_budget(50, 3)
PARTLY = {
    "norm-and-bias": {stage: number // 40 for stage, number in LITE0.items()},
    "added": {stage: number // 20 for stage, number in LITE0.items()},
}


def of(name, options=None, budget=FIFTY, **more):
    return describe(planned(by_name(name), STAGES, budget, options), STAGES, COUNTS, budget.n, **more)


def test_a_plan_reads_like_this():
    assert (
        of("lp-ft").text
        == """\
lp-ft: 212 steps of 12 examples, which is 50.9 × the 50 training examples: first the head (42
steps), then everything (170 steps).

phase      learns      parameters      rate  head  steps  epochs
probe      head        3,843 (0.11 %)  –     1e-3     42    10.1
fine-tune  everything  3.37 M (100 %)  1e-4  1e-4    170    40.8

head        starts from the probe
optimiser   AdamW, weight decay 0.05, gradients clipped at 1
schedule    cosine to 0 after 10 % warm-up
views       augmented (what the safety test allows), new ones in each step
BatchNorm   where there is any, as it was loaded
validation  10 times, the best weights are kept"""
    )


def test_values_are_those_of_the_plan():
    plan = planned(by_name("gradual"), STAGES, FIFTY)
    table = describe(plan, STAGES, COUNTS, 50)
    assert table.all_parameters == sum(COUNTS.values())
    for row, phase in zip(table.rows, plan.phases, strict=True):
        rates = [rate for stage, rate in phase.lr.items() if stage != HEAD]
        assert row.parameters == sum(COUNTS[stage] for stage in phase.lr)
        assert (row.slowest, row.fastest) == (min(rates, default=None), max(rates, default=None))
        assert (row.steps, row.head_lr) == (phase.steps, phase.lr[HEAD])
        assert row.epochs == pytest.approx(phase.steps * plan.batch_size / 50)
    assert sum(row.epochs for row in table.rows) == pytest.approx(table.epochs)
    assert [row.learns for row in table.rows][:3] == ["head", "blocks.6, top, head", "blocks.4 … top, head"]


@pytest.mark.parametrize("name, kind", [("bias", "norm-and-bias"), ("lora", "added"), ("adapter", "added")])
def test_what_learns_only_partly_is_counted_by_kind_or_said_not_to_be(name, kind):
    assert of(name, partly=PARTLY).rows[0].parameters == COUNTS[HEAD] + sum(PARTLY[kind].values())
    assert of(name).rows[0].parameters is None
    assert "not counted" in of(name).text


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s.name)
@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(
            optimizer="sgd", schedule="step", mixup=0.2, label_smoothing=0.1, patience=5, ema=0.2, hidden=(256, 64)
        ),
        Options(
            optimizer="adam", weight_decay=0.0, schedule="constant", warmup=0, clip_norm=0, augment="none", dropout=0.1
        ),
    ],
    ids=["defaults", "many", "few"],
)
@pytest.mark.parametrize("budget", [FIFTY, Budget(1, 1, 1, 2), Budget(123_456, 64, 1_000_000, 10)], ids=str)
def test_a_hundred_columns_suffice(strategy, options, budget):
    if strategy.name == "setfit":  # its head is fitted afterwards
        options = replace(options, hidden=None)
    text = of(strategy.name, options, budget, partly=PARTLY).text
    assert max(map(len, text.splitlines())) <= 100
    assert text == text.strip()


def test_penalties_are_shown_with_their_phases():
    text = of("lp-ft", Options(penalty="l2-sp", penalty_weight=0.5)).text
    assert "penalties   l2-sp 0.5\n" in text
    plan = planned(by_name("gradual"), STAGES, FIFTY, Options(penalty="bss"))
    early, *rest = plan.phases[1:]
    mixed = replace(plan, phases=(plan.phases[0], replace(early, penalties=()), *rest))
    assert "thaw 1: none; thaw 2, thaw 3, thaw 4, everything: bss 0.001" in describe(mixed, STAGES, COUNTS, 50).text


def test_the_description_is_a_record():
    table = of("gradual", partly=PARTLY)
    assert from_dict(Description, json.loads(json.dumps(to_dict(table), allow_nan=False))) == table


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**12))
def test_counts_keep_three_digits(number):
    text = counted(number)
    value = float(text.split()[0].replace(",", "")) * {"k": 1e3, "M": 1e6}.get(text[-1], 1)
    assert value == pytest.approx(number, rel=0.006)
    assert "e" not in text


@pytest.mark.parametrize(
    "number, text", [(0, "0"), (9_999, "9,999"), (41_342, "41.3 k"), (999_499, "999 k"), (3_370_851, "3.37 M")]
)
def test_counts_read_like_this(number, text):
    assert counted(number) == text
