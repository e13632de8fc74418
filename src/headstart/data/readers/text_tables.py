"""CSV, TSV and JSON lines as columns of the strings that were written.

No value is interpreted: 'no', 'NA', '007' and '1e5' come out as they went in. What cannot be read as written is named
by line, column and byte.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from headstart.base.errors import DataError, listed, shown
from headstart.base.progress import QUIET, Advanced, Finished, Observer, Started
from headstart.data.compact import Gathered, LineNumbers
from headstart.data.readers.reader import IMAGE_EXTENSIONS
from headstart.data.readers.utf8 import Utf8, opened_as_utf8

AT_ONCE = 2**22  # bytes of a table that are parsed together; no record may be longer
LINES_AT_ONCE = 4096
MOST_NAMED = 5  # wrong lines that one message names
Columns = dict[str, Sequence[Any]]


@dataclass(frozen=True, eq=False)
class Rows:
    """columns: name → N values.  places: N of 'line 7'."""

    columns: Columns
    places: Sequence[str]


# ---------------------------------------------------------------------------------------------------------------- CSV


def read_csv(path: Path, encoding: str | None, observer: Observer = QUIET) -> Rows:
    """Every column as strings. DataError TB54, TB55 (ragged rows, open quotes), TB56 (duplicate columns), TB62."""
    with opened_as_utf8(path, encoding, observer) as text:
        delimiter = "\t" if path.suffix.lower() in (".tsv", ".tab") else _delimiter(text.head())
        names = _header(path, text, delimiter)
        columns = _csv_columns(path, text, delimiter, names, observer)
        return Rows(dict(zip(names, columns, strict=True)), _csv_places(text, delimiter, len(columns[0])))


def _csv_columns(path: Path, text: Utf8, delimiter: str, names: list[str], observer: Observer) -> list[Sequence[Any]]:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    gathered = [Gathered() for _ in names]
    ragged = 0

    def note(row: Any) -> str:
        nonlocal ragged
        ragged += 1
        return "skip"

    what, start, done = f"reading {shown(path.name)}", time.monotonic(), 0
    total = max(1, text.newlines or text.returns)
    observer(Started(what, total, "lines"))
    try:
        reader = arrow_csv.open_csv(
            pa.PythonFile(text.from_start(), "r"),
            read_options=arrow_csv.ReadOptions(
                use_threads=False, column_names=names, skip_rows_after_names=1, block_size=AT_ONCE
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=note
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, null_values=[]
            ),
        )
        for batch in reader:
            for column, chunk in zip(gathered, batch.columns, strict=True):
                column.add_arrow(chunk)
            done += batch.num_rows
            observer(Advanced(what, done, total))
    except pa.ArrowInvalid as error:
        raise _csv_problem(path, text, delimiter, names) or DataError(
            f"TB55 {shown(path.name)} cannot be read as a table: {shown(error)[:200]}"
        ) from error
    finally:
        observer(Finished(what, done, time.monotonic() - start))
    if ragged:
        problem = _csv_problem(path, text, delimiter, names)
        raise problem or DataError(f"TB55 {shown(path.name)}: {ragged} rows have not {len(names)} fields.")
    return [column.column() for column in gathered]


def _delimiter(head: bytes) -> str:
    """The character that divides the header line: comma unless only others occur there."""
    first = head.decode("utf-8", "replace")
    counts = {d: first.count(d) for d in (",", ";", "\t", "|")}
    return "," if counts[","] or not any(counts.values()) else max(counts, key=lambda d: counts[d])


def _header(path: Path, text: Utf8, delimiter: str) -> list[str]:
    names = next(_records(text, delimiter), (1, []))[1]
    if not names:
        raise DataError(f"TB62 {shown(path.name)} is empty. Expected a header line such as: path,label")
    double = sorted({n for n in names if names.count(n) > 1})
    if double:
        words = [f"column '{shown(n)}' appears {_times(names.count(n))}" for n in double]
        raise DataError(f"TB56 {shown(path.name)}, line 1: {listed(words)}. Give each column a name of its own.")
    if any(n.lower().endswith(IMAGE_EXTENSIONS) for n in names):
        raise DataError(
            f"TB62 {shown(path.name)}: the first line looks like data, not column names ({listed(names)}). "
            "Add a header line such as: path,label"
        )
    return names


def _times(count: int) -> str:
    return "twice" if count == 2 else f"{count} times"


def _records(text: Utf8, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line on which it starts, fields) of each record. Slow; for the header and for naming what is wrong."""
    start = 1
    limit = csv.field_size_limit()
    with text.lines() as wrapper:
        lines = csv.reader(wrapper, delimiter=delimiter)
        try:
            for fields in lines:
                if fields:
                    yield start, fields
                start = lines.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"TB55 line {start:,}: {shown(error)} (a cell holds at most {limit:,} characters). "
                "Is a quote left open?"
            ) from error


def _csv_problem(path: Path, text: Utf8, delimiter: str, names: list[str]) -> DataError | None:
    """The TB55 error that names the lines with too many or too few fields, and open quotes."""
    wrong, count = [], 0
    start, fields = 1, names
    for start, fields in _records(text, delimiter):
        if len(fields) != len(names):
            count += 1
            if count <= MOST_NAMED:
                wrong.append(f"line {start:,} has {len(fields)} fields, header has {len(names)}")
    if not wrong:
        return None
    quote = ""
    if any("\n" in f for f in fields) and len(fields) != len(names):
        quote = f" A quote that is opened in line {start:,} is never closed."
    return DataError(
        f"TB55 {shown(path.name)}: {_first(wrong, count)}.{quote} "
        f'Put text that contains {shown(repr(delimiter))} or a quote between double quotes ("…").'
    )


def _first(named: Sequence[str], count: int) -> str:
    """The problems that are named, and how many more there are."""
    return ", ".join(named) + (f" and {count - len(named)} more" if count > len(named) else "")


def _csv_places(text: Utf8, delimiter: str, rows: int) -> LineNumbers:
    """Line of each record; records are counted only where they span several lines or lines are blank."""
    newlines = text.newlines or text.returns
    if newlines + (not text.ends_with_newline) == rows + 1:
        return LineNumbers(rows)
    return LineNumbers.at(np.fromiter((start for start, _ in _records(text, delimiter)), np.int64)[1:])


# --------------------------------------------------------------------------------------------------------- JSON lines


def read_jsonl(path: Path, encoding: str | None, observer: Observer = QUIET) -> Rows:
    """One object a line. Numbers, true and false stay as they are written; null is None. DataError TB55, TB56."""
    with opened_as_utf8(path, encoding, observer) as text:
        return _jsonl_rows(path, text, observer)


def _jsonl_rows(path: Path, text: Utf8, observer: Observer) -> Rows:
    columns: dict[str, Gathered] = {}
    places: list[np.ndarray] = []
    problems: list[str] = []
    broken = done = 0
    what, start, total = f"reading {shown(path.name)}", time.monotonic(), max(1, text.newlines)
    observer(Started(what, total, "lines"))
    numbered = enumerate(text.from_start(), start=1)
    while lines := list(islice(numbered, LINES_AT_ONCE)):
        rows: list[dict[str, Any]] = []
        numbers: list[int] = []
        for number, line in lines:
            if not line.strip():
                continue
            try:
                rows.append(_json_object(line.rstrip(b"\n")))
                numbers.append(number)
            except (ValueError, RecursionError) as error:
                broken += 1
                words = "nested too deeply" if isinstance(error, RecursionError) else shown(error)[:120]
                if broken <= MOST_NAMED:
                    problems.append(f"line {number:,}: {words}")
        for name in dict.fromkeys(name for row in rows for name in row):
            columns.setdefault(name, Gathered())
        for name, column in columns.items():
            column.add([None] * (done - len(column)))  # a key that is new here
            column.add([row.get(name) for row in rows])
        places.append(np.array(numbers, np.int64))
        done += len(rows)
        observer(Advanced(what, lines[-1][0], total))
    observer(Finished(what, done, time.monotonic() - start))
    if problems:
        raise DataError(f"TB55 {shown(path.name)}: {_first(problems, broken)}. Each line must be one JSON object.")
    if not done:
        raise DataError(
            f'TB62 {shown(path.name)} is empty. Expected lines such as: {{"path": "a.jpg", "label": "cat"}}'
        )
    return Rows({name: column.column() for name, column in columns.items()}, LineNumbers.at(np.concatenate(places)))


def _json_object(line: bytes) -> dict[str, Any]:
    value = json.loads(line, object_pairs_hook=_unique_pairs, parse_float=str, parse_int=str, parse_constant=str)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return {k: ("true" if v else "false") if isinstance(v, bool) else v for k, v in value.items()}


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [k for k, _ in pairs]
        raise ValueError(f"key '{next(k for k in names if names.count(k) > 1)}' appears twice")
    return made
