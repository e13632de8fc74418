"""Who stays in the race, and who is recommended."""

import numpy as np
import pytest

from headstart.base.seeds import stream
from headstart.ranking.combine import resampled
from headstart.ranking.standing import Beliefs, cheapest_of_the_best, leader_of, standing, survivors


def hits(*rates, n=400, seed=0):
    """(M, n) of 0 and 1 with exactly these rates; nested, so that the better is right wherever the worse is."""
    order = stream(seed, "hits").permutation(n)
    return np.stack([(order < rate * n).astype(float) for rate in rates])


def stands(by_example, prior=None, k=2):
    m = len(by_example)
    beliefs = Beliefs(np.full(m, np.nan) if prior is None else np.asarray(prior, float), np.full(m, np.nan))
    return standing(by_example, beliefs, k=k, groups=np.arange(by_example.shape[1]), seed=0), beliefs.prior


def test_the_interval_holds_the_score_and_has_the_width_of_a_proportion():
    found, _ = stands(hits(0.8, 0.5))
    e = found.interval(0)
    assert e.value == 0.8 and e.n == 400
    assert e.high - e.low == pytest.approx(2 * 1.96 * (0.8 * 0.2 / 400) ** 0.5, rel=0.15)


def test_the_interval_of_a_perfect_score_still_has_a_width():
    found, _ = stands(hits(1.0, 0.5))
    assert found.interval(0).high == 1 and 0.98 < found.interval(0).low < 1


def test_half_stays_even_where_all_others_are_hopeless():
    found, prior = stands(hits(0.95, 0.9, 0.5, 0.4), k=1)
    assert survivors(found, prior).tolist() == [0, 1]


def test_those_with_a_chance_stay():
    rates = (0.80, 0.79, 0.78, 0.2)
    found, prior = stands(np.concatenate([hits(rate, seed=i) for i, rate in enumerate(rates)]), k=2)
    assert 2 in survivors(found, prior) and 3 not in survivors(found, prior)


def test_the_best_by_the_prior_stays_however_bad_all_else_of_it_is():
    beliefs = Beliefs(np.array([0.9, 0.8, -1, 2.0]), np.array([80.0, 79, 78, 60]))
    by_example = hits(0.9, 0.8, 0.7, 0.1)
    found = standing(by_example, beliefs, k=1, groups=np.arange(400), seed=0)
    assert found.chance[3] == 0 and np.argsort(-found.combined)[:2].tolist() == [0, 1]
    assert survivors(found, beliefs.prior).tolist() == [0, 1, 3]


def test_the_best_probe_stays_however_bad_all_else_of_it_is():
    beliefs = Beliefs(np.array([-9, 2.0, 1, 0]), np.array([60.0, 80, 79, 78]))
    found = standing(hits(0.9, 0.8, 0.7, 0.6), beliefs, k=1, groups=np.arange(400), seed=0)
    assert found.chance[0] == 0 and np.argsort(-found.combined)[:2].tolist() == [1, 2]
    assert survivors(found, beliefs.prior).tolist() == [0, 1, 2]


def test_the_leader_is_recommended_where_it_is_surely_better():
    found, _ = stands(hits(0.9, 0.6))
    assert cheapest_of_the_best(found, [100.0, 1.0], [0, 1]) == 0


def test_of_those_that_cannot_be_told_apart_the_cheaper_is_recommended():
    independent = np.concatenate([hits(0.80, seed=1), hits(0.79, seed=2)])
    found, _ = stands(independent)
    assert leader_of(found, [0, 1]) == 0
    assert cheapest_of_the_best(found, [20.0, 10.0], [0, 1]) == 1
    assert cheapest_of_the_best(found, [10.0, 20.0], [0, 1]) == 0


def test_chances_sum_to_the_places():
    found, _ = stands(hits(0.8, 0.7, 0.6, 0.5), k=2)
    assert found.chance.sum() == pytest.approx(2)


def test_rows_of_one_group_are_drawn_together():
    values = hits(0.5, n=200)
    groups = np.arange(200) // 20
    alone, together = resampled(values, resamples=400), resampled(values, groups=groups, resamples=400)
    by_group = values.reshape(1, 10, 20).mean(axis=2)
    assert together.std() == pytest.approx(by_group.std() / 10**0.5, rel=0.15)
    assert alone.std() == pytest.approx((0.25 / 200) ** 0.5, rel=0.15)
