"""Containers around pickles and headers, as an attacker or an accident would make them."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile

LEGACY_HEAD = (
    pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    + pickle.dumps(1001, 2)
    + pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {}}, 2)
)


def zip_around(pickled: bytes) -> bytes:
    """An archive as torch.save lays it out, with ``pickled`` as its data.pkl."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", struct.pack("<4f", 1, 2, 3, 4))
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def legacy_around(pickled: bytes) -> bytes:
    return LEGACY_HEAD + pickled + pickle.dumps(["0"], 2) + struct.pack("<q", 4) + struct.pack("<4f", 1, 2, 3, 4)


def safetensors_of(header: bytes, payload: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + payload
