"""Who learns and who judges: groups stay whole, every class is learnt, and the test rows are sealed.

Everything here speaks of positions 0 … n-1 in the arrays it is given, not of rows of the dataset.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from headstart.base.errors import DataError, did_you_mean, listed, shown
from headstart.base.seeds import stream
from headstart.data.dataset import Dataset
from headstart.records.audit import Cluster

# ------------------------------------------------------------------------------------------------------------- groups


def group_rows(dataset: Dataset, rows: np.ndarray, clusters: Sequence[Cluster], *, by: str | None) -> np.ndarray:
    """(n,) int64 group of each of ``rows``: rows that share a duplicate cluster or a value of ``by`` share a group.

    by: a column of the dataset, or 'regex:…' searched in the ids (its first group, or the whole match). An empty
    cell, or an id that does not match, is a group of its own. A group's number is its first position.
    Raises DataError DA50 for an unknown column, a pattern that is wrong or matches nothing, or one group only.
    """
    ids = [dataset.ids[int(r)] for r in rows]
    place = {name: i for i, name in enumerate(ids)}
    union = UnionFind(len(ids))
    for cluster in clusters:
        members = [place[name] for name in cluster.ids if name in place]
        for other in members[1:]:
            union.join(members[0], other)
    if by is not None:
        first: dict[object, int] = {}
        for i, value in enumerate(_group_values(dataset, rows, ids, by)):
            if value is not None:
                union.join(first.setdefault(value, i), i)
    groups = union.roots()
    if by is not None and len(ids) > 1 and not groups.any():
        raise DataError(
            f"DA50 grouping by '{shown(by)}' puts all {len(ids)} examples into one group, so nothing is left to "
            "test on. Group by something with several values."
        )
    return groups


def _group_values(dataset: Dataset, rows: np.ndarray, ids: Sequence[str], by: str) -> list[object | None]:
    if by.startswith("regex:"):
        return _matches(ids, by.removeprefix("regex:"))
    if by not in dataset.meta:
        has = f"The columns are: {listed(dataset.meta, most=12)}." if dataset.meta else "This data has no columns."
        raise DataError(
            f"DA50 there is no column '{shown(by)}' to group by.{did_you_mean(by, dataset.meta)} {has} "
            "Or take a part of the file name: --group-by 'regex:^(patient\\d+)'."
        )
    column = dataset.meta[by]
    values = [column[int(r)] for r in rows]
    return [None if v is None or v == "" or v != v else str(v) for v in values]  # noqa: PLR0124 - NaN test


def _matches(ids: Sequence[str], pattern: str) -> list[object | None]:
    try:
        found = [re.search(pattern, name) for name in ids]
    except re.error as error:
        raise DataError(f"DA50 '{shown(pattern)}' is not a regular expression: {shown(error)}.") from error
    if not any(found):
        raise DataError(f"DA50 no id matches '{shown(pattern)}' (ids look like: {listed(ids)}).")
    return [None if m is None else m.group(1 if m.re.groups else 0) for m in found]


class UnionFind:
    """Sets of the numbers 0 … n-1 that can be joined; the smallest number of a set stands for it."""

    def __init__(self, n: int) -> None:
        self._above = list(range(n))

    def find(self, i: int) -> int:
        while self._above[i] != i:
            self._above[i] = self._above[self._above[i]]
            i = self._above[i]
        return i

    def join(self, i: int, j: int) -> None:
        i, j = self.find(i), self.find(j)
        self._above[max(i, j)] = min(i, j)

    def roots(self) -> np.ndarray:
        """(n,) int64 representative of each number."""
        return np.array([self.find(i) for i in range(len(self._above))], np.int64)


# -------------------------------------------------------------------------------------------------------------- split


def split(
    strata: np.ndarray,
    groups: np.ndarray,
    *,
    given: Sequence[str | None] | None = None,
    share: float = 0.2,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """(train, test) positions, each sorted: ``share`` of every stratum in test, groups whole, all strata in train.

    strata: (n,) class, rarest label or quantile.  groups: (n,) as from group_rows.
    given: n of 'train' | 'validation' | 'test' | None, the user's own split, which wins: test rows are those marked
        'test', or 'validation' where there are none; all others learn. Groups are not moved then (the audit reports
        leaks). A split that marks nothing to test on counts as none.
    A stratum that lies in a single group cannot be on both sides and stays in train.
    Raises DataError DA51 if nothing can be set aside or nothing is left to learn from.
    """
    strata, groups = np.asarray(strata), np.asarray(groups)
    if not 0 < share < 1:
        raise DataError(f"DA51 the test share must lie between 0 and 1, got {share:g}.")
    judged = _given_test(given, len(strata))
    if judged is None:
        judged = _stratified(strata, groups, share, stream(seed, "split"))
    train, test = np.flatnonzero(~judged), np.flatnonzero(judged)
    if not len(train) or not len(test):
        empty = "to learn from" if not len(train) else "to test on"
        raise DataError(
            f"DA51 of {len(strata)} examples in {len(np.unique(groups))} groups none is left {empty}. "
            "Add examples, or group by something finer."
        )
    return train, test


def _given_test(given: Sequence[str | None] | None, n: int) -> np.ndarray | None:
    """(n,) bool: the rows the user set aside; None if they set none aside."""
    if given is None or not len(given):
        return None
    assert len(given) == n, "one side for each row"
    for side in ("test", "validation"):
        marked = np.array([g == side for g in given], bool)
        if marked.any():
            return marked
    return None


def _stratified(strata: np.ndarray, groups: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """(n,) bool test rows. Groups come in random order; each goes to test if the strata get nearer to their due."""
    table, members = _count_table(strata, groups)
    total = table.sum(axis=0)
    due = np.clip(np.rint(total * share), 1, None)
    taken = np.zeros_like(total)
    chosen = np.zeros(len(table), bool)

    def fits(counts: np.ndarray) -> bool:
        return bool((total - taken - counts >= 1)[counts > 0].all())  # every stratum keeps someone to learn from

    for group in rng.permutation(len(table)):
        counts = table[group]
        nearer = (((taken + counts - due) ** 2 - (taken - due) ** 2) / due)[counts > 0].sum() < 0
        if nearer and fits(counts):
            chosen[group] = True
            taken += counts
    for stratum in np.flatnonzero(taken == 0):  # its groups are all bigger than its due: take the smallest
        having = np.flatnonzero(table[:, stratum])
        for group in having[np.argsort(table[having].sum(axis=1), kind="stable")]:
            if not chosen[group] and fits(table[group]):
                chosen[group] = True
                taken += table[group]
                break
    return chosen[members]


def _count_table(strata: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((G, S) float64 rows of each stratum in each group, (n,) group number 0 … G-1 of each row)."""
    _, members = np.unique(groups, return_inverse=True)
    _, kinds = np.unique(strata, return_inverse=True)
    table = np.zeros((members.max(initial=-1) + 1, kinds.max(initial=-1) + 1))
    np.add.at(table, (members, kinds), 1)
    return table, members


# -------------------------------------------------------------------------------------------------------------- folds


def folds(
    strata: np.ndarray, groups: np.ndarray, *, k: int = 5, repeats: int = 1, seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """k · repeats pairs of (train, test) positions, each sorted; stratified, groups whole, every stratum in each train.

    In each repeat every row is tested once, except rows of strata that lie in a single group: they would leave their
    class unlearnt, so they are in every train and in no test. With fewer than k groups, as many folds as groups.
    Raises DataError DA51 if no two groups are left to divide.
    """
    table, members = _count_table(np.asarray(strata), np.asarray(groups))
    lonely = (table > 0).sum(axis=0) == 1  # strata in one group only
    free = np.flatnonzero(~(table[:, lonely] > 0).any(axis=1))
    k = min(k, len(free))
    if k < 2:
        raise DataError(
            f"DA51 {len(members)} examples in {len(table)} groups cannot be divided for cross-validation: "
            "at least two groups of some class are needed. Add examples."
        )
    pairs = []
    for repeat in range(repeats):
        fold_of = np.full(len(table), -1)
        fold_of[free] = _dealt(table[free], k, stream(seed, "folds", repeat))
        of_row = fold_of[members]
        pairs += [(np.flatnonzero(of_row != fold), np.flatnonzero(of_row == fold)) for fold in range(k)]
    return pairs


def _dealt(table: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """(G,) fold of each group: the biggest first, each to the fold that has least of its strata, then least of all.

    Groups of one size go stratum by stratum: then the odd ones of each stratum fill the smallest folds, and without
    groups both strata and folds come out even to within one row.
    """
    order = rng.permutation(len(table))
    order = order[np.lexsort((table[order].argmax(axis=1), -table[order].sum(axis=1)))]
    total = table.sum(axis=0).clip(min=1)
    have, sizes = np.zeros((k, table.shape[1])), np.zeros(k)
    fold_of = np.empty(len(table), np.int64)
    turn = rng.permutation(k)  # ties go round in this order
    for group in order:
        counts = table[group]
        present = np.flatnonzero(counts)
        crowding = (have[:, present] * counts[present] / total[present]).sum(axis=1)
        best = np.lexsort((turn, sizes, np.round(crowding, 12)))[0]
        fold_of[group] = best
        have[best] += counts
        sizes[best] += counts.sum()
    return fold_of


# ------------------------------------------------------------------------------------------------------------- sealed


class SealedRows:
    """The test rows, and the only object that knows them.

    ``open(reason)`` gives them out once for each purpose declared beforehand; every other way in is an error, so that
    no step before the final evaluation can look at them by mistake.
    """

    __slots__ = ("__rows", "_opened", "_purposes")

    def __init__(self, rows: np.ndarray, purposes: Sequence[str] = ("final evaluation",)) -> None:
        self.__rows = np.array(rows, np.int64)
        self._purposes = tuple(purposes)
        self._opened: list[str] = []

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.__rows)

    @property
    def opened(self) -> tuple[str, ...]:
        """The purposes for which they were given out, in order."""
        return tuple(self._opened)

    def open(self, reason: str) -> np.ndarray:
        """The rows, for a declared purpose and once only; DataError otherwise."""
        if reason not in self._purposes:
            raise DataError(
                f"test rows are sealed: '{shown(reason)}' is not among the purposes declared for them "
                f"({listed(self._purposes)}).{did_you_mean(reason, self._purposes)}"
            )
        if reason in self._opened:
            raise DataError(
                f"test rows are sealed: they were opened for '{shown(reason)}' already, which happens once."
            )
        self._opened.append(reason)
        return self.__rows.copy()

    def __repr__(self) -> str:
        return f"SealedRows({self.count} test rows, opened for: {', '.join(self._opened) or 'nothing yet'})"

    def _refuse(self, *_: object) -> NoReturn:
        raise DataError(
            f"test rows are sealed: {self.count} rows can only be had through open(reason), for one of: "
            f"{listed(self._purposes)}. Choose between models on the training rows."
        )

    __iter__ = __len__ = __getitem__ = __contains__ = __array__ = _refuse
    __reduce__ = __reduce_ex__ = __getstate__ = __copy__ = __deepcopy__ = _refuse
    __eq__ = _refuse
    __hash__ = object.__hash__
    __bool__ = _refuse
