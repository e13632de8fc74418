"""The blocks of a mixed table as data sets of their own, each with the rows that have it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstart.data.compact import taken
from headstart.data.dataset import Dataset
from headstart.data.mixed import BlockModality, Mixed


@dataclass(frozen=True, eq=False)
class Part:
    """One block. dataset: the rows that have it.  rows: (m,) their numbers in the table.  count: rows of the table."""

    name: str
    modality: BlockModality
    dataset: Dataset
    rows: np.ndarray
    count: int


def parts_of(dataset: Dataset) -> tuple[Part, ...]:
    """The blocks of a data set of modality 'mixed', in their order. Names and targets are those of the table."""
    assert dataset.modality == "mixed" and len(dataset), "rows of several blocks"
    rows: list[Mixed] = list(dataset.values)
    return tuple(_part(dataset, rows, i) for i in range(len(rows[0].blocks)))


def _part(dataset: Dataset, rows: list[Mixed], number: int) -> Part:
    block = rows[0].blocks[number]
    values = [row.blocks[number].values[row.at] for row in rows]
    at = np.array([i for i, value in enumerate(values) if value is not None], np.int64)
    made = Dataset(
        block.modality,
        taken(dataset.ids, at),
        [values[i] for i in at],
        None if dataset.targets is None else taken(dataset.targets, at),
        dataset.target_kind,
        origin=f"{dataset.origin}, {block.name}",
    )
    return Part(block.name, block.modality, made, at, len(rows))
