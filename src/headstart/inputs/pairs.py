"""Pairs of texts for contrastive learning: which two come together is a function of (seed, step)."""

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


class PairBatches:
    """As many like pairs as unlike ones (one more where the batch is odd), every class equally often.

    rows: (n,) which of ``texts`` are learnt from.  labels: (n,) class of each.
    Batch.rows: (b,) the first of each pair.  Batch.inputs: (b, 2, L) int32.  Batch.targets: (b,) float32, 1 for two
    different texts of one class, 0 for two of different classes. A class of one text has no like pair.
    """

    def __init__(self, texts: Sequences, labels: np.ndarray, rows: np.ndarray, *, batch_size: int, seed: int) -> None:
        self._texts, self._rows, self._seed = texts, np.asarray(rows, np.int64), seed
        self._members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        assert len(self._members) > 1, "pairs need two classes"
        self.n, self.batch_size = len(self._rows), batch_size

    def between(self, first: int, last: int) -> Iterator[Batch]:
        """Steps first … last − 1."""
        return (self._at(step) for step in range(first, last))

    def drawn(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """((b, 2) positions in the training set, (b,) float32 targets)."""
        rng = stream(self._seed, "pairs", step)
        several = [members for members in self._members if len(members) > 1]
        like = (self.batch_size + 1) // 2 if several else 0
        pairs = [rng.choice(several[rng.integers(len(several))], 2, replace=False) for _ in range(like)]
        for _ in range(self.batch_size - like):
            classes = rng.choice(len(self._members), 2, replace=False)
            pairs.append(np.array([rng.choice(self._members[c]) for c in classes]))
        return np.array(pairs, np.int64), (np.arange(self.batch_size) < like).astype(np.float32)

    def _at(self, step: int) -> Batch:
        import torch

        pairs, targets = self.drawn(step)
        tokens = stacked([self._texts.prepared(int(place)) for place in self._rows[pairs.ravel()]])
        inputs: torch.Tensor = torch.from_numpy(tokens.reshape(*pairs.shape, -1))
        return Batch(step, pairs[:, 0], inputs, torch.from_numpy(targets))
