"""How long each step of a story took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from headstart.records.run import Timing


class Clock:
    """``with clock("heads"): …`` adds a step; steps of the same name add up."""

    def __init__(self) -> None:
        self._steps: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._steps[step] = self._steps.get(step, 0.0) + time.perf_counter() - start

    def timing(self) -> Timing:
        return Timing(tuple((name, round(seconds, 4)) for name, seconds in self._steps.items()))


class Deadline:
    """A span of time by the monotonic clock. left: seconds, may be negative; for ever where none was given."""

    def __init__(self, seconds: float | None, began: float | None = None) -> None:
        self.began = time.monotonic() if began is None else began
        self.seconds = seconds

    def earlier(self, seconds: float) -> Deadline:
        """The same span, begun so many seconds before."""
        return type(self)(self.seconds, self.began - seconds)

    @property
    def spent(self) -> float:
        return time.monotonic() - self.began

    @property
    def left(self) -> float:
        return float("inf") if self.seconds is None else self.seconds - self.spent
