from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headstart.base.config import from_dict, to_dict
from headstart.base.errors import PlanError
from headstart.base.seeds import stream
from headstart.inputs.augment import KINDS, POLICIES, Policy, augment, augment_prepared, draw, policy_named
from headstart.inputs.image import prepare
from headstart.inputs.operations import OPERATIONS, operations
from headstart.inputs.spec import ImageSpec

SPEC = ImageSpec(size=48, crop=0.875)
FITS = [SPEC, ImageSpec(size=48, crop=1.0, fit="squish"), ImageSpec(size=48, crop=1.0, fit="pad")]
NONE, LIGHT, STANDARD, STRONG, STRONG_RAND = POLICIES
EVERYTHING = Policy(
    "everything",
    flips=("horizontal", "vertical"),
    rotation=90,
    crop=(0.3, 1.0),
    ratio=(0.5, 2.0),
    shear=10,
    zoom=(0.8, 1.3),
    colour=0.4,
    auto="trivial",
)


def photo(width=90, height=70, *names):
    small = stream(0, width, height, *names).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def view(policy, picture=None, spec=SPEC, *, seed=0, row=0, visit=0):
    return augment(photo() if picture is None else picture, policy, spec, seed=seed, row=row, visit=visit)


# ------------------------------------------------------------------------------------------------- pure functions


@given(st.integers(10, 120), st.integers(10, 120), st.sampled_from(FITS), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_no_augmentation_is_the_preprocessing_bit_for_bit(width, height, spec, visit):
    picture = photo(width, height)
    expected = prepare(Image.fromarray(picture), spec)
    assert np.array_equal(view(NONE, picture, spec, visit=visit), expected)
    prepared = augment_prepared(expected, NONE, spec, seed=0, row=1, visit=visit)
    assert np.array_equal(prepared, expected)


@given(
    st.integers(10, 200),
    st.integers(10, 200),
    st.sampled_from(FITS),
    st.sampled_from([*POLICIES, EVERYTHING, replace(EVERYTHING, auto="rand")]),
    st.integers(0, 2**20),
)
@settings(max_examples=150, deadline=None)
def test_every_policy_gives_a_square_of_bytes_for_any_picture(width, height, spec, policy, seed):
    result = view(policy, photo(width, height), spec, seed=seed)
    assert result.shape == (48, 48, 3) and result.dtype == np.uint8


def test_a_view_depends_on_seed_row_and_visit_alone():
    asked = [(seed, row, visit) for seed in (0, 1) for row in (0, 1) for visit in (0, 1)]
    first = [view(STANDARD, seed=s, row=r, visit=v) for s, r, v in asked]
    np.random.seed(0)  # the global generator has no say
    again = [view(STANDARD, seed=s, row=r, visit=v) for s, r, v in reversed(asked)][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({a.tobytes() for a in first}) == len(asked)


def test_a_policy_without_a_crop_may_start_from_prepared_pixels():
    policy = replace(EVERYTHING, crop=None)
    prepared = prepare(Image.fromarray(photo()), SPEC)
    for visit in range(20):
        assert np.array_equal(
            augment_prepared(prepared, policy, SPEC, seed=3, row=1, visit=visit),
            view(policy, seed=3, row=1, visit=visit),
        )


def test_the_picture_is_not_touched():
    picture = photo()
    before = picture.copy()
    for visit in range(20):
        view(EVERYTHING, picture, visit=visit)
    assert np.array_equal(picture, before)


# ------------------------------------------------------------------------------------------------------- the parts


def test_flips_happen_half_the_time_and_are_mirrors():
    prepared = prepare(Image.fromarray(photo()), SPEC)
    flips = Policy("flips", flips=("horizontal", "vertical"))
    mirrors = {a.tobytes(): name for name, a in {
        "neither": prepared, "horizontal": prepared[:, ::-1], "vertical": prepared[::-1], "both": prepared[::-1, ::-1]
    }.items()}  # fmt: skip
    found = [mirrors[view(flips, visit=visit).tobytes()] for visit in range(400)]
    for name in ("neither", "horizontal", "vertical", "both"):
        assert 70 <= found.count(name) <= 130  # 100 ± 3.5 standard deviations


@given(
    st.integers(10, 400),
    st.integers(10, 400),
    st.sampled_from(FITS),
    st.floats(0.05, 1),
    st.floats(0.05, 1),
    st.floats(1, 3),
    st.integers(0, 99),
)
@settings(max_examples=200, deadline=None)
def test_a_crop_lies_inside_and_has_the_share_and_shape_that_were_asked(width, height, spec, a, b, r, visit):
    share = (min(a, b), max(a, b))
    policy = Policy("crop", crop=share, ratio=(1 / r, r))
    left, top, right, bottom = draw(policy, (width, height), spec, seed=0, row=0, visit=visit).box
    w, h = right - left, bottom - top
    assert left >= 0 and top >= 0 and right <= width and bottom <= height
    shape = w / h * (1 if spec.fit == "crop" else height / width)
    assert 1 / r * 0.999 <= shape <= r * 1.001
    largest = min(width, height * w / h) * min(height, width * h / w)
    assert share[0] * 0.999 <= w * h / largest <= share[1] * 1.001


def test_a_crop_is_torchvisions_but_for_fractions_of_pixels_and_the_border():
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    image = Image.fromarray(photo(900, 700))  # where a fraction of a pixel is little
    for visit in range(10):
        policy = Policy("crop", crop=(0.3, 0.9))
        left, top, right, bottom = draw(policy, image.size, SPEC, seed=0, row=0, visit=visit).box
        box = [round(top), round(left), round(bottom - top), round(right - left)]
        expected = F.resized_crop(image, *box, size=[48, 48], interpolation=InterpolationMode.BICUBIC)
        ours = view(policy, np.asarray(image), visit=visit)
        assert np.abs(ours.astype(int) - np.asarray(expected)).max() <= 12
        assert np.abs(ours.astype(int) - np.asarray(expected))[3:-3, 3:-3].mean() < 1.5


def test_a_padded_crop_keeps_its_shape_and_is_framed_by_the_mean_colour():
    spec = ImageSpec(size=40, mean=(1.0, 0.0, 0.0), crop=1.0, fit="pad")
    blue = np.zeros((30, 120, 3), np.uint8) + np.array([0, 0, 255], np.uint8)
    result = view(Policy("crop", crop=(0.5, 0.5)), blue, spec)
    assert (result[:15] == (255, 0, 0)).all() and (result[25:] == (255, 0, 0)).all()
    assert (result[15:25] == (0, 0, 255)).all()


@pytest.mark.parametrize(
    ("angle", "shear", "zoom"), [(30, (0, 0), 1), (0, (12, -7), 1), (0, (0, 0), 1.2), (-75, (5, 9), 0.8)]
)
def test_rotation_shear_and_zoom_are_torchvisions(angle, shear, zoom):
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    from headstart.inputs.augment import View, apply_view

    image = Image.fromarray(photo(48, 48))
    asked = View(angle=angle, shear=shear, zoom=zoom)
    expected = F.affine(
        image, angle=angle, translate=[0, 0], scale=zoom, shear=list(shear),
        interpolation=InterpolationMode.BILINEAR, fill=[round(255 * v) for v in SPEC.mean],
    )  # fmt: skip
    assert np.abs(np.asarray(apply_view(image, asked, SPEC), int) - np.asarray(expected)).max() <= 1


@given(st.floats(0.7, 1.3), st.floats(0.7, 1.3), st.floats(0.7, 1.3))
@settings(max_examples=40, deadline=None)
def test_colour_is_torchvisions_brightness_contrast_and_saturation(brightness, contrast, saturation):
    from torchvision.transforms.v2 import functional as F

    from headstart.inputs.augment import View, apply_view

    image = Image.fromarray((photo(48, 48) // 3 + 70).astype(np.uint8))  # far from 0 and 255: nothing is clipped
    asked = View(colour=(brightness, contrast, saturation))
    expected = F.adjust_brightness(image, brightness)
    expected = F.adjust_saturation(F.adjust_contrast(expected, contrast), saturation)
    apart = np.abs(np.asarray(apply_view(image, asked, SPEC), int) - np.asarray(expected))
    assert apart.max() <= 6 and apart.mean() < 3  # theirs is rounded down three times, and that is magnified


# ----------------------------------------------------------------------------------- AutoAugment's family


def torchvisions(name, image, magnitude):
    import math

    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    fill = [round(255 * v) for v in SPEC.mean]
    how = {"interpolation": InterpolationMode.BILINEAR, "fill": fill}
    still = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]} | how
    slope = math.degrees(math.atan(magnitude))
    return {
        "identity": lambda: image,
        "shear-x": lambda: F.affine(image, **still | {"shear": [slope, 0.0]}, center=[0, 0]),
        "shear-y": lambda: F.affine(image, **still | {"shear": [0.0, slope]}, center=[0, 0]),
        "shift-x": lambda: F.affine(image, **still | {"translate": [int(magnitude * 48), 0]}),
        "shift-y": lambda: F.affine(image, **still | {"translate": [0, int(magnitude * 48)]}),
        "rotate": lambda: F.rotate(image, magnitude, **how),
        "brightness": lambda: F.adjust_brightness(image, 1 + magnitude),
        "saturation": lambda: F.adjust_saturation(image, 1 + magnitude),
        "contrast": lambda: F.adjust_contrast(image, 1 + magnitude),
        "sharpness": lambda: F.adjust_sharpness(image, 1 + magnitude),
        "posterize": lambda: F.posterize(image, round(magnitude)),
        "solarize": lambda: F.solarize(image, magnitude),
        "autocontrast": lambda: F.autocontrast(image),
        "equalize": lambda: F.equalize(image),
    }[name]()


@pytest.mark.parametrize("auto", ["trivial", "rand"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_gives_torchvisions_pixels(name, auto):
    image = Image.fromarray(photo(48, 48))
    operation = OPERATIONS[name]
    low, high = getattr(operation, auto) or (0, 0)
    for strength in range(0, 31, 3):
        for sign in (1, -1) if operation.signed else (1,):
            magnitude = sign * (low + (high - low) * strength / 30)
            ours = np.asarray(operation.apply(image, magnitude, SPEC), int)
            difference = np.abs(ours - np.asarray(torchvisions(name, image, magnitude)))
            assert (difference > 1).mean() < 0.002, (magnitude, difference.max())  # ties of rounding in the matrix


@pytest.mark.parametrize("auto", ["trivial", "rand"])
def test_the_tables_are_torchvisions(auto):
    from torchvision.transforms import v2

    theirs = (v2.TrivialAugmentWide if auto == "trivial" else v2.RandAugment)._AUGMENTATION_SPACE
    names = {"Identity": "identity", "ShearX": "shear-x", "ShearY": "shear-y", "TranslateX": "shift-x",
             "TranslateY": "shift-y", "Color": "saturation", "AutoContrast": "autocontrast"}  # fmt: skip
    assert {names.get(name, name.lower()) for name in theirs} == set(OPERATIONS)
    for name, (magnitudes, signed) in theirs.items():
        ours = OPERATIONS[names.get(name, name.lower())]
        assert ours.signed == signed
        ends, table = getattr(ours, auto), magnitudes(31, 224, 224)
        if table is None:
            assert ends is None
            continue
        scale = {"Solarize": 255, "TranslateX": 1 / 224, "TranslateY": 1 / 224}.get(name, 1)
        expected = [ends[0] + (ends[1] - ends[0]) * s / 30 for s in range(31)]
        expected = np.round(expected) if name == "Posterize" else expected
        assert np.allclose(np.asarray(table) * scale, expected, atol=1e-5), name


def test_trivial_draws_each_operation_and_strength_equally_often_and_rand_draws_two():
    u = stream(0, "u").random((4000, 2, 3))
    trivial = [operations("trivial", (), one) for one in u]
    assert {len(drawn) for drawn in trivial} == {1}
    counts = [sum(drawn[0][0] == name for drawn in trivial) for name in OPERATIONS]
    assert min(counts) > 200 and max(counts) < 380  # 286 each
    angles = {abs(drawn[0][1]) for drawn in trivial if drawn[0][0] == "rotate"}
    assert len(angles) == 31 and max(angles) == 135
    rand = [operations("rand", (), one) for one in u]
    assert {len(drawn) for drawn in rand} == {2}
    assert {abs(m) for drawn in rand for name, m in drawn if name == "rotate"} == {9.0}
    tilted = {abs(m) for one in u for name, m in operations("trivial", ("turn",), one) if name == "rotate"}
    assert len(tilted) == 31 and max(tilted) == 30
    assert operations("none", (), u[0]) == ()


# ------------------------------------------------------------------------------------------------------- policies


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


@pytest.mark.parametrize("policy", [*POLICIES, EVERYTHING], ids=lambda p: p.name)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_switched_off_is_not_made(policy, kind):
    less = policy.without({kind})
    assert kind not in less.kinds and set(less.kinds) <= set(policy.kinds)
    assert less.without({kind}) == less
    if kind not in policy.kinds:
        assert replace(less, off=()) == policy
    for visit in range(300):
        view = draw(less, (90, 70), SPEC, seed=0, row=0, visit=visit)
        made = {OPERATIONS[name].kind for name, _ in view.operations}
        turned = [abs(view.angle), *(abs(m) for name, m in view.operations if name == "rotate")]
        assert {
            "horizontal-flip": not view.mirrored,
            "vertical-flip": not view.upside_down,
            "tilt": "tilt" not in made and view.angle == 0 and view.shear == (0, 0),
            "turn": max(turned) <= 30,
            "crop": "crop" not in made and view.box is None and view.zoom == 1,
            "strong-crop": (view.box is None or area(view.box) > 0.69 * 35 * 70) and view.zoom**2 < 1.43,
            "colour": "strong-colour" not in made and view.colour == (1, 1, 1),
            "strong-colour": "strong-colour" not in made and min(view.colour) >= 0.7 and max(view.colour) <= 1.3,
        }[kind], view


def test_switching_one_thing_off_leaves_the_rest_as_it_was():
    for visit in range(50):
        whole = draw(STANDARD, (90, 70), SPEC, seed=0, row=0, visit=visit)
        less = draw(STANDARD.without({"horizontal-flip", "colour"}), (90, 70), SPEC, seed=0, row=0, visit=visit)
        assert less == replace(whole, mirrored=False, colour=(1, 1, 1))


def test_without_everything_a_plain_policy_changes_nothing():
    assert STANDARD.without(KINDS).changes_nothing and NONE.changes_nothing and not LIGHT.changes_nothing
    assert np.array_equal(view(STANDARD.without(KINDS)), prepare(Image.fromarray(photo()), SPEC))
    assert STANDARD.without({"crop"}).off == ("crop", "strong-crop")


def test_kinds_are_what_the_policy_can_do():
    assert NONE.kinds == ()
    assert LIGHT.kinds == ("horizontal-flip", "crop")
    assert STANDARD.kinds == ("horizontal-flip", "crop", "strong-crop", "colour")
    assert STRONG.kinds == ("horizontal-flip", "tilt", "turn", "crop", "strong-crop", "colour", "strong-colour")
    assert STRONG_RAND.kinds == ("horizontal-flip", "tilt", "crop", "strong-crop", "colour", "strong-colour")
    assert EVERYTHING.kinds == KINDS


def test_policies_are_found_by_name():
    assert policy_named("strong") is STRONG and policy_named("auto") is STANDARD
    with pytest.raises(
        PlanError, match=r"PL32 no augmentation policy 'strnog'. Did you mean 'strong'\? There are: auto"
    ):
        policy_named("strnog")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"crop": (0.9, 0.3)}, r"crop \(0.9, 0.3\)"),
        ({"crop": (0.5, 1.5)}, r"crop \(0.5, 1.5\)"),
        ({"crop": (0.0, 1.0)}, r"crop \(0.0, 1.0\)"),
        ({"zoom": (0.0, 1.0)}, r"zoom \(0.0, 1.0\)"),
        ({"ratio": (float("nan"), 1.0)}, r"ratio \(nan, 1.0\)"),
        ({"rotation": 200.0, "colour": -1.0}, r"rotation 200.0, colour -1.0"),
        ({"shear": 90.0}, r"shear 90.0"),
    ],
)
def test_impossible_policies_are_refused_with_all_that_is_wrong(changed, said):
    with pytest.raises(PlanError, match=rf"PL33 the augmentation policy 'mine' cannot have {said}\."):
        Policy("mine", **changed)


@pytest.mark.parametrize("policy", [*POLICIES, EVERYTHING, STRONG.without({"tilt"})], ids=lambda p: p.name)
def test_a_policy_survives_being_written_down(policy):
    assert from_dict(Policy, to_dict(policy)) == policy
