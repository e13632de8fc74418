"""Pictures as a network wants them: resize, crop and pad; then numbers with mean 0. Pillow and numpy only.

``prepare`` reproduces, pixel for pixel, the evaluation transform of torchvision and timm (Resize, CenterCrop), so that
a saved model sees the same picture in any program.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from headstart.inputs.spec import ImageSpec

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def prepare(image: Image.Image, spec: ImageSpec) -> np.ndarray:
    """(size, size, 3) uint8: what the network sees, before normalisation.  image: RGB, any size.

    'crop': the short side becomes floor(size / crop), the long side keeps the ratio (rounded down), the centre is
    cut out.  'squish': both sides become size.  'pad': the long side becomes size, the rest is the mean colour.
    """
    assert image.mode == "RGB", f"prepare() takes RGB images, got mode {image.mode}: decode through data.decode"
    if spec.fit == "crop":
        fitted = _centre(_resize(image, _size_for_crop(image.size, spec), spec), spec)
    elif spec.fit == "squish":
        fitted = _resize(image, (spec.size, spec.size), spec)
    else:
        fitted = _padded(_resize(image, _size_for_pad(image.size, spec), spec), spec)
    return np.asarray(fitted)


def normalise(batch: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """(B, 3, S, S) float32 with the network's mean and deviation, from (B, S, S, 3) uint8.

    The reference for ``Backbone.from_pixels``, which does the same inside the network.
    """
    mean, std = np.asarray(spec.mean, np.float32), np.asarray(spec.std, np.float32)
    scaled = (batch.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def _size_for_crop(size: tuple[int, int], spec: ImageSpec) -> tuple[int, int]:
    # Short side rounded down as timm does, long side as torchvision.transforms.Resize does.
    width, height = size
    short = spec.resized
    if width <= height:
        return short, int(short * height / width)
    return int(short * width / height), short


def _size_for_pad(size: tuple[int, int], spec: ImageSpec) -> tuple[int, int]:
    # As timm's ResizeKeepRatio(longest=1), but a side never vanishes.
    ratio = max(size) / spec.size
    return max(1, round(size[0] / ratio)), max(1, round(size[1] / ratio))


def _resize(image: Image.Image, size: tuple[int, int], spec: ImageSpec) -> Image.Image:
    # Not resize(box=…) of the centre alone: its rounding differs in the last bit, and the gain is under a quarter.
    return image if image.size == size else image.resize(size, _FILTERS[spec.interpolation])


def _centre(image: Image.Image, spec: ImageSpec) -> Image.Image:
    left = round((image.width - spec.size) / 2)
    top = round((image.height - spec.size) / 2)
    return image.crop((left, top, left + spec.size, top + spec.size))


def _padded(image: Image.Image, spec: ImageSpec) -> Image.Image:
    red, green, blue = (round(255 * v) for v in spec.mean)
    canvas = Image.new("RGB", (spec.size, spec.size), (red, green, blue))
    canvas.paste(image, ((spec.size - image.width) // 2, (spec.size - image.height) // 2))
    return canvas
