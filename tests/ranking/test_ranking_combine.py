"""Rank aggregation, weighted τ, regret, and the bootstrap of left-out answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, weightedtau

from headstart.base.errors import DataError
from headstart.ranking.combine import (
    chance_in_top,
    combined_rank,
    finalists,
    ranks,
    regret,
    resampled,
    weighted_mean,
    weighted_tau,
)

NAN = float("nan")
NUMBERS = st.lists(st.integers(-4, 4).map(float), min_size=2, max_size=12)
PAIRS = st.integers(2, 12).flatmap(
    lambda m: st.tuples(*[st.lists(st.integers(-4, 4).map(float), min_size=m, max_size=m)] * 2)
)


@settings(max_examples=300, deadline=None)
@given(pair=PAIRS)
def test_weighted_tau_is_that_of_scipy_with_ties(pair):
    a, b = map(np.array, pair)
    expected = weightedtau(a, b).statistic
    assert weighted_tau(a, b) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_weighted_tau_of_the_same_and_of_the_reverse_order():
    a = np.array([3.0, 1.0, 2.0, 5.0])
    assert weighted_tau(a, a) == pytest.approx(1) and weighted_tau(a, -a) == pytest.approx(-1)


@settings(max_examples=100, deadline=None)
@given(values=NUMBERS)
def test_ranks_go_from_worst_to_best_and_share_ties(values):
    expected = (rankdata(values) - 1) / (len(values) - 1)
    assert ranks(np.array(values)) == pytest.approx(expected)
    assert ranks(np.array(values), higher_is_better=False) == pytest.approx(1 - expected)


def test_what_is_not_known_has_no_rank_and_does_not_count():
    assert ranks(np.array([3.0, NAN, 1.0, 2.0])) == pytest.approx([1, NAN, 0, 0.5], nan_ok=True)
    assert ranks(np.array([7.0, NAN])) == pytest.approx([0.5, NAN], nan_ok=True)


def test_ranks_work_draw_by_draw():
    draws = np.array([[1.0, 2.0, 3.0], [9.0, 2.0, NAN]])
    assert ranks(draws) == pytest.approx(np.array([[0, 0.5, 1], [1, 0, NAN]]), nan_ok=True)


def test_a_missing_term_leaves_its_weight_to_the_others():
    terms = {
        "probe": np.array([1.0, 0.0, 0.5]),
        "prior": np.array([0.0, NAN, 1.0]),
        "source": np.array([1.0, 0.5, NAN]),
    }
    assert weighted_mean(terms) == pytest.approx([0.6, (0.2 * 0.5) / 0.6, (0.4 * 0.5 + 0.4) / 0.8])
    assert np.isnan(weighted_mean({"probe": np.array([NAN, 1.0])})[0])


def test_a_term_without_a_weight_is_refused_with_a_suggestion():
    with pytest.raises(DataError, match="Did you mean 'prior'"):
        weighted_mean({"priors": np.array([1.0])})


def test_the_combination_has_the_weights_it_says():
    probe, top1, prior = np.array([0.9, 0.8, 0.7]), np.array([70.0, 80.0, 75.0]), np.array([-1.0, 0.0, 1.0])
    value = combined_rank(probe=probe, source_accuracy=top1, prior=prior)
    assert value == pytest.approx([0.4 * 1 + 0 + 0, 0.4 * 0.5 + 0.2 * 1 + 0.4 * 0.5, 0 + 0.2 * 0.5 + 0.4 * 1])


def test_feature_scores_stand_in_for_the_probe_where_there_is_none():
    features = [np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 10.0])]  # mean ranks 0.25, 0.25, 1
    found = combined_rank(features=features, source_accuracy=np.array([1.0, np.nan, 2.0]), prior=np.array([1.0, 2, 3]))
    evidence, prior = np.array([0.25, 0.25, 1]), np.array([0, 0.5, 1])
    expected = (0.4 * evidence + 0.2 * np.array([0, 0, 1]) + 0.4 * prior) / np.array([1, 0.8, 1])
    assert found == pytest.approx(expected)


def test_feature_scores_stand_in_where_the_source_accuracy_is_not_known():
    features = [np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 10.0])]  # mean ranks 0.25, 0.25, 1
    none = combined_rank(probe=np.array([3.0, 2.0, 1.0]), features=features, prior=np.array([1.0, 2.0, 3.0]))
    expected = 0.4 * np.array([1, 0.5, 0]) + 0.2 * np.array([0.25, 0.25, 1]) + 0.4 * np.array([0, 0.5, 1])
    assert none == pytest.approx(expected)
    level = np.ones(3)
    some = combined_rank(probe=level, features=features, source_accuracy=np.array([80.0, 70.0, NAN]))
    assert some == pytest.approx((0.4 * 0.5 + 0.2 * np.array([1, 0, 1])) / 0.6)


def test_a_combination_of_nothing_is_refused():
    with pytest.raises(DataError, match="no term"):
        combined_rank()


def test_regret_counts_ties_against_us():
    truth = np.array([90.0, 80.0, 85.0, 70.0])
    assert regret(np.array([4.0, 3.0, 2.0, 1.0]), truth, 1) == 0
    assert regret(np.array([1.0, 3.0, 2.0, 4.0]), truth, 3) == 5
    assert regret(np.ones(4), truth, 1) == 20


@settings(max_examples=50, deadline=None)
@given(pair=PAIRS)
def test_regret_falls_with_more_tries_to_zero(pair):
    score, truth = map(np.array, pair)
    lost = [regret(score, truth, k) for k in range(1, len(score) + 1)]
    assert lost == sorted(lost, reverse=True) and lost[-1] == 0


def test_finalists_hold_the_best_probe_and_the_best_prior():
    combined, probe, prior = np.array([5.0, 4, 3, 2, NAN]), np.array([1.0, 2, 9, 4, 5]), np.array([1.0, 2, 3, 9, 5])
    assert finalists(combined, 3, always=[probe, prior]).tolist() == [0, 2, 3]
    assert finalists(combined, 3).tolist() == [0, 1, 2]
    assert finalists(combined, 9, always=[probe]).tolist() == [0, 2, 1, 3, 4]


def test_the_bootstrap_draws_the_same_examples_for_every_network():
    right = np.random.default_rng(0).random((1, 50)) < 0.7
    draws = resampled(np.vstack([right, right]), resamples=100)
    assert np.array_equal(draws[:, 0], draws[:, 1])
    assert draws[:, 0].mean() == pytest.approx(right.mean(), abs=0.03)
    assert draws[:, 0].std() == pytest.approx(np.sqrt(right.var() / 50), rel=0.3)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), networks=st.integers(1, 8), k=st.integers(1, 9))
def test_chances_to_be_in_the_top_sum_to_its_size(seed, networks, k):
    values = np.random.default_rng(seed).integers(0, 4, (40, networks)) / 4
    chances = chance_in_top(values, k)
    assert chances.sum() == pytest.approx(min(k, networks))
    assert (chances >= 0).all() and (chances <= 1).all()


def test_a_network_that_is_always_right_is_always_in_the_top():
    right = np.vstack([np.ones(80), np.random.default_rng(0).random((3, 80)) < 0.6])
    assert chance_in_top(resampled(right), 1)[0] == 1
    assert chance_in_top(resampled(np.ones((4, 10))), 2).tolist() == [0.5] * 4


def test_the_bootstrap_refuses_what_is_no_matrix_of_answers():
    for bad in (np.ones(5), np.full((2, 3), NAN), np.ones((0, 4))):
        with pytest.raises(DataError, match="networks, examples"):
            resampled(bad)
