"""Rows of several blocks: each block is looked at as its own kind, and a row is judged by all that it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from headstart.base.errors import DataError, shown
from headstart.base.progress import QUIET, Observer
from headstart.data.clusters import Clusters, Groups, joined
from headstart.data.compact import Keys, taken
from headstart.data.dataset import Dataset
from headstart.data.decode import BadExample
from headstart.data.duplicates import Pairs, exact_groups
from headstart.data.findings import finding
from headstart.data.looks.audio import AudioLook
from headstart.data.looks.image import ImageLook
from headstart.data.looks.look import Look
from headstart.data.looks.text import TextLook
from headstart.data.looks.vector import VectorLook
from headstart.data.mixed import NOTHING, Mixed, key_of_parts
from headstart.data.parts import Part, parts_of
from headstart.data.shortcuts import about_column_groups
from headstart.data.survey import Passenger, SeenBlock, Survey, nothing_usable
from headstart.data.words import ROWS, Words
from headstart.records.audit import Finding, Quarantined

BY_NAME = "DA43"  # what names of examples tell: those of a block are the numbers of its rows


@dataclass(frozen=True)
class MixedLook:
    """image, text: the looks, with their limits, for blocks of that kind; the others have none."""

    image: ImageLook = field(default_factory=ImageLook)
    text: TextLook = field(default_factory=TextLook)

    @property
    def words(self) -> Words:
        return ROWS

    def of(self, modality: str) -> Look:
        """The look for blocks of a modality."""
        looks: dict[str, Look] = {"image": self.image, "text": self.text, "audio": AudioLook(), "vector": VectorLook()}
        return looks[modality]

    def survey(
        self,
        dataset: Dataset,
        cache: Path,
        *,
        passenger: Passenger | None = None,
        observer: Observer = QUIET,
        what: str = "",
    ) -> Survey:
        if passenger is not None:
            raise DataError("DA34 blocks of a mixed table are embedded one by one; nobody rides along.")
        parts = parts_of(dataset)
        seen = {
            part.name: self.of(part.modality).survey(
                part.dataset, cache, observer=observer, what=f"looking at {shown(part.name)}"
            )
            for part in parts
            if len(part.rows)
        }
        return together(dataset, parts, seen)

    def value(self, content: Any, *, name: str, at_least: int | None = None) -> dict[str, Any]:
        """Block → its example, decoded; blocks that the row does not have are left out."""
        if not isinstance(content, Mixed):
            raise BadExample("DA34", name, f"is a {shown(type(content).__name__)}, not a row of a mixed table")
        found = {}
        for block, value in zip(content.blocks, content.values, strict=True):
            if value is not None:
                read = value.read_bytes() if isinstance(value, Path) else value
                found[block.name] = self.of(block.modality).value(read, name=name, at_least=at_least)
        return found

    def near_pairs(self, survey: Survey, rows: np.ndarray, features: np.ndarray | None) -> Pairs:
        """Rows whose blocks are each the same, or look the same; the first of such rows with each other one."""
        alike = np.stack([self._alike(block, rows) for block in survey.blocks], axis=1)
        _, first, where = np.unique(alike, axis=0, return_index=True, return_inverse=True)
        first, second = first[where.ravel()], np.arange(len(rows))
        others = np.flatnonzero(first != second)
        return Pairs(first[others], second[others], np.zeros(len(others), bool), None)

    def _alike(self, block: SeenBlock, rows: np.ndarray) -> np.ndarray:
        """(n,) numbers, equal where the block is the same; -1 in rows that do not have it."""
        place = np.full(max(rows.max(initial=0), block.rows.max(initial=0)) + 1, -1)
        place[block.rows] = np.arange(len(block.rows))
        has = np.flatnonzero(place[rows] >= 0)
        at = place[rows[has]]
        copies = exact_groups(taken(Keys.of(block.survey.keys), at))
        once = np.ones(len(at), bool)
        once[copies.members] = False
        once[copies.members[copies.starts]] = True
        some = np.flatnonzero(once)
        near = self.of(block.modality).near_pairs(block.survey, at[some], None)
        first = np.concatenate([copies.first, some[near.first]])
        numbers = np.full(len(rows), -1)
        numbers[has] = joined(len(at), first, np.concatenate([copies.members, some[near.second]]))
        return numbers

    def findings(self, dataset: Dataset, survey: Survey, rows: np.ndarray, clusters: Clusters) -> Iterator[Finding]:
        parts = {part.name: part for part in parts_of(dataset)}
        usable = np.zeros(len(dataset), bool)
        usable[rows] = True
        for block in survey.blocks:
            part = parts[block.name]
            told = self._of_block(part, block, np.flatnonzero(usable[block.rows]))
            # what is told of columns names them itself
            prefix = "" if block.modality == "vector" else f"{shown(block.name)}: "
            yield from (replace(found, text=prefix + found.text) for found in told)
        yield from _about_missing(list(parts.values()), rows)
        yield from _about_shared(survey, rows)
        yield from about_column_groups(dataset, rows)

    def _of_block(self, part: Part, block: SeenBlock, rows: np.ndarray) -> Iterator[Finding]:
        if len(rows):
            nothing = Clusters(part.dataset, Groups.none(), np.zeros(0, bool))
            found = self.of(part.modality).findings(part.dataset, block.survey, rows, nothing)
            yield from (one for one in found if one.code != BY_NAME)

    def numbers(self, survey: Survey, rows: np.ndarray) -> Mapping[str, Any]:
        return {}


def together(dataset: Dataset, parts: Sequence[Part], seen: Mapping[str, Survey]) -> Survey:
    """One look at every row, from those at its blocks. A row is usable if all it has is, and it has something.

    parts: all blocks.  seen: by name, the looks at those that some row has.  DataError DA26 where no row is usable.
    """
    n = len(dataset)
    keys = [[NOTHING] * len(parts) for _ in range(n)]
    usable, has_one = np.ones(n, bool), np.zeros(n, bool)
    problems: dict[int, Quarantined] = {}
    for number, part in enumerate(parts):
        if part.name not in seen:
            continue
        survey = seen[part.name]
        for row, key in zip(part.rows.tolist(), survey.keys, strict=True):
            keys[row][number] = key
        has_one[part.rows] = True
        usable[part.rows] &= survey.usable
        for at, bad in survey.problems.items():
            row = int(part.rows[at])
            problems.setdefault(row, Quarantined(bad.id, bad.code, f"{part.name}: {bad.reason}"))
    for row in np.flatnonzero(~has_one).tolist():
        problems[row] = Quarantined(dataset.ids[row], "TB72", "has nothing in any of its blocks")
    usable &= has_one
    if not usable.any():
        raise DataError(nothing_usable(dataset, problems, ROWS))
    return Survey(
        keys=[b"" if b"" in of_row else key_of_parts(of_row) for of_row in keys],
        usable=usable,
        problems=problems,
        columns={},
        tiny=_no_thumbnails,
        decoded=sum(survey.decoded for survey in seen.values()),
        blocks=tuple(SeenBlock(p.name, p.modality, p.rows, seen[p.name]) for p in parts if p.name in seen),
    )


def _no_thumbnails(rows: np.ndarray) -> np.ndarray:
    return np.zeros((len(rows), 0), np.uint8)


def _about_missing(parts: Sequence[Part], rows: np.ndarray) -> Iterator[Finding]:
    """TB72: rows without one of the blocks."""
    for part in parts:
        missing = np.setdiff1d(rows, part.rows)
        if len(missing):
            yield finding(
                "TB72",
                "note",
                f"{len(missing):,} of {len(rows):,} rows have no {shown(part.name)}. The mean of the training rows "
                "stands for it, and heads see that it was missing.",
            )


def _about_shared(survey: Survey, rows: np.ndarray) -> Iterator[Finding]:
    """TB73: files or texts that several rows share, which a division would part."""
    whole = exact_groups(taken(Keys.of(survey.keys), rows))
    rows = np.delete(rows, np.setdiff1d(whole.members, whole.members[whole.starts]))  # of equal rows one is enough
    for block in survey.blocks:
        if block.modality == "vector":
            continue
        of_rows = np.flatnonzero(np.isin(block.rows, rows))
        copies = exact_groups(taken(Keys.of(block.survey.keys), of_rows))
        if len(copies):
            yield finding(
                "TB73",
                "note",
                f"{len(copies.members):,} of {len(of_rows):,} rows share their {shown(block.name)} with another row, "
                f"beside other values. Where that would tell too much, --group-by {shown(block.name)} keeps them on "
                "one side.",
            )
