"""Columns of a table as numbers of about one size. What is needed for it is measured on training rows, and kept.

Each column becomes a few numbers ("parts"): a number stays one, a category is one for each of its names, a date is its
day and what recurs in it. Every column is centred and has variance 1 in all, so that a category with thirty names
weighs no more than a number. What is missing gets the middle of the training rows and, where training rows were
missing too, a part of its own.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from headstart.data.cells import DATES, Kind
from headstart.data.rows import Row, column_of

MOST_NAMES = 100  # of one category; rarer ones count as others
FEWEST_ROWS = 2  # of a name that gets a part of its own
MOST_RARE = 1000  # rare names that are remembered, to tell them from new ones
SERIES = 16  # columns 'emb_0', 'emb_1', … from which they are one vector, and scaled together
TINY = 1e-12  # spread, relative to the size of the numbers, below which a part says nothing

VALUE, MISSING = "value", "missing"
DAY = 86_400.0
WEEK = tuple(f"weekday {i}" for i in range(7))
_NUMBERED = re.compile(r"(.*?)(\d+)")


@dataclass(frozen=True)
class Column:
    """How one column becomes numbers.

    parts: what they are: 'value' and perhaps 'missing'; names of a category ('': missing); parts of a date.
    mean, scale: one for each part; the number is (raw − mean) / scale.
    fill: the raw number that stands for a missing one.  rare: names seen in training that have no part.
    """

    name: str
    kind: Kind
    parts: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    fill: float = 0.0
    rare: tuple[str, ...] = ()


def learn_columns(rows: Sequence[Row]) -> tuple[Column, ...]:
    """The columns of these rows, which must be training rows only; one without any spread has no parts."""
    frame = rows[0].frame
    columns = [_learnt(name, kind, column_of(rows, name)) for name, kind in frame.kinds.items()]
    return tuple(_sharing_scale(columns))


def width_of(columns: Sequence[Column]) -> int:
    return sum(len(column.parts) for column in columns)


def encode(rows: Sequence[Row], columns: Sequence[Column]) -> np.ndarray:
    """(n, E) float32, the parts of all columns in order."""
    out = np.zeros((len(rows), width_of(columns)), np.float32)
    at = 0
    for column in columns:
        wide = len(column.parts)
        if wide and len(rows):
            raw = _raw(column, column_of(rows, column.name))
            out[:, at : at + wide] = (raw - np.asarray(column.mean)) / np.asarray(column.scale)
        at += wide
    return out


def places_of(columns: Sequence[Column]) -> dict[str, slice]:
    """Column → where its parts are in what ``encode`` gives."""
    found, at = {}, 0
    for column in columns:
        found[column.name] = slice(at, at + len(column.parts))
        at += len(column.parts)
    return found


def unfamiliar(rows: Sequence[Row], columns: Sequence[Column]) -> dict[str, tuple[str, ...]]:
    """Column → names of its category that no training row had, the commonest first; only columns with such names."""
    found = {}
    for column in columns:
        if column.kind == "category":
            known = {*column.parts, *column.rare, ""}
            new = Counter(v for v in column_of(rows, column.name) if v not in known)
            if new:
                found[column.name] = tuple(name for name, _ in new.most_common())
    return found


# ----------------------------------------------------------------------------------------------------------- learning


def _learnt(name: str, kind: Kind, values: np.ndarray) -> Column:
    if kind == "category":
        return _learnt_category(name, values)
    known = values[~np.isnan(values)]
    fill = float(np.median(known)) if len(known) else 0.0
    parts = [VALUE] if kind not in DATES else [VALUE, *_recurring(known)]
    if len(known) < len(values):
        parts.append(MISSING)
    return _standardised(Column(name, kind, tuple(parts), (), (), fill), values)


def _learnt_category(name: str, values: np.ndarray) -> Column:
    counts = Counter(values.tolist())
    common = sorted((n for n in counts if counts[n] >= FEWEST_ROWS), key=lambda n: (-counts[n], n))[:MOST_NAMES]
    rare = sorted(counts.keys() - {*common, ""})[:MOST_RARE]
    parts = tuple(sorted(common))
    column = _standardised(Column(name, "category", parts, (), (), rare=tuple(rare)), values)
    together = float(np.sqrt(np.square(column.scale).sum()))
    return replace(column, scale=(together,) * len(column.parts))


def _recurring(seconds: np.ndarray) -> list[str]:
    """What may recur in these dates: the weekday, the season, the hour."""
    days = seconds / DAY
    parts: list[str] = []
    if len(days) and np.ptp(days) >= 7:
        parts += WEEK
    if len(days) and np.ptp(days) >= 90:
        parts += ["season cos", "season sin"]
    if (np.abs(days - np.round(days)) > 1e-6).any():
        parts += ["hour cos", "hour sin"]
    return parts


def _standardised(column: Column, values: np.ndarray) -> Column:
    """With mean and scale from these values; parts that do not vary are taken out."""
    if not column.parts:
        return column
    raw = _raw(column, values)
    mean = raw.mean(axis=0)
    scale = np.sqrt(np.square(raw - mean).mean(axis=0))
    varies = scale > TINY * np.maximum(1e-300, np.abs(raw).max(axis=0))
    return replace(
        column,
        parts=tuple(p for p, v in zip(column.parts, varies, strict=True) if v),
        mean=tuple(mean[varies].tolist()),
        scale=tuple(scale[varies].tolist()),
    )


def _sharing_scale(columns: Sequence[Column]) -> list[Column]:
    """Numbered series of numbers are one vector: its directions keep their lengths, and only the whole is scaled."""
    series: dict[str, list[int]] = defaultdict(list)
    for i, column in enumerate(columns):
        found = _NUMBERED.fullmatch(column.name)
        if found and column.kind == "number" and column.parts == (VALUE,):
            series[found.group(1)].append(i)
    made = list(columns)
    for members in series.values():
        if len(members) >= SERIES:
            together = float(np.sqrt(np.mean([columns[i].scale[0] ** 2 for i in members])))
            for i in members:
                made[i] = replace(columns[i], scale=(together,))
    return made


# ---------------------------------------------------------------------------------------------------------- raw numbers


def _raw(column: Column, values: np.ndarray) -> np.ndarray:
    """(n, parts) float64, not yet centred."""
    if column.kind == "category":
        place = {name: i for i, name in enumerate(column.parts)}
        at = np.array([place.get(v, -1) for v in values], np.int64)
        return (at[:, None] == np.arange(len(column.parts))).astype(np.float64)
    missing = np.isnan(values)
    filled = np.where(missing, column.fill, values)
    readings = _readings(filled) if column.kind in DATES else {VALUE: filled}
    readings[MISSING] = missing.astype(np.float64)
    return np.stack([readings[part] for part in column.parts], axis=1)


def _readings(seconds: np.ndarray) -> dict[str, np.ndarray]:
    """Parts of dates by name; 1970 began on a Thursday, and a year has 365.2425 days."""
    days = seconds / DAY
    weekday = (np.floor(days).astype(np.int64) + 3) % 7
    found: dict[str, np.ndarray] = {VALUE: days}
    found |= {name: (weekday == i).astype(np.float64) for i, name in enumerate(WEEK)}
    for name, turns in (("season", days / 365.2425), ("hour", days)):
        found |= {f"{name} cos": np.cos(2 * np.pi * turns), f"{name} sin": np.sin(2 * np.pi * turns)}
    return found


def kinds_of(columns: Sequence[Column]) -> Mapping[str, Kind]:
    """What a table must hold for these columns."""
    return {column.name: column.kind for column in columns}


PARTS = frozenset({VALUE, MISSING, *WEEK, "season cos", "season sin", "hour cos", "hour sin"})
