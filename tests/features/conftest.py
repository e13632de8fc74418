import numpy as np
import pytest
from PIL import Image

from headstart.backbones.catalogue import catalogue
from headstart.data.open import open_dataset


@pytest.fixture(scope="session")
def toy():
    return catalogue.load("toy/conv")


@pytest.fixture
def folder(tmp_path):
    """Two classes of 20 small pictures each, one of them twice."""
    rng = np.random.default_rng(0)
    for label, tint in (("blue", (30, 40, 220)), ("red", (220, 40, 30))):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(20):
            pixels = rng.normal(tint, 40, (40 + i, 52, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{i:02}.png")
    twice = tmp_path / "data" / "red" / "copy.png"
    twice.write_bytes((tmp_path / "data" / "red" / "00.png").read_bytes())
    return tmp_path / "data"


@pytest.fixture
def dataset(folder):
    return open_dataset(folder)
