"""Numbers as they are written where a comma divides: '1,5' and '1.234,5' are read as '1.5' and '1234.5'.

Only where the user says so (--decimal ,), and only whole cells that are such numbers; a cell that has a point where its
column has commas is an error, because it could be either.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from headstart.base.errors import DataError, shown
from headstart.data.compact import Coded, Gathered, stretches

Decimal = Literal[".", ","]

_COMMA = re.compile(r"\s*[+-]?(\d+|[1-9]\d{0,2}(\.\d{3})+),\d+([eE][+-]?\d+)?\s*")
_THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}(\.\d{3})+\s*")
_POINT = re.compile(r"\s*[+-]?\d*\.\d+([eE][+-]?\d+)?\s*")


def with_points(
    columns: Mapping[str, Sequence[Any]], places: Sequence[str], where: str, *, apart: Collection[str | None]
) -> dict[str, Sequence[Any]]:
    """The columns with a point in their numbers; those named in ``apart`` (texts, paths) as they are.

    Raises DataError TB59 for a column that has both.
    """
    return {
        name: column if name in apart else _pointed(name, column, places, where) for name, column in columns.items()
    }


def _pointed(name: str, column: Sequence[Any], places: Sequence[str], where: str) -> Sequence[Any]:
    _check_one_sign(name, column, places, where)
    if isinstance(column, Coded):
        return column.mapped([as_point(word) for word in column.words])
    made = Gathered()
    for values in stretches(column):
        made.add([as_point(value) for value in values])
    return made.column()


def as_point(cell: Any) -> Any:
    """'1,5' → '1.5', '1.234' → '1234'; anything else as it is."""
    if not isinstance(cell, str) or not (_COMMA.fullmatch(cell) or _THOUSANDS.fullmatch(cell)):
        return cell
    return cell.replace(".", "").replace(",", ".")


def _check_one_sign(name: str, column: Sequence[Any], places: Sequence[str], where: str) -> None:
    if not _rows(column, _COMMA).any():
        return
    wrong = np.flatnonzero(_rows(column, _POINT) & ~_rows(column, _THOUSANDS))
    if len(wrong):
        first = [f"'{shown(column[row])}' ({places[row]})" for row in wrong[:3].tolist()]
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise DataError(
            f"TB59 {shown(where)}, column '{shown(name)}' has numbers with a comma and numbers with a point: "
            f"{', '.join(first)}{more}. Write all in one way, or leave --decimal out."
        )


def _rows(column: Sequence[Any], pattern: re.Pattern[str]) -> np.ndarray:
    def fits(value: Any) -> bool:
        return isinstance(value, str) and bool(pattern.fullmatch(value))

    if isinstance(column, Coded):
        return np.array([fits(word) for word in column.words], bool)[column.codes]
    return np.fromiter(map(fits, column), bool, len(column))
