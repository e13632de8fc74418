"""Training examples of any length, texts as numbers of tokens and sounds as samples or log-mel frames.

They are made once, and every epoch and every strategy reads from them. A batch holds examples of about one length,
padded with what a network reads as: nothing here. There is nothing to make ahead of the loop: padding a batch takes a
thousandth of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.base.errors import DataError, shown
from headstart.base.progress import QUIET, Observer, track
from headstart.data.dataset import Dataset
from headstart.data.looks import Look
from headstart.data.words import words_of
from headstart.inputs.batches import Batch
from headstart.inputs.order import Bucketed
from headstart.inputs.prepared import Prepared, stacked

if TYPE_CHECKING:
    from torch import Tensor

AT_ONCE = 64  # examples that are prepared together; decoded sounds are large


class Sequences:
    """The examples of a dataset's rows as the network takes them. Made by ``read_sequences``.

    ids: as in the dataset.  arrays: one axis each, all of one type.
    """

    def __init__(self, ids: Sequence[str], arrays: Sequence[np.ndarray]) -> None:
        self.ids = ids
        self.lengths = np.array([len(a) for a in arrays], np.int64)  # (n,)
        self._ends = np.cumsum(self.lengths)
        self._values = np.concatenate(arrays) if len(arrays) else np.zeros(0, np.int32)

    def __len__(self) -> int:
        return len(self.ids)

    def prepared(self, row: int) -> np.ndarray:
        """(L,) int32 numbers of tokens, or float32 samples or frames."""
        end = self._ends[row]
        return self._values[end - self.lengths[row] : end]


def read_sequences(
    dataset: Dataset,
    prepare: Callable[[Sequence[Any]], Sequence[Prepared]],
    *,
    look: Look,
    keys: Sequence[bytes] | None = None,
    observer: Observer = QUIET,
) -> Sequences:
    """Every row of ``dataset`` as features.extract feeds it. prepare: of the network's feed.

    keys: the content keys that a survey found, row by row; DataError DA52 where a file has another content now.
    """
    arrays: list[np.ndarray] = []
    waiting: list[str] = []
    many = words_of(dataset.modality).many
    for row in track(range(len(dataset)), observer, f"reading the training {many}", unit=many):
        key, content = _content(dataset, row)
        if keys is not None and key != keys[row]:
            raise DataError(
                f"DA52 {shown(dataset.ids[row])} has changed since the data was looked at. Split and features belong "
                "to what it was; put it back, or start again: headstart fit reads the data anew."
            )
        waiting.append(look.value(content, name=dataset.ids[row]))
        if len(waiting) == AT_ONCE or row == len(dataset) - 1:
            arrays += [example.array for example in prepare(waiting)]
            waiting = []
    return Sequences(tuple(dataset.ids), arrays)


def _content(dataset: Dataset, row: int) -> tuple[bytes, Any]:
    try:
        return dataset.content(row)
    except OSError as error:
        raise DataError(
            f"DA52 {shown(dataset.ids[row])} could be read when the data was looked at, and cannot be read now "
            f"({shown(error.strerror or error)}). Put it back, or start again: headstart fit reads the data anew."
        ) from error


class SequenceBatches:
    """Examples of about one length, step by step.

    rows: (n,) which of ``examples`` are learnt from; row i of the training set is example rows[i].  targets: (n, …).
    Batch.inputs: (b, L), after the end of a text -1, of a sound NaN; L is a multiple of 8.
    rank, world: which part of each batch this process gets (see order.shard).
    """

    def __init__(
        self,
        examples: Sequences,
        targets: Tensor,
        rows: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        assert len(rows) == len(targets), f"{len(rows)} rows with {len(targets)} targets"
        self._examples, self._targets, self._rows = examples, targets, np.asarray(rows, np.int64)
        self._order = Bucketed(examples.lengths[self._rows], batch_size, seed)
        self._share = rank, world

    @property
    def n(self) -> int:
        return self._order.n

    @property
    def batch_size(self) -> int:
        return self._order.batch_size

    def between(self, first: int, last: int) -> Iterator[Batch]:
        """Steps first … last − 1."""
        return (self._at(step) for step in range(first, last))

    def _at(self, step: int) -> Batch:
        import torch

        rows = self._order.at(step).shard(*self._share).rows
        inputs = stacked([self._examples.prepared(int(place)) for place in self._rows[rows]])
        return Batch(step, rows, torch.from_numpy(inputs), self._targets[torch.from_numpy(rows)])
