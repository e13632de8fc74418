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
