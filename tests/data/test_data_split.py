"""Split invariants: groups whole, every class learnt, nothing lost, and test rows sealed."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.base.errors import DataError
from headstart.data.dataset import Dataset
from headstart.data.split import SealedRows, _stratified, folds, group_rows, split
from headstart.records.audit import Cluster

cases = st.integers(12, 80).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 4), min_size=n, max_size=n).map(np.array),
        st.lists(st.integers(0, max(3, n // 2)), min_size=n, max_size=n).map(np.array),
        st.floats(0.1, 0.5),
        st.integers(0, 1000),
    )
)


def lonely(strata: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Strata that lie in one group only."""
    return np.array([s for s in np.unique(strata) if len(np.unique(groups[strata == s])) == 1])


# -------------------------------------------------------------------------------------------------------------- split


@settings(max_examples=200, deadline=None)
@given(cases)
def test_a_split_keeps_its_promises(case: tuple) -> None:
    strata, groups, share, seed = case
    try:
        train, test = split(strata, groups, share=share, seed=seed)
    except DataError as error:
        assert "DA51" in str(error)
        assert len(np.setdiff1d(np.unique(strata), lonely(strata, groups))) == 0 or len(np.unique(groups)) < 8
        return
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(strata)))
    assert np.array_equal(train, np.sort(train))
    assert not set(groups[train]) & set(groups[test])
    assert set(strata[train]) == set(strata)
    again = split(strata, groups, share=share, seed=seed)
    assert all(np.array_equal(a, b) for a, b in zip((train, test), again, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(2, 60), min_size=2, max_size=6), st.floats(0.1, 0.5), st.integers(0, 99))
def test_without_groups_each_class_gives_its_rounded_share(sizes: list[int], share: float, seed: int) -> None:
    strata = np.repeat(np.arange(len(sizes)), sizes)
    _, test = split(strata, np.arange(len(strata)), share=share, seed=seed)
    expected = [min(n - 1, max(1, round(share * n))) for n in sizes]
    assert np.abs(np.bincount(strata[test], minlength=len(sizes)) - expected).max() == 0


def test_another_seed_gives_another_split() -> None:
    strata = np.repeat([0, 1], 50)
    tests = {tuple(split(strata, np.arange(100), seed=s)[1]) for s in range(10)}
    assert len(tests) == 10


def test_every_row_has_the_same_chance_to_be_tested() -> None:
    strata = np.repeat([0, 1], [30, 70])
    often = np.zeros(100)
    for seed in range(400):
        often[split(strata, np.arange(100), seed=seed)[1]] += 1
    assert np.abs(often / 400 - 0.2).max() < 0.09  # 4.5 standard errors


def test_names_of_strata_and_groups_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    strata, groups = rng.integers(0, 4, 90), rng.integers(0, 40, 90)
    renamed = split(strata * 7 + 3, groups * 11 + 5, seed=4)
    assert np.array_equal(split(strata, groups, seed=4)[1], renamed[1])


def test_big_groups_do_not_starve_a_class_of_tests() -> None:
    strata = np.repeat([0, 1], [60, 40])
    groups = np.concatenate([np.repeat([0, 1], 30), np.arange(10, 50)])
    train, test = split(strata, groups, share=0.2)
    assert np.bincount(strata[test], minlength=2).tolist() == [30, 8]
    assert set(strata[train]) == {0, 1}


def test_a_class_with_one_image_stays_in_train() -> None:
    strata = np.array([0] * 10 + [1] * 10 + [2])
    for seed in range(20):
        assert 20 in split(strata, np.arange(21), seed=seed)[0]


def test_the_users_split_wins() -> None:
    strata, groups = np.zeros(6, int), np.zeros(6, int)
    sides = ["train", "test", "validation", None, "test", "train"]
    train, test = split(strata, groups, given=sides)
    assert (train.tolist(), test.tolist()) == ([0, 2, 3, 5], [1, 4])
    train, test = split(strata, groups, given=["train", "validation", None, "train", "train", "train"])
    assert (train.tolist(), test.tolist()) == ([0, 2, 3, 4, 5], [1])
    _, test = split(np.repeat([0, 1], 10), np.arange(20), given=["train"] * 20)
    assert len(test) == 4
    with pytest.raises(DataError, match=r"DA51 .* none is left to learn from"):
        split(strata, groups, given=["test"] * 6)


def test_what_cannot_be_divided_is_said() -> None:
    with pytest.raises(DataError, match="DA51 of 5 examples in 1 groups none is left to test on"):
        split(np.zeros(5), np.zeros(5))
    with pytest.raises(DataError, match="must lie between 0 and 1"):
        split(np.zeros(5), np.arange(5), share=1.5)


# -------------------------------------------------------------------------------------------------------------- folds


@settings(max_examples=200, deadline=None)
@given(cases, st.integers(2, 7), st.integers(1, 3))
def test_folds_keep_their_promises(case: tuple, k: int, repeats: int) -> None:
    strata, groups, _, seed = case
    kept = np.isin(groups, groups[np.isin(strata, lonely(strata, groups))])
    try:
        parts = folds(strata, groups, k=k, repeats=repeats, seed=seed)
    except DataError as error:
        assert "DA51" in str(error)
        return
    tested = np.zeros(len(strata), int)
    for train, test in parts:
        assert len(test)
        assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(strata)))
        assert not set(groups[train]) & set(groups[test])
        tested[test] += 1
    assert np.array_equal(tested, np.where(kept, 0, repeats))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=2, max_size=6), st.integers(2, 6), st.integers(0, 99))
def test_without_groups_folds_and_strata_are_even_to_within_one(sizes: list[int], k: int, seed: int) -> None:
    strata = np.repeat(np.arange(len(sizes)), sizes)
    if sum(n > 1 for n in sizes) == 0:
        return
    parts = folds(strata, np.arange(len(strata)), k=k, seed=seed)
    for c, n in enumerate(sizes):
        counts = [int((strata[test] == c).sum()) for _, test in parts]
        assert max(counts) - min(counts) <= 1 or n == 1
        assert all((strata[train] == c).any() for train, _ in parts)
    whole = [len(test) for _, test in parts]
    assert max(whole) - min(whole) <= 1


def test_a_class_of_two_is_learnt_in_every_fold() -> None:
    strata = np.array([0] * 20 + [1] * 2)
    for train, _ in folds(strata, np.arange(22), k=5, repeats=4):
        assert set(strata[train]) == {0, 1}


def test_repeats_and_seeds_differ() -> None:
    strata = np.repeat([0, 1], 30)
    parts = folds(strata, np.arange(60), k=3, repeats=2, seed=1)
    assert len(parts) == 6
    assert {tuple(t) for _, t in parts[:3]} != {tuple(t) for _, t in parts[3:]}
    other = folds(strata, np.arange(60), k=3, repeats=2, seed=2)
    assert tuple(parts[0][1]) != tuple(other[0][1])


def test_fewer_groups_than_folds_give_fewer_folds() -> None:
    assert len(folds(np.zeros(9), np.repeat([0, 1, 2], 3), k=5)) == 3
    with pytest.raises(DataError, match="DA51"):
        folds(np.zeros(5), np.zeros(5))


# ------------------------------------------------------------------------------------------------------------- groups


def dataset(ids: list[str], **meta: list) -> Dataset:
    return Dataset("vector", ids, [np.zeros(1)] * len(ids), meta=meta)


def test_clusters_and_columns_join_into_groups() -> None:
    made = dataset(list("abcdef"), patient=["1", "1", "2", None, "2", ""])
    clusters = [Cluster(("b", "d"), "near", ("", "")), Cluster(("x", "f"), "exact", ("", ""))]
    rows = np.arange(6)
    assert group_rows(made, rows, clusters, by=None).tolist() == [0, 1, 2, 1, 4, 5]
    assert group_rows(made, rows, clusters, by="patient").tolist() == [0, 0, 2, 0, 2, 5]
    assert group_rows(made, np.array([5, 3, 1]), clusters, by="patient").tolist() == [0, 1, 1]


def test_groups_may_come_from_the_file_names() -> None:
    made = dataset(["x/p1_a.jpg", "y/p1_b.jpg", "x/p2_a.jpg", "x/other.jpg"])
    assert group_rows(made, np.arange(4), [], by=r"regex:(p\d+)_").tolist() == [0, 0, 2, 3]
    assert group_rows(made, np.arange(4), [], by=r"regex:^[xy]").tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize(
    ("by", "words"),
    [
        ("patients", "Did you mean 'patient'?"),
        ("regex:(", "is not a regular expression"),
        ("regex:zzz", "no id matches 'zzz'"),
        ("all", "puts all 3 examples into one group"),
    ],
)
def test_groups_that_cannot_be_made_are_explained(by: str, words: str) -> None:
    made = dataset(list("abc"), patient=["1", "2", "3"], all=["x"] * 3)
    with pytest.raises(DataError, match="DA50") as caught:
        group_rows(made, np.arange(3), [], by=by)
    assert words in str(caught.value)


# ------------------------------------------------------------------------------------------------------------- sealed


@pytest.mark.parametrize(
    "peek",
    [
        iter,
        len,
        list,
        set,
        bool,
        np.asarray,
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        lambda s: s[0],
        lambda s: 3 in s,
        lambda s: s == s,  # noqa: PLR0124
        lambda s: np.arange(9)[s],
    ],
)
def test_sealed_rows_cannot_be_seen(peek) -> None:
    sealed = SealedRows(np.array([3, 5, 7]))
    with pytest.raises(DataError, match="test rows are sealed"):
        peek(sealed)
    assert sealed.opened == ()


def test_sealed_rows_are_opened_once_for_each_declared_purpose() -> None:
    rows = np.array([3, 5, 7])
    sealed = SealedRows(rows, ("final evaluation", "baselines"))
    assert sealed.count == 3
    with pytest.raises(DataError, match="test rows are sealed: 'a look'"):
        sealed.open("a look")
    assert sealed.open("final evaluation").tolist() == [3, 5, 7]
    with pytest.raises(DataError, match="already"):
        sealed.open("final evaluation")
    assert sealed.open("baselines").tolist() == [3, 5, 7]
    assert sealed.opened == ("final evaluation", "baselines")


def test_sealed_rows_do_not_show_themselves() -> None:
    sealed = SealedRows(np.array([31337, 5, 7]))
    assert "31337" not in repr(sealed) + str(sealed) + f"{sealed}"
    assert not hasattr(sealed, "__dict__")
    handed_out = sealed.open("final evaluation")
    handed_out[0] = 0
    assert sealed.count == 3


def dense_stratified(strata: np.ndarray, groups: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """The same walk over a dense table of groups and strata, which ten million groups have no room for."""
    members, kinds = (np.unique(v, return_inverse=True)[1] for v in (groups, strata))
    table = np.zeros((members.max() + 1, kinds.max() + 1))
    np.add.at(table, (members, kinds), 1)
    total = table.sum(axis=0)
    due = np.clip(np.rint(total * share), 1, None)
    judged, chosen = np.zeros_like(total), np.zeros(len(table), bool)

    def fits(counts: np.ndarray) -> bool:
        return bool((total - judged - counts >= 1)[counts > 0].all())

    for group in rng.permutation(len(table)):
        counts = table[group]
        if (((judged + counts - due) ** 2 - (judged - due) ** 2) / due)[counts > 0].sum() < 0 and fits(counts):
            chosen[group] = True
            judged += counts
    for stratum in np.flatnonzero(judged == 0):
        having = np.flatnonzero(table[:, stratum])
        for group in having[np.argsort(table[having].sum(axis=1), kind="stable")]:
            if not chosen[group] and fits(table[group]):
                chosen[group] = True
                judged += table[group]
                break
    return chosen[members]


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 10**6), st.integers(2, 80), st.integers(1, 7), st.integers(1, 40), st.sampled_from([0.1, 0.2, 0.5])
)
def test_the_split_is_the_one_of_a_dense_table(seed: int, n: int, kinds: int, groups: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    strata, of = rng.integers(0, kinds, n), rng.integers(0, groups, n)
    made = _stratified(strata, of, share, np.random.default_rng(seed))
    assert np.array_equal(made, dense_stratified(strata, of, share, np.random.default_rng(seed)))
