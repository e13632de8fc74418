"""Subsets, curves with closed forms, and what they say about the labels that transfer was worth."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from headstart.base.seeds import stream
from headstart.evaluation.curves import (
    SHARES,
    error_of,
    fit_power_laws,
    multiplier,
    nested_subsets,
    worth,
)

N = np.repeat([30.0, 60.0, 120.0, 240.0, 480.0], 3)
LAWS = [(0.0, 0.2, 0.5), (0.05, 0.1, 1.3), (0.1, 0.3, 0.1), (0.0, 0.2, 2.0), (0.1, 0.02, 0.9), (0.02, 0.01, 0.3)]


def law(n, floor, drop, exponent):
    """The formula as METHODS F writes it, with b in units of the error at 480."""
    return floor + drop * 480**exponent * np.asarray(n, float) ** -exponent


# --- subsets


@st.composite
def divided(draw):
    """(strata, groups): up to 80 rows of up to 5 strata, in groups of any size."""
    n = draw(st.integers(2, 80))
    strata = np.array(draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)))
    width = draw(st.sampled_from([1, 1, 2, 7]))
    groups = (
        np.arange(n) if width == 1 else np.array(draw(st.lists(st.integers(0, n // width), min_size=n, max_size=n)))
    )
    return strata, groups


@settings(max_examples=200, deadline=None)
@given(divided(), st.integers(0, 5))
def test_subsets_are_nested_hold_every_stratum_and_whole_groups(rows, seed):
    strata, groups = rows
    subsets = nested_subsets(strata, groups, seed=seed)
    for smaller, larger in pairwise(subsets):
        assert set(smaller) <= set(larger)
    for subset in subsets:
        assert (np.diff(subset) > 0).all()
        assert set(strata[subset]) == set(strata)
        assert set(groups[subset]).isdisjoint(np.delete(groups, subset))
    assert len(subsets[-1]) == len(strata)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(16, 60), min_size=2, max_size=5), st.integers(0, 5))
def test_without_groups_every_stratum_has_its_share_to_within_a_row(counts, seed):
    strata = stream(seed, "mixed").permutation(np.repeat(np.arange(len(counts)), counts))
    for share, subset in zip(SHARES, nested_subsets(strata, np.arange(len(strata)), seed=seed), strict=True):
        assert abs(len(subset) - share * len(strata)) <= 0.5 + (len(counts) if share * min(counts) < 2 else 0)
        have = np.bincount(strata[subset], minlength=len(counts))
        assert (np.abs(have - share * np.array(counts)) <= 2).all()


def test_subsets_depend_on_the_seed_alone():
    strata, groups = np.arange(60) % 3, np.arange(60)
    again = [nested_subsets(strata, groups, seed=s)[0].tolist() for s in (0, 0, 1)]
    assert again[0] == again[1] != again[2]


def test_a_class_with_one_example_is_in_every_subset():
    strata = np.array([0] * 50 + [1] * 49 + [2])
    assert all(99 in subset for s in range(5) for subset in nested_subsets(strata, np.arange(100), seed=s))


# --- curves


@pytest.mark.parametrize("truth", LAWS)
def test_points_on_a_power_law_give_it_back(truth):
    found = fit_power_laws(N, law(N, *truth)[None])
    assert [found.floor[0], found.drop[0], found.exponent[0]] == pytest.approx(truth, rel=1e-4, abs=1e-6)
    assert found.at(120.0)[0] == pytest.approx(law(120, *truth), abs=1e-8)


@pytest.mark.parametrize("truth", LAWS)
def test_the_way_back_from_error_to_labels(truth):
    found = fit_power_laws(N, law(N, *truth)[None])
    assert found.labels_for(found.at(77.0))[0] == pytest.approx(77)
    assert found.labels_for(np.array([truth[0] / 2 - 1e-3]))[0] == math.inf


def test_a_flat_curve_is_its_mean():
    found = fit_power_laws(N, np.full((1, 15), 0.3))
    assert (found.floor[0], found.drop[0]) == (pytest.approx(0.3), pytest.approx(0, abs=1e-12))
    assert found.labels_for(np.array([0.31, 0.29])).tolist() == [0, math.inf]


def test_errors_that_rise_give_a_flat_curve_because_no_curve_may_rise():
    found = fit_power_laws(N, (0.2 + 0.0002 * N)[None])
    assert found.drop[0] == 0
    assert 0.2 < found.floor[0] < 0.3


def test_no_other_start_of_a_general_solver_fits_noise_better():
    """Against scipy with the bounds, from many starts, on plain least squares' own terms: one round, no outliers."""
    rng = stream(0, "noise")
    for truth in LAWS:
        noisy = law(N, *truth) + rng.normal(0, 0.004, len(N))
        found = fit_power_laws(N, noisy[None])
        residuals = noisy - law(N, found.floor[0], found.drop[0], found.exponent[0])

        def off(p, noisy=noisy):
            return noisy - law(N, *p)

        best = min(
            least_squares(off, start, bounds=([0, 0, 0.02], [np.inf, np.inf, 2])).cost
            for start in [(0.01, 0.1, c) for c in (0.1, 0.5, 1.0, 1.9)]
        )
        assert 0.5 * (residuals**2).sum() < 1.25 * best + 1e-9  # robust, so not quite the least of squares


def test_one_wild_point_hardly_moves_the_curve():
    truth = (0.05, 0.1, 0.7)
    wild = law(N, *truth) + stream(1, "noise").normal(0, 0.002, len(N))
    wild[4] += 0.4
    assert fit_power_laws(N, wild[None]).at(480.0)[0] == pytest.approx(0.15, abs=0.005)


def test_many_resamples_at_once_are_each_fitted_alone():
    noisy = law(N, 0.05, 0.1, 0.7) + stream(2, "noise").normal(0, 0.01, (7, len(N)))
    together = fit_power_laws(N, noisy)
    for i in range(7):
        alone = fit_power_laws(N, noisy[i : i + 1])
        assert alone.at(60.0)[0] == pytest.approx(together.at(60.0)[i], abs=1e-9)


def test_errors_fall_for_scores_and_stay_for_errors():
    assert error_of("accuracy", np.array([0.9])) == pytest.approx(0.1)
    assert error_of("rmse", np.array([3.0])) == 3


# --- what transfer was worth


@pytest.mark.parametrize("truth", LAWS)
@pytest.mark.parametrize("factor", [1.5, 6.0, 15.0])
def test_the_multiplier_of_two_power_laws_is_exact(truth, factor):
    """With ``factor`` times more labels, the network without transfer does exactly what the other does."""
    without = fit_power_laws(N, law(N, *truth)[None])
    transfer = fit_power_laws(N, law(factor * N, *truth)[None])
    assert worth(transfer, without, least=30)[0] == pytest.approx(factor, rel=1e-4)
    assert worth(without, transfer, least=30)[0] == pytest.approx(1 / factor, rel=1e-4)
    assert worth(without, without, least=30)[0] == 1


def test_nothing_is_told_beyond_the_sizes_that_were_measured():
    without = fit_power_laws(N, law(N, 0.2, 0.1, 0.5)[None])
    transfer = fit_power_laws(N, law(1000 * N, 0.0, 0.1, 0.5)[None])
    assert worth(transfer, without, least=30).tolist() == [16]
    assert worth(without, transfer, least=30).tolist() == [1 / 16]


def test_a_rival_without_a_curve_is_never_worth_less_than_its_own_labels():
    transfer = fit_power_laws(np.tile(N, (1, 1))[0], np.tile(law(N, 0.05, 0.1, 0.7), (3, 1)))
    at_120 = transfer.at(120.0)[0]
    assert worth(transfer, np.array([at_120, 0.9, 0.01]), least=30) == pytest.approx([4, 16, 1])


def told(value, drawn, **kwargs):
    return multiplier(value, np.asarray(drawn, float), least=1 / 16, most=16, n=200, units=200, **kwargs)


def test_an_interval_holds_the_value_and_most_resamples():
    drawn = np.exp(stream(0, "log").normal(math.log(6), 0.2, 4000))
    found = told(6.0, drawn)
    assert found.kind == "measured"
    assert found.times.low == pytest.approx(6 * math.exp(-1.96 * 0.2), rel=0.05)
    assert found.times.high == pytest.approx(6 * math.exp(1.96 * 0.2), rel=0.05)


@pytest.mark.parametrize(
    ("value", "drawn", "kind"),
    [
        (16, [16] * 100, "at least"),
        (16, [16] * 90 + [9] * 10, "at least"),
        (1 / 16, [1 / 16] * 100, "at most"),
        (1, [1 / 16] * 50 + [16] * 50, "cannot be told"),
        (2, [1.5, 2, 2.5] * 30, "measured"),
    ],
)
def test_what_lies_at_the_end_of_the_range_is_called_so(value, drawn, kind):
    assert told(value, drawn).kind == kind


def test_two_noisy_curves_without_a_difference_are_not_told_apart():
    rng = stream(3, "noise")
    flat = [fit_power_laws(N, 0.5 + rng.normal(0, 0.03, (400, len(N)))) for _ in range(2)]
    drawn = worth(*flat, least=30)
    assert told(float(np.exp(np.median(np.log(drawn)))), drawn).kind == "cannot be told"
