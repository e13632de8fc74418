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
from headstart.features.choose import cpu_has_bf16
from headstart.features.extract import sample_pixels
from headstart.features.runners.runner import run_all
from headstart.features.runners.torch import TorchRunner
from headstart.inputs.spec import ImageSpec
from headstart.workflow.judge import Known

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone

IMAGES = 96  # enough to see a wrong normalisation, few enough to run a handful of times in float32


def preprocessing_check(
    backbone: Backbone,
    usable: Dataset,
    known: Known,
    train: np.ndarray,
    *,
    limits: ImageLimits,
    seed: int,
    observer: Observer,
) -> str:
    """One sentence, from a probe on a few training images under the card's normalisation and the usual others.

    usable: the dataset whose rows ``known`` holds.  train: positions that may be looked at.
    """
    if known.task.name != "classification":
        return ""
    rows = np.sort(stream(seed, "preprocessing").permutation(train)[:IMAGES])
    pixels = sample_pixels(backbone, usable.take(rows), limits, most=len(rows))
    if len(pixels) != len(rows):
        return ""  # a file vanished since it was looked at
    what, rounds, start = "checking the preprocessing", 0, time.monotonic()
    observer(Started(what, unit="rounds"))

    def features_of(spec: ImageSpec) -> np.ndarray:
        nonlocal rounds
        rounds += 1
        observer(Advanced(what, rounds))
        if spec == backbone.spec:
            return known.X[rows]
        # bfloat16 where the CPU has it: a probe does not see the difference, and it is two to four times faster
        return run_all(
            TorchRunner(backbone.with_input(spec), precision="bf16" if cpu_has_bf16() else "f32", nhwc=True), pixels
        )

    sentence = check_preprocessing(features_of, known.y[rows], backbone.spec)
    observer(Finished(what, rounds, time.monotonic() - start))
    observer(Said(sentence, "warning" if "looks wrong" in sentence else "note"))
    return sentence
