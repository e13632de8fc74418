"""One look at every example: read once, decode once, and whoever else wants it gets it on the way.

``headstart inspect`` surveys without a network; ``features.extract`` rides on the same pass. Threads read, decode and
prepare (Pillow lets go of the interpreter lock); the caller consumes in the order of the rows. Only a few batches are
in flight, so memory does not grow with the number of examples. What was seen is remembered by content: a second look at
the same files decodes nothing.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol

import numpy as np

from headstart.base.errors import DataError, shown
from headstart.base.progress import QUIET, Observer, track
from headstart.data.dataset import Dataset
from headstart.data.decode import BadExample
from headstart.data.facts import FactsStore
from headstart.data.words import Words
from headstart.records.audit import Quarantined

IN_FLIGHT = 96  # decoded images that may wait for the network
FLUSH = 2048  # facts written as one shard


@dataclass(frozen=True, eq=False)
class SeenBlock:
    """The look at one block of a mixed table. rows: (m,) those of the table that have it.  survey: of these."""

    name: str
    modality: str
    rows: np.ndarray
    survey: Survey


@dataclass(frozen=True, eq=False)
class Survey:
    """What one look at N examples found; columns by row of the dataset.

    keys: (N,) 16-byte content keys; b"" where the file could not even be read.
    usable: (N,) bool.  problems: row → why it is not usable.
    columns: name → (N,) array of what was seen, as the modality's look says (data/looks/); zero or '' in rows that
        are not usable.
    tiny: rows → (n, …) uint8 that stand for them, such as 16 × 16 thumbnails.
    decoded: how many examples were decoded in this look; the others were known.
    blocks: of a mixed table, what was seen in each.
    """

    keys: Sequence[bytes]
    usable: np.ndarray
    problems: Mapping[int, Quarantined]
    columns: Mapping[str, np.ndarray]
    tiny: Callable[[np.ndarray], np.ndarray] = field(repr=False)
    decoded: int = 0
    blocks: Sequence[SeenBlock] = ()

    @property
    def rows(self) -> np.ndarray:
        """Numbers of the usable rows."""
        return np.flatnonzero(self.usable)


@dataclass(frozen=True)
class Passenger:
    """Someone who wants the examples on the way.

    prepare: decoded examples → what is wanted of each; called in the threads.
    has: content keys → (n,) bool, which of them are not needed.
    take: called in the caller's thread, in order of the rows, with (key, what prepare gave).
    at_least: the sides that JPEGs may not be shrunk below twice of.
    """

    prepare: Callable[[Sequence[Any]], Sequence[Any]]
    has: Callable[[Sequence[bytes]], np.ndarray]
    take: Callable[[bytes, Any], None]
    at_least: int | None = None


class See(Protocol):
    """Decode one example: (value, facts for the store by name). Raises BadExample. Called in threads."""

    def __call__(self, content: Any, *, name: str, at_least: int | None) -> tuple[Any, Mapping[str, Any]]: ...


def look_through(
    dataset: Dataset,
    store: FactsStore,
    see: See,
    words: Words,
    *,
    passenger: Passenger | None = None,
    observer: Observer = QUIET,
    workers: int | None = None,
    what: str = "looking",
) -> Survey:
    """Look at every row in threads, for modalities whose examples must be decoded. DataError when none is usable."""
    look = _Look(dataset, store, see, passenger)
    workers = workers or min(16, os.cpu_count() or 1)
    found: list[tuple[bytes, str]] = []
    try:
        with ThreadPoolExecutor(workers, thread_name_prefix="headstart-decode") as pool:
            waiting: deque[Future[_Seen]] = deque()
            rows = iter(range(len(dataset)))
            for _ in track(range(len(dataset)), observer, what, unit=words.many):
                while len(waiting) < IN_FLIGHT and (row := next(rows, None)) is not None:
                    waiting.append(pool.submit(look, row))
                seen = waiting.popleft().result()
                found.append((seen.key, seen.unreadable))
                look.remember(seen)
                if passenger is not None and seen.prepared is not None:
                    passenger.take(seen.key, seen.prepared)
    finally:
        look.flush()  # an interrupted look is not lost
    return _gather(dataset, store, found, look.decoded, words)


@dataclass(frozen=True)
class _Seen:
    key: bytes
    facts: Mapping[str, Any] | BadExample | None = None
    prepared: Any = None
    unreadable: str = ""


class _Look:
    """What a thread does with one row. Equal content is looked at once, by whoever comes first."""

    def __init__(self, dataset: Dataset, store: FactsStore, see: See, passenger: Passenger | None) -> None:
        self.dataset, self.store, self.see, self.passenger = dataset, store, see, passenger
        self.decoded = 0
        self._claimed: set[bytes] = set()
        self._lock = Lock()
        self._keys: list[bytes] = []
        self._facts: list[Mapping[str, Any] | BadExample] = []

    def __call__(self, row: int) -> _Seen:
        try:
            key, content = self.dataset.content(row)
        except OSError as error:
            return _Seen(b"", unreadable=f"cannot be read ({error.strerror or error})")
        position = int(self.store.find([key])[0])
        known = position >= 0
        wanted = self._is_wanted(key) and not (known and self._is_bad(position))
        if known and not wanted:
            return _Seen(key)
        with self._lock:
            if key in self._claimed:
                return _Seen(key)
            self._claimed.add(key)
        try:
            value, facts = self.see(
                content,
                name=self.dataset.ids[row],
                at_least=self.passenger.at_least if self.passenger else None,
            )
        except BadExample as problem:
            return _Seen(key, problem)
        prepared = self.passenger.prepare([value])[0] if self.passenger is not None and wanted else None
        return _Seen(key, None if known else facts, prepared)

    def _is_wanted(self, key: bytes) -> bool:
        return self.passenger is not None and not self.passenger.has([key])[0]

    def _is_bad(self, position: int) -> bool:
        return not self.store.columns(np.array([position]))["ok"][0]

    def remember(self, seen: _Seen) -> None:
        self.decoded += seen.facts is not None or seen.prepared is not None
        if seen.facts is not None:
            self._keys.append(seen.key)
            self._facts.append(seen.facts)
            if len(self._keys) >= FLUSH:
                self.flush()

    def flush(self) -> None:
        if self._keys:
            self.store.append(self._keys, self._facts)
            self._keys, self._facts = [], []


def _gather(
    dataset: Dataset, store: FactsStore, found: Collection[tuple[bytes, str]], decoded: int, words: Words
) -> Survey:
    store.refresh()
    keys = [key for key, _ in found]
    readable = np.array([bool(key) for key in keys])
    positions = np.full(len(keys), -1)
    positions[readable] = store.find([key for key in keys if key])
    columns = {}
    usable = np.zeros(len(keys), bool)
    problems: dict[int, Quarantined] = {}
    if readable.any():
        of_readable = store.columns(positions[readable])
        ok = of_readable.pop("ok")
        usable[readable] = ok
        for row, code, reason in zip(
            np.flatnonzero(readable)[~ok], of_readable.pop("code")[~ok], of_readable.pop("reason")[~ok], strict=True
        ):
            problems[int(row)] = Quarantined(dataset.ids[row], str(code), str(reason))
        for name, values in of_readable.items():
            columns[name] = (
                np.zeros(len(keys), values.dtype) if values.dtype != object else np.full(len(keys), "", object)
            )
            columns[name][readable] = values
    for row, (key, why) in enumerate(found):
        if not key:
            problems[row] = Quarantined(dataset.ids[row], "DA49", why)
    if not usable.any():
        raise DataError(nothing_usable(dataset, problems, words))
    return Survey(keys, usable, problems, columns, lambda rows: store.tiny(positions[rows]), decoded)


def nothing_usable(dataset: Dataset, problems: Mapping[int, Quarantined], words: Words) -> str:
    """The DA26 message for data of which not one example can be used."""
    first = next(iter(problems.values()), None)
    if first and len(dataset) == 1:
        return f"DA26 {shown(first.id)} cannot be used: {first.code} {shown(first.reason)}."
    why = f" First: {first.code} {shown(first.id)}: {shown(first.reason)}." if first else ""
    is_one = f"is {words.a} that can be used" if words.held != words.many else "can be used"
    return (
        f"DA26 not one of the {len(dataset)} {words.held} in {shown(dataset.origin)} {is_one}.{why} "
        "Check that this is the right data; 'headstart inspect' lists every one with its reason."
    )
