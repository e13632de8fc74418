"""Texts for contrastive learning: which come together is a function of (seed, step)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from headstart.base.seeds import stream
from headstart.inputs.batches import Batch
from headstart.inputs.prepared import stacked
from headstart.inputs.sequences import Sequences

if TYPE_CHECKING:
    import torch

EACH = 4  # texts of a class in a batch where there are many classes


class PairBatches:
    """Batches whose texts are compared with one another: several texts of each of several classes.

    rows: (n,) which of ``texts`` are learnt from.  labels: (n,) class of each.
    Every class comes equally often, whatever its size; of a class with fewer texts than its share of a batch some come
    twice. (order.Balanced would show one text of each of many classes, which makes no like pair.)
    Batch.rows: (b,).  Batch.inputs: (b, L) int32.  Batch.targets: (b,) the classes.
    """

    def __init__(self, texts: Sequences, labels: np.ndarray, rows: np.ndarray, *, batch_size: int, seed: int) -> None:
        self._texts, self._rows, self._seed = texts, np.asarray(rows, np.int64), seed
        self._labels = np.asarray(labels, np.int64)
        self._members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        assert len(self._members) > 1, "pairs need two classes"
        self.n, self.batch_size = len(self._rows), batch_size

    def between(self, first: int, last: int) -> Iterator[Batch]:
        """Steps first … last − 1."""
        return (self._at(step) for step in range(first, last))

    def drawn(self, step: int) -> np.ndarray:
        """(b,) positions in the training set, in an order that leaves several classes in any part of the batch."""
        rng = stream(self._seed, "pairs", step)
        classes = rng.permutation(len(self._members))[: max(2, self.batch_size // EACH)]
        shares = [len(part) for part in np.array_split(np.arange(self.batch_size), len(classes))]
        drawn = [np.resize(rng.permutation(self._members[c]), k) for c, k in zip(classes, shares, strict=True)]
        return rng.permutation(np.concatenate(drawn)).astype(np.int64)

    def _at(self, step: int) -> Batch:
        import torch

        rows = self.drawn(step)
        inputs: torch.Tensor = torch.from_numpy(
            stacked([self._texts.prepared(int(place)) for place in self._rows[rows]])
        )
        return Batch(step, rows, inputs, torch.from_numpy(self._labels[rows]))
