"""Numbers as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.base.config import to_dict
from headstart.records.estimate import Estimate
from headstart.report import wording

NAN = float("nan")


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_shares_print_as_estimate_prints_them(a: float, b: float, c: float) -> None:
    low, value, high = sorted((a, b, c))
    estimate = Estimate(value, low, high, 10)
    assert f"{wording.estimate_words(to_dict(estimate))}, n = 10" == str(estimate)


def test_nan_prints_as_a_dash() -> None:
    nothing = to_dict(Estimate(NAN, NAN, NAN, 0))
    assert wording.estimate_words(nothing) == wording.signed(nothing) == wording.number(NAN) == "–"
    assert wording.percent(NAN) == wording.seconds(None) == wording.p_value(None) == "–"
    assert wording.interval(to_dict(Estimate(0.5, NAN, NAN, 3))) == ""


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.5, "0.500"), (12.34, "12.34"), (123.4, "123.4"), (12345.6, "12,346"), (-0.25, "−0.250"), (-0.0, "0.000")],
)
def test_numbers_show_about_four_figures(value: float, expected: str) -> None:
    assert wording.number(value) == expected


def test_differences_carry_their_sign() -> None:
    assert wording.signed(to_dict(Estimate(0.1, -0.05, 0.25, 9))) == "+0.100 [−0.050, +0.250]"
    assert wording.signed(to_dict(Estimate(0.1, NAN, NAN, 9))) == "+0.100"


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.004, "0.4 %"),
        (0.0001, "< 0.1 %"),
        (0.997, "99.7 %"),
        (0.9999, "> 99.9 %"),
        (0.37, "37 %"),
    ],
)
def test_percentages_never_claim_all_or_nothing(share: float, expected: str) -> None:
    assert wording.percent(share) == expected.replace(" %", "\u00a0%")


@pytest.mark.parametrize(
    ("s", "expected"),
    [
        (0.001, "< 0.01 s"),
        (1.234, "1.23 s"),
        (45, "45 s"),
        (200, "3 min 20 s"),
        (7260, "2 h 1 min"),
        (1200, "20 min"),
        (3600, "1 h"),
    ],
)
def test_times_are_short(s: float, expected: str) -> None:
    assert wording.seconds(s) == expected


def test_p_values_stop_at_a_thousandth() -> None:
    assert wording.p_value(1e-9) == "< 0.001" and wording.p_value(0.04) == "0.040"


def test_one_is_not_plural() -> None:
    assert wording.counted(1, "class", "classes") == "1 class" and wording.counted(2000, "image") == "2,000 images"
