"""Files of ``torch.save``: the zip archive of today and the bare pickle stream of before 2020 (torchvision's VGG16).

Both are read by the inert pickle machine; no loader of torch is called.
"""

from __future__ import annotations

import io
import mmap
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headstart.backbones.formats import inert_pickle
from headstart.backbones.formats.inert_pickle import Place, Storage
from headstart.base.errors import Refused, shown
from headstart.base.files import human_bytes

MOST_PICKLE = 8 * 2**20
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_Blocks = Mapping[str, tuple[int, int]]  # storage key → (first byte, bytes)


def read_zip(path: Path) -> tuple[Any, list[str]]:
    """(the object with tensors in place, notes) of a zip archive. CK04 for compressed members, CK05, CK06."""
    where = shown(path.name)
    members = _members(path, where)
    pickles = [n for n in members if n == "data.pkl" or n.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise Refused(f"CK03 {where}: no archive of torch.save. Refused. Ask the publisher for a .safetensors file.")
    folder = pickles[0].removesuffix("data.pkl")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        places = {name: (_first_byte(mapped, info, where), info.file_size) for name, info in members.items()}
        notes = _check_sums(mapped, members, places, where)
        start, length = places[pickles[0]]
        if length > MOST_PICKLE:
            raise Refused(f"CK04 {where}: {human_bytes(length)} of instructions; weights need fewer. Refused.")
        value = inert_pickle.run(io.BytesIO(mapped[start : start + length]), where=where)
        order = places.get(folder + "byteorder")
        if order is not None and mapped[order[0] : order[0] + order[1]] != b"little":
            raise Refused(f"CK07 {where}: written on a big-endian machine. Refused. Save it again as .safetensors.")
    blocks = {n.removeprefix(folder + "data/"): p for n, p in places.items() if n.startswith(folder + "data/")}
    return _with_tensors(value, _Reader(path, blocks, where)), notes


def read_legacy(path: Path) -> tuple[Any, list[str]]:
    """The same for the old format: five pickles, then each storage as a count and its bytes."""
    where = shown(path.name)
    if tarfile.is_tarfile(path):  # a file can be both, and torch once preferred the tar (CVE-2025-32434)
        raise Refused(f"CK02 {where}: a tar archive of pickles. Refused. Ask the publisher for a .safetensors file.")
    with open(path, "rb") as file:
        head = io.BytesIO(file.read(MOST_PICKLE))
    size = path.stat().st_size
    magic = inert_pickle.run(head, where=where)
    if magic != LEGACY_MAGIC:
        raise Refused(f"CK02 {where}: a bare pickle file, not weights. Refused. Ask for a .safetensors file.")
    _version, system, value, keys = (inert_pickle.run(head, where=where) for _ in range(4))
    if not isinstance(system, dict) or not system.get("little_endian", True) or not isinstance(keys, list):
        raise Refused(f"CK07 {where}: not a file that torch.save wrote on a little-endian machine. Refused.")
    blocks = _legacy_blocks(path, head.tell(), keys, {s.key: s for s in _storages(value)}, size, where)
    return _with_tensors(value, _Reader(path, blocks, where)), ["written by torch before 1.6: holds no checksums"]


def _members(path: Path, where: str) -> dict[str, zipfile.ZipInfo]:
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError, struct.error) as error:
        raise Refused(
            f"CK05 {where}: ends early or is damaged ({human_bytes(size)} are here: {shown(error)}). "
            "Refused. Download it again."
        ) from error
    if any(entry.filename.endswith("constants.pkl") for entry in entries):
        raise Refused(f"CK03 {where}: a TorchScript program, not weights. Refused. Ask for a .safetensors file.")
    members: dict[str, zipfile.ZipInfo] = {}
    for entry in sorted(entries, key=lambda e: -e.file_size):  # the worst is named first
        name = shown(entry.filename)
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise Refused(
                f"CK04 {where}: member {name} is compressed ({human_bytes(entry.file_size)} from "
                f"{human_bytes(entry.compress_size)}). Refused: torch.save never compresses."
            )
        if entry.filename in members or entry.flag_bits & 0x1:
            raise Refused(f"CK08 {where}: member {name} appears twice or is encrypted. Refused.")
        members[entry.filename] = entry
    if sum(entry.file_size for entry in entries) > size:
        raise Refused(f"CK04 {where}: its members claim more than the {human_bytes(size)} of the file. Refused.")
    return members


def _first_byte(mapped: mmap.mmap, info: zipfile.ZipInfo, where: str) -> int:
    """Where the member's bytes start: after its local header, whose lengths may differ from the directory's."""
    head = mapped[info.header_offset : info.header_offset + 30]
    if len(head) < 30 or head[:4] != b"PK\x03\x04":
        raise Refused(f"CK05 {where}: member {shown(info.filename)} is not where it should be. Refused.")
    name_length, extra_length = struct.unpack("<HH", head[26:30])
    start = info.header_offset + 30 + name_length + extra_length
    if start + info.file_size > len(mapped):
        raise Refused(f"CK05 {where}: ends early, inside {shown(info.filename)}. Refused. Download it again.")
    return start


def _check_sums(
    mapped: mmap.mmap, members: Mapping[str, zipfile.ZipInfo], places: Mapping[str, tuple[int, int]], where: str
) -> list[str]:
    """CK06 where some members are not what was written. torch can be told to write no checksums: then all differ."""
    bad = []
    with memoryview(mapped) as view:
        for name, info in members.items():
            start, length = places[name]
            if zlib.crc32(view[start : start + length]) != info.CRC:
                bad.append(name)
    if not bad:
        return []
    if len(bad) < sum(1 for m in members.values() if m.file_size):
        raise Refused(f"CK06 {where}: member {shown(bad[0])} is damaged (its checksum differs). Download it again.")
    return ["holds no checksums: damage would not be noticed"]


def _legacy_blocks(
    path: Path, start: int, keys: list[Any], storages: Mapping[str, Storage], size: int, where: str
) -> _Blocks:
    blocks: dict[str, tuple[int, int]] = {}
    with open(path, "rb") as file:
        for key in keys:
            file.seek(start)
            raw = file.read(8)
            storage = storages.get(str(key))
            if len(raw) < 8 or storage is None:
                raise Refused(f"CK05 {where}: ends early: block {shown(key)} is missing. Download it again.")
            count = struct.unpack("<q", raw)[0]
            length = count * _itemsize(storage.dtype)
            if count != storage.count or start + 8 + length > size:
                raise Refused(
                    f"CK05 {where}: ends early: {start + 8 + storage.count * _itemsize(storage.dtype):,} bytes "
                    f"are needed, {size:,} are here. Download it again."
                )
            blocks[str(key)] = (start + 8, length)
            start += 8 + length
    return blocks


class _Reader:
    """Tensors from the file's bytes, every place checked against the file before anything is allocated."""

    def __init__(self, path: Path, blocks: _Blocks, where: str) -> None:
        self.where = where
        self.blocks = blocks
        # numpy keeps the map open as long as a tensor lives; 'c': writes would stay in memory
        self.content = np.memmap(path, np.uint8, "c")

    def tensor(self, place: Place, name: str) -> Tensor:
        dtype = getattr(torch, place.dtype or "uint8")
        if place.elements == 0:
            return torch.empty(place.size, dtype=dtype)
        block = self.blocks.get(place.storage.key)
        width = dtype.itemsize
        last = place.offset + sum((n - 1) * s for n, s in zip(place.size, place.stride, strict=True))
        if block is None or block[1] < place.storage.count * width or last >= place.storage.count:
            raise Refused(f"CK05 {self.where}: the numbers of {shown(name)} are not all in the file. Refused.")
        if place.elements > place.storage.count:
            raise Refused(
                f"CK18 {self.where}: {shown(name)} declares {human_bytes(place.elements * width)}, but its block has "
                f"{human_bytes(block[1])}. Refused."
            )
        raw = self.content[block[0] : block[0] + place.storage.count * width]
        if block[0] % width:
            raw = raw.copy()
        flat = torch.from_numpy(np.asarray(raw)).view(dtype)
        return flat.as_strided(place.size, place.stride, place.offset)


def _with_tensors(value: Any, reader: _Reader) -> Any:
    """``value`` with each Place in it, or in a dict directly in it, replaced by its tensor; weights sit no deeper."""
    if not isinstance(value, dict):
        return value
    inner: dict[int, dict[Any, Any]] = {}  # a dict that is there a thousand times is read once
    for item in value.values():
        if isinstance(item, dict) and id(item) not in inner:
            inner[id(item)] = {k: _placed(v, reader, k) for k, v in item.items()}
    return {k: inner[id(v)] if isinstance(v, dict) else _placed(v, reader, k) for k, v in value.items()}


def _placed(value: Any, reader: _Reader, name: Any) -> Any:
    return reader.tensor(value, str(name)) if isinstance(value, Place) else value


def _storages(value: Any) -> list[Storage]:
    """Every storage that ``value`` refers to, however deep (optimiser states sit in lists of dicts)."""
    found: dict[str, Storage] = {}
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Place):
            found[item.storage.key] = item.storage
        elif isinstance(item, Storage):
            found[item.key] = item
        elif isinstance(item, dict | list | tuple) and id(item) not in seen:
            seen.add(id(item))
            waiting.extend(item.values() if isinstance(item, dict) else item)
    return list(found.values())


def _itemsize(dtype: str) -> int:
    return getattr(torch, dtype or "uint8").itemsize
