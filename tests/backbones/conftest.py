"""The toy network as a publisher would have it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from headstart.backbones.catalogue import catalogue
from headstart.inputs.image import normalise


@pytest.fixture(scope="session")
def toy():
    return catalogue.load("toy/conv")


@pytest.fixture(scope="session")
def toy_classifier(toy):
    """The whole toy network with a classifier of ten classes, as a publisher would have it."""
    network = toy.architecture.build(10)
    network.load_state_dict(toy.network.state_dict(), strict=False)
    return network.eval()


@pytest.fixture(scope="session")
def toy_images(toy):
    pixels = np.random.default_rng(0).integers(0, 256, (2, toy.spec.size, toy.spec.size, 3), dtype=np.uint8)
    return torch.from_numpy(normalise(pixels, toy.spec))
