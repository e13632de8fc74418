"""The contract of a runner, and what all of them share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from headstart.inputs.prepared import by_length, stacked

Done = Callable[[np.ndarray], None]


class Runner(Protocol):
    """A frozen network behind a queue.

    name: says library, precision and layout, e.g. 'openvino-bf16'; part of the features' cache key.
    batch: rows of one submission at most; shorter ones of pictures are padded, so that every picture is computed in
        the same shape.
    """

    name: str
    batch: int

    def submit(self, batch: np.ndarray, done: Done) -> None:
        """(b, …) prepared examples (inputs.prepared.stacked) with b <= self.batch, such as (b, S, S, 3) uint8 pixels.

        ``done`` gets (b, D) float32, perhaps later and from another thread; never twice, and not after finish() has
        returned.
        """

    def finish(self) -> None:
        """Wait until everything submitted is done."""


def run_all(runner: Runner, examples: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """(N, D) float32 features of N prepared examples, in their order; given as one array or as a list."""
    order = by_length(examples)
    parts: dict[int, np.ndarray] = {}
    for start in range(0, len(examples), runner.batch):
        rows = order[start : start + runner.batch]
        batch = (
            examples[start : start + runner.batch] if isinstance(examples, np.ndarray) else [examples[i] for i in rows]
        )
        runner.submit(stacked(batch), _Keep(parts, start))
    runner.finish()
    found = np.concatenate([parts[start] for start in sorted(parts)])
    back = np.empty_like(found)
    back[order] = found
    return back


class _Keep:
    def __init__(self, parts: dict[int, np.ndarray], start: int) -> None:
        self.parts, self.start = parts, start

    def __call__(self, features: np.ndarray) -> None:
        self.parts[self.start] = features


def padded(batch: np.ndarray, rows: int) -> np.ndarray:
    """``batch`` of pictures with zero ones appended up to ``rows``; others, whose shapes vary anyway, as they are."""
    missing = rows - len(batch)
    if not missing or batch.ndim != 4:
        return np.ascontiguousarray(batch)
    return np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), batch.dtype)])
