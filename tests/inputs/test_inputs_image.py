from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headstart.base.seeds import stream
from headstart.inputs.image import normalise, prepare
from headstart.inputs.spec import ImageSpec

SIZES = [(250, 250), (251, 250), (250, 251), (640, 427), (427, 640), (37, 500), (500, 37), (224, 224), (256, 256),
         (255, 257), (30, 31), (1, 9), (1001, 333)]  # fmt: skip
SPECS = [
    ImageSpec(),
    ImageSpec(size=240, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    ImageSpec(size=260, interpolation="bilinear"),
    ImageSpec(size=224, crop=0.9),
    ImageSpec(size=225, crop=0.9),
    ImageSpec(size=299, crop=0.95, interpolation="bilinear"),
    ImageSpec(size=64, crop=1.0),
    ImageSpec(size=63, crop=1.0, fit="squish"),
    ImageSpec(size=96, crop=1.0, fit="pad"),
    ImageSpec(size=97, crop=1.0, fit="pad", interpolation="bilinear"),
]


def picture(width, height):
    return Image.fromarray(stream(0, width, height).integers(0, 256, (height, width, 3), dtype=np.uint8), "RGB")


def timm_transform(spec):
    from timm.data import create_transform, resolve_data_config

    cfg = {
        "input_size": (3, spec.size, spec.size),
        "mean": spec.mean,
        "std": spec.std,
        "crop_pct": spec.crop,
        "interpolation": spec.interpolation,
        "crop_mode": {"crop": "center", "squish": "squash", "pad": "border"}[spec.fit],
    }
    return create_transform(**resolve_data_config(pretrained_cfg=cfg), is_training=False)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.size}-{s.crop}-{s.fit}-{s.interpolation}")
def test_prepare_equals_timm_pixel_for_pixel(spec):
    from torchvision.transforms import functional as F

    geometry = timm_transform(spec).transforms[:-2]  # before ToTensor and Normalize
    for width, height in SIZES:
        if spec.fit == "pad" and max(width, height) / min(width, height) > spec.size:
            continue  # timm fails where a side rounds to nothing
        expected = picture(width, height)
        for step in geometry:
            expected = step(expected)
        assert F.get_image_size(expected) == [spec.size, spec.size]
        assert np.array_equal(prepare(picture(width, height), spec), np.asarray(expected)), (width, height)


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(SPECS))
@settings(max_examples=60, deadline=None)
def test_prepare_gives_a_square_of_bytes_for_any_picture(width, height, spec):
    result = prepare(picture(width, height), spec)
    assert result.shape == (spec.size, spec.size, 3) and result.dtype == np.uint8


def test_prepare_of_a_fitting_picture_changes_nothing():
    image = picture(64, 64)
    for fit in ("crop", "squish", "pad"):
        assert np.array_equal(prepare(image, ImageSpec(size=64, crop=1.0, fit=fit)), np.asarray(image))


def test_pad_keeps_the_whole_picture_and_fills_with_the_mean_colour():
    spec = ImageSpec(size=40, mean=(1.0, 0.0, 0.0), crop=1.0, fit="pad")
    padded = prepare(Image.new("RGB", (80, 20), (0, 0, 255)), spec)
    assert (padded[:15] == (255, 0, 0)).all() and (padded[25:] == (255, 0, 0)).all()
    assert (padded[15:25] == (0, 0, 255)).all()


def test_normalise_equals_torchvision():
    from torchvision.transforms import functional as F

    spec = ImageSpec(size=32)
    pictures = [picture(32, 32), picture(32, 32).rotate(90)]
    batch = np.stack([np.asarray(p) for p in pictures])
    expected = [F.normalize(F.to_tensor(p), spec.mean, spec.std).numpy() for p in pictures]
    assert np.abs(normalise(batch, spec) - np.stack(expected)).max() < 1e-6
    assert normalise(batch, spec).dtype == np.float32


def test_prepare_needs_rgb():
    with pytest.raises(AssertionError, match="mode L"):
        prepare(Image.new("L", (8, 8)), ImageSpec(size=8))
