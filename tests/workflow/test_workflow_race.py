"""The order in which rows enter the race."""

from types import SimpleNamespace

import numpy as np
import pytest

from headstart.tasks.classification import Classification
from headstart.tasks.regression import Regression
from headstart.workflow.judge import Known
from headstart.workflow.race import drawing_order


def order_of(y, groups=None, task=None, seed=0):
    y = np.asarray(y)
    task = task or Classification(tuple(f"c{i}" for i in range(int(y.max()) + 1)))
    groups = np.arange(len(y)) if groups is None else np.asarray(groups)
    known = Known(np.zeros((len(y), 0), np.float32), y, groups, np.arange(len(y)).astype(object), task)
    return drawing_order(SimpleNamespace(known=known, seed=seed))


def test_every_row_enters_once():
    y = np.repeat([0, 1, 2], [50, 30, 20])
    assert sorted(order_of(y)) == list(range(100))


@pytest.mark.parametrize("n", [10, 20, 50])
def test_every_beginning_is_stratified(n):
    y = np.repeat([0, 1, 2], [50, 30, 20])
    counts = np.bincount(y[order_of(y)[:n]], minlength=3)
    assert np.abs(counts - n * np.array([0.5, 0.3, 0.2])).max() <= 1.01


def test_copies_come_after_the_first_of_every_group():
    y = np.repeat([0, 1], 40)
    groups = np.concatenate([np.arange(40) // 4, 10 + np.arange(40) // 4])
    first = order_of(y, groups)[:20]
    assert len(set(groups[first])) == 20


def test_another_seed_draws_others_and_the_same_draws_the_same():
    y = np.repeat([0, 1], 100)
    assert order_of(y, seed=3).tolist() == order_of(y, seed=3).tolist()
    assert set(order_of(y, seed=3)[:40]) != set(order_of(y, seed=4)[:40])


def test_the_order_does_not_follow_the_order_of_the_files():
    y = np.repeat([0, 1], 100)
    beginning = order_of(y)[:100]
    assert np.sort(beginning[y[beginning] == 0]).mean() == pytest.approx(49.5, abs=12)


def test_a_class_with_one_example_has_no_row():
    y = np.array([0, 0, 0, 1, 1, 2])
    assert 5 not in order_of(y) and len(order_of(y)) == 5


def test_values_are_drawn_from_all_their_range():
    y = np.arange(100, dtype=float)[:, None]
    beginning = order_of(y, task=Regression(("y",)))[:10]
    assert np.bincount((y[beginning, 0] // 10).astype(int), minlength=10).tolist() == [1] * 10
