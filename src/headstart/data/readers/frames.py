"""A data frame of any make: whatever speaks the Arrow stream interface (polars, pyarrow, duckdb, …), or pandas."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headstart.base.errors import DataError, shown
from headstart.data.compact import LineNumbers
from headstart.data.readers.columns import arrow_columns, examples_of
from headstart.data.readers.reader import Containment, Found, Request, resolve_all


class Frames:
    name = "frame"

    def recognises(self, source: Any) -> bool:
        return hasattr(source, "__arrow_c_stream__") or _is_pandas(source)

    def read(self, source: Any, request: Request) -> Found:
        where = f"the {type(source).__module__.partition('.')[0]} frame"
        columns = _pandas_columns(source, where) if _is_pandas(source) else _arrow_columns(source, where)
        rows = len(next(iter(columns.values()), []))
        places = LineNumbers(rows, first=0, word="row")
        return examples_of(
            columns,
            places,
            where=where,
            origin=where,
            request=request,
            files=lambda written, places: (_files(written, places, where), []),
        )


def _files(written: Sequence[str], places: Sequence[str], where: str) -> list[Path]:
    # A frame has no folder: its paths are the caller's own, relative to where the program runs. Only URLs are refused.
    return resolve_all(written, places, where, Containment(None, allow_outside=True))


def _is_pandas(source: Any) -> bool:
    return type(source).__name__ == "DataFrame" and type(source).__module__.partition(".")[0] == "pandas"


def _pandas_columns(frame: Any, where: str) -> dict[str, Sequence[Any]]:
    """Straight from the columns: an object column may hold paths, lists or pictures that Arrow has no type for."""
    names = [str(c) for c in frame.columns]
    double = sorted({n for n in names if names.count(n) > 1})
    if double:
        raise DataError(f"TB56 {where}: column '{shown(double[0])}' appears twice. Rename one of them.")
    missing = frame.isna()
    return {
        name: [
            None if gone is True else value for value, gone in zip(frame[c].tolist(), missing[c].tolist(), strict=True)
        ]
        for name, c in zip(names, frame.columns, strict=True)
    }


def _arrow_columns(source: Any, where: str) -> dict[str, Sequence[Any]]:
    import pyarrow as pa

    try:
        table = pa.table(source)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"TB60 {where} cannot be read through its Arrow stream: {shown(error)[:160]}") from error
    return arrow_columns(table, where)
