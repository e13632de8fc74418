"""Positions and shades of the charts."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.report import plots

NAN = float("nan")


def e(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


finite = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=8))
def test_a_scale_holds_all_values_and_its_ends_are_ticks(rows: list[tuple[float, float, float]]) -> None:
    estimates = [e(v, min(v, a, b), max(v, a, b)) for v, a, b in rows]
    scale = plots.scale_for(estimates)
    slack = 1e-9 * max(1.0, abs(scale.low), abs(scale.high))
    for row in estimates:
        assert scale.low - slack <= row["low"] and row["high"] <= scale.high + slack
    assert math.isclose(scale.at(scale.low), 0) and math.isclose(scale.at(scale.high), 100)
    assert 2 <= len(scale.ticks) <= 12


def test_a_scale_for_shares_does_not_pass_one() -> None:
    assert plots.scale_for([e(0.97, 0.93, 1.0), e(0.5, 0.45, 0.55)], most=1.0).high == 1.0


@pytest.mark.parametrize("rows", [[], [None], [e(NAN, NAN, NAN)]])
def test_a_scale_without_values_is_that_of_shares(rows: list[dict[str, float] | None]) -> None:
    assert plots.scale_for(rows) == plots.SHARES


def test_the_dot_stands_at_its_value_and_the_line_spans_the_interval() -> None:
    svg = ElementTree.fromstring(plots.dot(e(0.5, 0.25, 0.75), plots.SHARES))
    circle = svg.find("circle")
    line = next(x for x in svg.iter("line") if "range" in x.get("class", ""))
    assert circle is not None and circle.get("cx") == "50.00%"
    assert (line.get("x1"), line.get("x2")) == ("25.00%", "75.00%")


@pytest.mark.parametrize("draw", [plots.dot, plots.small])
def test_what_is_not_defined_is_not_drawn(draw: object) -> None:
    assert "<circle" not in draw(e(NAN, NAN, NAN), plots.SHARES)  # type: ignore[operator]
    assert "stroke" not in draw(None, plots.SHARES)  # type: ignore[operator]
    assert "band" not in draw(e(0.5, NAN, NAN), plots.SHARES)  # type: ignore[operator]


def test_bars_are_proportional_to_counts() -> None:
    svg = ElementTree.fromstring(plots.bar(30, 10, 80))
    assert [(r.get("x"), r.get("width")) for r in svg.iter("rect")] == [("0.00%", "37.50%"), ("37.50%", "12.50%")]
    assert plots.bar(0, 0, 0)


def test_a_cell_is_tinted_by_its_share_and_never_white_when_it_counts() -> None:
    assert [plots.tint(n, 100) for n in (0, 1, 5, 50, 100)] == [0, 1, 1, 5, 10]
    assert plots.tint(0, 0) == 0


def test_the_large_matrix_has_one_cell_for_each_count_above_zero() -> None:
    rows = [[5 if i == j else int(j == i + 1) for j in range(30)] for i in range(30)]
    svg = ElementTree.fromstring(plots.heat([f"c{i}" for i in range(30)], rows, [sum(r) for r in rows]))
    cells = [r.get("class") for r in svg.iter("rect")]
    assert cells.count("right") == 30 and cells.count("wrong") == 29
    assert "c3 called c4: 1 of 6" in [t.text for t in svg.iter("title")]


def test_the_reliability_diagram_leaves_empty_bins_out() -> None:
    bins = [{"confidence": 0.9, "accuracy": 0.8, "n": 10}, {"confidence": NAN, "accuracy": NAN, "n": 0}]
    svg = ElementTree.fromstring(plots.reliability(bins, "before"))
    (circle,) = svg.iter("circle")
    assert (circle.get("cx"), circle.get("cy")) == ("232.0", "52.0")
    assert "nan" not in ElementTree.tostring(svg, encoding="unicode")


# --- the curve of a training --------------------------------------------------------------------------------------


def curve(losses: list[float], firsts: tuple[int, ...] = (0,), validations: tuple[tuple[int, float], ...] = ()) -> dict:
    return {
        "steps": [{"step": i, "loss": loss} for i, loss in enumerate(losses)],
        "phases": [{"name": f"phase {n}", "first": first} for n, first in enumerate(firsts)],
        "validations": [{"step": step, "loss": loss} for step, loss in validations],
        "best_step": validations[0][0] if validations else len(losses),
    }


def drawn(c: dict) -> ElementTree.Element:
    return ElementTree.fromstring(plots.losses(c, plots.loss_scale(c), "Training loss"))


def points(line: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (p.split(",") for p in line.get("points", "").split())]


def test_the_mean_of_a_constant_loss_is_a_level_line() -> None:
    c = curve([0.5] * 50)
    (line,) = drawn(c).iter("polyline")
    (height,) = {y for _, y in points(line)}
    assert math.isclose(height, 100 - plots.loss_scale(c).at(0.5), abs_tol=0.01)
    assert [x for x, _ in points(line)] == pytest.approx([100 * (i + 0.5) / 50 for i in range(50)], abs=0.01)


def test_the_mean_equals_a_slow_reference_and_crosses_no_border() -> None:
    losses = [math.sin(i) + 3 for i in range(60)] + [math.cos(i) + 9 for i in range(100)]
    first, second = plots._smoothed(list(enumerate(losses)), [0, 60])
    for line, (begin, end) in zip((first, second), ((0, 60), (60, 160)), strict=True):
        reach = max(1, (end - begin) // plots.SMOOTHED)
        for step, mean in line:
            near = losses[max(begin, step - reach) : min(end, step + reach + 1)]
            assert math.isclose(mean, sum(near) / len(near), rel_tol=1e-9)
    assert max(m for _, m in first) < 5 < min(m for _, m in second)


def test_a_border_stands_at_the_first_step_of_its_phase() -> None:
    svg = drawn(curve([1.0] * 40, firsts=(0, 10, 30)))
    assert [x.get("x1") for x in svg.iter("line") if x.get("class") == "border"] == ["25.00%", "75.00%"]
    assert [t.get("x") for t in svg.iter("text")] == ["0.00%", "25.00%", "75.00%"]
    alone = drawn(curve([1.0] * 40))
    assert not [x for x in alone.iter("line") if x.get("class") == "border"] and not list(alone.iter("text"))


def test_validations_are_rings_and_the_best_is_filled() -> None:
    svg = drawn(curve([1.0] * 100, validations=((50, 0.5), (100, 0.7))))
    assert [(c.get("cx"), c.get("class")) for c in svg.iter("circle")] == [
        ("50.00%", "validation best"),
        ("100.00%", "validation"),
    ]
    assert "On held-back images: 0.500 after 50; 0.700 after 100" in (svg.find("desc").text or "")  # type: ignore[union-attr]


def test_one_spike_does_not_flatten_the_curve_and_stays_inside_the_frame() -> None:
    c = curve([1.0 - i / 250 for i in range(200)] + [1e6])
    assert plots.loss_scale(c).high < 2
    (dots,) = (p.get("d", "") for p in drawn(c).iter("path"))
    assert dots.endswith("M99.75 0.0h0")


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=60))
def test_the_scale_of_losses_holds_them_and_starts_at_0_or_above(losses: list[float]) -> None:
    scale = plots.loss_scale(curve(losses))
    assert 0 <= scale.low <= min(losses) * (1 + 1e-9)
    assert sorted(losses)[math.ceil(0.99 * len(losses)) - 1] <= scale.high * (1 + 1e-9)
    assert scale.low < scale.high and 2 <= len(scale.ticks) <= 12


def test_thousands_of_steps_stay_a_small_picture() -> None:
    c = curve([1 / (1 + i) for i in range(50_000)], firsts=(0, 100))
    assert len(plots.losses(c, plots.loss_scale(c), "…")) < 60_000


@pytest.mark.parametrize("losses", [[], [NAN, NAN], [NAN, 0.5, math.inf], [0.0, 0.0]])
def test_losses_that_are_no_numbers_are_left_out(losses: list[float]) -> None:
    text = ElementTree.tostring(drawn(curve(losses)), encoding="unicode")
    assert "nan" not in text and "inf" not in text
