"""What happens, told to whoever watches.

Observers get events and can change nothing. ``Quiet`` is the null object; the command line has one that draws bars.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Started:
    """A piece of work that can take longer than two seconds has begun."""

    what: str
    total: int | None = None
    unit: str = ""


@dataclass(frozen=True)
class Advanced:
    what: str
    done: int
    total: int | None = None


@dataclass(frozen=True)
class Finished:
    what: str
    done: int
    seconds: float


@dataclass(frozen=True)
class Said:
    """One sentence for the user; ``kind`` is 'note', 'warning' or 'result'."""

    text: str
    kind: str = "note"


@dataclass(frozen=True)
class Measured:
    """Numbers of a training as of ``step`` updates, by name; none where it begins or is taken up. what: which."""

    what: str
    step: int
    values: Mapping[str, float]


Event = Started | Advanced | Finished | Said | Measured


class Observer(Protocol):
    def __call__(self, event: Event) -> None: ...


class Quiet:
    """The observer that does nothing."""

    def __call__(self, event: Event) -> None:
        return None


QUIET = Quiet()


def track(
    items: Iterable[T], observer: Observer, what: str, *, total: int | None = None, unit: str = ""
) -> Iterator[T]:
    """Yield ``items``, telling ``observer`` how far it is."""
    if total is None and isinstance(items, Sequence):
        total = len(items)
    start, done = time.monotonic(), 0
    observer(Started(what, total, unit))
    try:
        for item in items:
            yield item
            done += 1
            observer(Advanced(what, done, total))
    finally:
        observer(Finished(what, done, time.monotonic() - start))


def track_parts(
    parts: Iterable[Sequence[T]], total: int, observer: Observer, what: str, *, unit: str = ""
) -> Iterator[Sequence[T]]:
    """Yield ``parts`` of ``total`` items, telling ``observer`` how many items are done: one event a part."""
    start, done = time.monotonic(), 0
    observer(Started(what, total, unit))
    try:
        for part in parts:
            yield part
            done += len(part)
            observer(Advanced(what, done, total))
    finally:
        observer(Finished(what, done, time.monotonic() - start))
