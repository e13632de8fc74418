"""The same `fit` a second time: what it costs when nothing, or only the report, has to be made again."""

from __future__ import annotations

from pathlib import Path

from benchmarks.figure import Bench, Outcome, Row, divided, headstart_command, process_seconds, seconds
from benchmarks.material import LITE0, image_folder, step_seconds

TITLE = "the same `fit` again ÷ the first one (whole processes, start-up counted on both sides)"
PREDICTED = (
    "I predicted 0.03 into the same folder (the command starts, reads and hashes 2,000 files and finds the run "
    "finished) and 0.35 into a new one (the features come from the cache, but torch is imported, the heads are "
    "cross-validated, the baselines judged, the model saved and the report drawn again)."
)
EXCLUDED = (
    "Nothing in the first two rows: both sides are the wall time of `headstart fit …` from start to exit, the first "
    "with an empty cache, imports, loading, conversion and the race included. The third row takes importing and "
    "loading the network out of the second run only. The fourth is the call from Python, imports done."
)


def measure(bench: Bench) -> Outcome:
    rounds = [_round(bench) for _ in range(bench.rounds)]
    cold = [r["cold"] for r in rounds]
    rows = (
        Row("again, same --out: process ÷ first process", divided([r["same"] for r in rounds], cold), must=0.05),
        Row("again, new --out: process ÷ first process", divided([r["new"] for r in rounds], cold), must=0.05),
        Row(
            "again, new --out, without imports and loading ÷ first process",
            divided([r["inside"] for r in rounds], cold),
        ),
        Row("again, same --out, called from Python ÷ first process", divided([r["call"] for r in rounds], cold)),
        Row("first process", tuple(cold), "s"),
        Row("again, same --out", tuple(r["same"] for r in rounds), "s"),
        Row("again, new --out", tuple(r["new"] for r in rounds), "s"),
    )
    return Outcome(rows, (), {"rounds": rounds})


def _round(bench: Bench) -> dict:
    with bench.folder() as place:
        data = image_folder(place / "data", bench.pick(None, 330))
        first, other, cache = place / "first", place / "other", place / "cache"
        cold = process_seconds(_command(data, first, cache))
        same = process_seconds(_command(data, first, cache))
        new = process_seconds(_command(data, other, cache))
        steps = step_seconds(other)
        return {
            "cold": cold,
            "same": same,
            "new": new,
            "inside": sum(steps.values()) - steps["loading the network"],
            "call": _call(data, first, cache),
            "steps of the first": step_seconds(first),
            "steps of the new": steps,
        }


def _command(data: Path, out: Path, cache: Path) -> list[str | Path]:
    options: list[str | Path] = ["--out", out, "--cache", cache, "--backbone", LITE0, "--device", "cpu", "--quiet"]
    return [*headstart_command(), "fit", data, *options]


def _call(data: Path, out: Path, cache: Path) -> float:
    import headstart as hs

    hs.fit  # noqa: B018 - loads it
    config = hs.FitConfig(backbone=LITE0, device="cpu")
    runs = []
    took = seconds(lambda: runs.append(hs.fit(str(data), out=out, cache=cache, config=config)))
    assert runs[0].reused, "the finished run was not recognised"
    return took
