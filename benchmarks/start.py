"""How long the command and the package need before they do anything."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.figure import Bench, Outcome, Row, divided, headstart_command, process_seconds

TITLE = "`headstart --help` and `import headstart`"
PREDICTED = "I predicted 0.25 s for the help (typer and rich, no torch) and 0.01 s for the import."
EXCLUDED = (
    "The help is the wall time of the whole process. The import is the statement alone in a fresh process; the process "
    "with it, and an empty Python, stand beside it. Byte code is compiled (one run before the clock)."
)

_IMPORT = "import time; t = time.perf_counter(); import headstart; print(time.perf_counter() - t)"
_HEAVY = "import sys, headstart.cli.main; print([m for m in ('torch', 'sklearn', 'numpy') if m in sys.modules])"


def measure(bench: Bench) -> Outcome:
    rounds = bench.pick(7, 3)
    help_, empty = [*headstart_command(), "--help"], [sys.executable, "-c", "pass"]
    process_seconds(help_)
    told: list[tuple[float, float, float, float]] = []
    for _ in range(rounds):
        told.append(
            (
                process_seconds(help_),
                float(_says(_IMPORT)),
                process_seconds([sys.executable, "-c", "import headstart"]),
                process_seconds(empty),
            )
        )
    helps, imports, with_import, empties = (tuple(column) for column in zip(*told, strict=True))
    rows = (
        Row("`headstart --help`, whole process", helps, "s", must=0.35),
        Row("`import headstart`, the statement", imports, "s", must=0.1),
        Row("`python -c 'import headstart'`, whole process", with_import, "s"),
        Row("`python -c pass`, whole process", empties, "s"),
        Row("`headstart --help` ÷ `python -c pass`", divided(helps, empties)),
    )
    return Outcome(
        rows, (f"Loaded by the command line before a verb runs, of torch, sklearn, numpy: {_says(_HEAVY)}.",)
    )


def _says(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
