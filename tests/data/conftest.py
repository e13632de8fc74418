"""Pictures made on the spot, and a look at a dataset."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from headstart.data.dataset import Dataset
from headstart.data.decode import ImageLimits
from headstart.data.facts import FactsStore, facts_folder
from headstart.data.survey import Survey, survey


def scene(seed: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    """A picture with shapes and grain; another for each seed."""
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", size, tuple(int(v) for v in rng.integers(40, 216, 3)))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(5, 14))):
        x, y = int(rng.integers(-10, size[0])), int(rng.integers(-10, size[1]))
        w, h = (int(v) for v in rng.integers(8, max(size) // 2, 2))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape([x, y, x + w, y + h], fill=tuple(int(v) for v in rng.integers(0, 256, 3)))
    grain = np.asarray(picture, float) + rng.normal(0, 5, (size[1], size[0], 3))
    return Image.fromarray(grain.clip(0, 255).astype(np.uint8))


def encoded(picture: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of six JPEGs each, in a folder."""
    for i in range(12):
        put(tmp_path / "photos" / ("cat" if i % 2 else "dog") / f"{i:02d}.jpg", encoded(scene(i)))
    return tmp_path / "photos"


@pytest.fixture
def look(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Dataset], Survey]:
    """Survey a dataset with a cache of its own."""

    def surveyed(dataset: Dataset) -> Survey:
        return survey(dataset, FactsStore(facts_folder(tmp_path_factory.mktemp("cache"), ImageLimits())), workers=2)

    return surveyed


_WATCHERS: list[list[str]] = []
_HOOKED: list[bool] = []  # an audit hook stays for the life of the process: there is one


def _note_open(event: str, arguments: tuple) -> None:
    if event in ("open", "os.listdir", "os.scandir") and _WATCHERS and isinstance(arguments[0], str):
        _WATCHERS[-1].append(arguments[0])


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Paths of every file and folder that this process opens during the test."""
    if not _HOOKED:
        sys.addaudithook(_note_open)
        _HOOKED.append(True)
    _WATCHERS.append([])
    yield _WATCHERS[-1]
    _WATCHERS.pop()
