"""Cells of a table: what kind of column they make, and what they are worth once that is known.

A column's kind is told once, from all its cells; after that every cell must be of that kind, and one that is not is an
error that names it. Nothing is guessed cell by cell.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np

from headstart.base.errors import DataError, listed, shown

Kind = Literal["number", "boolean", "date", "day-first date", "month-first date", "category"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DATES: tuple[Kind, ...] = ("date", "day-first date", "month-first date")

MISSING = frozenset(
    {"", "na", "n/a", "#n/a", "nan", "null", "none", "?", "-", "."}
)  # among numbers, dates and booleans
LARGEST = 1e100  # squares of larger numbers have no place in float64
MOSTLY = 0.8  # share of the cells that tells what a column is meant to hold
CODES = 20  # so few different numbers among words are codes ('1', '2', '3 and more')
ENOUGH = 20  # rows from which repeats, or their absence, mean something

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.I)
_CODE = re.compile(r"0\d+")
_COMMA = re.compile(r"[+-]?\d+,\d+")
_ISO = re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[T ](\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)(Z|[+-]\d{2}:?\d{2})?)?")
_LOCAL = re.compile(
    r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})(?:[T ](\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)(Z|[+-]\d{2}:?\d{2})?)?"
)
_LIKE_A_DATE = re.compile(r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}( .*)?")
_TRUTH: Mapping[str, float] = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0, "t": 1.0, "f": 0.0}
_PAIRS = ({"true", "false"}, {"yes", "no"}, {"t", "f"})
_ID_NAME = re.compile(
    r"(?i:(.*[_\s.-])?(id|uuid|guid|key|index|row|rownames|rowid|rownumber)|unnamed: 0)|.*[a-z](Id|ID)"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Told:
    """kind: None where nothing can be learnt from the column; why: the reason for that, in words."""

    kind: Kind | None
    why: str = ""


def tell(name: str, values: Sequence[Any], where: str = "the table", places: Sequence[str] | None = None) -> Told:
    """What a column holds, from its cells as they were written or typed.

    places: what rows are called; not given: 'row 0', … DataError TB59 for decimal commas, TB71 for dates like
    03/04/2024 where no cell tells whether the day or the month comes first, or cells contradict each other.
    """
    try:
        counts = Counter(values)
    except TypeError:
        return Told(None, "it holds lists or tables")
    present = {v: n for v, n in counts.items() if not is_empty(v)}
    if not present:
        return Told(None, "it is empty")
    if any(isinstance(v, bytes) for v in present):
        return Told(None, "it holds bytes")
    if len(present) == 1 and sum(present.values()) == len(values):
        return Told(None, f"every row holds '{shown(next(iter(present)))[:40]}'")
    return _told(name, values, present, where, places)


def _told(
    name: str, values: Sequence[Any], present: Mapping[Any, int], where: str, places: Sequence[str] | None
) -> Told:
    words = {v: n for v, n in present.items() if not _is_missing_word(v)}
    if {_plain(v) for v in words} in _PAIRS:
        return Told("boolean")
    total = sum(words.values())
    numbers = {v: x for v in words if (x := number(v)) is not None}
    share = sum(words[v] for v in numbers) / max(1, total)
    codes = sum(isinstance(v, str) and bool(_CODE.fullmatch(v.strip())) for v in numbers)
    if numbers and not codes and (share == 1 or (share >= MOSTLY and len(numbers) > CODES)):
        return _told_of_numbers(name, values, numbers)
    local = {v: read for v in words if seconds(v) is None and any(read := _readings(v))}
    dates = sum(n for v, n in words.items() if v in local or seconds(v) is not None)
    if dates >= MOSTLY * total:
        return Told(_order_of(name, values, local, where, places) if local else "date")
    if total and _share(words, _LIKE_A_DATE) >= MOSTLY:
        some = next(str(v) for v in words if isinstance(v, str) and _LIKE_A_DATE.fullmatch(v.strip()))
        return Told(None, f"dates like '{shown(some)[:20]}' are not read; write them as 2024-03-31")
    if total and _share(words, _COMMA) >= MOSTLY:
        some = next(str(v) for v in words if isinstance(v, str) and _COMMA.fullmatch(v.strip()))
        share = _share(words, _COMMA)
        raise DataError(
            f"TB59 {shown(where)}, column '{shown(name)}': {share:.0%} look like numbers with a decimal comma "
            f"(first: '{shown(some)}'). Read them with --decimal ','."
        )
    return _told_of_words(values, present)


def _told_of_numbers(name: str, values: Sequence[Any], numbers: Mapping[Any, float]) -> Told:
    """Numbers, unless they count the rows or name them."""
    distinct = set(numbers.values())
    whole = all(math.isfinite(x) and x.is_integer() for x in distinct)
    if whole and len(distinct) == len(values) >= ENOUGH:
        if max(distinct) - min(distinct) == len(distinct) - 1:
            return Told(None, "it numbers the rows")
        if _ID_NAME.fullmatch(name.strip()):
            return Told(None, "it names the rows: every value occurs once")
    return Told("number")


def _told_of_words(values: Sequence[Any], present: Mapping[Any, int]) -> Told:
    filled = sum(present.values())
    if filled >= ENOUGH and len(present) > filled / 2:
        sentences = sum(n for v, n in present.items() if str(v).strip().count(" ") >= 2)
        if sentences > filled / 2:
            return Told(None, "it holds texts")
        return Told(None, f"it names the rows: {len(present):,} different values in {len(values):,} rows")
    return Told("category")


def _readings(cell: Any) -> tuple[bool, bool]:
    """Whether a text is a date with the day first, and whether it is one with the month first."""
    return seconds(cell, "day-first date") is not None, seconds(cell, "month-first date") is not None


def _order_of(
    name: str,
    values: Sequence[Any],
    local: Mapping[Any, tuple[bool, bool]],
    where: str,
    places: Sequence[str] | None,
) -> Kind:
    """Which comes first in the whole column, by those cells that can be read in one way only."""
    by_day = next((v for v, (day, month) in local.items() if day and not month), None)
    by_month = next((v for v, (day, month) in local.items() if month and not day), None)
    if by_day is not None and by_month is None:
        return "day-first date"
    if by_month is not None and by_day is None:
        return "month-first date"

    def cell(value: Any) -> str:
        row = list(values).index(value)
        return f"'{shown(value)[:30]}' ({f'row {row}' if places is None else places[row]})"

    if by_day is None:
        wrong = f"dates such as {cell(next(iter(local)))} can be read in two ways, and no day above 12 tells which"
    else:
        wrong = f"{cell(by_day)} has the day first and {cell(by_month)} the month"
    raise DataError(
        f"TB71 {shown(where)}, column '{shown(name)}': {wrong}. Write them as 2024-03-31, or leave the column out: "
        f"--features '*,-{shown(name)}'."
    )


def _share(words: Mapping[Any, int], pattern: re.Pattern[str]) -> float:
    fitting = sum(n for v, n in words.items() if isinstance(v, str) and pattern.fullmatch(v.strip()))
    return fitting / sum(words.values())


# ------------------------------------------------------------------------------------------------------- single cells


def is_empty(cell: Any) -> bool:
    """None, NaN, NaT and blank cells."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return True
    return isinstance(cell, Real | Decimal | date | np.datetime64) and cell != cell  # noqa: PLR0124 - NaN test


def _is_missing_word(cell: Any) -> bool:
    return is_empty(cell) or (isinstance(cell, str) and cell.strip().lower() in MISSING)


def _plain(cell: Any) -> str:
    return str(cell).strip().lower()


def number(cell: Any) -> float | None:
    """The number a cell holds, perhaps infinite; None where it is none."""
    if isinstance(cell, bool | np.bool_):
        return None
    if isinstance(cell, Real | Decimal):
        return float(cell)
    if not isinstance(cell, str):
        return None
    text = cell.strip()
    return float(text) if _NUMBER.fullmatch(text) or _INFINITE.fullmatch(text) else None


def truth(cell: Any) -> float | None:
    """1.0 for true, yes and t, 0.0 for false, no and f, in any case; None for anything else."""
    return _TRUTH.get(_plain(cell))


def seconds(cell: Any, kind: Kind = "date") -> float | None:
    """Seconds since 1970 (UTC where no zone is given) of a date, or of a text: 2024-03-31, 2024-03-31 16:05.

    kind: what a text such as 03/04/2024 16:05 or 3.4.2024 is, one of DATES; 'date': no date.
    """
    if isinstance(cell, np.datetime64):
        return float(cell.astype("datetime64[us]").astype(np.int64)) / 1e6
    if isinstance(cell, str):
        cell = _parsed_date(cell.strip(), kind)
    if isinstance(cell, datetime):
        aware = cell if cell.tzinfo else cell.replace(tzinfo=UTC)
        return (aware - _EPOCH).total_seconds()
    if isinstance(cell, date):
        return (datetime(cell.year, cell.month, cell.day, tzinfo=UTC) - _EPOCH).total_seconds()
    return None


def _parsed_date(text: str, kind: Kind) -> datetime | None:
    if found := _ISO.fullmatch(text):
        year, month, day, time, zone = found.groups()
    elif kind != "date" and (found := _LOCAL.fullmatch(text)):
        first, _, second, year, time, zone = found.groups()
        day, month = (first, second) if kind == "day-first date" else (second, first)
    else:
        return None
    hour, _, rest = (time or "00:00").partition(":")
    clock = f"{int(hour):02}:{rest}"
    try:
        return datetime.fromisoformat(f"{year}-{int(month):02}-{int(day):02}T{clock}{zone or ''}")
    except ValueError:  # the 31st of February
        return None


def word(cell: Any) -> str:
    """The name of a category: as written; whole numbers alike whether a library typed them 3 or 3.0; '' if missing."""
    if is_empty(cell):
        return ""
    if isinstance(cell, bool | np.bool_):
        return "true" if cell else "false"
    if isinstance(cell, Real) and not isinstance(cell, int) and float(cell).is_integer():
        return str(int(float(cell)))
    return cell if type(cell) is str else str(cell)


def in_words(value: Any, kind: Kind) -> str:
    """A parsed cell for people; '–' for a missing one."""
    if kind == "category":
        return value or "–"
    if math.isnan(value):
        return "–"
    if kind in DATES:
        when = _EPOCH + timedelta(seconds=float(value))
        return when.strftime("%Y-%m-%d" if value % 86_400 == 0 else "%Y-%m-%d %H:%M")
    if kind == "boolean":
        return "yes" if value else "no"
    return f"{value:.6g}"


# ------------------------------------------------------------------------------------------------------ whole columns


def parsed(
    name: str, kind: Kind, values: Sequence[Any], places: Sequence[str], where: str, *, advice: str = ""
) -> np.ndarray:
    """(N,) float64 with NaN where nothing is known, or for categories (N,) object of str with ''.

    Dates are seconds since 1970, booleans 0 and 1. Raises DataError TB67 for cells of another kind, TB53 for infinite
    or absurdly large numbers; both name column and rows.  advice: what else may be done about cells of another kind.
    """
    if kind == "category":
        names: dict[str, str] = {}  # equal words are one object
        return np.array([names.setdefault(w, w) for w in map(word, values)], object)
    read = partial(seconds, kind=kind) if kind in DATES else number if kind == "number" else truth
    out = np.full(len(values), np.nan)
    wrong: list[int] = []
    for row, value in enumerate(values):
        found = read(value)
        if found is not None:
            out[row] = found
        elif not _is_missing_word(value):
            wrong.append(row)
    if wrong:
        raise _not_of_kind(name, kind, values, wrong, places, where, advice)
    check_finite(name, out, places, where)
    return out


_SINGULAR = {
    "number": "numbers",
    "boolean": "yes or no",
    "date": "dates",
    "day-first date": "dates with the day first, or such as 2024-03-31",
    "month-first date": "dates with the month first, or such as 2024-03-31",
}


def _not_of_kind(
    name: str, kind: str, values: Sequence[Any], wrong: list[int], places: Sequence[str], where: str, advice: str
) -> DataError:
    cells = [f"'{shown(values[row])[:40]}' ({places[row]})" for row in wrong[:5]]
    more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
    return DataError(
        f"TB67 {shown(where)}, column '{shown(name)}' holds {_SINGULAR[kind]}, but {len(wrong)} of {len(values)} cells "
        f"do not: {', '.join(cells)}{more}. Mend them, or leave them empty if the value is not known{advice}."
    )


def check_finite(name: str, numbers: np.ndarray, places: Sequence[str], where: str) -> None:
    """DataError TB53 for numbers that are infinite or beyond LARGEST; NaN is a missing one."""
    bad = np.flatnonzero(~np.isnan(numbers) & ~(np.abs(numbers) <= LARGEST))
    if len(bad):
        raise DataError(
            f"TB53 {shown(where)}, column '{shown(name)}': {len(bad)} of {len(numbers)} values are infinite or beyond "
            f"{LARGEST:g} ({listed([places[r] for r in bad[:6]], most=5)}). Mend them, or leave the cells empty."
        )
