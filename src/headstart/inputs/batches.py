"""What the network is fed while it learns: batches made ahead of the loop, each a pure function of (seed, step).

A few threads make views of pictures while the network works; how many there are changes no bit. Nothing here can hang
the loop: what goes wrong in a thread reaches it with the name of the example, and waiting has an end.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Protocol

import numpy as np

from headstart.base.errors import TrainingFault, listed, shown
from headstart.inputs.augment import Policy, augment, augment_prepared
from headstart.inputs.decoded import Pictures
from headstart.inputs.order import Balanced, Draw, Order, Shuffled

if TYPE_CHECKING:
    from torch import Tensor

AHEAD = 3  # batches that may wait for the loop
LONGEST_S = 120.0  # that the loop waits for one batch


@dataclass(frozen=True, eq=False)
class Batch:
    """The examples of one step.

    rows: (b,) int64 positions in the training set.  inputs: (b, S, S, 3) uint8 pixels, or (b, …) activations as they
    were cached.  targets: (b, …).
    """

    step: int
    rows: np.ndarray
    inputs: Tensor
    targets: Tensor


class Batches(Protocol):
    """n: examples of the training set.  batch_size: of one step, over all processes."""

    @property
    def n(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    def between(self, first: int, last: int) -> Iterator[Batch]:
        """Steps first … last − 1, the same whatever was asked before."""
        ...


class PixelBatches:
    """Views of pictures.

    rows: (n,) which of ``pictures`` are learnt from; row i of the training set is picture rows[i].  targets: (n, …).
    A view is drawn by the number of the picture, so that whoever learns from other rows sees the same ones.
    balanced: (n,) classes, to show each equally often; None shows each example equally often.
    views: 0 makes a new view of a picture at each visit; K > 0 makes K, and visit v shows number v mod K again.
    rank, world: which part of each batch this process gets (see order.shard).
    workers: threads; 0 works in the loop's own, where longest_s cannot be kept.  ahead: batches made before they are
    asked for.  TrainingFault when a view cannot be made, or a batch takes more than ``longest_s``.
    """

    def __init__(
        self,
        pictures: Pictures,
        targets: Tensor,
        rows: np.ndarray,
        *,
        policy: Policy,
        batch_size: int,
        seed: int,
        balanced: np.ndarray | None = None,
        views: int = 0,
        rank: int = 0,
        world: int = 1,
        workers: int | None = None,
        ahead: int = AHEAD,
        longest_s: float = LONGEST_S,
    ) -> None:
        assert len(rows) == len(targets), f"{len(rows)} rows with {len(targets)} targets"
        self._pictures, self._targets, self._rows = pictures, targets, np.asarray(rows, np.int64)
        self._policy, self._spec, self._seed = policy, pictures.spec, seed
        self._order = _order(len(rows), batch_size, seed, balanced)
        self._views, self._share = views, (rank, world)
        workers = default_workers() if workers is None else workers
        self._pace = _Pace(workers, ahead, longest_s)

    @property
    def n(self) -> int:
        return self._order.n

    @property
    def batch_size(self) -> int:
        return self._order.batch_size

    def between(self, first: int, last: int) -> Iterator[Batch]:
        """Steps first … last − 1. Closing the iterator stops its threads."""

        def job(step: int) -> _Job:
            return self._job(step, self._order.at(step).shard(*self._share))

        return _made(range(first, last), job, self._pace)

    def view(self, number: int = 0) -> Iterator[Batch]:
        """Every row once, in order, as on visit ``number``; the last batch may be smaller. For caching views.

        In every process whole: rank and world do not matter here.
        """

        def job(step: int) -> _Job:
            rows = np.arange(step * self.batch_size, min(self.n, (step + 1) * self.batch_size))
            return self._job(step, Draw(rows, np.full(len(rows), number)))

        return _made(range(-(-self.n // self.batch_size)), job, self._pace)

    def _job(self, step: int, draw: Draw) -> _Job:
        import torch

        side = self._spec.size
        pixels = np.empty((len(draw.rows), side, side, 3), np.uint8)
        batch = Batch(step, draw.rows, torch.from_numpy(pixels), self._targets[torch.from_numpy(draw.rows)])
        places = self._rows[draw.rows]
        visits = draw.visits % self._views if self._views else draw.visits

        def make(i: int) -> None:
            pixels[i] = self._pixels(int(places[i]), int(visits[i]))

        return _Job(batch, len(places), make, lambda i: self._pictures.ids[places[i]])

    def _pixels(self, place: int, visit: int) -> np.ndarray:
        if self._policy.changes_nothing:
            return self._pictures.prepared(place)
        if self._policy.crop is None:
            prepared = self._pictures.prepared(place)
            return augment_prepared(prepared, self._policy, self._spec, seed=self._seed, row=place, visit=visit)
        picture = self._pictures.picture(place)
        return augment(picture, self._policy, self._spec, seed=self._seed, row=place, visit=visit)


class ArrayBatches:
    """Rows of an array: features, or activations at the border of what is frozen; its type is kept.

    inputs: (m, …) float16, float32 or uint8, in memory or mapped; with views = K, (K, m, …).  targets: (n, …).
    rows: (n,) which of them are learnt from, as for PixelBatches; None: all of them, m = n.
    The other parameters as for PixelBatches: with the same seed, the same rows and views come in the same steps.
    """

    def __init__(
        self,
        inputs: np.ndarray,
        targets: Tensor,
        rows: np.ndarray | None = None,
        *,
        batch_size: int,
        seed: int,
        balanced: np.ndarray | None = None,
        views: int = 0,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        ahead: int = AHEAD,
        longest_s: float = LONGEST_S,
    ) -> None:
        n = len(targets)
        self._rows = np.arange(n) if rows is None else np.asarray(rows, np.int64)
        self._each = inputs.shape[1] if views else len(inputs)  # examples in one view
        fits = len(self._rows) == n and (not views or len(inputs) == views) and (rows is not None or self._each == n)
        assert fits, f"inputs {inputs.shape} do not fit {n} targets, {len(self._rows)} rows and {views} views"
        self._flat = inputs.reshape(-1, *inputs.shape[2:]) if views else inputs
        self._targets, self._views, self._share = targets, views, (rank, world)
        self._order = _order(n, batch_size, seed, balanced)
        self._pace = _Pace(min(workers, 1), ahead, longest_s)  # a batch is one piece of work

    @property
    def n(self) -> int:
        return self._order.n

    @property
    def batch_size(self) -> int:
        return self._order.batch_size

    def between(self, first: int, last: int) -> Iterator[Batch]:
        """Steps first … last − 1. Closing the iterator stops its thread."""
        return _made(range(first, last), self._job, self._pace)

    def _job(self, step: int) -> _Job:
        import torch

        draw = self._order.at(step).shard(*self._share)
        places = self._rows[draw.rows] + (draw.visits % self._views * self._each if self._views else 0)
        out = np.empty((len(places), *self._flat.shape[1:]), self._flat.dtype)
        batch = Batch(step, draw.rows, torch.from_numpy(out), self._targets[torch.from_numpy(draw.rows)])

        def make(_: int) -> None:
            np.take(self._flat, places, axis=0, out=out, mode="clip")  # 'raise' would go through a copy

        return _Job(batch, 1, make, lambda _: f"rows {listed(draw.rows)}")


def default_workers() -> int:
    """Half of the processors, 1 to 8: one thread makes some 500 views a second, and the network needs the others."""
    return max(1, min(8, (os.cpu_count() or 1) // 2))


def _order(n: int, batch_size: int, seed: int, balanced: np.ndarray | None) -> Order:
    if balanced is None:
        return Shuffled(n, batch_size, seed)
    assert len(balanced) == n, f"{len(balanced)} classes for {n} rows"
    return Balanced(balanced, batch_size, seed)


# ------------------------------------------------------------------------------------------------ ahead of the loop


@dataclass(frozen=True)
class _Pace:
    workers: int
    ahead: int
    longest_s: float


def _made(steps: range, job_of: Callable[[int], _Job], pace: _Pace) -> Iterator[Batch]:
    """The batches of ``steps`` in order; while the loop has one, the next ``ahead`` are being made."""
    crew = _Crew(pace.workers)
    waiting: deque[_Job] = deque()
    upcoming = iter(steps)
    try:
        for _ in steps:
            while len(waiting) <= (pace.ahead if pace.workers else 0) and (step := next(upcoming, None)) is not None:
                waiting.append(job_of(step))
                crew.start(waiting[-1])
            yield waiting.popleft().result(pace.longest_s)
    finally:
        crew.close()


class _Job:
    """A batch that is being made: ``parts`` pieces of work, done by any thread in any order.

    make: does piece i.  name_of: what piece i is about, for the error.
    """

    def __init__(self, batch: Batch, parts: int, make: Callable[[int], None], name_of: Callable[[int], str]) -> None:
        self.parts = parts
        self._batch, self._make, self._name_of = batch, make, name_of
        self._left = set(range(parts))
        self._failed: tuple[int, Exception] | None = None
        self._over, self._lock = Event(), Lock()

    def do(self, part: int) -> None:
        try:
            self._make(part)
        except Exception as error:  # whatever it is: carried to the loop, which raises it
            self._failed = self._failed or (part, error)
            self._over.set()
            return
        with self._lock:
            self._left.discard(part)
            if not self._left:
                self._over.set()

    def result(self, longest_s: float) -> Batch:
        in_time = self._over.wait(longest_s)
        if self._failed is not None:
            part, error = self._failed
            raise TrainingFault(
                f"TR31 step {self._batch.step}: no input could be made of {shown(self._name_of(part))} "
                f"({type(error).__name__}: {shown(error)}). Leave the example out, or report this if it looks sound."
            ) from error
        if not in_time:
            with self._lock:
                late = [self._name_of(part) for part in sorted(self._left)]
            raise TrainingFault(
                f"TR32 step {self._batch.step}: {len(late)} of {self.parts} inputs were not ready after "
                f"{longest_s:g} s: {listed(late)}. The disk or the machine stands still; look there, then go on with "
                "--resume."
            )
        return self._batch


class _Crew:
    """Threads that work until they are told to stop. Daemons: one that stands still cannot keep the process alive."""

    def __init__(self, workers: int) -> None:
        self._tasks: SimpleQueue[tuple[_Job, int] | None] = SimpleQueue()
        self._stop = Event()
        self._threads = [
            Thread(target=_serve, args=(self._tasks, self._stop), name=f"headstart-inputs-{i}", daemon=True)
            for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def start(self, job: _Job) -> None:
        for part in range(job.parts):
            if self._threads:
                self._tasks.put((job, part))
            else:
                job.do(part)

    def close(self, patience_s: float = 1.0) -> None:
        self._stop.set()
        for _ in self._threads:
            self._tasks.put(None)
        until = time.monotonic() + patience_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))


def _serve(tasks: SimpleQueue[tuple[_Job, int] | None], stop: Event) -> None:
    while (task := tasks.get()) is not None:
        job, part = task
        if not stop.is_set():
            job.do(part)
