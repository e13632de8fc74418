"""What a file is and whether it is whole, told from its bytes before anything is decoded.

Names are never asked: an extension says what somebody hoped, the bytes say what is there. Pillow alone would pass
damaged files: libjpeg fills what is missing with grey, and with ImageFile.LOAD_TRUNCATED_IMAGES, which training scripts
like to set for the whole process, all checksums are skipped. So the cheap proofs of wholeness are here.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

ACCEPTED = "JPEG, PNG, WebP, BMP, GIF, TIFF"

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OTHER_PICTURES = (
    (0, b"%!PS", "EPS or PostScript"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS"),
    (0, b"%PDF", "PDF"),
    (0, b"8BPS", "PSD"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"\x01\xda", "SGI"),
    (0, b"\xd7\xcd\xc6\x9a", "WMF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftyp", "video"),
    (0, b"\x1a\x45\xdf\xa3", "video"),
    (128, b"DICM", "DICOM"),
)
_NOT_PICTURES = (
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x93NUMPY", "a numpy file"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"ARROW1", "an Arrow file"),
    (0, b"RIFF", "a sound or video file"),
    (0, b"OggS", "a sound file"),
    (0, b"ID3", "a sound file"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"#!", "a script"),
)


def picture_format(data: bytes) -> str | None:
    """'JPEG' | 'PNG' | 'WEBP' | 'BMP' | 'GIF' | 'TIFF', or None for everything else."""
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if data[:4] in _TIFF_MAGIC:
        return "TIFF"
    if data[:2] == b"BM" and len(data) >= 26 and data[14:18] in _BMP_HEADERS:
        return "BMP"
    return None


_BMP_HEADERS = tuple(struct.pack("<I", size) for size in (12, 40, 52, 56, 64, 108, 124))


def what_it_is_instead(data: bytes) -> tuple[str, str]:
    """(code, words) for bytes that picture_format does not accept: IM35 another kind of picture, IM26 no picture."""
    if not data:
        return "IM26", "the file is empty (0 bytes)"
    for at, magic, words in _OTHER_PICTURES:
        if data[at : at + len(magic)] == magic:
            return "IM35", f"is {words}; accepted: {ACCEPTED}"
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in start and start[:1] == b"<":
        return "IM35", f"is SVG; accepted: {ACCEPTED}"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script")):
        return "IM26", "is an HTML page, not an image"
    for at, magic, words in _NOT_PICTURES:
        if data[at : at + len(magic)] == magic:
            return "IM26", f"is {words}, not an image"
    if start.startswith(b"<?xml"):
        return "IM26", "is an XML file, not an image"
    if not data.strip(b"\0"):
        return "IM26", f"holds nothing but {len(data):,} zero bytes"
    if _is_text(data[:1024]):
        return "IM26", "is a text file, not an image"
    return "IM26", f"is not an image; accepted: {ACCEPTED}"


def _is_text(sample: bytes) -> bool:
    return not re.search(rb"[\x00-\x08\x0e-\x1f\x7f]", sample) and sample.decode("utf-8", "ignore") != ""


def webp_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) from the header. Asked first: libwebp takes memory for the canvas as soon as it is opened."""
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    if kind == b"VP8 " and len(data) >= 30:
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return None


def why_not_whole(data: bytes, kind: str) -> tuple[str, str] | None:
    """(code, words) if the bytes end early (IM27) or fail their own checksum (IM28); None if nothing speaks against."""
    if kind == "PNG":
        return _png_damage(data)
    if kind == "JPEG" and data.rfind(b"\xff\xd9") < 0:
        return "IM27", f"the file ends early, after {len(data):,} bytes (no end-of-image mark)"
    if kind == "WEBP":
        declared = int.from_bytes(data[4:8], "little") + 8
        if declared > len(data) + 1:  # an odd last chunk may lack its padding byte
            return "IM27", f"the file ends early: {len(data):,} of {declared:,} bytes"
    return None


def _png_damage(data: bytes) -> tuple[str, str] | None:
    """Compare every checksum up to the end mark; about 1 ms per MiB."""
    view, at = memoryview(data), 8
    while at + 12 <= len(data):
        length = int.from_bytes(view[at : at + 4], "big")
        end = at + 12 + length
        if end > len(data):
            break
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            return "IM28", f"the checksum of the part that starts at byte {at:,} is wrong: the file is damaged"
        if view[at + 4 : at + 8] == b"IEND":
            return None
        at = end
    return "IM27", f"the file ends early, after {len(data):,} bytes (no end-of-image mark)"


def frame_count(data: bytes, kind: str, *, most: int) -> int:
    """Number of pictures in a GIF or TIFF, counted without decoding and no further than ``most`` + 1; at least 1."""
    counted = 0
    for _ in _gif_frames(data) if kind == "GIF" else _tiff_pages(data):
        counted += 1
        if counted > most:
            break
    return max(1, counted)


def _gif_frames(data: bytes) -> Iterator[int]:
    at = 13 + _colour_table_bytes(data[10] if len(data) > 10 else 0)
    while at < len(data):
        mark = data[at]
        if mark == 0x2C and at + 10 < len(data):
            yield at
            at += 11 + _colour_table_bytes(data[at + 9])
        elif mark == 0x21:
            at += 2
        else:  # the trailer, or something that is no block
            return
        while at < len(data) and data[at]:
            at += data[at] + 1
        at += 1


def _colour_table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _tiff_pages(data: bytes) -> Iterator[int]:
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    count_format, entry, offset_format = (order + "Q", 20, order + "Q") if big else (order + "H", 12, order + "I")
    seen: set[int] = set()
    try:
        (at,) = struct.unpack_from(offset_format, data, 8 if big else 4)
        while at and at not in seen:
            seen.add(at)
            yield at
            (entries,) = struct.unpack_from(count_format, data, at)
            (at,) = struct.unpack_from(offset_format, data, at + struct.calcsize(count_format) + entries * entry)
    except struct.error:
        return


def jpeg_may_be_cut(data: bytes) -> bool:
    """Whether the compressed data of a JPEG ends unlike that of a picture whose last rows are plain.

    Plain rows compress to a short pattern that repeats; a file that was cut and closed again ends in ordinary data.
    Asked only when the lower right corner is plain, to spare most white backgrounds the second decoding.
    """
    end = data.rfind(b"\xff\xd9")
    tail = data[max(0, end - 72) : end - 8].replace(b"\xff\x00", b"\xff")
    return not any(tail[p:] == tail[:-p] for p in range(1, len(tail) // 2))


def jpeg_with_more_data(data: bytes) -> bytes:
    """The JPEG with surplus bytes before its end mark: a whole picture decodes the same, a cut one does not.

    A decoder that has all its blocks skips to the end mark. One that lacks blocks takes them from the surplus.
    """
    end = data.rfind(b"\xff\xd9")
    return data[:end] + b"\x5a\xa5\x3c" * 64 + data[end:]


def jpeg_scans_are_missing(data: bytes) -> bool:
    """Whether a progressive JPEG never delivers some coefficients in full: what a cut leaves behind.

    Reads the scan headers (ITU T.81, B.2.3): a coefficient is complete once a scan brought it with Al = 0.
    """
    missing: set[tuple[int, int]] | None = None
    at = 2
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 4 > len(data):
            break
        mark = data[at + 1]
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if mark in (0xC2, 0xC6):  # progressive frame
            components = data[at + 9] if at + 9 < len(data) else 0
            ids = [data[at + 10 + 3 * i] for i in range(components) if at + 10 + 3 * i < len(data)]
            missing = {(c, k) for c in ids for k in range(64)}
        elif mark == 0xDA and missing is not None and at + 2 + length <= len(data):
            n = data[at + 4]
            first, last, low = data[at + 5 + 2 * n], data[at + 6 + 2 * n], data[at + 7 + 2 * n] & 15
            if low == 0:
                missing -= {(data[at + 5 + 2 * i], k) for i in range(n) for k in range(first, min(last, 63) + 1)}
        in_header = mark not in (0x00, 0xFF, 0x01) and not 0xD0 <= mark <= 0xD9
        at += 2 + length if in_header else (1 if mark == 0xFF else 2)
    return bool(missing)
