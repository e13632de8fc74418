"""Pictures made on the spot for the tests of this room."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


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
