"""RELIABILITY B1, B3, B4 and rows 26 to 36: pictures mean what the user sees, and what is no picture is named."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from making import encoded, scene
from PIL import Image, ImageCms, ImageFile, ImageOps, PngImagePlugin

from headstart.data.decode import BadExample, ImageLimits, decode_image
from headstart.data.looks import look_for

NAME = "cat/12.jpg"


def rgb(value: object, **options: object) -> np.ndarray:
    return np.asarray(decode_image(value, name=NAME, **options)[0])


def refused(value: object, **options: object) -> BadExample:
    with pytest.raises(BadExample) as caught:
        decode_image(value, name=NAME, **options)
    assert str(caught.value) == f"{caught.value.code} {NAME}: {caught.value.reason}."
    return caught.value


# ---------------------------------------------------------------------------------------------- B3: what the user sees

# Row and column of each picture corner, written out by hand from the EXIF standard (orientation → how the stored
# picture is made from the upright one), so that the reference is not the code under test.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[::-1],
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: a.transpose(1, 0, 2)[:, ::-1],
}


def quadrants() -> np.ndarray:
    """(40, 60, 3): red, green, blue and white quarters."""
    a = np.zeros((40, 60, 3), np.uint8)
    a[:20, :30], a[:20, 30:], a[20:, :30], a[20:, 30:] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
    return a


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {"quality": 95, "subsampling": 0}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})],
)
def test_every_exif_orientation_comes_out_upright(kind: str, options: dict, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](quadrants())))
    picture, facts = decode_image(encoded(stored, kind, exif=exif, **options), name=NAME)
    assert np.abs(np.asarray(picture, int) - quadrants()).mean() < 3
    assert (facts.width, facts.height) == (60, 40) == picture.size
    assert facts.notes == (("rotated by EXIF",) if orientation > 1 else ())


def test_a_rotated_jpeg_is_turned_after_a_reduced_decoding_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = np.asarray(Image.fromarray(quadrants()).resize((600, 400), 0))
    data = encoded(Image.fromarray(np.ascontiguousarray(STORED[6](upright))), exif=exif)
    picture, facts = decode_image(data, name=NAME, at_least=40)
    assert (facts.width, facts.height) == (600, 400)
    assert picture.size == (150, 100)
    assert np.asarray(picture)[10, 10].tolist() == pytest.approx([255, 0, 0], abs=6)


def test_a_broken_exif_block_is_ignored() -> None:
    assert decode_image(encoded(scene(1), exif=b"Exif\0\0garbage that is no TIFF"), name=NAME)[1].notes == ()


def test_sixteen_bit_grey_is_scaled_not_cut_off() -> None:
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    for kind in ("PNG", "TIFF"):
        picture, facts = decode_image(encoded(Image.fromarray(ramp), kind), name=NAME)
        grey = np.asarray(picture)[:, :, 0]
        assert np.abs(grey - ramp / 257).max() <= 0.5
        assert (grey == 255).mean() < 0.01
        assert facts.mode == "I;16"
        assert "16 bits per channel scaled to 8" in facts.notes


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))]
    parts += [chunk(kind, body) for kind, body in extra]
    parts += [chunk(b"IDAT", zlib.compress(rows, 9)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_sixteen_bit_colour_keeps_its_colours() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (20, 20, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    picture, facts = decode_image(png(20, 20, 16, 2, rows), name=NAME)
    assert np.abs(np.asarray(picture) - values / 257.0).max() <= 1
    assert facts.mode == "RGB;16"


def test_cmyk_jpegs_are_not_inverted() -> None:
    ink = np.zeros((32, 32, 4), np.uint8)
    ink[:, :, 1], ink[:, :, 3] = 200, 30  # magenta and a little black
    data = encoded(Image.fromarray(ink, "CMYK"), quality=95)
    picture, facts = decode_image(data, name=NAME)
    expected = [(255 - c) * (255 - 30) / 255 for c in (0, 200, 0)]
    assert np.asarray(picture).reshape(-1, 3).mean(axis=0) == pytest.approx(expected, abs=3)
    assert facts.mode == "CMYK"
    assert "CMYK converted to RGB" in facts.notes


def test_one_bit_palette_and_grey_become_rgb() -> None:
    board = np.indices((32, 32)).sum(axis=0) % 2 * 255
    assert np.array_equal(rgb(encoded(Image.fromarray(board.astype(np.uint8)).convert("1"), "PNG"))[:, :, 1], board)
    colours = Image.fromarray(quadrants()).quantize(8)
    assert np.array_equal(rgb(encoded(colours, "PNG")), quadrants())
    grey = Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32).astype(np.uint8))
    assert np.array_equal(rgb(encoded(grey, "PNG"))[:, :, 2], np.asarray(grey))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "palette", "colour key"])
def test_transparent_parts_are_shown_on_white(mode: str) -> None:
    rgba = np.zeros((32, 32, 4), np.uint8)
    rgba[:, 16:] = (10, 10, 10, 255)
    rgba[:, :16] = (77, 77, 77, 0)  # a hidden colour
    if mode == "palette":
        picture = Image.fromarray(rgba).quantize(4)
        data = encoded(picture, "PNG")
    elif mode == "colour key":
        data = encoded(Image.fromarray(rgba[:, :, :3]), "PNG", transparency=(77, 77, 77))
    else:
        data = encoded(Image.fromarray(rgba).convert(mode), "PNG")
    shown, facts = decode_image(data, name=NAME)
    assert np.asarray(shown)[:, :16].min() == 255
    assert np.asarray(shown)[:, 16:].max() == 10
    assert "transparent parts shown on white" in facts.notes


def test_half_transparency_is_mixed_with_white() -> None:
    half = np.full((20, 20, 4), (0, 0, 0, 51), np.uint8)  # 20 % black
    assert rgb(encoded(Image.fromarray(half), "PNG")).ravel() == pytest.approx(204, abs=1)


def test_full_opacity_is_not_mentioned() -> None:
    assert decode_image(encoded(scene(3).convert("RGBA"), "PNG"), name=NAME)[1].notes == ()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_picture_is_read(kind: str) -> None:
    frames = [Image.fromarray(np.full((24, 24, 3), v, np.uint8)) for v in (250, 120, 10)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    picture, facts = decode_image(data, name=NAME)
    assert np.asarray(picture).mean() == pytest.approx(250, abs=3)
    assert facts.notes == ("animation or several pages, first one read",)


def test_mpo_and_progressive_jpegs_are_jpegs() -> None:
    both = [scene(1), scene(2)]
    mpo = encoded(both[0], "MPO", save_all=True, append_images=both[1:])
    picture, facts = decode_image(mpo, name=NAME)
    assert facts.format == "JPEG"
    assert facts.notes == ("animation or several pages, first one read",)
    assert np.abs(np.asarray(picture, int) - np.asarray(both[0])).mean() < 8
    progressive = encoded(scene(1), progressive=True, quality=95)
    assert np.abs(rgb(progressive).astype(int) - np.asarray(scene(1))).mean() < 8


def test_float_and_32_bit_tiffs_are_not_guessed_at() -> None:
    values = np.linspace(-1024, 3071, 400).reshape(20, 20)
    problem = refused(encoded(Image.fromarray(values.astype(np.float32)), "TIFF"))
    assert problem.code == "IM32"
    assert "32-bit float, range -1024…3071" in problem.reason
    assert refused(encoded(Image.fromarray(values.astype(np.int32)), "TIFF")).code == "IM32"


def test_lab_pictures_keep_their_colours() -> None:
    lab = ImageCms.profileToProfile(
        scene(1), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert np.abs(rgb(encoded(lab, "TIFF")).astype(int) - np.asarray(scene(1))).mean() < 3


# ---------------------------------------------------------------------------------------------------- arrays and PIL


def test_arrays_of_pixels_are_read_as_they_are() -> None:
    colour = np.asarray(scene(4))
    assert np.array_equal(rgb(colour), colour)
    assert np.array_equal(rgb(colour[:, :, 0])[:, :, 1], colour[:, :, 0])
    assert np.array_equal(rgb(colour[:, :, :1])[:, :, 1], colour[:, :, 0])
    assert np.abs(rgb(colour / 255.0).astype(int) - colour).max() == 0
    assert np.abs(rgb(colour.astype(np.uint16) * 257).astype(int) - colour).max() == 0
    assert rgb(np.eye(16, dtype=bool)).max() == 255
    see_through = np.dstack([colour, np.zeros(colour.shape[:2], np.uint8)])
    assert rgb(see_through).min() == 255


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((20, 20, 3), 200.0), "range 200…200"),
        (np.full((20, 20), np.nan), "NaN"),
        (np.full((20, 20), -0.1), "range -0.1"),
        (np.zeros((20, 20), np.int64), "int64"),
        (np.zeros((3, 20, 20), np.uint8), "channels last"),
        (np.zeros((20, 20, 2), np.uint8), "shape (20, 20, 2)"),
        (np.zeros(400, np.uint8), "shape (400,)"),
    ],
)
def test_arrays_that_cannot_be_pixels_are_refused_with_their_range_or_shape(array: np.ndarray, words: str) -> None:
    assert words in refused(array).reason


def test_a_pil_image_is_turned_and_left_as_it_was() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    given_picture = Image.open(
        io.BytesIO(encoded(Image.fromarray(np.ascontiguousarray(STORED[6](quadrants()))), "PNG", exif=exif))
    )
    picture, facts = decode_image(given_picture, name=NAME)
    assert np.array_equal(np.asarray(picture), quadrants())
    assert given_picture.size == (40, 60)
    assert facts.notes == ("rotated by EXIF",)


def test_other_modalities_pass_through() -> None:
    assert look_for("text").value("as it is", name="a") == "as it is"
    assert look_for("image").value(encoded(scene(1)), name="a").mode == "RGB"


def test_something_else_entirely_is_refused() -> None:
    assert "give bytes, a PIL image or a numpy array" in refused(12).reason


# -------------------------------------------------------------------------------------------- B1: twenty ways to break

GOOD = {kind: encoded(scene(7, (160, 120)), kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")}


@pytest.mark.parametrize("kind", list(GOOD))
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_file_is_refused(kind: str, share: float) -> None:
    data = GOOD[kind]
    assert refused(data[: int(len(data) * share)]).code in ("IM27", "IM28", "IM26")


PROGRESSIVE = {"progressive": True}


@pytest.mark.parametrize("options", [{}, {"quality": 30}, {"optimize": True}, {"restart_marker_rows": 2}, PROGRESSIVE])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_a_jpeg_cut_and_closed_again_is_refused(options: dict, share: float) -> None:
    if options is PROGRESSIVE and share > 0.5:
        pytest.skip("inside the last scan: the picture is whole but for one bit of some coefficients")
    whole = encoded(scene(11, (320, 240)), **options)
    problem = refused(whole[: int(len(whole) * share)] + b"\xff\xd9")
    assert problem.code == "IM27"
    assert "cut short" in problem.reason


def test_a_cut_jpeg_is_refused_after_a_reduced_decoding_too() -> None:
    whole = encoded(scene(12, (640, 480)))
    assert refused(whole[: len(whole) // 2] + b"\xff\xd9", at_least=60).code == "IM27"


@pytest.mark.parametrize("colour", [(255, 255, 255), (128, 128, 128), (0, 0, 0), (13, 77, 200)])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 95, "subsampling": 0}, {"optimize": True}])
def test_a_whole_jpeg_with_a_plain_lower_half_is_not_taken_for_a_cut_one(colour: tuple, options: dict) -> None:
    picture = scene(13, (200, 160))
    picture.paste(colour, (0, 70, 200, 160))
    decode_image(encoded(picture, **options), name=NAME)
    decode_image(encoded(Image.new("RGB", (50, 50), colour), **options), name=NAME)
    decode_image(encoded(picture.convert("L"), **options), name=NAME)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_process_that_told_pillow_to_load_truncated_files_gets_none(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert refused(GOOD[kind][: len(GOOD[kind]) // 2]).code == "IM27"
    flipped = bytearray(GOOD["PNG"])
    flipped[len(flipped) // 2] ^= 1
    assert refused(bytes(flipped)).code == "IM28"


def test_jpegs_with_trailing_bytes_are_whole() -> None:
    decode_image(encoded(scene(1)) + b"\0" * 500, name=NAME)


def test_every_flipped_bit_in_a_png_is_noticed() -> None:
    data, rng = GOOD["PNG"], np.random.default_rng(0)
    for at in rng.integers(8, len(data) - 12, 100):
        broken = bytearray(data)
        broken[at] ^= 1 << int(rng.integers(8))
        refused(bytes(broken))


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", "IM26", "0 bytes"),
        (b"\0" * 5000, "IM26", "nothing but 5,000 zero bytes"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "IM26", "is an HTML page, not an image"),
        (b"  \n<HTML><head>", "IM26", "is an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "IM26", "is a text file"),
        (b'<?xml version="1.0"?><annotation/>', "IM26", "is an XML file"),
        (b"PK\x03\x04" + b"\0" * 50, "IM26", "is a ZIP archive"),
        (bytes(range(1, 255)), "IM26", "is not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "IM35", "is EPS"),
        (b"%PDF-1.7\n", "IM35", "is PDF"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "IM35", "is SVG"),
        (b"SIMPLE  =                    T", "IM35", "is FITS"),
        (b"8BPS\0\1" + b"\0" * 20, "IM35", "is PSD"),
        (b"\0\0\0\x1cftypavif" + b"\0" * 20, "IM35", "is AVIF"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 20, "IM35", "is HEIC"),
        (b"\0" * 128 + b"DICM" + b"\0" * 20, "IM35", "is DICOM"),
        (b"\0\0\1\0\1\0" + b"\0" * 20, "IM35", "is ICO"),
    ],
)
def test_what_is_no_picture_is_called_by_its_name(data: bytes, code: str, words: str) -> None:
    problem = refused(data)
    assert problem.code == code
    assert words in problem.reason


def test_the_name_in_a_message_cannot_spoof_the_terminal() -> None:
    with pytest.raises(BadExample, match=r"IM26 a\\x1b\[2J\\n\\udc00: "):
        decode_image(b"", name="a\x1b[2J\n\udc00")


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(list(GOOD)),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=0, max_size=6), st.integers(0, 6)), max_size=6),
)
@example(kind="GIF", cuts=[(0.03125, b"", 1)])  # a frame of 66,150 × 102,522 in a small picture
def test_hostile_bytes_give_a_picture_or_a_bad_example_and_nothing_else(kind: str, cuts: list) -> None:
    data = GOOD[kind]
    for share, new, gone in cuts:
        at = int(share * len(data))
        data = data[:at] + new + data[at + gone :]
    try:
        picture, _ = decode_image(data, name=NAME, limits=ImageLimits(max_pixels=10**6))
    except BadExample:
        return
    assert picture.mode == "RGB"


# ------------------------------------------------------------------------------------------------------- B4: bombs


def png_bomb(side: int) -> bytes:
    return png(side, side, 1, 0, (b"\0" * (1 + (side + 7) // 8)) * side)


def gif_of_frames(count: int) -> bytes:
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 16, 16, 0) + b"\x02\x16" + b"\x8c\x2d\x99\x87\x2a\x1c\xdc\x33"
    frame += b"\xa0\x02\x75\xec\x95\xfa\xa8\xde\x60\x8c\x04\x91\x4c\x01" + b"\0"
    return b"GIF89a" + struct.pack("<HHBBB", 16, 16, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + frame * count + b";"


def tiff_of_pages(count: int) -> bytes:
    pages = [Image.new("L", (16, 16), 9)] * count
    return encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])


def gif_of_size(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + gif_of_frames(1)[10:]


def jpeg_of_size(width: int, height: int) -> bytes:
    data = bytearray(encoded(scene(1)))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def tiff_of_size(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("L", (16, 16)), "TIFF"))
    (entries,) = struct.unpack_from("<H", data, struct.unpack_from("<I", data, 4)[0])
    for i in range(entries):
        at = struct.unpack_from("<I", data, 4)[0] + 2 + 12 * i
        tag = struct.unpack_from("<H", data, at)[0]
        if tag in (256, 257):
            struct.pack_into("<HHII", data, at, tag, 4, 1, width if tag == 256 else height)
    return bytes(data)


def webp_of_size(width: int, height: int) -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + struct.pack("<I", width - 1)[:3]
    body += struct.pack("<I", height - 1)[:3] + GOOD["WEBP"][12:]
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


BOMBS = {
    "png 45k": (lambda: png_bomb(45_000), "IM29"),
    "png just above": (lambda: png_bomb(7_072), "IM29"),
    "gif 65k": (lambda: gif_of_size(65_535, 65_535), "IM29"),
    "jpeg 65k": (lambda: jpeg_of_size(65_000, 65_000), "IM29"),
    "tiff 10^9": (lambda: tiff_of_size(10**9, 10**9), "IM29"),
    "webp 16k": (lambda: webp_of_size(16_383, 16_383), "IM29"),
    "webp 2^24": (lambda: webp_of_size(2**24, 2**24), "IM29"),
    "gif frames": (lambda: gif_of_frames(10_000), "IM34"),
    "tiff pages": (lambda: tiff_of_pages(1_200), "IM34"),
    "30k by 12": (lambda: png(30_000, 12, 1, 0, (b"\0" * 3751) * 12), "IM36"),
    "1 by 1": (lambda: encoded(Image.new("RGB", (1, 1)), "PNG"), "IM36"),
}


@pytest.mark.parametrize("bomb", list(BOMBS))
def test_a_bomb_is_refused_within_a_second_before_it_takes_memory(bomb: str) -> None:
    make, code = BOMBS[bomb]
    data = make()
    import tracemalloc

    tracemalloc.start()
    start = time.perf_counter()
    problem = refused(data)
    took, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert problem.code == code
    assert took < 1
    assert peak < 20 * 2**20


def test_a_bomb_does_not_raise_the_memory_of_the_process(tmp_path) -> None:
    (tmp_path / "a").write_bytes(png_bomb(45_000))
    (tmp_path / "b").write_bytes(webp_of_size(16_383, 16_383))
    code = (
        "import resource, sys\n"
        "from PIL import Image\n"
        "from headstart.data.decode import BadExample, decode_image, _reader\n"
        "_reader('PNG')\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sys.argv[1:]:\n"
        "    try: decode_image(open(path, 'rb').read(), name='x')\n"
        "    except BadExample: pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a"), str(tmp_path / "b")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(run.stdout) < 150 * 1024  # KiB
    assert run.stderr == ""


def test_compressed_text_and_profiles_in_a_png_are_not_unpacked_without_end() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "a" * 100_000_000, zip=True)
    buffer = io.BytesIO()
    scene(1).save(buffer, "PNG", pnginfo=info)
    start = time.perf_counter()
    try:
        decode_image(buffer.getvalue(), name=NAME)
    except BadExample as problem:
        assert problem.code == "IM28"
    assert time.perf_counter() - start < 1


def test_ten_thousand_animation_frames_are_named() -> None:
    assert refused(gif_of_frames(10_000)).reason == "holds more than 1,000 frames; only still images are read"


def test_limits_are_the_callers() -> None:
    data = encoded(scene(1, (100, 100)))
    assert refused(data, limits=ImageLimits(max_pixels=9_999)).code == "IM29"
    assert refused(data, limits=ImageLimits(max_bytes=100)).reason.endswith("above the limit of 100 B")
    assert refused(data, limits=ImageLimits(min_side=101)).code == "IM36"
    tall = encoded(scene(1, (20, 600)))
    assert refused(tall).code == "IM36"
    decode_image(tall, name=NAME, limits=ImageLimits(max_aspect=30))


def test_a_big_picture_within_the_users_own_limit_gives_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    decode_image(
        png(12_000, 7_600, 1, 0, (b"\0" * 1501) * 7_600), name=NAME, limits=ImageLimits(max_pixels=100_000_000)
    )
    assert not recwarn.list


# ------------------------------------------------------------------------------------------------------------ facts


def test_facts_are_those_of_the_file_and_do_not_depend_on_reduced_decoding() -> None:
    data = encoded(scene(5, (1200, 900)), quality=92)
    full, whole = decode_image(data, name=NAME)
    small, reduced = decode_image(data, name=NAME, at_least=100)
    assert full.size == (1200, 900)
    assert small.size == (300, 225)
    assert (reduced.width, reduced.height) == (whole.width, whole.height) == (1200, 900)
    assert (whole.phash ^ reduced.phash).bit_count() <= 6
    assert reduced.mean == pytest.approx(whole.mean, abs=0.01)


def test_a_reduced_picture_keeps_twice_the_wanted_side() -> None:
    for side in (300, 301, 447, 448, 449, 900):
        picture, _ = decode_image(encoded(scene(5, (side, side + 31))), name=NAME, at_least=112)
        assert min(picture.size) >= min(side, 224)


def test_statistics_and_thumbnail_have_closed_forms() -> None:
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, 32:] = 255
    _, facts = decode_image(halves, name=NAME)
    assert facts.mean == pytest.approx(0.5)
    assert facts.std == pytest.approx(0.5)
    tiny = np.frombuffer(facts.tiny, np.uint8).reshape(16, 16, 3)
    assert tiny[:, :8].max() == 0
    assert tiny[:, 8:].min() == 255


def test_the_mirrored_hash_is_the_hash_of_the_mirrored_picture() -> None:
    for seed in range(20):
        picture = scene(seed, (128, 96))
        facts, mirrored = (decode_image(p, name=NAME)[1] for p in (picture, ImageOps.mirror(picture)))
        assert facts.phash_mirrored == mirrored.phash
        assert facts.phash == mirrored.phash_mirrored


def test_decoding_is_the_same_from_many_threads() -> None:
    from concurrent.futures import ThreadPoolExecutor

    data = [encoded(scene(i), kind) for i in range(8) for kind in ("JPEG", "PNG", "GIF", "WEBP")]
    alone = [decode_image(d, name=NAME)[1] for d in data]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda d: decode_image(d, name=NAME)[1], data * 3)) == alone * 3
