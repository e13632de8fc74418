"""Sets of rows as numbers say what sets of records would."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.data.clusters import Clusters, Groups, joined
from headstart.data.compact import Coded, LineNumbers
from headstart.data.dataset import Dataset
from headstart.data.duplicates import exact_groups
from headstart.data.shortcuts import left_out_accuracy
from headstart.data.split import group_rows
from headstart.records.audit import Cluster

N = 24
PAIRS = st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, N - 1)), max_size=30)


@given(PAIRS)
def test_joining_is_the_smallest_number_one_can_walk_to(pairs: list[tuple[int, int]]) -> None:
    near = {i: {i} for i in range(N)}
    for a, b in pairs:
        near[a].add(b)
        near[b].add(a)
    slow = []
    for i in range(N):
        seen = {i}
        while more := {b for a in seen for b in near[a]} - seen:
            seen |= more
        slow.append(min(seen))
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    assert joined(N, first, second).tolist() == slow


@given(st.lists(st.sampled_from([b"a" * 16, b"b" * 16, b"a" * 8 + b"b" * 8, b"c" * 16, b"a" * 8 + b"c" * 8])))
def test_equal_keys_are_grouped_even_where_half_a_key_is_shared(keys: list[bytes]) -> None:
    slow = [[i for i, k in enumerate(keys) if k == key] for key in dict.fromkeys(keys)]
    assert [g.tolist() for g in exact_groups(keys)] == [g for g in slow if len(g) > 1]


def clusters() -> Clusters:
    targets = Coded.of(["a", "b", "a", "a", "b", "b", "a"])
    dataset = Dataset("text", LineNumbers(7), list("tuvwxyz"), targets, "single-label")
    groups = Groups(np.array([0, 2, 1, 3, 6, 4, 5]), np.array([2, 5, 7]))
    return Clusters(dataset, groups, np.array([True, False, True]), np.array([0.5, 0.25, 1.0]))


def test_clusters_are_told_as_records() -> None:
    made = clusters()
    assert list(made) == [
        Cluster(("line 2", "line 4"), "exact", ("a", "a"), 0.5),
        Cluster(("line 3", "line 5", "line 8"), "near", ("b", "a", "a"), 0.25),
        Cluster(("line 6", "line 7"), "exact", ("b", "b"), 1.0),
    ]
    assert [c.ids for c in made.of_kind("exact")] == [("line 2", "line 4"), ("line 6", "line 7")]
    assert made.with_several_targets() == [made[1]]
    assert made.ids(3) == ["line 2", "line 4", "line 3"] and made.first_ids(2) == ["line 2", "line 3"]


def test_clusters_and_their_records_make_the_same_groups() -> None:
    made = clusters()
    dataset = made._dataset
    for rows in (np.arange(7), np.array([6, 4, 2, 0, 5]), np.array([1])):
        fast, slow = group_rows(dataset, rows, made, by=None), group_rows(dataset, rows, list(made), by=None)
        assert fast.tolist() == slow.tolist()
    assert group_rows(dataset, np.arange(7), made, by=None).tolist() == [0, 1, 0, 1, 4, 4, 1]


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=40))
def test_left_out_accuracy_is_that_of_leaving_out_each_row(pairs: list[tuple[int, int]]) -> None:
    right = 0
    for at, (x, y) in enumerate(pairs):
        others = [b for i, (a, b) in enumerate(pairs) if a == x and i != at]
        right += all(others.count(y) > others.count(other) for other in range(4) if other != y) and bool(others)
    x, y = np.array(pairs).T
    assert np.isclose(left_out_accuracy(x, y), right / len(pairs))
