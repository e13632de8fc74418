"""Event files that TensorBoard reads, written without it: records of a few fields, each with two checksums.

The format is that of TensorFlow's event.proto and summary.proto, in records of tfrecord (length, its masked CRC-32C,
content, its masked CRC-32C).
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

from headstart.base.progress import Measured

_START = 1  # SessionLog: what came before with this step or a later one is to be forgotten


class TensorBoardLog:
    """A folder for each training under ``folder``; in it one file of events for each start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._files: dict[str, Path] = {}

    def begin(self, what: str, step: int) -> None:
        place = self._folder / "".join(c if c.isalnum() or c in " -_." else "_" for c in what)
        place.mkdir(parents=True, exist_ok=True)
        self._files[what] = place / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        self._write(what, _event(0, _text(3, "brain.Event:2")))
        self._write(what, _event(step + 1, _bytes(7, _integer(1, _START))))

    def add(self, row: Measured) -> None:
        values = b"".join(_bytes(1, _text(1, name) + _float(2, value)) for name, value in row.values.items())
        self._write(row.what, _event(row.step, _bytes(5, values)))

    def close(self) -> None:
        return None

    def _write(self, what: str, event: bytes) -> None:
        length = struct.pack("<Q", len(event))
        with self._files[what].open("ab") as file:
            file.write(length + _checksum(length) + event + _checksum(event))


def _event(step: int, content: bytes) -> bytes:
    """Event: wall_time (1), step (2), and one of the others."""
    return b"\x09" + struct.pack("<d", time.time()) + _integer(2, step) + content


def _integer(field: int, value: int) -> bytes:
    return bytes([field << 3]) + _varint(value)


def _float(field: int, value: float) -> bytes:
    return bytes([field << 3 | 5]) + struct.pack("<f", value)


def _bytes(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(content)) + content


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _checksum(content: bytes) -> bytes:
    """CRC-32C (Castagnoli), rotated and shifted as tfrecord wants it."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_TABLE = tuple(_entry(byte) for byte in range(256))
