"""What a figure is, and where it may put things down. No heavy imports: the measuring process stays small."""

from __future__ import annotations

import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
MIB = 2**20
REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Row:
    """One number of a figure.

    values: one of each round.  unit: '×' for ratios within one round, else 's', 'images/s', ….
    must: the limit it has to keep, None where it is only reported; at_most: whether the limit is an upper one.
    """

    what: str
    values: tuple[float, ...]
    unit: str = "×"
    must: float | None = None
    at_most: bool = True

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def holds(self) -> bool | None:
        """Whether the median keeps the limit; None without a limit."""
        if self.must is None:
            return None
        return self.median <= self.must if self.at_most else self.median > self.must

    @property
    def limit(self) -> str:
        if self.must is None:
            return ""
        sign = "≤" if self.at_most else "≥" if self.must else ">"
        return f"{sign} {number(self.must) if self.must else 0} {self.unit}".rstrip()

    def __str__(self) -> str:
        if len(self.values) == 1:
            return f"{number(self.median)} {self.unit}".rstrip()
        spread = f"{number(min(self.values))} to {number(max(self.values))}"
        return f"{number(self.median)} {self.unit}".rstrip() + f" ({spread}; {len(self.values)} rounds)"


@dataclass(frozen=True)
class Outcome:
    """What was measured. notes: sentences for the reader.  details: everything else, plain values for results.json."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """How much to measure, and where.

    small: tiny sizes, to see that the scripts work; its numbers mean nothing.  rounds: at least 3 for a median.
    work: kept between runs (weights, pictures, the peers' environment).  session: of this run, deleted afterwards.
    """

    small: bool
    rounds: int
    work: Path
    session: Path

    def pick(self, full: T, small: T) -> T:
        return small if self.small else full

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """An empty folder that vanishes."""
        made = Path(tempfile.mkdtemp(dir=self.session))
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def divided(above: Sequence[float], below: Sequence[float]) -> tuple[float, ...]:
    """Ratios round by round."""
    return tuple(a / b for a, b in zip(above, below, strict=True))


def process_seconds(command: Sequence[str | Path]) -> float:
    """Wall time of a whole process. RuntimeError with the end of its output if it fails."""
    start = time.perf_counter()
    done = subprocess.run([str(c) for c in command], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    took = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return took


_CHILD = """
import re, sys
from pathlib import Path
from headstart.cli.main import main
try:
    main(sys.argv[2:])
finally:
    peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
    Path(sys.argv[1]).write_text(peak.group(1))
"""


def peak_of(bench: Bench, arguments: Sequence[str | Path]) -> tuple[int, float]:
    """(most resident bytes, seconds) of one headstart command in a process of its own."""
    with bench.folder() as place:
        said = place / "peak"
        took = process_seconds([sys.executable, "-c", _CHILD, said, *arguments])
        return int(said.read_text()) * 1024, took


def headstart_command() -> list[str]:
    """What a user types: the installed command, or the module where there is none."""
    installed = Path(sys.executable).with_name("headstart")
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "headstart"]


def load_average() -> float:
    """Processes that wanted a core in the last minute; well above 0 at the start: the machine was not quiet."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else float("nan")


def number(value: float) -> str:
    """Three figures, thousands separated."""
    if math.isnan(value):
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"
