"""CSV, TSV and JSON lines as columns of the strings that were written.

No value is interpreted: 'no', 'NA', '007' and '1e5' come out as they went in. What cannot be read as written is named
by line, column and byte.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.base.errors import DataError, listed, shown
from headstart.data.encoding import BOMS, looks_like, utf16_without_mark
from headstart.data.readers.reader import IMAGE_EXTENSIONS

Columns = dict[str, list[Any]]


@dataclass(frozen=True, eq=False)
class Rows:
    """columns: name → N values.  places: N of 'line 7'."""

    columns: Columns
    places: Sequence[str]


# ----------------------------------------------------------------------------------------------------------- encoding


def text_as_utf8(path: Path, encoding: str | None) -> bytes:
    """The file's text as UTF-8 without byte order mark. UTF-8 and UTF-16 with a mark are told; others must be named.

    Raises DataError TB54 (not that encoding: byte, line, column, and what it looks like) or TB55 (NUL bytes).
    """
    data = path.read_bytes()
    named = encoding
    for mark, name in BOMS:
        if data.startswith(mark):
            data = data[len(mark) :]
            named = name if encoding is None or encoding.lower().startswith(name[:6]) else encoding
    if named is None and (found := utf16_without_mark(data)):
        raise DataError(
            f"TB54 {shown(path.name)} is not UTF-8 (every other byte is 0). Looks like {found}: --encoding {found}."
        )
    utf8 = _check_utf8(path, data) if named in (None, "utf-8") else _decoded(path, data, str(named)).encode()
    nul = utf8.find(b"\0")
    if nul >= 0:
        line, column = _position(utf8, nul)
        raise DataError(
            f"TB55 {shown(path.name)}: NUL byte at line {line:,}, column {column}. The file is damaged or not a table."
        )
    return utf8


def _check_utf8(path: Path, data: bytes) -> bytes:
    try:
        decoder = codecs.getincrementaldecoder("utf-8")()
        for at in range(0, len(data), 2**24):  # in pieces: no second copy of a big file
            decoder.decode(data[at : at + 2**24], at + 2**24 >= len(data))
    except UnicodeDecodeError:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            line, column = _position(data, error.start)
            guess = looks_like(data)
            raise DataError(
                f"TB54 {shown(path.name)} is not UTF-8 (byte 0x{data[error.start]:02X} at line {line:,}, "
                f"column {column}). Looks like {guess}: --encoding {guess}."
            ) from error
    return data


def _decoded(path: Path, data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except LookupError as error:
        raise DataError(
            f"TB54 there is no encoding '{shown(encoding)}'. Common ones: utf-8, utf-16, latin-1, "
            "cp1252, gbk, shift_jis."
        ) from error
    except UnicodeDecodeError as error:
        line, column = _position(data, error.start)
        raise DataError(
            f"TB54 {shown(path.name)} is not {shown(encoding)} (byte 0x{data[error.start]:02X} at line {line:,}, "
            f"column {column}). Looks like {looks_like(data)}."
        ) from error


def _position(data: bytes, at: int) -> tuple[int, int]:
    """(line, column), both from 1; the column counts bytes."""
    return data.count(b"\n", 0, at) + 1, at - (data.rfind(b"\n", 0, at) + 1) + 1


# ---------------------------------------------------------------------------------------------------------------- CSV


def read_csv(path: Path, encoding: str | None) -> Rows:
    """Every column as strings. DataError TB54, TB55 (ragged rows, open quotes), TB56 (duplicate columns), TB62."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    utf8 = text_as_utf8(path, encoding)
    delimiter = "\t" if path.suffix.lower() in (".tsv", ".tab") else _delimiter(utf8)
    names = _header(path, utf8, delimiter)
    ragged = []

    def note(row: Any) -> str:
        ragged.append(row)
        return "skip"

    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(utf8),
            read_options=arrow_csv.ReadOptions(use_threads=False, column_names=names, skip_rows_after_names=1),
            parse_options=arrow_csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=note
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, null_values=[]
            ),
        )
    except pa.ArrowInvalid as error:
        raise _csv_problem(path, utf8, delimiter, names) or DataError(
            f"TB55 {shown(path.name)} cannot be read as a table: {shown(error)[:200]}"
        ) from error
    if ragged:
        problem = _csv_problem(path, utf8, delimiter, names)
        raise problem or DataError(f"TB55 {shown(path.name)}: {len(ragged)} rows have not {len(names)} fields.")
    columns = {name: table.column(i).to_pylist() for i, name in enumerate(names)}
    return Rows(columns, _csv_places(utf8, delimiter, table.num_rows))


def _delimiter(utf8: bytes) -> str:
    """The character that divides the header line: comma unless only another one occurs there."""
    first = utf8[: utf8.find(b"\n") + 1 or len(utf8)].decode()
    counts = {d: first.count(d) for d in (",", ";", "\t")}
    return "," if counts[","] or not any(counts.values()) else max(counts, key=lambda d: counts[d])


def _header(path: Path, utf8: bytes, delimiter: str) -> list[str]:
    names = next(_records(utf8, delimiter), (1, []))[1]
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


def _records(utf8: bytes, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line on which it starts, fields) of each record. Slow; for the header and for naming what is wrong."""
    lines = csv.reader(io.TextIOWrapper(io.BytesIO(utf8), "utf-8", newline=""), delimiter=delimiter)
    start = 1
    limit = csv.field_size_limit()
    try:
        for fields in lines:
            if fields:
                yield start, fields
            start = lines.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"TB55 line {start:,}: {shown(error)} (a cell holds at most {limit:,} characters). Is a quote left open?"
        ) from error


def _csv_problem(path: Path, utf8: bytes, delimiter: str, names: list[str]) -> DataError | None:
    """The TB55 error that names the lines with too many or too few fields, and open quotes."""
    wrong: list[str] = []
    start, fields = 1, names
    for start, fields in _records(utf8, delimiter):
        if len(fields) != len(names):
            wrong.append(f"line {start:,} has {len(fields)} fields, header has {len(names)}")
    if not wrong:
        return None
    quote = ""
    if any("\n" in f for f in fields) and len(fields) != len(names):
        quote = f" A quote that is opened in line {start:,} is never closed."
    return DataError(
        f"TB55 {shown(path.name)}: {listed(wrong, most=5)}.{quote} "
        f'Put text that contains {shown(repr(delimiter))} or a quote between double quotes ("…").'
    )


def _csv_places(utf8: bytes, delimiter: str, rows: int) -> Sequence[str]:
    """Line of each record; counted in words only where records span several lines or lines are blank."""
    newlines = utf8.count(b"\n") or utf8.count(b"\r")
    last = 0 if utf8.endswith((b"\n", b"\r")) or not utf8 else 1
    if newlines + last == rows + 1:
        return LineNumbers(rows)
    return [f"line {start}" for start, _ in _records(utf8, delimiter)][1:]


class LineNumbers(Sequence[str]):
    """'line 2', 'line 3', … for N rows below a header, made when asked for."""

    def __init__(self, rows: int, first: int = 2, word: str = "line") -> None:
        self._rows, self._first, self._word = rows, first, word

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(self._rows))]
        if not -self._rows <= row < self._rows:
            raise IndexError(row)
        return f"{self._word} {self._first + row % self._rows}"


# --------------------------------------------------------------------------------------------------------- JSON lines


def read_jsonl(path: Path, encoding: str | None) -> Rows:
    """One object a line. Numbers, true and false stay as they are written; null is None. DataError TB55, TB56."""
    utf8 = text_as_utf8(path, encoding)
    rows: list[dict[str, Any]] = []
    places: list[str] = []
    problems: list[str] = []
    for number, line in enumerate(utf8.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(_json_object(line))
            places.append(f"line {number}")
        except (ValueError, RecursionError) as error:
            words = "nested too deeply" if isinstance(error, RecursionError) else shown(error)[:120]
            problems.append(f"line {number:,}: {words}")
    if problems:
        raise DataError(f"TB55 {shown(path.name)}: {listed(problems, most=5)}. Each line must be one JSON object.")
    if not rows:
        raise DataError(
            f'TB62 {shown(path.name)} is empty. Expected lines such as: {{"path": "a.jpg", "label": "cat"}}'
        )
    names = list(dict.fromkeys(name for row in rows for name in row))
    return Rows({name: [row.get(name) for row in rows] for name in names}, places)


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
