"""One look at every file: read once, decode once, and whoever else wants the pixels gets them on the way.

``headstart inspect`` surveys without a network; ``features.extract`` rides on the same pass. Threads read, decode and
prepare (Pillow lets go of the interpreter lock); the caller consumes in the order of the rows. Only a few batches are
in flight, so memory does not grow with the number of images. What was seen is remembered by content: a second look at
the same pictures decodes nothing.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from headstart.base.errors import DataError, shown
from headstart.base.progress import QUIET, Observer, track
from headstart.data.dataset import Dataset
from headstart.data.decode import BadExample, ImageFacts, ImageLimits, decode_image
from headstart.data.facts import FactsStore
from headstart.records.audit import Quarantined

IN_FLIGHT = 96  # decoded images that may wait for the network
FLUSH = 2048  # facts written as one shard


@dataclass(frozen=True, eq=False)
class Survey:
    """What one look at N examples found; columns by row of the dataset.

    keys: (N,) 16-byte content keys; b"" where the file could not even be read.
    usable: (N,) bool.  problems: row → why it is not usable.
    columns: name → (N,) array: width, height int32 (upright); mode, format str; phash, phash_mirrored uint64;
        mean, std float32 (of grey values in [0, 1]); notes str (joined by '; ', e.g. 'rotated by EXIF').
        Zero or '' in rows that are not usable.
    tiny: rows → (n, 16, 16, 3) uint8 thumbnails.
    decoded: how many images were decoded in this look; the others were known.
    """

    keys: Sequence[bytes]
    usable: np.ndarray
    problems: Mapping[int, Quarantined]
    columns: Mapping[str, np.ndarray]
    tiny: Callable[[np.ndarray], np.ndarray] = field(repr=False)
    decoded: int = 0

    @property
    def rows(self) -> np.ndarray:
        """Numbers of the usable rows."""
        return np.flatnonzero(self.usable)


@dataclass(frozen=True)
class Pixels:
    """Someone who wants pixels on the way.

    prepare: RGB image → array, called in the threads.  has: whether the pixels of this content key are not needed.
    take: called in the caller's thread, in order of the rows, with (key, prepared array).
    at_least: the sides that JPEGs may not be shrunk below twice of.
    """

    prepare: Callable[[Any], np.ndarray]
    has: Callable[[bytes], bool]
    take: Callable[[bytes, np.ndarray], None]
    at_least: int | None = None


def survey(
    dataset: Dataset,
    store: FactsStore,
    *,
    limits: ImageLimits | None = None,
    pixels: Pixels | None = None,
    observer: Observer = QUIET,
    workers: int | None = None,
    what: str = "looking at the images",
) -> Survey:
    """Look at every row of an image dataset. Raises DataError when not one image is usable."""
    look = _Look(dataset, store, limits or ImageLimits(), pixels)
    workers = workers or min(16, os.cpu_count() or 1)
    found: list[tuple[bytes, str]] = []
    try:
        with ThreadPoolExecutor(workers, thread_name_prefix="headstart-decode") as pool:
            waiting: deque[Future[_Seen]] = deque()
            rows = iter(range(len(dataset)))
            for _ in track(range(len(dataset)), observer, what, unit="images"):
                while len(waiting) < IN_FLIGHT and (row := next(rows, None)) is not None:
                    waiting.append(pool.submit(look, row))
                seen = waiting.popleft().result()
                found.append((seen.key, seen.unreadable))
                look.remember(seen)
                if pixels is not None and seen.prepared is not None:
                    pixels.take(seen.key, seen.prepared)
    finally:
        look.flush()  # an interrupted look is not lost
    return _gather(dataset, store, found, look.decoded)


@dataclass(frozen=True)
class _Seen:
    key: bytes
    facts: ImageFacts | BadExample | None = None
    prepared: np.ndarray | None = None
    unreadable: str = ""


class _Look:
    """What a thread does with one row. Equal content is looked at once, by whoever comes first."""

    def __init__(self, dataset: Dataset, store: FactsStore, limits: ImageLimits, pixels: Pixels | None) -> None:
        self.dataset, self.store, self.limits, self.pixels = dataset, store, limits, pixels
        self.decoded = 0
        self._claimed: set[bytes] = set()
        self._lock = Lock()
        self._keys: list[bytes] = []
        self._facts: list[ImageFacts | BadExample] = []

    def __call__(self, row: int) -> _Seen:
        try:
            key, content = self.dataset.content(row)
        except OSError as error:
            return _Seen(b"", unreadable=f"cannot be read ({error.strerror or error})")
        position = int(self.store.find([key])[0])
        known = position >= 0
        wants_pixels = self.pixels is not None and not self.pixels.has(key) and not (known and self._is_bad(position))
        if known and not wants_pixels:
            return _Seen(key)
        with self._lock:
            if key in self._claimed:
                return _Seen(key)
            self._claimed.add(key)
        try:
            image, facts = decode_image(
                content,
                name=self.dataset.ids[row],
                limits=self.limits,
                at_least=self.pixels.at_least if self.pixels else None,
            )
        except BadExample as problem:
            return _Seen(key, problem)
        prepared = self.pixels.prepare(image) if self.pixels is not None and wants_pixels else None
        return _Seen(key, None if known else facts, prepared)

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


def _gather(dataset: Dataset, store: FactsStore, found: Collection[tuple[bytes, str]], decoded: int) -> Survey:
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
        raise DataError(_nothing_usable(dataset, problems))
    return Survey(keys, usable, problems, columns, lambda rows: store.tiny(positions[rows]), decoded)


def _nothing_usable(dataset: Dataset, problems: Mapping[int, Quarantined]) -> str:
    first = next(iter(problems.values()), None)
    why = f" First: {first.code} {shown(first.id)}: {shown(first.reason)}" if first else ""
    return (
        f"DA26 not one of the {len(dataset)} files in {shown(dataset.origin)} is an image that can be used.{why} "
        "Check that this is the right folder; 'headstart inspect' lists every file with its reason."
    )


def facts_cache(cache: Path, limits: ImageLimits | None = None) -> FactsStore:
    """The store of what is known about pictures under these limits."""
    from headstart.data.facts import facts_folder

    return FactsStore(facts_folder(cache, limits or ImageLimits()))
