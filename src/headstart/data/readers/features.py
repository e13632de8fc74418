"""Columns of a table as features: which of them can be learnt from, and which are left out and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from headstart.base.errors import DataError, did_you_mean, listed, shown
from headstart.data.cells import Kind, Told, check_finite, number, parsed, tell
from headstart.data.compact import LineNumbers
from headstart.data.rows import Frame, Rows

MOST_TOLD = 8  # columns that one note names


def features_of(
    columns: Mapping[str, Sequence[Any]],
    places: Sequence[str],
    *,
    where: str,
    taken: Sequence[str | None],
    patterns: Sequence[str] | None = None,
    learnt: Mapping[str, Kind] | None = None,
) -> tuple[Rows, list[str]]:
    """(the rows, notes) of a table.

    taken: columns with another use: target, split, groups.  patterns: names of those to take, with * and ?; one that
    begins with '-' leaves out. A column that is named in full is taken whatever it looks like.
    learnt: columns and kinds that a saved model needs; then nothing is told, and others are passed over.
    Raises DataError TB63 for columns that are not there, TB53, TB59, TB67 and TB71 for cells.
    """
    if learnt is not None:
        return Rows(_as_learnt(columns, places, where, learnt)), []
    left = [name for name in columns if name not in taken]
    chosen = matching(left, patterns, where) if patterns is not None else left
    asked = {name for name in chosen if patterns is not None and name in patterns}
    told = {name: _told(name, columns[name], places, where, named=name in asked) for name in chosen}
    kinds = {name: t.kind for name, t in told.items() if t.kind is not None}
    if not kinds:
        raise _nothing_left(columns, told, where)
    made = {
        name: parsed(name, kind, columns[name], places, where, advice=f"; or leave the column out: {_without(name)}")
        for name, kind in kinds.items()
    }
    frame = Frame(made, kinds, where, places)
    return Rows(frame), _notes(told)


def _without(name: str) -> str:
    return f"--features '*,-{shown(name)}'"


def matching(names: Sequence[str], patterns: Sequence[str], where: str) -> list[str]:
    """Those of ``names`` that the patterns choose, in their order; DataError TB63 for a pattern that fits none."""
    wanted = [p for p in patterns if not p.startswith("-") or p in names]
    unwanted = [p[1:] for p in patterns if p not in wanted]
    for pattern in (*wanted, *unwanted):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise DataError(
                f"TB63 {shown(where)} has no column '{shown(pattern)}' for --features."
                f"{did_you_mean(pattern, names)} It has: {listed(names, most=12)}."
            )
    return [
        name
        for name in names
        if (not wanted or any(fnmatchcase(name, p) for p in wanted)) and not any(fnmatchcase(name, p) for p in unwanted)
    ]


def _told(name: str, values: Sequence[Any], places: Sequence[str], where: str, *, named: bool) -> Told:
    found = tell(name, values, where, places)
    if named and found.kind is None and "names the rows" in found.why:
        return Told("number" if all(number(v) is not None for v in values) else "category")
    return found


def _nothing_left(columns: Mapping[str, Sequence[Any]], told: Mapping[str, Told], where: str) -> DataError:
    texts = [name for name, t in told.items() if t.why == "it holds texts"]
    if texts:
        return DataError(
            f"TB63 {shown(where)}: column '{shown(texts[0])}' holds texts. To learn from them: --text "
            f"{shown(texts[0])}."
        )
    reasons = [f"'{shown(name)}' ({t.why})" for name, t in told.items()]
    others = f" None of these will do: {', '.join(reasons[:MOST_TOLD])}." if reasons else ""
    return DataError(f"TB63 {shown(where)} has no column to learn from.{others} It has: {listed(columns, most=12)}.")


def _notes(told: Mapping[str, Told]) -> list[str]:
    """One sentence for each reason to leave columns out."""
    by_reason: dict[str, list[str]] = {}
    for name, t in told.items():
        if t.kind is None:
            reason = t.why if "every row" not in t.why else "it holds one and the same value everywhere"
            by_reason.setdefault(reason, []).append(name)
    notes = []
    for reason, names in by_reason.items():
        columns = "column" if len(names) == 1 else f"{len(names)} columns"
        quoted = listed([f"'{n}'" for n in names], most=MOST_TOLD)
        hint = f" To learn from texts: --text {shown(names[0])}." if reason == "it holds texts" else ""
        notes.append(f"TB68 {columns} {quoted} left out: {_plural(reason, len(names))}.{hint}")
    return notes


def _plural(reason: str, n: int) -> str:
    if n == 1:
        return reason
    return reason.replace("it holds", "they hold").replace("it names", "they name").replace("it is", "they are")


def _as_learnt(
    columns: Mapping[str, Sequence[Any]], places: Sequence[str], where: str, learnt: Mapping[str, Kind]
) -> Frame:
    missing = [name for name in learnt if name not in columns]
    if missing:
        hint = did_you_mean(missing[0], columns)
        what = "column" if len(missing) == 1 else f"{len(missing)} columns:"
        raise DataError(
            f"TB63 {shown(where)} lacks {what} {listed(missing, most=8)}, which the model learnt "
            f"from.{hint} It has: {listed(columns, most=12)}. Leave cells empty where a value is not known."
        )
    made = {name: parsed(name, kind, columns[name], places, where) for name, kind in learnt.items()}
    return Frame(made, dict(learnt), where, places)


def rows_of_array(array: np.ndarray, where: str, learnt: Mapping[str, Kind] | None = None) -> Rows:
    """(N, D) numbers as rows of the columns 'x0', 'x1', …; DataError TB53 for infinite ones, TB63 for another width.

    learnt: as for ``features_of``; columns are taken in order, whatever the model called them.
    """
    places = LineNumbers(len(array), first=0, word="row")
    if learnt is not None and len(learnt) != array.shape[1]:
        raise DataError(f"TB63 {shown(where)} has {array.shape[1]} columns; the model learnt from {len(learnt)}.")
    names = list(learnt) if learnt is not None else [f"x{i}" for i in range(array.shape[1])]
    kinds: dict[str, Kind] = dict(learnt) if learnt is not None else dict.fromkeys(names, "number")
    if "category" in kinds.values():
        raise DataError(f"TB63 {shown(where)} holds numbers only; the model learnt from names too. Give a table.")
    numbers = np.asarray(array, np.float64)
    for name, column in zip(names, numbers.T, strict=True):
        check_finite(name, column, places, where)
    return Rows(Frame(dict(zip(names, numbers.T, strict=True)), kinds, where, places))
