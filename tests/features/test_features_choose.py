"""The race between runners: what is far behind is given up early, and never for being unlike."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.backbones.catalogue import catalogue
from headstart.features.choose import GLANCE, _glance
from headstart.features.runners.runner import run_all
from headstart.features.runners.torch import TorchRunner


@pytest.fixture(scope="module")
def raced():
    """(runner, 8 pictures, their features)"""
    backbone = catalogue.load("toy/conv")
    pixels = np.random.default_rng(0).integers(0, 256, (8, backbone.spec.size, backbone.spec.size, 3), np.uint8)
    runner = TorchRunner(backbone)
    return runner, pixels, run_all(runner, pixels)


def test_plain_torch_is_given_up_after_a_glance_only_where_it_is_far_behind(raced):
    runner, pixels, reference = raced
    assert _glance(runner, pixels, reference, fastest=0.0) is None
    assert _glance(runner, pixels, reference, fastest=1.0) is None
    trial = _glance(runner, pixels, reference, fastest=1e12)
    assert trial is not None and trial.accepted and trial.name == "torch-f32" and trial.images_per_s > 0


def test_a_glance_also_compares(raced):
    runner, pixels, reference = raced
    trial = _glance(runner, pixels, -reference, fastest=1e12)
    assert trial is not None and not trial.accepted


def test_a_few_pictures_are_run_without_padding(raced):
    runner, pixels, reference = raced
    assert runner.run(pixels[:GLANCE]) == pytest.approx(reference[:GLANCE], rel=1e-4, abs=1e-5)
