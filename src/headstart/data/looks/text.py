"""Texts: read as they are written, compared without case, spaces and punctuation. Nothing is remembered on disk:
looking at a text costs less than looking it up.
"""

from __future__ import annotations

import hashlib
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from headstart.base.errors import DataError, shown
from headstart.base.progress import QUIET, Observer, track_parts
from headstart.data.clusters import Clusters
from headstart.data.compact import Keys, stretches
from headstart.data.dataset import Dataset, content_key
from headstart.data.decode import BadExample
from headstart.data.duplicates import Pairs
from headstart.data.encoding import as_text
from headstart.data.findings import about_crowds, finding
from headstart.data.shortcuts import Property, about_column_groups, about_telling_properties
from headstart.data.survey import Passenger, Survey, nothing_usable
from headstart.data.words import TEXTS, Words
from headstart.records.audit import Finding, Quarantined

CHUNK = 1024  # texts that are prepared together
FEW_LETTERS = 3
MOST_BEGINNINGS = 2**18  # first words that are told apart
LOOKING = "looking at the texts"


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
        seen = _Seen(len(dataset))
        problems: dict[int, Quarantined] = {}
        waiting = _Waiting(passenger)
        row = 0
        for values in track_parts(stretches(dataset.values), len(dataset), observer, what or LOOKING, unit=TEXTS.many):
            for value in values:
                try:
                    content = value.read_bytes() if isinstance(value, Path) else value
                    key = seen.key(row, content)
                    text = self.value(content, name="")  # a problem is noted by its row
                    seen.text(row, text)
                    waiting.add(key, text)
                except BadExample as problem:
                    problems[row] = Quarantined(dataset.ids[row], problem.code, problem.reason)
                except OSError as error:
                    reason = f"cannot be read ({error.strerror or error})"
                    problems[row] = Quarantined(dataset.ids[row], "DA49", reason)
                row += 1
            seen.write()
        waiting.send()
        usable = np.ones(len(dataset), bool)
        usable[list(problems)] = False
        if not usable.any():
            raise DataError(nothing_usable(dataset, problems, TEXTS))
        return Survey(seen.keys(), usable, problems, seen.columns, _no_thumbnails, decoded=len(dataset))

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
        ordered = near[order]
        again = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
        starts = np.setdiff1d(again - 1, again)
        first = order[starts[np.searchsorted(starts, again) - 1]] if len(again) else again
        return Pairs(first, order[again], np.zeros(len(first), bool), None)

    def findings(self, dataset: Dataset, survey: Survey, rows: np.ndarray, clusters: Clusters) -> Iterator[Finding]:
        yield from _about_little_text(dataset, survey, rows)
        yield from about_crowds(rows, clusters, TEXTS)
        length = np.rint(np.log2(survey.columns["characters"][rows].clip(min=1))).astype(np.int32)
        properties = {
            "the length": Property(length, lambda at: f"about {2 ** int(length[at]):,} characters long"),
            "the beginning": Property(
                survey.columns["beginning"][rows], lambda at: _beginning_in_words(dataset.values[int(rows[at])])
            ),
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


class _Seen:
    """What is noted of each text, a few bytes a row; ``write`` after each stretch of rows."""

    def __init__(self, n: int) -> None:
        self._pairs, self._known = np.zeros((n, 2), np.uint64), np.zeros(n, bool)
        self.columns: dict[str, np.ndarray] = {
            "characters": np.zeros(n, np.int32),
            "words": np.zeros(n, np.int32),
            "near": np.zeros(n, np.uint64),
            "beginning": np.zeros(n, np.int32),
        }
        self._beginnings: dict[str, int] = {"": 0}
        self._keyed: list[int] = []
        self._keys: list[bytes] = []
        self._rows: list[int] = []
        self._noted: list[tuple[int, int, int]] = []
        self._near: list[bytes] = []

    def key(self, row: int, content: Any) -> bytes:
        """The content key, noted."""
        key = content_key(content)
        self._keyed.append(row)
        self._keys.append(key)
        return key

    def text(self, row: int, text: str) -> None:
        bare = _bare(text)
        self._rows.append(row)
        self._noted.append((len(text), bare.count(b" ") + 1, self._beginning(text)))
        self._near.append(_near_hash(bare or text.encode("utf-8", "surrogatepass")))

    def _beginning(self, text: str) -> int:
        """The number of the first word; 0 for new ones where there are too many for any of them to tell anything."""
        word = _first_word(text)
        number = self._beginnings.get(word)
        if number is None:
            number = 0
            if len(self._beginnings) < MOST_BEGINNINGS:
                number = self._beginnings[word] = len(self._beginnings)
        return number

    def write(self) -> None:
        if self._keys:
            self._pairs[self._keyed] = np.frombuffer(b"".join(self._keys), ">u8").reshape(-1, 2)
            self._known[self._keyed] = True
        if self._rows:
            noted = np.array(self._noted, np.int32)
            for name, column in zip(("characters", "words", "beginning"), noted.T, strict=True):
                self.columns[name][self._rows] = column
            self.columns["near"][self._rows] = np.frombuffer(b"".join(self._near), ">u8")
        self._keyed, self._keys, self._rows, self._noted, self._near = [], [], [], [], []

    def keys(self) -> Keys:
        return Keys(self._pairs, self._known)


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


def _bare(text: str) -> bytes:
    """``normalised`` as UTF-8; most texts are ASCII, for which it is a matter of a table."""
    if text.isascii():
        return b" ".join(text.encode("ascii").translate(_ascii_table()).split())
    return normalised(text).encode("utf-8", "surrogatepass")


@cache
def _ascii_table() -> bytes:
    """Each ASCII character in lower case, or a space for punctuation and for the separators that str.split knows."""
    spaces = {*_punctuation(), *range(0x1C, 0x20)}
    return bytes(0x20 if code in spaces else ord(chr(code).lower()) if code < 128 else code for code in range(256))


def _near_hash(bare: bytes) -> bytes:
    return hashlib.sha256(bare).digest()[:8]


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


def _first_word(text: str) -> str:
    words = text.split(None, 1)
    return words[0][:24] if words else ""


def _beginning_in_words(value: Any) -> str:
    return f"texts that begin with '{_first_word(value)}'" if isinstance(value, str) else "others"
