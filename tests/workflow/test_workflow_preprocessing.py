"""Another normalisation is asked of the converted network by changing its pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headstart.backbones.catalogue import catalogue
from headstart.backbones.probe import ALTERNATIVES
from headstart.features.choose import best_device, offered
from headstart.features.runners.runner import run_all
from headstart.features.runners.torch import TorchRunner
from headstart.workflow.preprocessing import _takes_floats, renormalised


@pytest.mark.parametrize("name", [n for n in offered(best_device()) if "bf16" not in n and "autocast" not in n])
def test_changed_pixels_stand_for_another_normalisation(name):
    backbone = catalogue.load("toy/conv")
    pixels = np.random.default_rng(0).integers(0, 256, (5, backbone.spec.size, backbone.spec.size, 3), np.uint8)
    for _, mean, std in ALTERNATIVES:
        other = replace(backbone.spec, mean=mean, std=std)
        found = run_all(_takes_floats(backbone, name, "auto"), renormalised(pixels, backbone.spec, other))
        expected = run_all(TorchRunner(backbone.with_input(other)), pixels)
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-3 * float(np.abs(expected).max()))
