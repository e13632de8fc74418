"""What kind of target a column holds: one label, several labels, or numbers. Said in words, open to contradiction.

Labels are never interpreted: 'no', 'NA', '007' and 'TRUE' stay the strings the user wrote.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from headstart.base.errors import DataError, did_you_mean, listed, shown
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
    values: list[Any]
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
    places = places or [f"row {i}" for i in range(len(raw))]
    missing = np.array([_is_missing(v, task) for v in raw], bool)
    notes: tuple[str, ...] = ()
    if missing.any():
        notes = _about_missing(source, missing, places, drop=drop_unlabelled)
    keep = np.flatnonzero(~missing)
    kept = [raw[int(i)] for i in keep]
    kind, reason = (_overruled(task), "as you asked") if task else _told(kept, source)
    values = _in_form(kept, kind, source, [places[int(i)] for i in keep] if kind == "regression" else ())
    if kind == "single-label":
        _check_not_ids(values, source)
    return Targets(kind, reason, values, keep, notes)


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
    rows = np.flatnonzero(missing).tolist()
    if len(rows) == len(missing):
        raise DataError(
            f"TB52 {source}: every one of its {len(rows)} rows is empty. Name another column with --target."
        )
    if drop:
        return (f"{len(rows)} rows without a label were left out.",)
    numbers = [places[i].removeprefix("line ") for i in rows]
    word = "lines" if places[rows[0]].startswith("line ") else "first"
    raise DataError(
        f"TB52 {source}: {len(rows)} of {len(missing)} rows have no label ({word} {listed(numbers, most=5)}). "
        "Remove them or use --drop-unlabelled; in a multi-label column empty cells are fine with --task multi-label."
    )


# --------------------------------------------------------------------------------------------------------------- told


def _told(values: list[Any], source: str) -> tuple[TargetKind, str]:
    """(kind, reason in words) from the values alone."""
    if any(isinstance(v, list | set | frozenset | np.ndarray) for v in values):
        return "multi-label", "each value is a list of labels"
    if values and all(isinstance(v, tuple) for v in values):
        return _told_of_tuples(values)
    divided = sum(isinstance(v, str) and DIVIDER in v for v in values)
    if divided:
        return "multi-label", f"{divided:,} of {len(values):,} values hold several labels divided by '{DIVIDER}'"
    texts = [_as_text(v) for v in values]
    different = len(set(texts))
    if all(_NUMBER.match(t) for t in texts):
        return _told_of_numbers(values, texts, different, source)
    commas = sum(bool(_DECIMAL_COMMA.match(t)) for t in texts)
    if commas >= 0.9 * len(texts):
        raise DataError(
            f"TB59 {source}: {commas / len(texts):.0%} look like numbers with a decimal comma "
            f"(first: '{shown(texts[0])}'). "
            "Write them with a point; or use --task single-label if they are names."
        )
    return "single-label", f"{different:,} different values in {len(texts):,} rows"


def _told_of_tuples(values: list[Any]) -> tuple[TargetKind, str]:
    flat = {x for row in values for x in row}
    if any(isinstance(x, str) and not _NUMBER.match(x) for x in flat):
        return "multi-label", "each value is a list of labels"
    if flat <= {0, 1} and all(isinstance(x, Integral) for x in flat):
        return "multi-label", f"{len(values[0])} columns of 0 and 1"
    return "regression", f"{len(values[0])} numbers for each example"


def _told_of_numbers(values: list[Any], texts: list[str], different: int, source: str) -> tuple[TargetKind, str]:
    whole = all(float(t).is_integer() for t in texts)
    if not whole and different > FEW_VALUES:
        return "regression", f"{different:,} different decimal numbers in {len(texts):,} rows"
    typed = any(isinstance(v, Real) and not isinstance(v, Integral) for v in values)
    if whole and typed and different > max(FEW_VALUES, len(values) // 10):
        return "regression", f"{different:,} different floats in {len(texts):,} rows"
    if whole and _too_many(different, len(texts)):
        raise _looks_like_ids(source, different, len(texts))
    hint = "; use --task regression if they are quantities" if different > FEW_VALUES else ""
    return "single-label", f"{different:,} different numbers in {len(texts):,} rows{hint}"


def _too_many(different: int, rows: int) -> bool:
    return rows >= 20 and different > rows / 2


def _looks_like_ids(source: str, different: int, rows: int) -> DataError:
    return DataError(
        f"TB58 {source}: target has {different:,} values in {rows:,} rows. Regression? --task regression. "
        "If this is an id column, name another with --target."
    )


def _check_not_ids(values: list[str], source: str) -> None:
    if _too_many(len(set(values)), len(values)):
        raise _looks_like_ids(source, len(set(values)), len(values))


# ------------------------------------------------------------------------------------------------------------ in form


def _in_form(values: list[Any], kind: TargetKind, source: str, places: Sequence[str]) -> list[Any]:
    if kind == "single-label":
        return [_as_text(v) for v in values]
    if kind == "multi-label":
        return [_as_labels(v) for v in values]
    numbers = [_as_numbers(v) for v in values]
    wrong = [f"'{shown(v)}' ({p})" for v, n, p in zip(values, numbers, places, strict=True) if n is None]
    if wrong:
        comma = sum(isinstance(v, str) and bool(_DECIMAL_COMMA.match(v)) for v in values)
        what = "decimal commas; write them with a point" if comma else "remove or mend those rows"
        raise DataError(
            f"TB59 {source}: {len(wrong)} of {len(values)} values are not numbers: {listed(wrong, most=5)}; {what}."
        )
    return numbers


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
