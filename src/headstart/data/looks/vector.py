"""Rows of a table: nothing to decode. Told are what is missing, twins, and columns that give the target away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.base.errors import DataError, shown
from headstart.base.progress import QUIET, Observer, track
from headstart.data.cells import ENOUGH, Kind
from headstart.data.clusters import Clusters
from headstart.data.dataset import Dataset
from headstart.data.decode import BadExample
from headstart.data.duplicates import Pairs
from headstart.data.findings import about_crowds, finding
from headstart.data.rows import Row, column_of
from headstart.data.shortcuts import about_column_groups, left_out_accuracy
from headstart.data.survey import Passenger, Survey
from headstart.data.words import ROWS, Words
from headstart.records.audit import Finding

MANY_MISSING = 0.5  # share of empty cells that is worth a word
GIVES_AWAY = 0.995  # share of the target that one column tells, from which it is called a leak
ROWS_OF_VALUE = 10  # so many rows of each value of a number, and it is looked at as a name


@dataclass(frozen=True)
class VectorLook:
    """Rows are Row of data.rows; there are no limits to obey."""

    @property
    def words(self) -> Words:
        return ROWS

    def survey(
        self,
        dataset: Dataset,
        cache: Path,
        *,
        passenger: Passenger | None = None,
        observer: Observer = QUIET,
        what: str = "",
    ) -> Survey:
        n = len(dataset)
        steps = track(range(n), observer, what or "looking at the rows", unit=ROWS.many)
        keys = [dataset.content(row)[0] for row in steps]
        if passenger is not None:
            raise DataError("DA34 rows of a table are encoded all at once; nobody rides along.")
        return Survey(keys, np.ones(n, bool), {}, {}, _no_thumbnails, decoded=n)

    def value(self, content: Any, *, name: str, at_least: int | None = None) -> Row:
        if not isinstance(content, Row):
            raise BadExample("DA34", name, f"is a {shown(type(content).__name__)}, not a row of a table")
        return content

    def near_pairs(self, survey: Survey, rows: np.ndarray, features: np.ndarray | None) -> Pairs:
        nothing = np.zeros(0, np.int64)
        return Pairs(nothing, nothing, np.zeros(0, bool), None)

    def findings(self, dataset: Dataset, survey: Survey, rows: np.ndarray, clusters: Clusters) -> Iterator[Finding]:
        values = [dataset.values[int(r)] for r in rows]
        yield from _about_leaks(dataset, rows, values)
        yield from _about_missing(values)
        yield from about_crowds(rows, clusters, ROWS)
        yield from about_column_groups(dataset, rows)

    def numbers(self, survey: Survey, rows: np.ndarray) -> Mapping[str, Any]:
        return {}


def _no_thumbnails(rows: np.ndarray) -> np.ndarray:
    return np.zeros((len(rows), 0), np.uint8)


# ------------------------------------------------------------------------------------------------ what one column tells


def _about_leaks(dataset: Dataset, rows: np.ndarray, values: list[Row]) -> Iterator[Finding]:
    """TB57: columns that tell the target (nearly) perfectly, each on its own."""
    if dataset.targets is None or len(rows) < ENOUGH or not values:
        return
    targets = [dataset.targets[int(r)] for r in rows]
    judge = _judge(dataset.target_kind, targets)
    if judge is None:
        return
    for name, kind in values[0].frame.kinds.items():
        told = judge(column_of(values, name), kind)
        if told >= GIVES_AWAY:
            how = "100 %" if told > 0.9999 else f"{100 * told:.1f} %"
            yield finding(
                "TB57",
                "warning",
                f"column '{shown(name)}' alone predicts the target with {how}. Is it known at prediction time? If not, "
                f"leave it out: --features '*,-{shown(name)}'.",
            )


def _judge(target_kind: str | None, targets: list[Any]) -> Any:
    """A function from a column and its kind to the share of the target it tells; None where nothing is to be told."""
    if target_kind == "single-label":
        _, y = np.unique([str(t) for t in targets], return_inverse=True)
        shares = np.bincount(y) / len(y)
        if len(shares) < 2 or shares.max() > GIVES_AWAY:
            return None
        return lambda column, kind: _tells_class(column, kind, y)
    if target_kind == "regression" and not isinstance(targets[0], tuple):
        numbers = np.asarray(targets, np.float64)
        return lambda column, kind: _monotone(column, numbers) if kind != "category" else _explained(column, numbers)
    return None


def _tells_class(column: np.ndarray, kind: Kind, y: np.ndarray) -> float:
    """Share of rows whose class is told by the others with the same value; by the nearest, where values are many."""
    if kind == "category":
        return left_out_accuracy(np.unique(column, return_inverse=True)[1], y)
    known = ~np.isnan(column)
    values, classes = column[known], y[known]
    if len(values) < ENOUGH:
        return 0.0
    different, names = np.unique(values, return_inverse=True)
    if len(different) * ROWS_OF_VALUE <= len(values):
        return left_out_accuracy(names, classes) * float(known.mean())
    order = np.argsort(values, kind="stable")
    gaps = np.diff(values[order], prepend=-np.inf, append=np.inf)
    left = gaps[:-1] <= gaps[1:]
    nearest = np.arange(len(order)) + np.where(left, -1, 1)
    sorted_classes = classes[order]
    return float((sorted_classes[nearest] == sorted_classes).mean()) * float(known.mean())


def _monotone(column: np.ndarray, y: np.ndarray) -> float:
    """|rank correlation|, squared; 1 for any monotone function without ties."""
    known = ~np.isnan(column)
    if known.sum() < ENOUGH or np.ptp(column[known]) == 0:
        return 0.0
    a, b = _ranks(column[known]), _ranks(y[known])
    return float(np.corrcoef(a, b)[0, 1] ** 2) * float(known.mean())


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, ties at their middle."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[where]


def _explained(column: np.ndarray, y: np.ndarray) -> float:
    """Share of the variance that the means of the *other* rows with the same name explain."""
    _, where, counts = np.unique(column, return_inverse=True, return_counts=True)
    sums = np.bincount(where, weights=y)
    others = counts[where] - 1
    guess = np.where(others > 0, (sums[where] - y) / np.maximum(others, 1), y.mean())
    return float(1 - np.square(y - guess).mean() / max(y.var(), 1e-300))


# ------------------------------------------------------------------------------------------------------------- missing


def _about_missing(values: list[Row]) -> Iterator[Finding]:
    if not values:
        return
    shares = {}
    for name, kind in values[0].frame.kinds.items():
        column = column_of(values, name)
        gone = column == "" if kind == "category" else np.isnan(column)
        if gone.any():
            shares[name] = float(np.mean(gone))
    if shares:
        most = sorted(shares, key=lambda n: -shares[n])
        named = ", ".join(f"'{shown(n)}' {shares[n]:.0%}" for n in most[:6]) + (" …" if len(most) > 6 else "")
        heavy = any(share > MANY_MISSING for share in shares.values())
        yield finding(
            "TB53",
            "note",
            f"cells are empty in {len(shares)} of {len(values[0].frame.kinds)} columns ({named}). The middle of the "
            "training rows stands for a missing number, and heads see that it was missing"
            + ("; columns that are mostly empty may tell little." if heavy else "."),
        )
