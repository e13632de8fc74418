"""The extraction itself: how near to the fastest way of running the network, how far from the loop people write."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.figure import REPOSITORY, Bench, Outcome, Row, divided, seconds
from benchmarks.material import LITE0, Watch, paths, random_weights
from benchmarks.settings import Setting, settings

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone
    from headstart.data.dataset import Dataset
    from headstart.inputs.spec import ImageSpec

TITLE = "extraction: images a second against the best setting alone, and against a user's loop"
PREDICTED = (
    "I predicted 1.0 for headstart's runner on pixels in memory (it is the same library call) and 0.9 for `extract` "
    "on arrays in memory (hashing and looking at each picture share the two cores with the network; worst for "
    "EfficientNet-Lite0). Against the user's loop, 3 on a processor without AMX for all three networks, 5 and more "
    "only where bfloat16 products are fast and agree."
)
EXCLUDED = (
    "Left out: imports, loading, conversion and the race. `alone`: each setting runs batches that lie in memory as "
    "normalised tensors of its own type and layout; first batch not counted. `runner`: headstart's runner from "
    "uint8 pixels in memory, normalisation inside. `extract` on arrays: the public function on uint8 arrays of the "
    "network's size, with content hashes, the look at each picture and the shards on disk. `extract` on files: "
    "decoding and resizing too. The user's loop: torch float32, DataLoader (batch 32, one worker for each core), "
    "torchvision's Resize, CenterCrop, ToTensor, Normalize; its workers' start and its first batch are not counted. "
    "ResNet-50 and ViT-S have random weights, so whether bfloat16 agrees with float32 may differ from real ones; "
    "speed does not."
)


@dataclass(frozen=True)
class Case:
    """alone: images for each setting, a multiple of 32.  extracted: images for `extract` and its runner."""

    what: str
    network: str
    architecture: str
    alone: int
    extracted: int


CASES = (
    Case("EfficientNet-Lite0", LITE0, "", 256, 1024),
    Case("ResNet-50", "timm/resnet50", "resnet50", 96, 288),
    Case("ViT-S/16", "timm/vit_small_patch16_224", "vit_small_patch16_224", 96, 288),
)


def measure(bench: Bench) -> Outcome:
    rows: list[Row] = []
    details: dict[str, Any] = {}
    for case in CASES:
        found, seen = _case(case, bench)
        rows += found
        details[case.what] = seen
    return Outcome(tuple(rows), tuple(d["note"] for d in details.values()), details)


@dataclass(frozen=True, eq=False)
class Ready:
    """Everything that the rounds of one case measure, made and warmed up before the first.

    alone: the settings, each for ``counted`` images.  files and pixels: the same pictures, classes mixed.
    """

    backbone: Backbone
    weights: Path | None
    files: list[Path]
    pixels: np.ndarray
    alone: list[Setting]
    counted: int
    runner: Any


def _case(case: Case, bench: Bench) -> tuple[list[Row], dict[str, Any]]:
    ready = _ready(case, bench)
    rounds = [_round(case, ready, bench) for _ in range(bench.rounds)]
    speeds = {s.name: statistics.median(r["alone"][s.name] for r in rounds) for s in ready.alone}
    best = max((s for s in ready.alone if s.accepted), key=lambda s: speeds[s.name])
    fastest = max(ready.alone, key=lambda s: speeds[s.name])
    note = f"{case.what}: headstart ran {ready.runner.name}; the best accepted setting alone was {best.name}"
    if fastest != best:
        note += f"; {fastest.name} is faster but differs from float32 (lowest cosine {fastest.cosine:.4f})"
    details = {
        "alone, images/s": {n: round(v, 1) for n, v in speeds.items()},
        "lowest cosine to float32": {s.name: round(s.cosine, 6) for s in ready.alone},
        "accepted": [s.name for s in ready.alone if s.accepted],
        "runner": ready.runner.name,
        "note": note + ".",
        "rounds": rounds,
    }
    return _rows(case.what, rounds, best, fastest), details


def _ready(case: Case, bench: Bench) -> Ready:
    from headstart.backbones.catalogue import catalogue

    weights = random_weights(bench, case.architecture) if case.architecture else None
    backbone = catalogue.load(case.network, weights=weights)
    in_order = paths(bench.pick(case.extracted, 64))
    files = [in_order[i * 101 % len(in_order)] for i in range(len(in_order))]  # 101 is prime: classes mix
    pixels = _pixels(files, backbone.spec)
    counted = bench.pick(case.alone, 32)
    alone = settings(backbone, _normalised(pixels[:counted], backbone.spec))
    return Ready(backbone, weights, files, pixels, alone, counted, _runner(backbone, pixels))


def _rows(what: str, rounds: list[dict], best: Setting, fastest: Setting) -> list[Row]:
    def of(key: str) -> list[float]:
        return [r[key] for r in rounds]

    best_alone = [r["alone"][best.name] for r in rounds]
    any_alone = [r["alone"][fastest.name] for r in rounds]
    return [
        Row(f"{what}: runner ÷ best accepted setting alone", divided(of("runner"), best_alone), "×", 0.95, False),
        Row(f"{what}: `extract` on arrays ÷ the same", divided(of("arrays"), best_alone), "×", 0.95, False),
        Row(f"{what}: `extract` on arrays ÷ best setting alone, accepted or not", divided(of("arrays"), any_alone)),
        Row(
            f"{what}: `extract` on files ÷ the user's loop on files", divided(of("files"), of("loop")), "×", 5.0, False
        ),
        Row(f"{what}: best accepted setting alone", tuple(best_alone), "images/s"),
        Row(f"{what}: `extract` on files", tuple(of("files")), "images/s"),
        Row(f"{what}: the user's loop on files", tuple(of("loop")), "images/s"),
    ]


def _round(case: Case, ready: Ready, bench: Bench) -> dict[str, Any]:
    from headstart.features.runners.runner import run_all

    of_arrays = ready.backbone.with_input(replace(ready.backbone.spec, crop=1.0))  # nothing to resize or to cut off
    in_memory = [np.ascontiguousarray(p) for p in ready.pixels]
    return {
        "alone": {s.name: s.images_per_s(ready.counted) for s in ready.alone},
        "runner": len(ready.pixels) / seconds(lambda: run_all(ready.runner, ready.pixels)),
        "arrays": _extract(of_arrays, _dataset(in_memory), bench),
        "files": _extract(ready.backbone, _dataset(ready.files), bench),
        "loop": _users_loop(case, ready.weights, bench.pick(len(ready.files) // 2, 48)),
    }


def _runner(backbone: Backbone, pixels: np.ndarray) -> Any:
    """The winner of headstart's own race, warmed up."""
    from headstart.features.choose import choose_runner
    from headstart.features.runners.runner import run_all

    runner = choose_runner(backbone, lambda most: pixels[:16], device="cpu").make()
    run_all(runner, pixels[: 2 * runner.batch])
    return runner


def _extract(backbone: Backbone, dataset: Dataset, bench: Bench) -> float:
    """Images a second of the public function with an empty cache, from the first image on."""
    from headstart.features.extract import extract

    with bench.folder() as cache:
        watch = Watch()
        took = seconds(lambda: extract(backbone, dataset, cache=cache, device="cpu", observer=watch))
        return len(dataset) / (took - watch.before_looking)


def _dataset(values: Sequence[Any]) -> Dataset:
    from headstart.data.dataset import Dataset

    return Dataset("image", [str(i) for i in range(len(values))], list(values))


def _pixels(files: list[Path], spec: ImageSpec) -> np.ndarray:
    """(N, S, S, 3) uint8."""
    from PIL import Image

    from headstart.inputs.image import prepare

    return np.stack([prepare(Image.open(f).convert("RGB"), spec) for f in files])


def _normalised(pixels: np.ndarray, spec: ImageSpec) -> Any:
    import torch

    from headstart.inputs.image import normalise

    return torch.from_numpy(normalise(pixels, spec))


def _users_loop(case: Case, weights: Path | None, images: int) -> float:
    """Images a second of benchmarks.users_loop, in a process of its own: its workers fork, and OpenVINO has threads."""
    command = [sys.executable, "-m", "benchmarks.users_loop", case.network, str(weights or ""), str(images)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])
