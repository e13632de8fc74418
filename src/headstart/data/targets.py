"""What kind of target a column holds: one label, several labels, or numbers. Said in words, open to contradiction.

Labels are never interpreted: 'no', 'NA', '007' and 'TRUE' stay the strings the user wrote.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from typing import Any

import numpy as np

from headstart.base.errors import DataError, did_you_mean, listed, shown
from headstart.data.compact import Coded, LineNumbers, Numbers, taken
from headstart.data.dataset import TargetKind

KINDS: tuple[TargetKind, ...] = ("single-label", "multi-label", "regression")
DIVIDER = "|"
FEW_VALUES = 10  # decimal numbers with at most this many different values are grades, not quantities

_NUMBER = re.compile(r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$")
_DECIMAL_COMMA = re.compile(r"^\s*[+-]?\d+,\d+\s*$")


@dataclass(frozen=True, eq=False)
class Targets:
    """kind, why, and the targets of the rows that are kept: str | tuple of str | float | tuple of floats.

    keep: numbers of those rows; all of them unless rows without a label were dropped.
    """

    kind: TargetKind
    reason: str
    values: Sequence[Any]
    keep: np.ndarray
    notes: tuple[str, ...] = ()


def settle_targets(
    raw: Sequence[Any],
    *,
    name: str,
    where: str = "",
    places: Sequence[str] = (),
    task: str | None = None,
    drop_unlabelled: bool = False,
) -> Targets:
    """Tell the kind of target and bring every value into its form.

    raw: N values as written.  name: the column, where: the table, places: N of 'line 7', all for messages.
    task: one of KINDS to overrule what would be told.
    Raises DataError: TB52 rows without a label, TB58 too many different values, TB59 decimal commas.
    """
    if task is not None and task not in KINDS:
        raise DataError(
            f"there is no task '{shown(task)}'.{did_you_mean(task, KINDS)} Choose one of: {', '.join(KINDS)}."
        )
    source = f"{shown(where)}, column '{shown(name)}'" if where else f"'{shown(name)}'"
    places = places if len(places) else LineNumbers(len(raw), first=0, word="row")
    missing = _where(raw, lambda value: _is_missing(value, task))
    notes: tuple[str, ...] = ()
    if missing.any():
        notes = _about_missing(source, missing, places, drop=drop_unlabelled)
    keep = np.flatnonzero(~missing)
    kept, kept_places = (taken(raw, keep), taken(places, keep)) if missing.any() else (raw, places)
    kind, reason = (_overruled(task), "as you asked") if task else _told(_Seen(kept), source)
    if kind == "single-label":
        _check_not_ids(_Seen(kept), source)
    return Targets(kind, reason, _in_form(kept, kind, source, kept_places), keep, notes)


def _where(values: Sequence[Any], claim: Callable[[Any], bool]) -> np.ndarray:
    """(N,) bool where the claim holds; asked once for each different value where these are known."""
    if isinstance(values, Coded):
        return np.array([claim(word) for word in values.words], bool)[values.codes]
    return np.fromiter(map(claim, values), bool, len(values))


class _Seen:
    """Values that are looked at several times; each only once where it is known how often it occurs."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = values
        self._counts = values.counts() if isinstance(values, Coded) else None

    def __len__(self) -> int:
        return len(self.values)

    def any(self, claim: Callable[[Any], bool]) -> bool:
        return any(map(claim, self._once()))

    def all(self, claim: Callable[[Any], bool]) -> bool:
        return all(map(claim, self._once()))

    def rows(self, claim: Callable[[Any], bool]) -> int:
        """How many rows hold a value for which the claim is true."""
        if self._counts is not None:
            return sum(n for value, n in self._counts.items() if claim(value))
        return sum(map(claim, self.values))

    @cached_property
    def different(self) -> int:
        """How many different values there are, as texts."""
        if self._counts is not None:
            return len(set(map(_as_text, self._counts)))
        hashes = np.fromiter((hash(_as_text(v)) for v in self.values), np.int64, len(self.values))
        return len(np.unique(hashes))  # 8 bytes for a value, where a set of ten million would take a gigabyte

    def _once(self) -> Iterable[Any]:
        return self.values if self._counts is None else self._counts


def _overruled(task: str) -> TargetKind:
    return next(k for k in KINDS if k == task)


# ------------------------------------------------------------------------------------------------------------ missing


def _is_missing(value: Any, task: str | None) -> bool:
    """None, NaN and blank cells. In a multi-label column that the user declared, a blank cell means: no labels."""
    if isinstance(value, str):
        return task != "multi-label" and not value.strip()
    if isinstance(value, tuple) and value and task != "multi-label":
        return any(_is_missing(v, task) for v in value)
    return value is None or (isinstance(value, float) and math.isnan(value))


def _about_missing(source: str, missing: np.ndarray, places: Sequence[str], *, drop: bool) -> tuple[str, ...]:
    rows = np.flatnonzero(missing)
    if len(rows) == len(missing):
        raise DataError(
            f"TB52 {source}: every one of its {len(rows)} rows is empty. Name another column with --target."
        )
    if drop:
        return (f"{len(rows)} rows without a label were left out.",)
    first = [places[row] for row in rows[:5].tolist()]
    numbers = listed([place.removeprefix("line ") for place in first], most=5)
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    word = "lines" if first[0].startswith("line ") else "first"
    raise DataError(
        f"TB52 {source}: {len(rows)} of {len(missing)} rows have no label ({word} {numbers}{more}). "
        "Remove them or use --drop-unlabelled; in a multi-label column empty cells are fine with --task multi-label."
    )


# --------------------------------------------------------------------------------------------------------------- told


def _told(seen: _Seen, source: str) -> tuple[TargetKind, str]:
    """(kind, reason in words) from the values alone."""
    n = len(seen)
    if seen.any(lambda v: isinstance(v, list | set | frozenset | np.ndarray)):
        return "multi-label", "each value is a list of labels"
    if n and seen.all(lambda v: isinstance(v, tuple)):
        return _told_of_tuples(list(seen.values))
    divided = seen.rows(lambda v: isinstance(v, str) and DIVIDER in v)
    if divided:
        return "multi-label", f"{divided:,} of {n:,} values hold several labels divided by '{DIVIDER}'"
    if seen.all(lambda v: bool(_NUMBER.match(_as_text(v)))):
        return _told_of_numbers(seen, source)
    commas = seen.rows(lambda v: bool(_DECIMAL_COMMA.match(_as_text(v))))
    if commas >= 0.9 * n:
        raise DataError(
            f"TB59 {source}: {commas / n:.0%} look like numbers with a decimal comma "
            f"(first: '{shown(_as_text(seen.values[0]))}'). "
            "Read them with --decimal ','; or use --task single-label if they are names."
        )
    return "single-label", f"{seen.different:,} different values in {n:,} rows"


def _told_of_tuples(values: list[Any]) -> tuple[TargetKind, str]:
    flat = {x for row in values for x in row}
    if any(isinstance(x, str) and not _NUMBER.match(x) for x in flat):
        return "multi-label", "each value is a list of labels"
    if flat <= {0, 1} and all(isinstance(x, Integral) for x in flat):
        return "multi-label", f"{len(values[0])} columns of 0 and 1"
    return "regression", f"{len(values[0])} numbers for each example"


def _told_of_numbers(seen: _Seen, source: str) -> tuple[TargetKind, str]:
    n, different = len(seen), seen.different
    whole = seen.all(lambda v: float(_as_text(v)).is_integer())
    if not whole and different > FEW_VALUES:
        return "regression", f"{different:,} different decimal numbers in {n:,} rows"
    typed = seen.any(lambda v: isinstance(v, Real) and not isinstance(v, Integral))
    if whole and typed and different > max(FEW_VALUES, n // 10):
        return "regression", f"{different:,} different floats in {n:,} rows"
    if whole and _too_many(different, n):
        raise _looks_like_ids(source, different, n)
    hint = "; use --task regression if they are quantities" if different > FEW_VALUES else ""
    return "single-label", f"{different:,} different numbers in {n:,} rows{hint}"


def _too_many(different: int, rows: int) -> bool:
    return rows >= 20 and different > rows / 2


def _looks_like_ids(source: str, different: int, rows: int) -> DataError:
    return DataError(
        f"TB58 {source}: target has {different:,} values in {rows:,} rows. Regression? --task regression. "
        "If this is an id column, name another with --target."
    )


def _check_not_ids(seen: _Seen, source: str) -> None:
    if _too_many(seen.different, len(seen)):
        raise _looks_like_ids(source, seen.different, len(seen))


# ------------------------------------------------------------------------------------------------------------ in form


def _in_form(values: Sequence[Any], kind: TargetKind, source: str, places: Sequence[str]) -> Sequence[Any]:
    if kind == "regression":
        return _numbers(values, source, places)
    form: Callable[[Any], Any] = _as_text if kind == "single-label" else _as_labels
    if isinstance(values, Coded):
        return values.mapped([form(word) for word in values.words])
    return Coded.of(map(form, values))


def _numbers(values: Sequence[Any], source: str, places: Sequence[str]) -> Sequence[Any]:
    """Numbers, or tuples of numbers. DataError TB59 for what is neither."""
    found: Sequence[Any]
    if len(values) and isinstance(values[0], tuple | list | np.ndarray):
        found = [_as_numbers(v) for v in values]
        rows = np.flatnonzero([number is None for number in found])
    else:
        found = Numbers(np.fromiter((_as_number(v) for v in values), np.float64, len(values)))
        rows = np.flatnonzero(np.isnan(found.values))
    if not len(rows):
        return found
    first = [f"'{shown(values[row])}' ({places[row]})" for row in rows[:5].tolist()]
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    comma = any(isinstance(v, str) and bool(_DECIMAL_COMMA.match(v)) for v in values)
    what = "decimal commas; read them with --decimal ','" if comma else "remove or mend those rows"
    raise DataError(
        f"TB59 {source}: {len(rows)} of {len(values)} values are not numbers: {', '.join(first)}{more}; {what}."
    )


def _as_number(value: Any) -> float:
    """NaN where it is none."""
    found = _as_numbers(value)
    return found if isinstance(found, float) else math.nan


def _as_text(value: Any) -> str:
    return value if type(value) is str else str(value)


def _as_labels(value: Any) -> tuple[str, ...]:
    """Labels without repeats, in the order given. A row of 0 and 1 names the columns that are 1 by number."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ()
    if isinstance(value, str):
        parts = [p.strip() for p in value.split(DIVIDER)]
        return tuple(dict.fromkeys(p for p in parts if p))
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, tuple) and value and all(isinstance(v, Integral) and v in (0, 1) for v in value):
        return tuple(str(i) for i, v in enumerate(value) if v)
    if isinstance(value, set | frozenset):
        return tuple(sorted(_as_text(v) for v in value))
    if isinstance(value, list | tuple):
        return tuple(dict.fromkeys(_as_text(v) for v in value))
    return (_as_text(value),)


def _as_numbers(value: Any) -> float | tuple[float, ...] | None:
    """A finite float, a tuple of them, or None where it is not one."""
    if isinstance(value, tuple | list | np.ndarray):
        several = [_as_numbers(v) for v in value]
        return None if any(not isinstance(v, float) for v in several) else tuple(several)  # type: ignore[arg-type]
    if isinstance(value, str) and not _NUMBER.match(value):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
