"""``python -m benchmarks.run [NAME …]``: measure all figures, or the named ones, and write them down.

Each figure runs in a process of its own, one after the other. Results go to benchmarks/results.json (a figure that is
not measured this time keeps its old numbers) and into the tables of benchmarks/README.md. With --small the scripts are
only tried: sizes are tiny, numbers mean nothing, and nothing is written but a file in the work folder.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.figure import REPOSITORY, Bench, Row, load_average
from benchmarks.table import row_of, write_into

FIGURES = (
    "start",
    "ridge",
    "demo",
    "fit_again",
    "fit",
    "extraction",
    "memory",
    "peers",
    "loop",
    "border",
    "strategies",
    "replay",
    "scores",
    "rank",
    "live",
    "text",
    "text_tuning",
    "audio",
    "few_shot",
    "scale",
)
HERE = Path(__file__).resolve().parent
BUSY = 0.7  # load average above which the machine is not quiet


def main() -> int:
    asked = _arguments()
    work = Path(asked.work)
    work.mkdir(parents=True, exist_ok=True)
    if asked.one:
        return _one(asked, work)
    names = asked.names or list(FIGURES)
    unknown = [n for n in names if n not in FIGURES]
    if unknown:
        sys.exit(f"no figure {', '.join(unknown)}. There are: {', '.join(FIGURES)}.")
    if load_average() > BUSY:
        print(f"load average is {load_average()}: this machine is not quiet, times will not be worth much", flush=True)
    session = Path(tempfile.mkdtemp(prefix="session-", dir=work))
    try:
        failed = [name for name in names if not _measure(name, asked, session)]
    finally:
        shutil.rmtree(session, ignore_errors=True)
    if failed:
        print(f"not measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Measure the figures of headstart.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(FIGURES)} (default: all)")
    parser.add_argument("--small", action="store_true", help="try the scripts on tiny sizes; keeps nothing")
    parser.add_argument("--rounds", type=int, default=3, help="rounds for each median (default 3)")
    parser.add_argument("--work", default=str(Path(tempfile.gettempdir()) / "headstart-bench"), help="working folder")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--session", help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(name: str, asked: argparse.Namespace, session: Path) -> bool:
    """Measure one figure in a fresh process and write it down; False if it failed."""
    print(f"\n{name} …", flush=True)
    options = ["--work", asked.work, "--rounds", str(asked.rounds), "--session", str(session)]
    command = [sys.executable, "-m", "benchmarks.run", "--one", name, *options]
    done = subprocess.run([*command, *(["--small"] if asked.small else [])], cwd=REPOSITORY, check=False)
    if done.returncode:
        print(f"  ended with {done.returncode}", file=sys.stderr)  # below 0: by that signal
        return False
    figure = json.loads((session / f"{name}.json").read_text())
    for row in map(row_of, figure["rows"]):
        print(f"  {_verdict(row)} {row.what}: {row}{f'   must be {row.limit}' if row.limit else ''}")
    for note in figure["notes"]:
        print(f"  {note}")
    print(f"  {figure['seconds']:.0f} s", flush=True)
    _keep(name, figure, Path(asked.work) / "small.json" if asked.small else HERE / "results.json")
    return True


def _verdict(row: Row) -> str:
    return {True: "✓", False: "✗", None: " "}[row.holds]


def _keep(name: str, figure: Mapping[str, Any], place: Path) -> None:
    """Put one figure among those that are there already, in the order of FIGURES."""
    results = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    results[name] = figure
    ordered = {n: results[n] for n in FIGURES if n in results}
    part = place.with_suffix(".part")
    part.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(place)
    if place.parent == HERE:
        write_into(HERE / "README.md", ordered)


def _one(asked: argparse.Namespace, work: Path) -> int:
    """In the process of one figure: measure it and leave it in the session's folder."""
    from headstart.workflow.environment import machine, versions

    module = import_module(f"benchmarks.{asked.one}")
    session = Path(asked.session)
    bench = Bench(asked.small, asked.rounds, work, session)
    load, start = load_average(), time.perf_counter()
    outcome = module.measure(bench)
    figure = {
        "title": module.TITLE,
        "predicted": module.PREDICTED,
        "excluded": module.EXCLUDED,
        "rows": [asdict(row) for row in outcome.rows],
        "notes": list(outcome.notes),
        "details": outcome.details,
        "machine": machine(),
        "versions": versions(),
        "commit": _commit(),
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "load_before": load,
        "seconds": round(time.perf_counter() - start, 1),
        "small": asked.small,
    }
    (session / f"{asked.one}.json").write_text(json.dumps(_rounded(figure), ensure_ascii=False))
    return 0


def _commit() -> str:
    """Short hash, with a plus sign where files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False).stdout

    return git("rev-parse", "--short", "HEAD").strip() + ("+" if git("status", "--porcelain", "src").strip() else "")


def _rounded(value: Any) -> Any:
    """Floats to six figures: what a clock can know."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {str(k): _rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    return value


if __name__ == "__main__":
    sys.exit(main())
