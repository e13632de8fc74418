"""`fit` with an empty cache, against the least it could take: decoding plus running the network, each alone."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.figure import Bench, Outcome, Row, divided, seconds
from benchmarks.material import LITE0, Watch, image_folder, paths, random_weights, shares, step_seconds

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone

TITLE = "`fit` with an empty cache ÷ (decoding + the network, each alone)"
PREDICTED = (
    "I predicted 1.9 for EfficientNet-Lite0 and 1.4 for ResNet-50: the pass over the files near 1.0 because decoding "
    "and network overlap, but the network with random weights alone adds a quarter (500 of 2,000 images), and the "
    "cross-validation of the heads costs the same for both, which weighs more on the faster network."
)
EXCLUDED = (
    "Left out of `fit`'s time: imports (done before by a small fit in the same process), loading the network, "
    "converting it and the race between runners for the network itself (everything between the reading of the folder "
    "and the first image; `run.json` says how long loading took). Counted: reading the folder, hashing, decoding, the "
    "look at each picture, the network, the audit, the heads, the baselines (with the conversion and the forward "
    "passes of the network with random weights), the evaluation, saving, loading back and the report. The denominator "
    "is plain Pillow decoding and resizing by one thread for each core, plus the runner that won the race on all "
    "images lying in memory. The operating system's cache of the files is warm for both sides."
)


@dataclass(frozen=True)
class Case:
    what: str
    network: str
    architecture: str  # random weights are made for it; empty: it has its own
    images: int | None  # None: all 2,000
    must: float


CASES = (
    Case("EfficientNet-Lite0, 2,000 images", LITE0, "", None, 1.3),
    Case("ResNet-50 (random weights), 2,000 images", "timm/resnet50", "resnet50", None, 1.3),
)


def measure(bench: Bench) -> Outcome:
    rows: list[Row] = []
    details = {}
    for case in CASES:
        found, seen = _case(case, bench)
        rows += found
        details[case.what] = seen
    return Outcome(tuple(rows), (), details)


def _case(case: Case, bench: Bench) -> tuple[list[Row], dict]:
    weights = random_weights(bench, case.architecture) if case.architecture else None
    images = bench.pick(case.images, 330)
    rounds = []
    with bench.folder() as place:
        data = image_folder(place / "data", images)
        with bench.folder() as warm:
            _fit(image_folder(warm / "data", 60), warm, LITE0, None)
        backbone = _load(case.network, weights)
        for number in range(bench.rounds):
            rounds.append(_round(data, place / str(number), case.network, weights, backbone, paths(images)))
    alone = [r["decoding"] + r["network"] for r in rounds]
    left = [r["wall"] - r["start-up"] for r in rounds]
    after = [r["wall"] - r["start-up"] - r["pass"] for r in rounds]
    random = [r["steps"].get("baselines", 0.0) for r in rounds]
    rows = [
        Row(f"{case.what}: all of `fit`", divided(left, alone), must=case.must),
        Row(f"{case.what}: of that, reading and the one pass over the files", _pass(rounds, alone)),
        Row(
            f"{case.what}: of that, the baselines (pixels, and the network with random weights)", divided(random, alone)
        ),
        Row(f"{case.what}: of that, everything after the pass", divided(after, alone)),
        Row(f"{case.what}: decoding + network alone", tuple(alone), "s"),
        Row(f"{case.what}: start-up that was left out", tuple(r["start-up"] for r in rounds), "s"),
    ]
    for r, s in zip(rounds, alone, strict=True):
        r["steps ÷ alone"] = shares(r["steps"], s)
    return rows, {"rounds": rounds}


def _pass(rounds: list[dict], alone: list[float]) -> tuple[float, ...]:
    return divided([r["pass"] for r in rounds], alone)


def _round(data: Path, place: Path, network: str, weights: Path | None, backbone: Backbone, files: list[Path]) -> dict:
    """Decoding alone, network alone, `fit`: in turns, so that a slower minute slows all three."""
    decoding, network_alone, runner = _alone(files, backbone)
    watch, wall = _fit(data, place, network, weights)
    steps = step_seconds(place / "run")
    startup = watch.before_looking - steps["reading"]
    return {
        "decoding": decoding,
        "network": network_alone,
        "runner alone": runner,
        "wall": wall,
        "start-up": startup,
        "pass": steps["reading"] + steps["loading the network"] + steps["features"] - startup,
        "steps": steps,
    }


def _alone(files: list[Path], backbone: Backbone) -> tuple[float, float, str]:
    """(seconds of decoding, seconds of the network, runner) for all files; the pixels are gone afterwards."""
    pixels = np.empty((len(files), backbone.spec.size, backbone.spec.size, 3), np.uint8)
    decoding = seconds(lambda: _decode(files, backbone, pixels))
    return decoding, *_forward(backbone, pixels)


def _decode(files: list[Path], backbone: Backbone, out: np.ndarray) -> None:
    """Read, decode, resize and crop with Pillow, as a careful user would by hand: no hashes, no checks, no facts."""
    from PIL import Image

    from headstart.inputs.image import prepare

    def one(i: int) -> None:
        with Image.open(files[i]) as image:
            out[i] = prepare(image.convert("RGB"), backbone.spec)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(one, range(len(files))))


def _forward(backbone: Backbone, pixels: np.ndarray) -> tuple[float, str]:
    """(seconds for all images in memory, runner): the fastest that agrees with float32, by a race that is not timed."""
    from headstart.features.choose import choose_runner
    from headstart.features.runners.runner import run_all

    choice = choose_runner(backbone, lambda most: pixels[:: max(1, len(pixels) // 16)][:16], device="cpu")
    runner = choice.make()
    run_all(runner, pixels[: 2 * runner.batch])
    return seconds(lambda: run_all(runner, pixels)), choice.name


def _fit(data: Path, place: Path, network: str, weights: Path | None) -> tuple[Watch, float]:
    """(what the observer saw, seconds of the call), with a cache and an output folder of its own."""
    import headstart as hs

    config = hs.FitConfig(backbone=network, weights=str(weights) if weights else None, device="cpu")
    watch = Watch()
    wall = seconds(lambda: hs.fit(data, out=place / "run", cache=place / "cache", config=config, observer=watch))
    return watch, wall


def _load(network: str, weights: Path | None) -> Backbone:
    from headstart.backbones.catalogue import catalogue

    return catalogue.load(network, weights=weights)
