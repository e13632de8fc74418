import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.base.errors import PlanError
from headstart.base.seeds import stream
from headstart.inputs.order import Balanced, Shuffled, rows_at, shard

SIZES = st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


@given(SIZES, st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_each_epoch_holds_each_row_exactly_once(size, seed):
    n, batch_size = size
    steps = -(-3 * n // batch_size)
    sequence = np.concatenate([rows_at(s, n=n, batch_size=batch_size, seed=seed) for s in range(steps)])
    for epoch in range(3):
        assert sorted(sequence[epoch * n : (epoch + 1) * n]) == list(range(n))


@given(SIZES, st.integers(0, 100), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_every_step_is_full_and_needs_no_step_before_it(size, step, seed):
    n, batch_size = size
    alone = rows_at(step, n=n, batch_size=batch_size, seed=seed)
    in_sequence = [Shuffled(n, batch_size, seed).at(s).rows for s in range(step + 1)]
    assert len(alone) == batch_size and alone.dtype == np.int64
    assert np.array_equal(alone, in_sequence[step])


def test_a_step_is_a_slice_of_the_permutations_of_its_epochs():
    n, batch_size, seed = 10, 4, 3
    endless = np.concatenate([stream(seed, "order", epoch).permutation(n) for epoch in range(3)])
    for step in range(7):
        assert np.array_equal(rows_at(step, n=n, batch_size=batch_size, seed=seed), endless[4 * step : 4 * step + 4])


def test_epochs_and_seeds_differ():
    first, second = (rows_at(s, n=50, batch_size=50, seed=0) for s in (0, 1))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, rows_at(0, n=50, batch_size=50, seed=1))


def test_no_view_is_drawn_twice():
    for order in (Shuffled(7, 3, 0), Balanced(np.array([0, 0, 0, 0, 1, 2, 2]), 3, 0)):
        drawn = [pair for s in range(50) for pair in zip(*vars(order.at(s)).values(), strict=True)]
        assert len(set(map(tuple, drawn))) == 150


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_a_balanced_order_shows_classes_and_rows_equally_often(labels, seed):
    labels = np.array(labels)
    classes = np.unique(labels)
    order = Balanced(labels, min(7, len(labels)), seed)
    steps = -(-6 * len(classes) * len(labels) // order.batch_size)
    rows = np.concatenate([order.at(s).rows for s in range(steps)])
    whole = len(rows) // len(classes) * len(classes)
    assert (np.sort(labels[rows[:whole]].reshape(-1, len(classes)), axis=1) == classes).all()
    for label in classes:
        shown = np.bincount(rows[labels[rows] == label], minlength=len(labels))[labels == label]
        assert shown.max() - shown.min() <= 1


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_a_balanced_step_needs_no_step_before_it(labels, step):
    labels = np.array(labels)
    once, often = (Balanced(labels, max(1, len(labels) // 3), 1) for _ in range(2))
    for earlier in range(step):
        often.at(earlier)
    assert np.array_equal(once.at(step).rows, often.at(step).rows)
    assert np.array_equal(once.at(step).visits, often.at(step).visits)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_partition_the_batch(world):
    rows = rows_at(5, n=100, batch_size=10, seed=0)
    parts = [shard(rows, rank, world) for rank in range(world)]
    assert sorted(np.concatenate(parts)) == sorted(rows)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("n", "batch_size"), [(5, 6), (0, 1), (5, 0), (5, -1)])
def test_a_batch_that_the_data_cannot_fill_is_refused(n, batch_size):
    with pytest.raises(PlanError, match=f"PL30 a batch of {batch_size} cannot be drawn from {n} training examples"):
        rows_at(0, n=n, batch_size=batch_size, seed=0)
    with pytest.raises(PlanError, match="PL30"):
        Balanced(np.zeros(n, int), batch_size, 0)


def test_a_process_without_rows_is_refused():
    with pytest.raises(PlanError, match="PL31 a batch of 3 examples cannot be shared by 4 processes"):
        shard(np.arange(3), 0, 4)
