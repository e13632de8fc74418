"""The contract of a runner, and what all of them share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

Done = Callable[[np.ndarray], None]


class Runner(Protocol):
    """A frozen network behind a queue.

    name: says library, precision and layout, e.g. 'openvino-bf16'; part of the features' cache key.
    batch: rows of one submission at most; shorter ones are padded, so that every image is computed in the same shape.
    """

    name: str
    batch: int

    def submit(self, pixels: np.ndarray, done: Done) -> None:
        """(b, S, S, 3) uint8 with b <= batch; ``done`` gets (b, D) float32, perhaps later and from another thread.

        ``done`` is never called twice and not after finish() has returned.
        """

    def finish(self) -> None:
        """Wait until everything submitted is done."""


def run_all(runner: Runner, pixels: np.ndarray) -> np.ndarray:
    """(N, D) float32 features of (N, S, S, 3) uint8 pixels."""
    parts: dict[int, np.ndarray] = {}
    for start in range(0, len(pixels), runner.batch):
        runner.submit(pixels[start : start + runner.batch], _Keep(parts, start))
    runner.finish()
    return np.concatenate([parts[start] for start in sorted(parts)])


class _Keep:
    def __init__(self, parts: dict[int, np.ndarray], start: int) -> None:
        self.parts, self.start = parts, start

    def __call__(self, features: np.ndarray) -> None:
        self.parts[self.start] = features


def padded(pixels: np.ndarray, batch: int) -> np.ndarray:
    """``pixels`` with zero images appended up to ``batch`` rows."""
    missing = batch - len(pixels)
    if not missing:
        return np.ascontiguousarray(pixels)
    return np.concatenate([pixels, np.zeros((missing, *pixels.shape[1:]), pixels.dtype)])
