"""Peak memory of `fit` at 20,000 images against that at 200."""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.figure import MIB, Bench, Outcome, Row, peak_of
from benchmarks.material import LITE0, paths

TITLE = "peak memory of `fit`: what 20,000 images add to 200, in units of the features in float32"
PREDICTED = (
    "I predicted 2.0 times the features (102 MB): the features themselves, their rotated copy, and the bootstrap; "
    "pictures come and go through a queue of 96."
)
EXCLUDED = (
    "Peak resident memory (VmHWM) of the whole process, network and libraries included, start to end; measured once at "
    "20,000 images and in every round at 200. 20,000 JPEGs of 64 × 64 to 96 × 96 are cut at random places from the "
    "photographs, written once; with fewer than 300 images `fit` cross-validates everything instead of holding out a "
    "test set, so the two runs do not walk quite the same way."
)

WIDTH = 1280


def measure(bench: Bench) -> Outcome:
    many = bench.pick(20_000, 1200)
    place = _crops(bench.work / f"crops-{many}", many)
    little = _crops(bench.work / "crops-200", 200)
    small = [_peak(bench, little)[0] for _ in range(bench.rounds)]
    large, took = _peak(bench, place)
    features = many * WIDTH * 4
    rows = (
        Row("(peak at 20,000 − peak at 200) ÷ features", tuple((large - s) / features for s in small), must=3.0),
        Row("peak at 20,000", (large / MIB,), "MiB"),
        Row("peak at 200", tuple(s / MIB for s in small), "MiB"),
        Row("`fit` of 20,000, whole process", (took,), "s"),
    )
    return Outcome(rows, (), {"features_mib": features / MIB, "images": many})


def _peak(bench: Bench, data: Path) -> tuple[int, float]:
    """(bytes, seconds) of one cold `headstart fit` in a process of its own."""
    with bench.folder() as place:
        verb: list[str | Path] = ["fit", data, "--out", place / "run", "--cache", place / "cache", "--backbone", LITE0]
        return peak_of(bench, [*verb, "--device", "cpu", "--quiet"])


def _crops(place: Path, n: int) -> Path:
    """A folder of ``n`` small JPEGs in three classes; the same ones every time."""
    done = place / ".done"
    if done.exists():
        return place
    from PIL import Image

    draw = random.Random(0)
    source = paths()
    for i in range(n):
        path = source[i * 7919 % len(source)]  # 7919 is prime: classes mix
        with Image.open(path) as image:
            side = draw.randint(64, 96)
            x, y = draw.randint(0, image.width - side), draw.randint(0, image.height - side)
            target = place / path.parent.name / f"{i:05d}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            image.convert("RGB").crop((x, y, x + side, y + side)).save(target, quality=92)
    done.touch()
    return place
