"""Weights from somewhere else: were they trained with the normalisation that we are about to use?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from headstart.backbones.probe import check_preprocessing
from headstart.base.progress import Advanced, Finished, Observer, Said, Started
from headstart.base.seeds import stream
from headstart.data.dataset import Dataset
from headstart.data.decode import ImageLimits
from headstart.features.choose import make_runner
from headstart.features.extract import sample_pixels
from headstart.features.runners.runner import Runner, run_all
from headstart.inputs.spec import ImageSpec
from headstart.workflow.judge import Known

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone

IMAGES = 96  # enough to see a wrong normalisation, few enough to run a handful of times


def preprocessing_check(
    backbone: Backbone,
    usable: Dataset,
    known: Known,
    train: np.ndarray,
    *,
    runner: str,
    device: str,
    limits: ImageLimits,
    seed: int,
    observer: Observer,
) -> str:
    """One sentence, from a probe on a few training images under the card's normalisation and the usual others.

    usable: the dataset whose rows ``known`` holds.  train: positions that may be looked at.
    runner: name of the one that made ``known.X``; it runs the other normalisations too.
    """
    if known.task.name != "classification":
        return ""
    rows = stream(seed, "preprocessing").permutation(train)[
        :IMAGES
    ]  # in random order: the first few look at all classes
    pixels = sample_pixels(backbone, usable.take(rows), limits, most=len(rows))
    if len(pixels) != len(rows):
        return ""  # a file vanished since it was looked at
    what, rounds, start = "checking the preprocessing", 0, time.monotonic()
    observer(Started(what, unit="rounds"))
    running: Runner | None = None

    def features_of(spec: ImageSpec, first: int) -> np.ndarray:
        nonlocal rounds, running
        rounds += 1
        observer(Advanced(what, rounds))
        if spec == backbone.spec:
            return known.X[rows[:first]]
        running = running or _takes_floats(backbone, runner, device)
        return run_all(running, renormalised(pixels[:first], backbone.spec, spec))

    sentence = check_preprocessing(features_of, known.y[rows], backbone.spec)
    observer(Finished(what, rounds, time.monotonic() - start))
    observer(Said(sentence, "warning" if "looks wrong" in sentence else "note"))
    return sentence


def renormalised(pixels: np.ndarray, own: ImageSpec, other: ImageSpec) -> np.ndarray:
    """(n, S, S, 3) float32 pixels that become under ``own`` normalisation what ``pixels`` are under ``other``.

    So one converted network serves every normalisation. The values may lie outside 0 to 255.
    """
    mean, std, m, s = (np.asarray(v, np.float32) for v in (own.mean, own.std, other.mean, other.std))
    return 255 * (mean + std * (pixels / np.float32(255) - m) / s)


def _takes_floats(backbone: Backbone, name: str, device: str) -> Runner:
    """The runner of that name for float32 pixels."""
    converted = None
    if name.startswith("openvino"):
        from headstart.features.runners.openvino import convert

        converted = convert(backbone, floats=True)
    runner = make_runner(backbone, name, device, converted=converted)
    assert runner is not None, "the features have just been made by it"
    return runner
