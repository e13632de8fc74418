"""Rows that hold examples of several kinds at once: texts, files, columns. Each kind of column is a block.

Blocks are kept apart: each is looked at, embedded and cached like a data set of its own (``data.parts``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from headstart.base.files import content_hash
from headstart.data.cells import Kind

BlockModality = Literal["image", "text", "audio", "vector"]
ColumnKind = Literal["image", "text", "audio"] | Kind  # what a column of a mixed table holds

COLUMNS = "columns"  # the block of all columns that hold numbers, dates and names
NOTHING = bytes(16)  # stands for a block that a row does not have


@dataclass(frozen=True, eq=False)
class Block:
    """name: its column, or COLUMNS.  values: N, as a data set of that modality has them; None where a row has none."""

    name: str
    modality: BlockModality
    values: Sequence[Any]


@dataclass(frozen=True, eq=False, slots=True)
class Mixed:
    """One row of some blocks."""

    blocks: tuple[Block, ...]
    at: int

    @property
    def values(self) -> tuple[Any, ...]:
        """Block by block; None for one that the row does not have."""
        return tuple(block.values[self.at] for block in self.blocks)


def key_of_parts(keys: Sequence[bytes]) -> bytes:
    """The content key of a row with these blocks; NOTHING for one it does not have. Rows equal in all are equal."""
    return content_hash(b"mixed\0" + b"".join(keys), 16)
