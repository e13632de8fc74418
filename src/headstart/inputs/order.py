"""Which rows each training step sees: a pure function of (seed, step), so that a run resumes anywhere.

An order is one endless sequence of rows, cut into full batches. What an epoch leaves over opens the next epoch's first
batch: no row is dropped, and no step is smaller than the others. A batch across the border may hold a row twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from headstart.base.errors import PlanError
from headstart.base.seeds import stream

NEAR = 32  # batches whose rows are sorted by length together


@dataclass(frozen=True, eq=False)
class Draw:
    """The examples of one step.

    rows: (b,) int64 positions in the training set.  visits: (b,) int64, how often each row has been shown before; in
    a plain order that is the epoch. (row, visit) is never drawn twice, so it names an augmented view.
    """

    rows: np.ndarray
    visits: np.ndarray

    def shard(self, rank: int, world: int) -> Draw:
        return Draw(shard(self.rows, rank, world), shard(self.visits, rank, world))


class Order(Protocol):
    """n: rows of the training set.  batch_size: rows of every step."""

    @property
    def n(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    def at(self, step: int) -> Draw: ...


@dataclass(frozen=True)
class Shuffled:
    """Every epoch is a permutation of all rows of its own."""

    n: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        _check(self.n, self.batch_size)

    def at(self, step: int) -> Draw:
        epochs, slots = np.divmod(_places(step, self.batch_size), self.n)
        rows = _gather(epochs, slots, lambda epoch: _recent(self.n, self.seed, "order", epoch))
        return Draw(rows, epochs)


class Bucketed:
    """The epochs of Shuffled, in which the rows of a batch are of about one length.

    lengths: (n,) of each row.  The rows of up to NEAR batches within an epoch are sorted by length (ties as they were
    shuffled) and cut into batches, which come in an order of their own. A batch across the border of two epochs stays
    as it is: sorted with others it would hold many rows twice.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int) -> None:
        self._lengths = np.asarray(lengths)
        self._plain = Shuffled(len(self._lengths), batch_size, seed)
        self.n, self.batch_size, self.seed = self._plain.n, batch_size, seed
        self._kept = lru_cache(2)(self._sorted)  # the loop asks for one run of batches again and again

    def at(self, step: int) -> Draw:
        epoch = step * self.batch_size // self.n
        first, last = -(-epoch * self.n // self.batch_size), (epoch + 1) * self.n // self.batch_size
        if not first <= step < last:
            return self._plain.at(step)
        start = first + (step - first) // NEAR * NEAR
        draws = self._kept(start, min(start + NEAR, last))
        return draws[step - start]

    def _sorted(self, start: int, end: int) -> list[Draw]:
        """The draws of the steps start … end − 1, all of one epoch."""
        drawn = [self._plain.at(step) for step in range(start, end)]
        rows = np.concatenate([draw.rows for draw in drawn])
        rows = rows[np.argsort(self._lengths[rows], kind="stable")].reshape(end - start, -1)
        order = stream(self.seed, "buckets", start).permutation(end - start)
        return [Draw(rows[i], drawn[0].visits) for i in order]


class Balanced:
    """Every class equally often: each run of K rows holds each of the K classes once, in an order of its own.

    labels: (n,) class of each row; classes without rows are left out.  Within a class, rows come in permutations as in
    Shuffled. A class of one row therefore shows that row n / K times in the steps in which Shuffled shows it once.
    """

    def __init__(self, labels: np.ndarray, batch_size: int, seed: int) -> None:
        labels = np.asarray(labels)
        assert labels.ndim == 1, "balancing needs one class per row"
        self.n, self.batch_size, self.seed = len(labels), batch_size, seed
        _check(self.n, batch_size)
        self._members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        self._kept = lru_cache(2 * len(self._members) + 2)(_permutation)  # what the classes are in the middle of

    def at(self, step: int) -> Draw:
        rounds, slots = np.divmod(_places(step, self.batch_size), len(self._members))
        classes = _gather(rounds, slots, lambda r: self._kept(len(self._members), self.seed, "classes", r))
        drawn = [self._row(int(label), int(turn)) for label, turn in zip(classes, rounds, strict=True)]
        rows, visits = np.array(drawn, np.int64).T
        return Draw(rows, visits)

    def _row(self, label: int, turn: int) -> tuple[int, int]:
        """(row, visit) when a class has its ``turn``-th turn."""
        members = self._members[label]
        visit, slot = divmod(turn, len(members))
        return int(members[self._kept(len(members), self.seed, "order", label, visit)[slot]]), visit


def rows_at(step: int, *, n: int, batch_size: int, seed: int) -> np.ndarray:
    """(batch_size,) int64 positions of the rows that ``step`` sees; steps are counted from 0.

    Consecutive steps hold each row exactly once per epoch of n rows. PlanError for a batch larger than the data.
    """
    return Shuffled(n, batch_size, seed).at(step).rows


def shard(rows: np.ndarray, rank: int, world: int) -> np.ndarray:
    """What one of ``world`` processes takes of a batch: every world-th row, from ``rank`` on.

    The shards partition the batch. Where world does not divide it, sizes differ by one row: means over processes must
    then be weighted by size. PlanError where a process would get nothing.
    """
    assert 0 <= rank < world, f"rank {rank} of {world} processes"
    if len(rows) < world:
        raise PlanError(
            f"PL31 a batch of {len(rows)} examples cannot be shared by {world} processes. "
            "Choose a larger batch size or fewer processes."
        )
    return rows[rank::world]


def _check(n: int, batch_size: int) -> None:
    if not 1 <= batch_size <= n:
        raise PlanError(
            f"PL30 a batch of {batch_size} cannot be drawn from {n} training examples. "
            f"Choose a batch size between 1 and {n}."
        )


def _places(step: int, batch_size: int) -> np.ndarray:
    assert step >= 0, f"step {step}"
    return np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64)


def _gather(which: np.ndarray, slots: np.ndarray, table: Callable[[int], np.ndarray]) -> np.ndarray:
    """table(which[i])[slots[i]] for each i; ``which`` is ascending and takes few values."""
    return np.concatenate([table(int(w))[slots[which == w]] for w in np.unique(which)])


def _permutation(n: int, seed: int, *names: object) -> np.ndarray:
    permutation = stream(seed, *names).permutation(n).astype(np.int64)
    permutation.flags.writeable = False
    return permutation


_recent = lru_cache(maxsize=4)(_permutation)  # the loop asks for one epoch again and again
