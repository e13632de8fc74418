"""The operations of AutoAugment's family, and which of them a view draws.

The table holds what TrivialAugmentWide (Müller & Hutter 2021, arXiv:2103.10158) and RandAugment (Cubuk et al. 2020,
arXiv:1909.13719) draw from, with the strengths of torchvision.transforms.v2. Each operation gives the pixels of
torchvision's on a Pillow image, but we draw, so that a view depends on nothing but its seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from headstart.inputs.spec import ImageSpec

Kind = Literal["horizontal-flip", "vertical-flip", "tilt", "turn", "crop", "strong-crop", "colour", "strong-colour"]
Auto = Literal["none", "trivial", "rand"]
TILT = 30.0  # degrees; more is a turn
STRENGTHS = 30  # 0 … 30
MEDIUM = 9  # RandAugment's


@dataclass(frozen=True)
class Operation:
    """One change of a picture.

    kind: what the safety test must allow; None changes no class.  trivial, rand: magnitudes at strength 0 and 30;
    None has none.  signed: either way.
    """

    kind: Kind | None
    trivial: tuple[float, float] | None
    rand: tuple[float, float] | None
    signed: bool
    apply: Callable[[Image.Image, float, ImageSpec], Image.Image]


def operations(auto: Auto, off: Collection[Kind], u: np.ndarray) -> tuple[tuple[str, float], ...]:
    """(name, magnitude) of what one view does.  u: (2, 3) numbers in [0, 1): which, how much, which way.

    off: kinds left out; without 'turn' a rotation stays below TILT.
    """
    if auto == "none":
        return ()
    names = [name for name, operation in OPERATIONS.items() if operation.kind not in off]
    drawn = []
    for which, how_much, way in u if auto == "rand" else u[:1]:
        name = names[int(which * len(names))]
        strength = MEDIUM if auto == "rand" else int(how_much * (STRENGTHS + 1))
        sign = -1 if OPERATIONS[name].signed and way < 0.5 else 1
        magnitude = sign * _magnitude(name, auto, off, strength)
        drawn.append((name, magnitude))
    return tuple(drawn)


def _magnitude(name: str, auto: Auto, off: Collection[Kind], strength: int) -> float:
    ends = OPERATIONS[name].trivial if auto == "trivial" else OPERATIONS[name].rand
    if ends is None:
        return 0.0
    if name == "rotate" and "turn" in off:
        ends = (0.0, min(TILT, ends[1]))
    return ends[0] + (ends[1] - ends[0]) * strength / STRENGTHS


def warped(image: Image.Image, matrix: tuple[float, ...], spec: ImageSpec) -> Image.Image:
    """matrix: the six numbers that lead from a place in the result to its place in ``image``; outside it is grey."""
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=mean_colour(spec)
    )


def mean_colour(spec: ImageSpec) -> tuple[int, int, int]:
    """What the network sees as 0."""
    red, green, blue = (round(255 * v) for v in spec.mean)
    return red, green, blue


def _sheared_x(image: Image.Image, magnitude: float, spec: ImageSpec) -> Image.Image:
    return warped(image, (1, magnitude, 0, 0, 1, 0), spec)


def _sheared_y(image: Image.Image, magnitude: float, spec: ImageSpec) -> Image.Image:
    return warped(image, (1, 0, 0, magnitude, 1, 0), spec)


def _shifted_x(image: Image.Image, magnitude: float, spec: ImageSpec) -> Image.Image:
    return warped(image, (1, 0, -int(magnitude * image.width), 0, 1, 0), spec)


def _shifted_y(image: Image.Image, magnitude: float, spec: ImageSpec) -> Image.Image:
    return warped(image, (1, 0, 0, 0, 1, -int(magnitude * image.height)), spec)


def _rotated(image: Image.Image, magnitude: float, spec: ImageSpec) -> Image.Image:
    return image.rotate(magnitude, Image.Resampling.BILINEAR, fillcolor=mean_colour(spec))


def _brighter(image: Image.Image, magnitude: float, spec: ImageSpec) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1 + magnitude)


def _more_colourful(image: Image.Image, magnitude: float, spec: ImageSpec) -> Image.Image:
    return ImageEnhance.Color(image).enhance(1 + magnitude)


def _contrasted(image: Image.Image, magnitude: float, spec: ImageSpec) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(1 + magnitude)


def _sharpened(image: Image.Image, magnitude: float, spec: ImageSpec) -> Image.Image:
    return ImageEnhance.Sharpness(image).enhance(1 + magnitude)


def _posterized(image: Image.Image, magnitude: float, spec: ImageSpec) -> Image.Image:
    return ImageOps.posterize(image, round(magnitude))


def _solarized(image: Image.Image, magnitude: float, spec: ImageSpec) -> Image.Image:
    return ImageOps.solarize(image, math.ceil(magnitude))  # levels are whole: v < 12.3 where v < 13


def _autocontrasted(image: Image.Image, magnitude: float, spec: ImageSpec) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalized(image: Image.Image, magnitude: float, spec: ImageSpec) -> Image.Image:
    return ImageOps.equalize(image)


def _same(image: Image.Image, magnitude: float, spec: ImageSpec) -> Image.Image:
    return image


_WIDE, _SHIFT = 32 / 224, 150 / 331  # of the side, as in the papers
OPERATIONS = {
    "identity": Operation(None, None, None, False, _same),
    "shear-x": Operation("tilt", (0, 0.99), (0, 0.3), True, _sheared_x),
    "shear-y": Operation("tilt", (0, 0.99), (0, 0.3), True, _sheared_y),
    "shift-x": Operation("crop", (0, _WIDE), (0, _SHIFT), True, _shifted_x),
    "shift-y": Operation("crop", (0, _WIDE), (0, _SHIFT), True, _shifted_y),
    "rotate": Operation("tilt", (0, 135), (0, 30), True, _rotated),
    "brightness": Operation("strong-colour", (0, 0.99), (0, 0.9), True, _brighter),
    "saturation": Operation("strong-colour", (0, 0.99), (0, 0.9), True, _more_colourful),
    "contrast": Operation("strong-colour", (0, 0.99), (0, 0.9), True, _contrasted),
    "sharpness": Operation(None, (0, 0.99), (0, 0.9), True, _sharpened),
    "posterize": Operation("strong-colour", (8, 2), (8, 4), False, _posterized),
    "solarize": Operation("strong-colour", (255, 0), (255, 0), False, _solarized),
    "autocontrast": Operation("strong-colour", None, None, False, _autocontrasted),
    "equalize": Operation("strong-colour", None, None, False, _equalized),
}
