"""Which rows are held out when: the same for every head, so that heads can be compared row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.base.errors import DataError


@dataclass(frozen=True)
class Folds:
    """n: rows.  pairs: (train, held-out) positions; repeated partitions are allowed."""

    n: int
    pairs: tuple[tuple[np.ndarray, np.ndarray], ...]

    @classmethod
    def checked(cls, n: int, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Folds:
        """DataError when a fold is empty, names a row that is not there, or trains on a row that it holds out."""
        if not pairs:
            raise DataError("cross-validation: no folds. Give at least one (train, held-out) pair of row positions.")
        made = tuple(
            (_positions(train, n, i, "train"), _positions(val, n, i, "held-out"))
            for i, (train, val) in enumerate(pairs)
        )
        for i, (train, val) in enumerate(made):
            both = np.intersect1d(train, val)
            if len(both):
                raise DataError(
                    f"cross-validation: fold {i} trains on {len(both)} of the rows that it holds out "
                    f"(first: {both[0]}). Every row belongs to one side."
                )
        return cls(n, made)

    def average(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """(n, …) mean over the folds that hold a row out, NaN where none does; parts: (held-out, …)."""
        total = np.zeros((self.n, *parts[0].shape[1:]))
        times = np.zeros(self.n)
        for (_, val), part in zip(self.pairs, parts, strict=True):
            total[val] += part  # positions within one fold are distinct
            times[val] += 1
        total[times == 0] = np.nan
        return total / np.maximum(times, 1).reshape(-1, *[1] * (total.ndim - 1))

    @property
    def judged(self) -> np.ndarray:
        """(J,) positions held out at least once, ascending."""
        return np.unique(np.concatenate([val for _, val in self.pairs]))

    @property
    def in_words(self) -> str:
        """'5 folds', '5 folds, 4 times', or '1 split (320 of 1600 rows held out)'."""
        times = max(1, round(sum(len(val) for _, val in self.pairs) / len(self.judged)))
        if len(self.pairs) == 1:
            return f"1 split ({len(self.judged)} of {self.n} rows held out)"
        each = f"{len(self.pairs) // times} folds"
        return each if times == 1 else f"{each}, {times} times"


def _positions(rows: np.ndarray, n: int, fold: int, side: str) -> np.ndarray:
    rows = np.asarray(rows)
    if rows.ndim != 1 or not len(rows) or not np.issubdtype(rows.dtype, np.integer):
        raise DataError(f"cross-validation: the {side} rows of fold {fold} are not a list of row positions.")
    if rows.min() < 0 or rows.max() >= n or len(np.unique(rows)) < len(rows):
        raise DataError(f"cross-validation: the {side} rows of fold {fold} repeat a row or lie outside 0 … {n - 1}.")
    return rows.astype(np.int64)
