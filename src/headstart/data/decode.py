"""Bytes, pictures and arrays become upright RGB images, or a BadExample that says why not.

Every picture is decoded in full: a header that reads well proves nothing. What the user sees in a viewer is what comes
out: EXIF orientation applied, 16 bits scaled rather than cut off, transparent parts on white, the first picture of an
animation. Pure and safe to call from many threads; no setting of Pillow is read or changed.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.base.errors import DataError, shown
from headstart.base.files import human_bytes
from headstart.data.formats import (
    ACCEPTED,
    frame_count,
    jpeg_may_be_cut,
    jpeg_scans_are_missing,
    jpeg_with_more_data,
    picture_format,
    webp_size,
    what_it_is_instead,
    why_not_whole,
)

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class ImageLimits:
    """What is still read. max_aspect: longer side over shorter. max_frames: of an animation. max_bytes: of a file."""

    max_pixels: int = 50_000_000
    min_side: int = 10
    max_aspect: float = 20.0
    max_frames: int = 1000
    max_bytes: int = 256 * 2**20


class BadExample(DataError):
    """One example that cannot be used. code: as in RELIABILITY 5 (IM26 …). reason: without code and name."""

    def __init__(self, code: str, name: str, reason: str) -> None:
        super().__init__(f"{code} {shown(name)}: {reason}.")
        self.code = code
        self.reason = reason


@dataclass(frozen=True)
class ImageFacts:
    """What one look at a picture tells.

    width, height: upright, in pixels of the file.  mode, format: as stored ('L', 'I;16', …; 'JPEG', 'array').
    phash, phash_mirrored: 64-bit perceptual hashes of the picture and of its mirror image.
    mean, std: of the grey values, in [0, 1].  notes: what was done to it ('rotated by EXIF', …).
    tiny: 16 × 16 RGB thumbnail, 768 bytes, aspect ratio not kept.
    """

    width: int
    height: int
    mode: str
    format: str
    phash: int
    phash_mirrored: int
    mean: float
    std: float
    notes: tuple[str, ...]
    tiny: bytes


ROTATED = "rotated by EXIF"
FIRST_FRAME = "animation or several pages, first one read"
ON_WHITE = "transparent parts shown on white"
SCALED = "16 bits per channel scaled to 8"
CMYK = "CMYK converted to RGB"

# Everything that Pillow's readers raise on hostile bytes, found by fuzzing (tests/data/test_data_decode.py).
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    OverflowError,
    ZeroDivisionError,
    AssertionError,
    RuntimeError,
    NotImplementedError,
    MemoryError,
    struct.error,
    zlib.error,
    Warning,
)


def decode_image(
    value: bytes | Image.Image | np.ndarray,
    *,
    name: str,
    limits: ImageLimits = ImageLimits(),
    at_least: int | None = None,
) -> tuple[Image.Image, ImageFacts]:
    """(upright RGB image, its facts).

    at_least: a JPEG may come back at a half, quarter or eighth of its size as long as both sides stay at least twice
    this long; the facts keep the size of the file.
    Raises BadExample, in whose message ``name`` stands for the example.
    """
    if isinstance(value, np.ndarray):
        picture, mode, notes = _from_array(value, name, limits)
        return _finish(picture, picture.size, mode, "array", notes)
    if isinstance(value, bytes | bytearray | memoryview):
        return _from_bytes(bytes(value), name, limits, at_least)
    return _from_picture(value, name, limits)


# ---------------------------------------------------------------------------------------------------------- from bytes


def _from_bytes(data: bytes, name: str, limits: ImageLimits, at_least: int | None) -> tuple[Image.Image, ImageFacts]:
    if len(data) > limits.max_bytes:
        raise BadExample(
            "IM29", name, f"{human_bytes(len(data))} are above the limit of {human_bytes(limits.max_bytes)}"
        )
    from PIL import Image

    kind = picture_format(data)
    if kind is None:
        raise BadExample(*_at(name, what_it_is_instead(data)))
    if kind == "WEBP" and (size := webp_size(data)):
        _check_size(size[0], size[1], name, limits)
    damage = why_not_whole(data, kind)
    if damage:
        raise BadExample(*_at(name, damage))
    notes: list[str] = []
    try:
        picture = _reader(kind)(io.BytesIO(data))
        _check_size(picture.size[0], picture.size[1], name, limits)
        if _frames(picture, data, kind, name, limits) > 1:
            notes.append(FIRST_FRAME)
        turn = _orientation(picture)
        full_size, mode = picture.size, _stored_mode(picture)
        scale = _draft(picture, at_least) if kind == "JPEG" else 1
        picture.load()
    except BadExample:
        raise
    except Image.DecompressionBombError as error:
        raise BadExample("IM29", name, "a frame claims to be far larger than any picture that is read") from error
    except _DECODER_ERRORS as error:
        raise _decoder_said(error, name) from error
    if kind == "JPEG":
        _check_not_cut(picture, data, scale, name)
    if turn > 1:
        notes.append(ROTATED)
        if kind != "TIFF":  # Pillow turns TIFFs itself while loading
            picture = picture.transpose(_TURNS[turn])
            full_size = full_size[::-1] if turn > 4 else full_size
    return _finish(_to_rgb(picture, name, notes), full_size, mode, kind, notes)


@cache
def _reader(kind: str) -> Any:
    """Pillow's class for a format, called directly.

    ``Image.open`` would do the same after trying every format's signature, and would print a warning, or not, by the
    value of a global limit; ours are in ImageLimits.
    """
    from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

    return {
        "BMP": BmpImagePlugin.BmpImageFile,
        "GIF": GifImagePlugin.GifImageFile,
        "JPEG": JpegImagePlugin.JpegImageFile,
        "PNG": PngImagePlugin.PngImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
        "WEBP": WebPImagePlugin.WebPImageFile,
    }[kind]


def _check_size(width: int, height: int, name: str, limits: ImageLimits) -> None:
    if width * height > limits.max_pixels:
        raise BadExample(
            "IM29",
            name,
            f"{width:,}×{height:,} pixels is above the limit of {limits.max_pixels / 1e6:g} Mpx; resize the picture",
        )
    if min(width, height) < limits.min_side:
        raise BadExample("IM36", name, f"is {width}×{height} pixels; at least {limits.min_side} a side are needed")
    if max(width, height) > limits.max_aspect * min(width, height):
        raise BadExample(
            "IM36", name, f"is {width:,}×{height:,} pixels; one side is more than {limits.max_aspect:g} times the other"
        )


def _frames(picture: Any, data: bytes, kind: str, name: str, limits: ImageLimits) -> int:
    if kind in ("GIF", "TIFF"):
        count = frame_count(data, kind, most=limits.max_frames)
        many = f"more than {limits.max_frames:,}"
    elif kind == "JPEG":
        count, many = 1 + ("mp" in picture.info), ""
    else:
        count = getattr(picture, "n_frames", 1)
        many = f"{count:,}"
    if count > limits.max_frames:
        raise BadExample("IM34", name, f"holds {many} frames; only still images are read")
    return count


# EXIF orientation → the turn that makes the picture upright, as numbers of PIL.Image.Transpose (CIPA DC-008, 4.6.4.A)
_TURNS: dict[int, Any] = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}


def _orientation(picture: Any) -> int:
    """1 to 8; 1 where there is none, or where the EXIF block itself is broken (viewers ignore it then, too)."""
    tags = getattr(picture, "tag_v2", None)
    if tags is not None:
        found = tags.get(0x0112, 1)
    elif not _EXIF_KEYS.isdisjoint(picture.info):
        try:
            found = picture.getexif().get(0x0112, 1)
        except _DECODER_ERRORS:
            return 1
    else:
        return 1
    return found if isinstance(found, int) and found in _TURNS else 1


_EXIF_KEYS = frozenset({"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"})


def _stored_mode(picture: Any) -> str:
    """Pillow's mode, with the depth that the mode does not show: 16-bit colour PNGs and TIFFs arrive as 8-bit."""
    tile = picture.tile[0] if getattr(picture, "tile", None) else None
    raw = str(tile[3][0] if isinstance(tile[3], tuple) and tile[3] else tile[3]) if tile else ""
    deep = ";16" in raw and ";16" not in picture.mode
    return f"{picture.mode};16" if deep else str(picture.mode)


def _draft(picture: Any, at_least: int | None) -> int:
    """Let libjpeg scale while it decodes; returns the factor."""
    if at_least is None or min(picture.size) < 4 * at_least:
        return 1
    before = picture.size[0]
    picture.draft(None, (2 * at_least, 2 * at_least))
    return round(before / picture.size[0])


def _check_not_cut(picture: Any, data: bytes, scale: int, name: str) -> None:
    """Refuse a JPEG that was cut and closed again with an end mark; libjpeg fills the rest with the last colour.

    Two cheap suspicions (a plain lower right corner, coefficients that never came), then the proof: decode again with
    surplus data before the end mark. A whole picture does not change. What passes: a progressive JPEG cut inside its
    very last scan, whose picture is whole but for one bit of some coefficients.
    """
    width, height = picture.size
    side = max(1, 8 // scale)
    corner = picture.crop((width - side, height - side, width, height)).getextrema()
    bands = corner if isinstance(corner[0], tuple) else (corner,)
    plain = all(low == high for low, high in bands)
    if "progressive" in picture.info:
        suspicious = jpeg_scans_are_missing(data)
    else:
        suspicious = plain and jpeg_may_be_cut(data)
    if not suspicious:
        return
    again = _reader("JPEG")(io.BytesIO(jpeg_with_more_data(data)))
    if scale > 1:
        again.draft(None, (picture.size[0], picture.size[1]))
    try:
        again.load()
    except _DECODER_ERRORS:
        return
    if again.size == picture.size and again.tobytes() != picture.tobytes():
        raise BadExample(
            "IM27", name, "was cut short and closed again: the end of the picture is missing and filled with one colour"
        )


def _decoder_said(error: BaseException, name: str) -> BadExample:
    words = shown(error)[:160] or type(error).__name__
    if "truncated" in words.lower() or isinstance(error, EOFError):
        return BadExample("IM27", name, f"the file ends early ({words})")
    return BadExample("IM28", name, f"the file is damaged ({words})")


def _at(name: str, verdict: tuple[str, str]) -> tuple[str, str, str]:
    return verdict[0], name, verdict[1]


# ------------------------------------------------------------------------------------------ from pictures and arrays


def _from_picture(picture: Any, name: str, limits: ImageLimits) -> tuple[Image.Image, ImageFacts]:
    from PIL import Image

    if not isinstance(picture, Image.Image):
        raise BadExample("IM26", name, f"is a {type(picture).__name__}; give bytes, a PIL image or a numpy array")
    _check_size(picture.size[0], picture.size[1], name, limits)
    notes: list[str] = []
    kind, mode = picture.format or "PIL", str(picture.mode)
    try:
        turn = _orientation(picture)
        picture.load()
    except _DECODER_ERRORS as error:
        raise _decoder_said(error, name) from error
    if turn > 1:
        notes.append(ROTATED)
        if kind != "TIFF":
            picture = picture.transpose(_TURNS[turn])
    return _finish(_to_rgb(picture, name, notes), picture.size, mode, kind, notes)


def _from_array(array: np.ndarray, name: str, limits: ImageLimits) -> tuple[Image.Image, str, list[str]]:
    from PIL import Image

    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        channels_first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        hint = " (channels last: try array.transpose(1, 2, 0))" if channels_first else ""
        raise BadExample(
            "IM26", name, f"is an array of shape {array.shape}; an image is (H, W), (H, W, 3) or (H, W, 4){hint}"
        )
    _check_size(array.shape[1], array.shape[0], name, limits)
    stored = "L" if array.ndim == 2 else "RGB" if array.shape[2] == 3 else "RGBA"
    notes: list[str] = []
    if array.dtype == np.uint16:
        array, stored = _scale_16(array), f"{stored};16"
        notes.append(SCALED)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif np.issubdtype(array.dtype, np.floating):
        array, stored = _scale_unit(array, name), f"{stored};F"
    elif array.dtype != np.uint8:
        raise BadExample(
            "IM32",
            name,
            f"is an array of {array.dtype}, range {array.min()}…{array.max()}; give uint8, uint16 or floats in [0, 1]",
        )
    picture = Image.fromarray(np.ascontiguousarray(array))
    return _to_rgb(picture, name, notes), stored, notes


def _scale_16(array: np.ndarray) -> np.ndarray:
    """uint16 → uint8 by v · 255/65535, rounded."""
    return ((array.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _scale_unit(array: np.ndarray, name: str) -> np.ndarray:
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # NaN fails too
        raise BadExample("IM32", name, f"{_range_words('array of ' + str(array.dtype), low, high)}; scale it to [0, 1]")
    return np.rint(array.astype(np.float32) * 255).astype(np.uint8)


def _range_words(what: str, low: float, high: float) -> str:
    return f"is an {what} that holds NaN" if np.isnan(low + high) else f"is an {what}, range {low:g}…{high:g}"


# ---------------------------------------------------------------------------------------------------------- to RGB


def _to_rgb(picture: Image.Image, name: str, notes: list[str]) -> Image.Image:
    """An RGB picture without transparency; what was done is added to ``notes``."""
    mode = picture.mode
    if mode == "RGB" and "transparency" not in picture.info:
        return picture
    if mode.startswith("I;16"):
        return _from_16_bits(picture, notes)
    if mode in ("I", "F"):
        kind = "32-bit float" if mode == "F" else "32-bit integer"
        low, high = np.asarray(picture.getextrema(), float)  # of the one band
        raise BadExample(
            "IM32", name, f"{kind}, range {low:g}…{high:g}; save it as 8 or 16 bits, nobody else knows what is white"
        )
    try:
        if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
            return _on_white(picture.convert("RGBA"), notes)
        if mode == "CMYK":
            notes.append(CMYK)
        return picture.convert("RGB")
    except ValueError as error:
        raise BadExample(
            "IM35", name, f"has the colour mode {mode}, which is not read; accepted: {ACCEPTED}"
        ) from error


def _from_16_bits(picture: Image.Image, notes: list[str]) -> Image.Image:
    from PIL import Image

    notes.append(SCALED)
    order = ">u2" if picture.mode == "I;16B" else "<u2"
    values = np.frombuffer(picture.tobytes(), order).reshape(picture.size[1], picture.size[0])
    return Image.fromarray(_scale_16(values)).convert("RGB")


def _on_white(picture: Image.Image, notes: list[str]) -> Image.Image:
    from PIL import Image

    if picture.getchannel("A").getextrema()[0] == 255:
        return picture.convert("RGB")
    notes.append(ON_WHITE)
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    white.alpha_composite(picture)
    return white.convert("RGB")


# ----------------------------------------------------------------------------------------------------------- facts


def _finish(
    picture: Image.Image, size: tuple[int, int], mode: str, kind: str, notes: list[str]
) -> tuple[Image.Image, ImageFacts]:
    from PIL import Image

    shrink = min(picture.size) // 256
    work = picture.reduce(shrink) if shrink > 1 else picture  # big pictures: a few hundred pixels tell the same
    small = np.asarray(work.resize((32, 32), Image.Resampling.BOX), np.float32)  # (32, 32, 3)
    mean, std = _grey_statistics(work)
    phash, mirrored = _perceptual_hashes(small @ _LUMA)
    tiny = (small.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3)) + 0.5).astype(np.uint8).tobytes()
    facts = ImageFacts(size[0], size[1], mode, kind, phash, mirrored, mean, std, tuple(notes), tiny)
    return picture, facts


_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_LEVELS = np.arange(256) / 255.0


def _grey_statistics(picture: Image.Image) -> tuple[float, float]:
    """(mean, standard deviation) of the grey values, in [0, 1], from their histogram."""
    counts = np.asarray(picture.convert("L").histogram(), np.float64)
    counts /= counts.sum()
    mean = float(counts @ _LEVELS)
    return mean, float(np.sqrt(float(counts @ (_LEVELS - mean) ** 2)))


def _dct_rows() -> np.ndarray:
    """(8, 32) lowest rows of the DCT-II."""
    k, n = np.arange(8)[:, None], np.arange(32)[None, :]
    return np.cos(np.pi * k * (2 * n + 1) / 64).astype(np.float32)


_DCT = _dct_rows()
_FLIP = np.where(np.arange(64) % 8 % 2, -1, 1).astype(np.float32)  # mirroring negates odd horizontal frequencies


def _perceptual_hashes(grey: np.ndarray) -> tuple[int, int]:
    """64-bit hashes of a (32, 32) picture and of its mirror image: which of the 8 × 8 lowest DCT coefficients are above
    their median (Zauner 2010, pHash). The first is the mean brightness, always above: it is set to the median.
    """
    coefficients = (_DCT @ grey @ _DCT.T).ravel()
    coefficients[0] = 0
    return _bits(coefficients), _bits(coefficients * _FLIP)


def _bits(coefficients: np.ndarray) -> int:
    middle = np.partition(coefficients, 32)[32]
    return int.from_bytes(np.packbits(coefficients > middle).tobytes(), "big")
