"""What a ranking costs beside the passes through the networks that it is made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.figure import Bench, Outcome, Row, divided, headstart_command, process_seconds
from benchmarks.material import image_folder

TITLE = "ranking the networks of this machine on 2,000 photographs"
PREDICTED = (
    "I predicted 1.1 times the passes where the ways to run the networks are remembered: a look at 2,000 photographs, "
    "loading, and half a second of scoring for a pass of ten; and 1.5 times on a machine that has to choose them first."
)
EXCLUDED = (
    "Whole processes, from the command to the report, with an empty feature cache; starting Python and importing torch "
    "are in them. The passes are what ranking.json calls 'forward': for each network and round decoding the images, "
    "converting the network, and running it. In the first row the choice of runners is remembered from a run before on "
    "other images, in the second it is made anew; it consists of timed passes too, which are not counted as such. No "
    "--time, so no fine-tuning."
)


def measure(bench: Bench) -> Outcome:
    data = image_folder(bench.work / "rank-photographs", bench.pick(2000, 60))
    rounds = bench.pick(bench.rounds, 1)
    with bench.folder() as place:
        cold = [_ranked(bench, data, place / f"cold-{i}", place / f"cold-{i}") for i in range(bench.pick(1, 1))]
        warm = []
        for i in range(rounds):
            cache = place / f"warm-{i}"
            cache.mkdir()
            (cache / "runners").symlink_to(place / "cold-0" / "runners")
            warm.append(_ranked(bench, data, cache, place / f"out-{i}"))
    wall, forward = tuple(w for w, _ in warm), tuple(c["forward"] for _, c in warm)
    rows = (
        Row(
            "whole command ÷ its passes, runners remembered", divided(wall, forward), "×", None if bench.small else 1.15
        ),
        Row("whole command ÷ its passes, runners chosen anew", tuple(w / c["forward"] for w, c in cold), "×"),
        Row(
            "scoring ÷ whole command",
            tuple(c["scoring"] / w for w, c in warm),
            "",
            None if bench.small else 0.05,
        ),
        Row("whole command", wall, "s"),
    )
    parts = {
        name: [round(c[name], 2) for _, c in warm] for name in ("looking", "loading", "timing", "forward", "scoring")
    }
    return Outcome(rows, details={"warm": parts, "cold": cold[0][1]})


def _ranked(bench: Bench, data: Path, cache: Path, out: Path) -> tuple[float, dict[str, Any]]:
    """(wall seconds of the process, the cost that its record reports)."""
    which = bench.pick("package/*", "toy/*")
    options = ["--candidates", which, "--here", "--no-own-runs", "--device", "cpu", "--quiet"]
    took = process_seconds([*headstart_command(), "rank", data, "--cache", cache, "--out", out, *options])
    return took, json.loads((out / "ranking.json").read_text())["cost"]
