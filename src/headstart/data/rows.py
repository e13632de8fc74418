"""Rows of a table of features, kept by column: one row is a view, a million of them cost no more than their numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np

from headstart.data.cells import Kind


@dataclass(frozen=True, eq=False)
class Frame:
    """Columns of one table, parsed.

    columns: name → (N,) as ``cells.parsed`` gives it.  kinds: name → kind.  where: the table's name, places: N of
    'line 7', for messages.
    """

    columns: Mapping[str, np.ndarray]
    kinds: Mapping[str, Kind]
    where: str
    places: Sequence[str]

    @cached_property
    def _numbers(self) -> np.ndarray:
        """(N, k) of all columns but categories, by name."""
        names = sorted(name for name, kind in self.kinds.items() if kind != "category")
        if not names:
            return np.zeros((len(self.places), 0))
        # -0.0 and 0.0, and all NaN, are one value
        stacked = np.stack([self.columns[name] for name in names], axis=1) + 0.0
        stacked[np.isnan(stacked)] = np.nan
        return np.ascontiguousarray(stacked)

    @cached_property
    def _words(self) -> list[np.ndarray]:
        return [self.columns[name] for name in sorted(self.kinds) if self.kinds[name] == "category"]

    def key(self, at: int) -> bytes:
        """16 bytes for the values of a row; equal rows of any two tables with the same columns have the same."""
        words = "\x1f".join(column[at] for column in self._words)
        head = b"row\0" + self._numbers[at].tobytes() + b"\0"
        return hashlib.sha256(head + words.encode("utf-8", "surrogatepass")).digest()[:16]


@dataclass(frozen=True, eq=False, slots=True)
class Row:
    """One row of a frame."""

    frame: Frame
    at: int

    @property
    def key(self) -> bytes:
        return self.frame.key(self.at)

    @property
    def cells(self) -> dict[str, Any]:
        """Column → float (NaN: missing) or str ('': missing)."""
        return {name: column[self.at] for name, column in self.frame.columns.items()}


class Rows(Sequence[Row]):
    """All rows of a frame."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame

    def __len__(self) -> int:
        return len(self.frame.places)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        if isinstance(at, slice):
            return [Row(self.frame, i) for i in range(*at.indices(len(self)))]
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        return Row(self.frame, at % len(self))

    def __iter__(self) -> Iterator[Row]:
        return (Row(self.frame, i) for i in range(len(self)))


def column_of(rows: Sequence[Row], name: str) -> np.ndarray:
    """(n,) values of one column; quick where all rows are of one frame."""
    if not len(rows):
        return np.zeros(0)
    frame = rows[0].frame
    if all(row.frame is frame for row in rows):
        return frame.columns[name][np.fromiter((row.at for row in rows), np.int64, len(rows))]
    return np.array([row.frame.columns[name][row.at] for row in rows], frame.columns[name].dtype)
