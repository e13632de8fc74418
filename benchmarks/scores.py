"""What the two dearest scores cost on 20,000 rows of 2,048 features: seconds and memory."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterable

import numpy as np

from benchmarks.figure import REPOSITORY, Bench, Outcome, Row, load_average, seconds

TITLE = "LogME and leave-one-out ridge on 20,000 × 2,048 features of 100 classes"
PREDICTED = (
    "I predicted ten seconds for each: 1.7·10¹¹ multiplications for the Gram matrix, an eigendecomposition of 2,048 "
    "(3 s on one thread), and for ridge fifteen penalties with 4·10⁹ each. Memory: the features once, and matrices of "
    "2,048 × 2,048."
)
EXCLUDED = (
    "Features are drawn at random in memory, as float32; one call in a process of its own. Memory is the peak of that "
    "process minus what it held before the features were made, divided by the size of the features, which are counted."
)
NAMES = ("RidgeLoo", "LogME")
BUSY = 1.5  # load average above which a time only measures the neighbours


def measure(bench: Bench) -> Outcome:
    n, width, classes = bench.pick((20_000, 2048, 100), (600, 96, 10))
    quiet = load_average() < BUSY and not bench.small
    rows: list[Row] = []
    for name in NAMES:
        found = [_in_a_process(name, n, width, classes) for _ in range(bench.pick(bench.rounds, 1))]
        what = f"`{name}`, n = {n:,}, D = {width:,}, C = {classes}"
        rows.append(Row(what, tuple(f[0] for f in found), "s", 20.0 if quiet else None))
        rows.append(
            Row(f"{what}: most memory ÷ features", tuple(f[1] for f in found), "×", None if bench.small else 3.0)
        )
    notes = () if quiet or bench.small else ("The machine was not quiet: no limit is put on the seconds.",)
    return Outcome(tuple(rows), notes)


def _in_a_process(name: str, n: int, width: int, classes: int) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.scores", name, str(n), str(width), str(classes)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    took, memory = done.stdout.split()
    return float(took), float(memory)


def _once(name: str, n: int, width: int, classes: int) -> Iterable[float]:
    """Seconds, and the peak of the process over the size of the features."""
    from headstart.ranking import scores

    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(n) % classes)
    before = _peak_bytes()
    X = rng.standard_normal((n, width), np.float32)
    for start in range(0, n, 1000):  # some signal, without a second array of that size
        X[start : start + 1000] += 0.5 * np.sin(np.outer(1 + y[start : start + 1000], np.arange(width))).astype(
            np.float32
        )
    score = getattr(scores, name)()
    yield seconds(lambda: score(X, y))
    yield (_peak_bytes() - before) / X.nbytes


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    print(*_once(sys.argv[1], *map(int, sys.argv[2:])))
