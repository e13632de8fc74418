"""Training texts as numbers of tokens: made once, and what every epoch and every strategy reads from.

A batch holds texts of about one length, padded with -1, which a network reads as: nothing here. There is nothing to
make ahead of the loop: padding a batch takes a thousandth of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.base.errors import DataError, shown
from headstart.base.progress import QUIET, Observer, track
from headstart.data.dataset import Dataset
from headstart.data.looks import Look
from headstart.inputs.batches import Batch
from headstart.inputs.order import Bucketed
from headstart.inputs.prepared import Prepared, stacked

if TYPE_CHECKING:
    from torch import Tensor

AT_ONCE = 1024  # texts that are divided into tokens together


class Texts:
    """The texts of a dataset's rows as the network reads them. Made by ``read_texts``.

    ids: as in the dataset.
    """

    def __init__(self, ids: Sequence[str], arrays: Sequence[np.ndarray]) -> None:
        self.ids = ids
        self.lengths = np.array([len(a) for a in arrays], np.int64)  # (n,) tokens
        self._ends = np.cumsum(self.lengths)
        self._tokens = np.concatenate(arrays) if len(arrays) else np.zeros(0, np.int32)

    def __len__(self) -> int:
        return len(self.ids)

    def prepared(self, row: int) -> np.ndarray:
        """(L,) int32."""
        end = self._ends[row]
        return self._tokens[end - self.lengths[row] : end]


def read_texts(
    dataset: Dataset,
    prepare: Callable[[Sequence[Any]], Sequence[Prepared]],
    *,
    look: Look,
    keys: Sequence[bytes] | None = None,
    observer: Observer = QUIET,
) -> Texts:
    """Every row of ``dataset`` as features.extract feeds it. prepare: of the network's feed.

    keys: the content keys that a survey found, row by row; DataError DA52 where a file has another content now.
    """
    arrays: list[np.ndarray] = []
    waiting: list[str] = []
    for row in track(range(len(dataset)), observer, "reading the training texts", unit="texts"):
        key, content = _content(dataset, row)
        if keys is not None and key != keys[row]:
            raise DataError(
                f"DA52 {shown(dataset.ids[row])} has changed since the data was looked at. Split and features belong "
                "to the old text; put it back, or start again: headstart fit reads the data anew."
            )
        waiting.append(look.value(content, name=dataset.ids[row]))
        if len(waiting) == AT_ONCE or row == len(dataset) - 1:
            arrays += [example.array for example in prepare(waiting)]
            waiting = []
    return Texts(tuple(dataset.ids), arrays)


def _content(dataset: Dataset, row: int) -> tuple[bytes, Any]:
    try:
        return dataset.content(row)
    except OSError as error:
        raise DataError(
            f"DA52 {shown(dataset.ids[row])} could be read when the data was looked at, and cannot be read now "
            f"({shown(error.strerror or error)}). Put it back, or start again: headstart fit reads the data anew."
        ) from error


class TokenBatches:
    """Texts of about one length, step by step.

    rows: (n,) which of ``texts`` are learnt from; row i of the training set is text rows[i].  targets: (n, …).
    Batch.inputs: (b, L) int32, -1 after the end of a text; L is a multiple of 8.
    rank, world: which part of each batch this process gets (see order.shard).
    """

    def __init__(
        self,
        texts: Texts,
        targets: Tensor,
        rows: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        assert len(rows) == len(targets), f"{len(rows)} rows with {len(targets)} targets"
        self._texts, self._targets, self._rows = texts, targets, np.asarray(rows, np.int64)
        self._order = Bucketed(texts.lengths[self._rows], batch_size, seed)
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
        tokens = stacked([self._texts.prepared(int(place)) for place in self._rows[rows]])
        return Batch(step, rows, torch.from_numpy(tokens), self._targets[torch.from_numpy(rows)])
