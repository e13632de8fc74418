"""Bytes to text: UTF-8, what a byte order mark says, or the encoding the user named; never a guess."""

from __future__ import annotations

import codecs
import re

from headstart.data.decode import BadExample

BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def as_text(data: bytes, *, name: str, encoding: str | None) -> str:
    """The text of one file. encoding: used where it is not UTF-8, so a folder may mix the two.

    Raises BadExample TB54 with the offset of the first byte that is wrong (from 0) and a guess at what it is.
    """
    for mark, told in BOMS:
        if data.startswith(mark):
            return _decoded(data[len(mark) :], name, told, shift=len(mark))
    if encoding is None and (found := utf16_without_mark(data)):
        raise BadExample("TB54", name, f"is not UTF-8 (every other byte is 0); looks like {found}: --encoding {found}")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if encoding is not None and encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
            return _decoded(data, name, encoding)
        guess = looks_like(data)
        raise BadExample(
            "TB54",
            name,
            f"is not UTF-8 (byte 0x{data[error.start]:02X} at offset {error.start:,}); looks like {guess}: "
            f"--encoding {guess}",
        ) from error


def _decoded(data: bytes, name: str, encoding: str, shift: int = 0) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        at = error.start
        reason = f"is not {encoding} (byte 0x{data[at]:02X} at offset {at + shift:,}); looks like {looks_like(data)}"
        raise BadExample("TB54", name, reason) from error


def utf16_without_mark(data: bytes) -> str | None:
    """'utf-16-le' or 'utf-16-be' where every other byte is 0 at the beginning."""
    sample = data[:4096]
    if len(sample) < 4:
        return None
    if sample[1::2].count(0) > 0.4 * len(sample) / 2 and not sample[0::2].count(0):
        return "utf-16-le"
    if sample[0::2].count(0) > 0.4 * len(sample) / 2 and not sample[1::2].count(0):
        return "utf-16-be"
    return None


def looks_like(data: bytes) -> str:
    """A guess at the encoding of bytes that are not UTF-8; for messages, never acted upon."""
    high = re.findall(rb"[\x80-\xff]+", data[: 2**20])
    single = sum(len(run) == 1 for run in high)
    kana = _try(data, "shift_jis")
    if kana is not None and len(re.findall(r"[\u3041-\u30fe]", kana)) > 0.2 * len(re.findall(r"[^\x00-\x7f]", kana)):
        return "shift_jis"
    if single < 0.5 * len(high):
        for name in ("gbk", "shift_jis"):
            if _try(data, name) is not None:
                return name
    return "cp1252" if re.search(rb"[\x80-\x9f]", data[: 2**20]) and _try(data, "cp1252") is not None else "latin-1"


def _try(data: bytes, encoding: str) -> str | None:
    try:
        return data[: 2**20].decode(encoding) if len(data) <= 2**20 else _upto_newline(data).decode(encoding)
    except UnicodeDecodeError:
        return None


def _upto_newline(data: bytes) -> bytes:
    return data[: data.rfind(b"\n", 0, 2**20) + 1]
