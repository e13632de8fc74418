"""Answers of one strategy on one data set, kept line by line, so that a long measurement can go on where it stopped.

The tables are made from the lines: a cell of another day stands beside one of today, and says which code made it.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figure import REPOSITORY

if TYPE_CHECKING:
    import numpy as np

Z = 1.959964


@dataclass(frozen=True)
class Cell:
    """right: '1' for each test image that was named right, '0' for the others.  seconds: of choosing and training.

    words: what was kept or done.  commit: of the code that did it.
    """

    data: str
    seed: int
    strategy: str
    minutes: float
    right: str
    seconds: float
    words: str
    commit: str

    @property
    def key(self) -> tuple[str, int, str, float]:
        return self.data, self.seed, self.strategy, self.minutes

    @property
    def accuracy(self) -> float:
        return self.right.count("1") / len(self.right)


def read_cells(place: Path) -> dict[tuple[str, int, str, float], Cell]:
    """Every cell in ``place``; of two with one key the later. A line that a kill has torn is passed over."""
    found = {}
    for line in place.read_text().splitlines() if place.exists() else []:
        try:
            cell = Cell(**json.loads(line))
        except (json.JSONDecodeError, TypeError):
            continue
        found[cell.key] = cell
    return found


def append_cell(place: Path, cell: Cell) -> None:
    with place.open("a") as file:
        file.write(json.dumps(asdict(cell)) + "\n")


def commit() -> str:
    """Of the code that is measured."""
    git = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(git, cwd=REPOSITORY, capture_output=True, text=True, check=False).stdout.strip()


@dataclass(frozen=True)
class Share:
    """A mean with the half-width of its 95 % interval."""

    value: float
    half: float

    @property
    def low(self) -> float:
        return self.value - self.half

    @property
    def high(self) -> float:
        return self.value + self.half

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.half:.3f}"


def mean_accuracy(cells: Sequence[Cell]) -> Share:
    """Over sets, and over the seeds of each; see ``_over_sets``."""
    return _over_sets([(c.data, c.accuracy, c.accuracy * (1 - c.accuracy) / len(c.right)) for c in cells])


def mean_difference(cells: Sequence[Cell], others: Sequence[Cell]) -> Share:
    """Of accuracies on the same test images: what is hard for both cancels out. Over the draws that both have seen."""
    import numpy as np

    by_key = {(c.data, c.seed): c for c in others}
    parts = []
    for cell in cells:
        if (other := by_key.get((cell.data, cell.seed))) is None:
            continue
        d = _array(cell) - _array(other)
        parts.append((cell.data, float(np.mean(d)), float(np.var(d)) / len(d)))
    return _over_sets(parts)


def _array(cell: Cell) -> np.ndarray:
    import numpy as np

    return np.frombuffer(cell.right.encode(), np.uint8).astype(float) - ord("0")


def _over_sets(parts: Sequence[tuple[str, float, float]]) -> Share:
    """Mean of the sets. parts: (set, mean, variance of that mean) of each seed.

    Sets are independent. Seeds of one set share most of their test images, so they are not counted as more evidence:
    their standard errors are averaged. What another training set would have changed is not in the interval.
    """
    values, errors = [], []
    for name in sorted({name for name, _, _ in parts}):
        values.append(statistics.fmean(mean for n, mean, _ in parts if n == name))
        errors.append(statistics.fmean(math.sqrt(variance) for n, _, variance in parts if n == name))
    return Share(statistics.fmean(values), Z * math.sqrt(sum(e * e for e in errors)) / len(errors))


def table(cells: Sequence[Cell], strategies: Sequence[str], against: str) -> list[str]:
    """Lines of a Markdown table: strategies × sets, their mean, and how far ``against`` is ahead of each.

    Means are over the draws that were measured, differences over those that both have seen.
    """
    sets = sorted({c.data for c in cells})
    head = [*sets, "mean", "draws", *([f"{against} is ahead by"] if against in strategies else [])]
    lines = [f"| strategy | {' | '.join(head)} |", f"|---|{'---|' * len(head)}"]
    mine = [c for c in cells if c.strategy == against]
    for name in strategies:
        own = [c for c in cells if c.strategy == name]
        shown = [str(mean_accuracy([c for c in own if c.data == data])) for data in sets] + [str(mean_accuracy(own))]
        shown.append(str(len({c.seed for c in own})))
        if against in strategies:
            ahead = mean_difference(mine, own)
            shown.append("" if name == against else f"{ahead.value:+.3f} ± {ahead.half:.3f}")
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return lines
