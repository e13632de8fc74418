"""safetensors: a JSON header and the tensors' bytes. The header is checked in full before a byte is used."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headstart.base.errors import Refused, shown
from headstart.base.files import human_bytes

MOST_HEADER = 8 * 2**20  # 700 tensors need 70 KiB
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read(path: Path) -> dict[str, Tensor]:
    """The tensors by name, mapped from the file. Refused: CK05 truncated, CK07 invalid header, CK08 duplicate name."""
    where, size = shown(path.name), path.stat().st_size
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        if length > MOST_HEADER:
            raise Refused(f"CK07 {where}: invalid header (claims {human_bytes(length)}). Refused.")
        if 8 + length > size:
            raise Refused(f"CK05 {where}: ends early, inside its header: {size:,} of at least {8 + length:,} bytes.")
        header = _parse(file.read(length), where)
    content = np.memmap(path, np.uint8, "c", offset=0)
    tensors, end = {}, 0
    for name, dtype, shape, first, last in _entries(header, where):
        _check_range(name, first, last, end, math.prod(shape) * dtype.itemsize, where)
        end = last
        if 8 + length + last <= size:
            raw = content[8 + length + first : 8 + length + last]
            aligned = (8 + length + first) % dtype.itemsize == 0
            flat = torch.from_numpy(np.asarray(raw if aligned else raw.copy()))
            tensors[name] = flat.view(dtype).reshape(shape) if last > first else torch.empty(shape, dtype=dtype)
    if 8 + length + end > size:
        raise Refused(f"CK05 {where}: ends early: {size:,} of {8 + length + end:,} bytes. Download it again.")
    if 8 + length + end < size:
        raise Refused(f"CK07 {where}: {size - 8 - length - end:,} bytes after the last tensor. Refused.")
    return tensors


def _parse(raw: bytes, where: str) -> dict[str, Any]:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [k for k, _ in items]
        if len(set(keys)) != len(keys):
            twice = next(k for k in keys if keys.count(k) > 1)
            raise Refused(f"CK08 {where}: key '{shown(twice)}' appears twice. Refused.")
        return dict(items)

    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=pairs)
    except Refused:
        raise
    except (ValueError, RecursionError) as error:
        raise Refused(f"CK07 {where}: invalid header ({shown(error)[:80]}). Refused.") from error
    if not isinstance(header, dict):
        raise Refused(f"CK07 {where}: invalid header (no table of tensors). Refused.")
    return header


def _entries(header: dict[str, Any], where: str) -> list[tuple[str, torch.dtype, list[int], int, int]]:
    """(name, dtype, shape, first byte, end) in the order of the bytes."""
    entries = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        fields = entry if isinstance(entry, dict) else {}
        dtype = _DTYPES.get(str(fields.get("dtype")))
        shape, offsets = _counts(fields.get("shape")), _counts(fields.get("data_offsets"))
        if dtype is None or shape is None or offsets is None or len(offsets) != 2:
            raise Refused(f"CK07 {where}: invalid header (tensor '{shown(name)}' has no usable dtype, shape or place).")
        entries.append((name, dtype, shape, offsets[0], offsets[1]))
    return sorted(entries, key=lambda e: (e[3], e[4]))


def _check_range(name: str, first: int, last: int, end: int, needed: int, where: str) -> None:
    if first < end:
        raise Refused(f"CK07 {where}: invalid header (tensor '{shown(name)}' overlaps the one before it). Refused.")
    if first > end or last < first:
        raise Refused(f"CK07 {where}: invalid header (a gap before tensor '{shown(name)}'). Refused.")
    if last - first != needed:
        raise Refused(
            f"CK07 {where}: invalid header (tensor '{shown(name)}' needs {needed:,} bytes, has {last - first:,})."
        )


def _counts(value: Any) -> list[int] | None:
    """``value`` if it is a list of counts; True and -1 are none."""
    return value if isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value) else None
