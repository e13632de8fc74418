"""Texts: read as they are written, compared without case, spaces and punctuation. Nothing is remembered on disk:
looking at a text costs less than looking it up.
"""

from __future__ import annotations

import hashlib
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from headstart.base.errors import DataError, shown
from headstart.base.progress import QUIET, Observer, track
from headstart.data.dataset import Dataset
from headstart.data.decode import BadExample
from headstart.data.duplicates import Pairs
from headstart.data.encoding import as_text
from headstart.data.findings import about_crowds, finding
from headstart.data.shortcuts import about_column_groups, about_telling_properties
from headstart.data.survey import Passenger, Survey, nothing_usable
from headstart.data.words import TEXTS, Words
from headstart.records.audit import Cluster, Finding, Quarantined

CHUNK = 1024  # texts that are prepared together
FEW_LETTERS = 3


@dataclass(frozen=True)
class TextLook:
    """encoding: of files that are not UTF-8; None: such files are left out.  most_bytes: of one text."""

    encoding: str | None = None
    most_bytes: int = 2**20

    @property
    def words(self) -> Words:
        return TEXTS

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
        keys: list[bytes] = []
        problems: dict[int, Quarantined] = {}
        characters, words = np.zeros(n, np.int32), np.zeros(n, np.int32)
        near = np.zeros(n, np.uint64)
        waiting = _Waiting(passenger)
        for row in track(range(n), observer, what or "looking at the texts", unit=TEXTS.many):
            key = b""
            try:
                key, content = dataset.content(row)
                text = self.value(content, name=dataset.ids[row])
                bare = normalised(text)
                characters[row], words[row] = len(text), bare.count(" ") + 1
                near[row] = _hash(bare or text)
                waiting.add(key, text)
            except BadExample as problem:
                problems[row] = Quarantined(dataset.ids[row], problem.code, problem.reason)
            except OSError as error:
                problems[row] = Quarantined(dataset.ids[row], "DA49", f"cannot be read ({error.strerror or error})")
            keys.append(key)
        waiting.send()
        usable = np.ones(n, bool)
        usable[list(problems)] = False
        if not usable.any():
            raise DataError(nothing_usable(dataset, problems, TEXTS))
        columns: dict[str, np.ndarray] = {"characters": characters, "words": words, "near": near}
        return Survey(keys, usable, problems, columns, _no_thumbnails, decoded=n)

    def value(self, content: Any, *, name: str, at_least: int | None = None) -> str:
        """The text in a cell or in the bytes of a file."""
        if isinstance(content, bytes):
            if len(content) > self.most_bytes:
                raise _too_long(name, len(content))
            content = as_text(content, name=name, encoding=self.encoding)
        if not isinstance(content, str):
            raise BadExample("TX34", name, f"is a {shown(type(content).__name__)}, not a text")
        if len(content) > self.most_bytes:
            raise _too_long(name, len(content))
        if not content.strip():
            raise BadExample("TX30", name, "is empty" if not content else "holds nothing but spaces")
        return content

    def near_pairs(self, survey: Survey, rows: np.ndarray, features: np.ndarray | None) -> Pairs:
        near = survey.columns["near"][rows]
        order = np.argsort(near, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(near[order]) != 0]) if len(order) else np.zeros(0, np.int64)
        first_of = np.repeat(order[starts], np.diff(np.r_[starts, len(order)]))
        apart = first_of != order
        first, second = first_of[apart], order[apart]
        return Pairs(first, second, np.zeros(len(first), bool), None)

    def findings(
        self, dataset: Dataset, survey: Survey, rows: np.ndarray, clusters: tuple[Cluster, ...]
    ) -> Iterator[Finding]:
        yield from _about_little_text(dataset, survey, rows)
        yield from about_crowds(rows, clusters, TEXTS)
        length = np.log2(survey.columns["characters"][rows].clip(min=1))
        properties = {
            "the length": np.array([f"about {2 ** round(v):,.0f} characters long" for v in length]),
            "the beginning": _beginnings(dataset, rows),
        }
        yield from about_telling_properties(
            dataset, rows, properties, TEXTS, "The model may learn that instead of what is said; look at some of them."
        )
        yield from about_column_groups(dataset, rows)

    def numbers(self, survey: Survey, rows: np.ndarray) -> Mapping[str, Any]:
        found: dict[str, float] = {}
        for name in ("characters", "words"):
            low, middle, most, top = np.quantile(survey.columns[name][rows], (0, 0.5, 0.95, 1)).tolist()
            found |= {f"{name}, fewest": low, f"{name}, middle": middle, f"{name}, 95 %": most, f"{name}, most": top}
        return {"measures": found}


class _Waiting:
    """Texts on their way to the passenger, in chunks; each content once."""

    def __init__(self, passenger: Passenger | None) -> None:
        self.passenger = passenger
        self._claimed: set[bytes] = set()
        self._keys: list[bytes] = []
        self._texts: list[str] = []

    def add(self, key: bytes, text: str) -> None:
        if self.passenger is None or key in self._claimed:
            return
        self._claimed.add(key)
        self._keys.append(key)
        self._texts.append(text)
        if len(self._keys) == CHUNK:
            self.send()

    def send(self) -> None:
        if self.passenger is None or not self._keys:
            return
        new = np.flatnonzero(~self.passenger.has(self._keys))
        prepared = self.passenger.prepare([self._texts[i] for i in new])
        for i, example in zip(new, prepared, strict=True):
            self.passenger.take(self._keys[i], example)
        self._keys, self._texts = [], []


def normalised(text: str) -> str:
    """``text`` without case, punctuation and Unicode's several ways of writing one thing; words apart by one space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().translate(_punctuation()).split())


@cache
def _punctuation() -> dict[int, str]:
    every = range(sys.maxunicode + 1)
    return {code: " " for code in every if unicodedata.category(chr(code)).startswith("P")}


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8])


def _too_long(name: str, size: int) -> BadExample:
    return BadExample("TB60", name, f"holds {size:,} characters, above the limit of 1 MiB for one text")


def _no_thumbnails(rows: np.ndarray) -> np.ndarray:
    return np.zeros((len(rows), 0), np.uint8)


def _about_little_text(dataset: Dataset, survey: Survey, rows: np.ndarray) -> Iterator[Finding]:
    little = rows[survey.columns["characters"][rows] < FEW_LETTERS]
    if len(little):
        yield finding(
            "DA37",
            "warning",
            f"low information {len(little):,}: texts of fewer than {FEW_LETTERS} characters "
            f"(first: {shown(dataset.ids[int(little[0])])}).",
            [dataset.ids[int(r)] for r in little[:10]],
        )


def _beginnings(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """The first word of each text, where it is at hand without reading a file again; '' elsewhere."""
    words: Sequence[str] = [
        match.group()[:24]
        if isinstance(value := dataset.values[r], str) and (match := re.match(r"\s*\S+", value))
        else ""
        for r in rows
    ]
    return np.array([f"texts that begin with '{w.strip()}'" if w else "others" for w in words], object)
