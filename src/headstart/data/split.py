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
from headstart.data.clusters import Clusters, joined
from headstart.data.compact import Coded, taken
from headstart.data.dataset import Dataset
from headstart.records.audit import Cluster

AT_ONCE = 2**14  # groups that are looked up together

# ------------------------------------------------------------------------------------------------------------- groups


def group_rows(dataset: Dataset, rows: np.ndarray, clusters: Sequence[Cluster], *, by: str | None) -> np.ndarray:
    """(n,) int64 group of each of ``rows``: rows that share a duplicate cluster or a value of ``by`` share a group.

    by: a column of the dataset, or 'regex:…' searched in the ids (its first group, or the whole match). An empty
    cell, or an id that does not match, is a group of its own. A group's number is its first position.
    Raises DataError DA50 for an unknown column, a pattern that is wrong or matches nothing, or one group only.
    """
    first, second = _in_one_cluster(dataset, rows, clusters)
    if by is not None:
        alike = _alike(dataset, rows, by)
        first, second = np.concatenate([first, alike[0]]), np.concatenate([second, alike[1]])
    groups = joined(len(rows), first, second)
    if by is not None and len(rows) > 1 and not groups.any():
        raise DataError(
            f"DA50 grouping by '{shown(by)}' puts all {len(rows)} examples into one group, so nothing is left to "
            "test on. Group by something with several values."
        )
    return groups


def _in_one_cluster(dataset: Dataset, rows: np.ndarray, clusters: Sequence[Cluster]) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of positions (the first of a cluster, another of it)."""
    if isinstance(clusters, Clusters):
        place = np.full(len(dataset), -1)
        place[rows] = np.arange(len(rows))
        members, number = place[clusters.groups.members], np.repeat(np.arange(len(clusters)), clusters.groups.sizes)
    else:
        position = {name: i for i, name in enumerate(taken(dataset.ids, rows))}
        found = [(position.get(name, -1), k) for k, cluster in enumerate(clusters) for name in cluster.ids]
        members, number = np.array(found, np.int64).reshape(-1, 2).T
    return _firsts(number[members >= 0], members[members >= 0])


def _firsts(number: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the first of ``members`` with the same number, members)."""
    _, first, where = np.unique(number, return_index=True, return_inverse=True)
    return members[first[where]], members


def _alike(dataset: Dataset, rows: np.ndarray, by: str) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of positions whose value of ``by`` is the same."""
    values = _group_values(dataset, rows, by)
    # Hashes of eight bytes stand for the values: ten million strings in a dictionary would take a gigabyte.
    number = np.fromiter((0 if v is None else hash(v) for v in values), np.int64, len(rows))
    known = np.fromiter((v is not None for v in values), bool, len(rows))
    return _firsts(number[known], np.flatnonzero(known))


def _group_values(dataset: Dataset, rows: np.ndarray, by: str) -> Sequence[object | None]:
    if by.startswith("regex:"):
        return _matches(taken(dataset.ids, rows), by.removeprefix("regex:"))
    if by not in dataset.meta:
        has = f"The columns are: {listed(dataset.meta, most=12)}." if dataset.meta else "This data has no columns."
        raise DataError(
            f"DA50 there is no column '{shown(by)}' to group by.{did_you_mean(by, dataset.meta)} {has} "
            "Or take a part of the file name: --group-by 'regex:^(patient\\d+)'."
        )
    column = taken(dataset.meta[by], rows)
    if isinstance(column, Coded):
        return column.mapped([_group_value(word) for word in column.words])
    return [_group_value(value) for value in column]


def _group_value(value: object) -> str | None:
    return None if value is None or value == "" or value != value else str(value)  # noqa: PLR0124 - NaN test


def _matches(ids: Sequence[str], pattern: str) -> list[object | None]:
    try:
        found = [re.search(pattern, name) for name in ids]
    except re.error as error:
        raise DataError(f"DA50 '{shown(pattern)}' is not a regular expression: {shown(error)}.") from error
    if not any(found):
        raise DataError(f"DA50 no id matches '{shown(pattern)}' (ids look like: {listed(ids)}).")
    return [None if m is None else m.group(1 if m.re.groups else 0) for m in found]


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
    held = _Held(strata, groups)
    total = held.total.tolist()
    due = np.clip(np.rint(held.total * share), 1, None).tolist()
    judged = [0] * len(total)  # rows of each stratum in test so far
    chosen = np.zeros(held.groups, bool)

    def fits(counts: list[tuple[int, int]]) -> bool:
        """Whether every stratum keeps someone to learn from."""
        return all(total[s] - judged[s] - c >= 1 for s, c in counts)

    def choose(group: int, counts: list[tuple[int, int]]) -> None:
        chosen[group] = True
        for s, c in counts:
            judged[s] += c

    order = rng.permutation(held.groups)
    for start in range(0, len(order), AT_ONCE):
        some = order[start : start + AT_ONCE]
        for group, counts in zip(some.tolist(), held.counts(some), strict=True):
            nearer = sum(((judged[s] + c - due[s]) ** 2 - (judged[s] - due[s]) ** 2) / due[s] for s, c in counts)
            if nearer < 0 and fits(counts):
                choose(group, counts)
    for stratum in [s for s, found in enumerate(judged) if not found]:
        for group in held.having(stratum):  # its groups are all bigger than its due: take the smallest
            counts = held.counts(np.array([group]))[0]
            if not chosen[group] and fits(counts):
                choose(group, counts)
                break
    return chosen[held.of_row]


class _Held:
    """How many rows of which strata each group holds: only what is there, as a million groups have few strata each.

    of_row: (n,) number of each row's group.  total: (S,) rows of each stratum.
    """

    def __init__(self, strata: np.ndarray, groups: np.ndarray) -> None:
        self.of_row = np.unique(groups, return_inverse=True)[1]
        kinds = np.unique(strata, return_inverse=True)[1]
        self.total = np.bincount(kinds)
        self.groups = int(self.of_row.max(initial=-1)) + 1
        pairs, self._counts = np.unique(self.of_row * len(self.total) + kinds, return_counts=True)
        group, self._stratum = np.divmod(pairs, max(1, len(self.total)))
        self._ends = np.cumsum(np.bincount(group, minlength=self.groups))
        self._group = group

    def counts(self, groups: np.ndarray) -> list[list[tuple[int, int]]]:
        """(stratum, rows) pairs of each of these groups."""
        ends = self._ends[groups]
        sizes = ends - np.where(groups > 0, self._ends[groups - 1], 0)
        stops = np.cumsum(sizes)
        at = np.arange(sizes.sum()) + np.repeat(ends - stops, sizes)
        pairs = list(zip(self._stratum[at].tolist(), self._counts[at].tolist(), strict=True))
        return [pairs[a:b] for a, b in zip((stops - sizes).tolist(), stops.tolist(), strict=True)]

    def having(self, stratum: int) -> list[int]:
        """Groups with rows of the stratum, the smallest first."""
        groups = self._group[self._stratum == stratum]
        sizes = np.bincount(self.of_row, minlength=self.groups)
        found: list[int] = groups[np.argsort(sizes[groups], kind="stable")].tolist()
        return found


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
