"""New views of a training picture: which changes are drawn, and making them. Pillow and numpy only.

A view is a pure function of (picture, policy, seed, row, visit): no order, no thread and no global generator has a say,
so a resumed run sees the same pixels. Pillow works without the interpreter lock: threads make views side by side.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image

from headstart.base.errors import PlanError, did_you_mean, shown
from headstart.base.seeds import stream
from headstart.inputs.image import prepare
from headstart.inputs.operations import OPERATIONS, TILT, Kind, mean_colour, operations, warped
from headstart.inputs.spec import ImageSpec

KINDS: tuple[Kind, ...] = (  # of each pair the mild form first
    "horizontal-flip",
    "vertical-flip",
    "tilt",
    "turn",
    "crop",
    "strong-crop",
    "colour",
    "strong-colour",
)
STRONGER: dict[str, Kind] = {"tilt": "turn", "crop": "strong-crop", "colour": "strong-colour"}
STRONG = 0.7  # crops to less of a picture than this are strong
CLOSE = 1 / math.sqrt(STRONG)  # and so are magnifications above this
VIVID = 0.3  # changes of colour by more than this share are strong
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Policy:
    """What may be done to a training picture. Each range is drawn from uniformly, the ratio on a log scale.

    flips: each happens half the time.  rotation, shear: degrees, up to this much either way.
    crop: (least, most) area of the part that is shown, as a share of the largest part of the drawn shape that fits;
        None shows what the network sees at prediction.  ratio: (least, most) width over height of that part, relative
        to the shape that fills the network's square.
    zoom: (least, most) magnification; below 1 the mean colour shows around the picture.
    colour: brightness, contrast and saturation are each multiplied by 1 − colour to 1 + colour.
    auto: then one operation of any strength (TrivialAugmentWide, Müller & Hutter 2021), or two of medium strength
        (RandAugment with N = 2 and M = 9 of 30, Cubuk et al. 2020).
    off: kinds of change that ``without`` has taken out.
    """

    name: str
    flips: tuple[Literal["horizontal", "vertical"], ...] = ()
    rotation: float = 0.0
    crop: tuple[float, float] | None = None
    ratio: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    colour: float = 0.0
    auto: Literal["none", "trivial", "rand"] = "none"
    off: tuple[Kind, ...] = ()

    def __post_init__(self) -> None:
        ranges = {"ratio": self.ratio, "zoom": self.zoom} | ({"crop": self.crop} if self.crop else {})
        wrong = [f"{name} {got}" for name, got in ranges.items() if not 0 < got[0] <= got[1] < math.inf]
        wrong += [f"crop {self.crop}"] if self.crop and self.crop[1] > 1 else []
        limits = {"rotation": (self.rotation, 180), "shear": (self.shear, 60), "colour": (self.colour, 1)}
        wrong += [f"{name} {got}" for name, (got, most) in limits.items() if not 0 <= got <= most]
        if wrong:
            raise PlanError(
                f"PL33 the augmentation policy '{shown(self.name)}' cannot have {', '.join(wrong)}. Ranges are "
                "(least, most) above 0, crop at most 1, rotation at most 180, shear at most 60, colour at most 1."
            )

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of change that it makes, mild before strong."""
        auto = self.auto != "none"
        made = {
            "horizontal-flip": "horizontal" in self.flips,
            "vertical-flip": "vertical" in self.flips,
            "tilt": auto or self.rotation > 0 or self.shear > 0,
            "turn": self.auto == "trivial" or self.rotation > TILT,
            "crop": auto or self.crop is not None or self.zoom != (1, 1),
            "strong-crop": (self.crop is not None and self.crop[0] < STRONG) or self.zoom[1] > CLOSE,
            "colour": auto or self.colour > 0,
            "strong-colour": auto or self.colour > VIVID,
        }
        return tuple(kind for kind in KINDS if made[kind] and kind not in self.off)

    @property
    def changes_nothing(self) -> bool:
        """Whether every view is the picture that the network sees at prediction."""
        return self == Policy(self.name, ratio=self.ratio, off=self.off)

    def without(self, kinds: Collection[str]) -> Policy:
        """The policy that leaves these kinds of change out. Without the mild form the strong one goes, too."""
        off = {*self.off, *kinds}
        assert off <= set(KINDS), f"unknown kinds of change {off - set(KINDS)}"
        off |= {strong for mild, strong in STRONGER.items() if mild in off}
        least, closest = (STRONG, CLOSE) if "strong-crop" in off else (0.0, math.inf)
        mild_crop = (max(least, self.crop[0]), max(least, self.crop[1])) if self.crop else None
        return replace(
            self,
            flips=tuple(flip for flip in self.flips if f"{flip}-flip" not in off),
            rotation=0.0 if "tilt" in off else min(self.rotation, TILT) if "turn" in off else self.rotation,
            shear=0.0 if "tilt" in off else self.shear,
            crop=None if "crop" in off else mild_crop,
            zoom=(1.0, 1.0) if "crop" in off else (min(closest, self.zoom[0]), min(closest, self.zoom[1])),
            colour=0.0 if "colour" in off else min(self.colour, VIVID) if "strong-colour" in off else self.colour,
            off=tuple(kind for kind in KINDS if kind in off),
        )


POLICIES = (
    Policy("none"),
    Policy("light", flips=("horizontal",), crop=(0.7, 1.0), ratio=(0.9, 1 / 0.9)),
    Policy("standard", flips=("horizontal",), crop=(0.35, 1.0), ratio=(3 / 4, 4 / 3), colour=0.2),
    Policy("strong", flips=("horizontal",), crop=(0.35, 1.0), ratio=(3 / 4, 4 / 3), auto="trivial"),
    Policy("strong-rand", flips=("horizontal",), crop=(0.35, 1.0), ratio=(3 / 4, 4 / 3), auto="rand"),
)
AUTO = "standard"  # what 'auto' stands for before the safety test


def policy_named(name: str) -> Policy:
    """One of POLICIES; 'auto' is AUTO, from which the safety test then takes out what changes the class."""
    found = {policy.name: policy for policy in POLICIES}
    if name != "auto" and name not in found:
        raise PlanError(
            f"PL32 no augmentation policy '{shown(name)}'.{did_you_mean(name, [*found, 'auto'])} "
            f"There are: auto, {', '.join(found)}."
        )
    return found[AUTO if name == "auto" else name]


@dataclass(frozen=True)
class View:
    """The changes drawn for one view, made in this order.

    box: (left, top, right, bottom) in pixels of the picture; None is the frame of prediction.
    angle: degrees, clockwise.  shear: degrees, horizontally and vertically.
    colour: factors of brightness, contrast and saturation.  operations: (name, magnitude) of AutoAugment's family.
    """

    box: tuple[float, float, float, float] | None = None
    mirrored: bool = False
    upside_down: bool = False
    angle: float = 0.0
    shear: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    operations: tuple[tuple[str, float], ...] = ()


def augment(picture: np.ndarray, policy: Policy, spec: ImageSpec, *, seed: int, row: int, visit: int) -> np.ndarray:
    """(S, S, 3) uint8: the view of ``row``'s picture (H, W, 3) uint8 that it gives on its ``visit``-th visit.

    A policy that changes nothing gives prepare() of the picture, bit for bit.
    """
    image = Image.fromarray(picture)
    view = draw(policy, image.size, spec, seed=seed, row=row, visit=visit)
    framed = Image.fromarray(prepare(image, spec)) if view.box is None else _framed(image, view.box, spec)
    return np.asarray(apply_view(framed, view, spec))


def augment_prepared(
    prepared: np.ndarray, policy: Policy, spec: ImageSpec, *, seed: int, row: int, visit: int
) -> np.ndarray:
    """augment() for a policy that does not crop, on what prepare() has made of the picture already."""
    assert policy.crop is None, "a crop needs the whole picture"
    image = Image.fromarray(prepared)
    return np.asarray(apply_view(image, draw(policy, image.size, spec, seed=seed, row=row, visit=visit), spec))


def draw(policy: Policy, size: tuple[int, int], spec: ImageSpec, *, seed: int, row: int, visit: int) -> View:
    """What ``policy`` does to a picture of ``size`` (width, height) on this visit.

    Every draw has its own place in the stream: taking one kind of change out leaves the others as they were.
    """
    u = stream(seed, "augment", row, visit).random(19)
    return View(
        box=_box(policy.crop, policy.ratio, size, spec, u[0:4]) if policy.crop else None,
        mirrored="horizontal" in policy.flips and u[4] < 0.5,
        upside_down="vertical" in policy.flips and u[5] < 0.5,
        angle=policy.rotation * (2 * u[6] - 1),
        shear=(policy.shear * (2 * u[7] - 1), policy.shear * (2 * u[8] - 1)),
        zoom=_between(policy.zoom, u[9]),
        colour=(
            1 + policy.colour * (2 * u[10] - 1),
            1 + policy.colour * (2 * u[11] - 1),
            1 + policy.colour * (2 * u[12] - 1),
        ),
        operations=operations(policy.auto, policy.off, u[13:19].reshape(2, 3)),
    )


# ------------------------------------------------------------------------------------------------------ the frame


def _box(
    share: tuple[float, float], ratio: tuple[float, float], size: tuple[int, int], spec: ImageSpec, u: np.ndarray
) -> tuple[float, float, float, float]:
    """The part that is shown. torchvision draws its area relative to the whole picture and tries again when it does
    not fit, so that wide pictures are cropped less strongly; ours always fits at once.
    """
    width, height = size
    shape = 1.0 if spec.fit == "crop" else width / height  # what fills the square at prediction
    shape *= math.exp(_between((math.log(ratio[0]), math.log(ratio[1])), u[1]))
    side = math.sqrt(_between(share, u[0]))
    w = min(width, height * shape) * side
    h = min(height, width / shape) * side
    left, top = (width - w) * u[2], (height - h) * u[3]
    return left, top, min(width, left + w), min(height, top + h)


def _framed(image: Image.Image, box: tuple[float, float, float, float], spec: ImageSpec) -> Image.Image:
    """Crop and resize in one go; the box keeps its fractions of pixels."""
    if spec.fit != "pad":
        return image.resize((spec.size, spec.size), _FILTERS[spec.interpolation], box)
    width, height = box[2] - box[0], box[3] - box[1]
    share = spec.size / max(width, height)
    inner = image.resize(
        (max(1, round(width * share)), max(1, round(height * share))), _FILTERS[spec.interpolation], box
    )
    canvas = Image.new("RGB", (spec.size, spec.size), mean_colour(spec))
    canvas.paste(inner, ((spec.size - inner.width) // 2, (spec.size - inner.height) // 2))
    return canvas


def _between(bounds: tuple[float, float], u: float) -> float:
    return float(bounds[0] + (bounds[1] - bounds[0]) * u)


# ---------------------------------------------------------------------------------------------------- the changes


def apply_view(image: Image.Image, view: View, spec: ImageSpec) -> Image.Image:
    if view.mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if view.upside_down:
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    if view.angle or any(view.shear) or view.zoom != 1:
        image = warped(image, _inverse_affine(image.size, view.angle, view.shear, view.zoom), spec)
    if view.colour != (1, 1, 1):
        image = _coloured(image, *view.colour)
    for name, magnitude in view.operations:
        image = OPERATIONS[name].apply(image, magnitude, spec)
    return image


def _inverse_affine(size: tuple[int, int], angle: float, shear: tuple[float, float], zoom: float) -> tuple[float, ...]:
    """Rotation, magnification and shear about the centre, as torchvision.transforms.v2.functional.affine, inverted."""
    turn, sx, sy = (math.radians(v) for v in (angle, *shear))
    a, c = math.cos(turn - sy) / math.cos(sy), math.sin(turn - sy) / math.cos(sy)
    b, d = -a * math.tan(sx) - math.sin(turn), math.cos(turn) - c * math.tan(sx)
    x, y = size[0] / 2, size[1] / 2
    m = (d / zoom, -b / zoom, -c / zoom, a / zoom)
    return m[0], m[1], x - m[0] * x - m[1] * y, m[2], m[3], y - m[2] * x - m[3] * y


_LUMA = np.array([0.299, 0.587, 0.114])


def _coloured(image: Image.Image, brightness: float, contrast: float, saturation: float) -> Image.Image:
    """Brightness, then contrast about the mean grey, then saturation; one matrix, rounded and clipped once."""
    grey = float(np.asarray(image.reduce(8), np.float32).reshape(-1, 3).mean(axis=0) @ _LUMA)
    gains = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * _LUMA)
    offset = (1 - contrast) * brightness * grey
    return image.convert("RGB", tuple(np.column_stack([gains, np.full(3, offset)]).ravel().tolist()))
