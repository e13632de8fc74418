"""What a table's columns were taken for, which network on them was kept, and what each column is worth."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.records.estimate import Estimate


@dataclass(frozen=True)
class ColumnRecord:
    """One column that is learnt from. missing, values: of the training rows; low, middle, high: of numbers and dates.

    examples: commonest names of a category.  parts: how many numbers it becomes.
    """

    name: str
    kind: str
    parts: int
    missing: int
    values: int
    low: str = ""
    middle: str = ""
    high: str = ""
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class NetworkTrial:
    """One network on the columns, by cross-validation on the training rows. difference: paired, to the best one.

    link: 'log' where the logarithm of the target was learnt.
    """

    name: str
    link: str
    head: str
    features: int
    score: Estimate
    difference: Estimate
    seconds: float
    kept: bool = False


@dataclass(frozen=True)
class Contribution:
    """What the model loses on held-out rows when this column's values are shuffled among them; paired."""

    column: str
    loss: Estimate


@dataclass(frozen=True)
class ColumnsRecord:
    """columns.json. metric: the score of trials and contributions.  contributions: the largest first."""

    metric: str
    columns: tuple[ColumnRecord, ...]
    left_out: tuple[str, ...]
    trials: tuple[NetworkTrial, ...]
    reason: str
    contributions: tuple[Contribution, ...] = ()
    shuffles: int = 0
