"""Sets of rows that are one and the same, or look it: kept as numbers, told as records when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from headstart.data.compact import Coded, Compact, taken
from headstart.data.dataset import Dataset
from headstart.records.audit import Cluster


def joined(n: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n,) int64: the smallest number that each of 0 … n-1 is connected to by the pairs (first[i], second[i])."""
    above = np.arange(n)
    while True:
        a, b = above[first], above[second]
        low, high = np.minimum(a, b), np.maximum(a, b)
        apart = np.flatnonzero(low != high)
        if not len(apart):
            return above
        np.minimum.at(above, high[apart], low[apart])
        while not np.array_equal(above[above], above):
            above = above[above]
        first, second = first[apart], second[apart]


class Groups(Compact[np.ndarray]):
    """members: (M,) numbers, group after group.  ends: (G,) where each group ends."""

    def __init__(self, members: np.ndarray, ends: np.ndarray) -> None:
        self.members, self.ends = members, ends

    @classmethod
    def none(cls) -> Groups:
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def starts(self) -> np.ndarray:
        return np.concatenate([np.zeros(min(1, len(self)), np.int64), self.ends[:-1]])

    @property
    def sizes(self) -> np.ndarray:
        return np.diff(self.ends, prepend=0)

    @property
    def first(self) -> np.ndarray:
        """(M,) the first member of each member's group."""
        return np.repeat(self.members[self.starts], self.sizes)

    def part(self, start: int, stop: int) -> list[np.ndarray]:
        starts, ends = self.starts[start:stop].tolist(), self.ends[start:stop].tolist()
        return [self.members[a:b] for a, b in zip(starts, ends, strict=True)]

    def take(self, rows: np.ndarray) -> Groups:
        sizes = self.sizes[rows]
        ends = np.cumsum(sizes)
        at = np.arange(ends[-1] if len(ends) else 0) + np.repeat(self.starts[rows] - (ends - sizes), sizes)
        return Groups(self.members[at], ends)


class Clusters(Compact[Cluster]):
    """groups: of rows of ``dataset``.  exact: (C,) bool.  similarity: (C,) lowest cosine inside, None if unmeasured."""

    def __init__(
        self, dataset: Dataset, groups: Groups, exact: np.ndarray, similarity: np.ndarray | None = None
    ) -> None:
        self._dataset, self.groups, self.exact, self._similarity = dataset, groups, exact, similarity

    def __len__(self) -> int:
        return len(self.groups)

    def part(self, start: int, stop: int) -> list[Cluster]:
        return [self._cluster(start + i, rows) for i, rows in enumerate(self.groups.part(start, stop))]

    def _cluster(self, number: int, rows: np.ndarray) -> Cluster:
        return Cluster(
            tuple(taken(self._dataset.ids, rows)),
            "exact" if self.exact[number] else "near",
            tuple(target_text(t) for t in self._targets(rows)),
            None if self._similarity is None else float(self._similarity[number]),
        )

    def _targets(self, rows: np.ndarray) -> Sequence[Any]:
        return [None] * len(rows) if self._dataset.targets is None else taken(self._dataset.targets, rows)

    def blocks(self) -> Iterator[tuple[int, int]]:
        for number in range(0, len(self), 64):
            yield number, min(number + 64, len(self))

    def take(self, rows: np.ndarray) -> Clusters:
        similarity = None if self._similarity is None else self._similarity[rows]
        return Clusters(self._dataset, self.groups.take(rows), self.exact[rows], similarity)

    def of_kind(self, kind: str) -> Clusters:
        return self.take(np.flatnonzero(self.exact == (kind == "exact")))

    def with_several_targets(self) -> Clusters:
        """Those whose members do not all carry the same target."""
        if not len(self):
            return self
        coded = Coded.of(map(target_text, self._targets(self.groups.members)))
        low, high = (f.reduceat(coded.codes, self.groups.starts) for f in (np.minimum, np.maximum))
        return self.take(np.flatnonzero(low != high))

    def ids(self, most: int) -> list[str]:
        """The first ``most`` members of all."""
        return list(taken(self._dataset.ids, self.groups.members[:most]))

    def first_ids(self, most: int) -> list[str]:
        """One of each of the first ``most``."""
        return list(taken(self._dataset.ids, self.groups.members[self.groups.starts[:most]]))


def target_text(target: Any) -> str:
    if target is None:
        return ""
    return "|".join(map(str, sorted(target))) if isinstance(target, tuple) else str(target)
