"""Immutable Arrow shards: rows by 16-byte content key.

A store is a folder whose name says everything its rows depend on, so nothing in it expires or is updated. A shard is
written to a temporary name, fsynced and renamed: it is there whole or not at all. Several processes may write at
once; each writes shards of its own. Reading maps the shards into memory. A shard that cannot be read, or whose
checksum is wrong, is left out and counted, and its rows are made again.
"""

from __future__ import annotations

import os
import uuid
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.base.files import make_folder, write_with

if TYPE_CHECKING:
    import pyarrow as pa

KEY_BYTES = 16


class ShardStore:
    """A folder of Arrow files with a ``key`` column and others. ``damaged`` counts shards left out."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.damaged = 0
        self._tables: list[pa.Table] = []
        self._read: set[str] = set()
        self._keys = np.zeros((0, 2), np.uint64)  # sorted
        self._places = np.zeros((0, 2), np.int64)  # (shard, row) of each sorted key
        self.refresh()

    def refresh(self) -> None:
        """Take up shards that have appeared since the last look."""
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.glob("*.arrow")):
            if path.name in self._read:
                continue
            self._read.add(path.name)
            table = _open_shard(path)
            if table is None:
                self.damaged += 1
            else:
                self._tables.append(table)
        self._index()

    def _index(self) -> None:
        keys, places = [np.zeros((0, 2), np.uint64)], [np.zeros((0, 2), np.int64)]
        for number, table in enumerate(self._tables):
            column = _key_pairs(_key_bytes(table))
            keys.append(column)
            places.append(np.stack([np.full(len(column), number), np.arange(len(column))], axis=1))
        all_keys, all_places = np.concatenate(keys), np.concatenate(places)
        self._keys, first = np.unique(all_keys, axis=0, return_index=True)
        self._places = all_places[first]
        _, alike = np.unique(self._keys[:, 0], return_counts=True)
        self._longest_run = int(alike.max(initial=0))  # keys that share their first half: 1, short of a miracle

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, keys: Sequence[bytes]) -> np.ndarray:
        """(N,) position of each key in this store, -1 where it is not here."""
        if not len(self._keys) or not len(keys):
            return np.full(len(keys), -1)
        wanted = _key_pairs(b"".join(keys))
        found = np.full(len(wanted), -1)
        start = np.searchsorted(self._keys[:, 0], wanted[:, 0])
        for step in range(self._longest_run):
            at = (start + step).clip(max=len(self._keys) - 1)
            found = np.where((self._keys[at] == wanted).all(axis=1), at, found)
        return found

    def __contains__(self, key: bytes) -> bool:
        return bool(self.find([key])[0] >= 0)

    def read(self, positions: np.ndarray, column: str) -> pa.ChunkedArray:
        """The values of ``column`` at ``positions`` (as given by find), in that order."""
        import pyarrow as pa

        places = self._places[positions]
        order = np.argsort(places[:, 0], kind="stable")
        parts = []
        for number in np.unique(places[:, 0]):
            rows = places[order][places[order][:, 0] == number, 1]
            parts.append(self._tables[number].column(column).take(pa.array(rows)).combine_chunks())
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        chunks = [c for part in parts for c in (part.chunks if isinstance(part, pa.ChunkedArray) else [part])]
        return pa.chunked_array(chunks, type=self._tables[0].schema.field(column).type).take(pa.array(back))

    def vectors(self, positions: np.ndarray, column: str = "vector") -> np.ndarray:
        """(N, D) array of a fixed-size-list column at ``positions``, copied shard by shard."""
        places = self._places[positions]
        out: np.ndarray | None = None
        for number in np.unique(places[:, 0]):
            chosen = places[:, 0] == number
            block = fixed_size_block(self._tables[number].column(column))
            if out is None:
                out = np.empty((len(places), block.shape[1]), np.float32)
            out[chosen] = block[places[chosen, 1]]
        return out if out is not None else np.zeros((0, 0), np.float32)

    def append(self, keys: Sequence[bytes], columns: Mapping[str, Any]) -> None:
        """Write one shard. ``columns``: name → Arrow array of the same length as ``keys``."""
        import pyarrow as pa

        make_folder(self.folder)
        table = pa.table({"key": pa.array(list(keys), pa.binary(KEY_BYTES)), **columns})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        content = sink.getvalue()
        checksum = zlib.crc32(content)
        name = f"{os.getpid():x}-{uuid.uuid4().hex[:12]}-{len(keys)}-{checksum:08x}.arrow"
        write_with(self.folder / name, lambda file: file.write(content))


def fixed_size_block(column: pa.ChunkedArray) -> np.ndarray:
    """(N, D) numpy view of a fixed-size-list column (a copy only if it has several chunks)."""
    blocks = []
    for chunk in column.chunks:
        width = chunk.type.list_size
        blocks.append(chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, width))
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def _open_shard(path: Path) -> pa.Table | None:
    """The table in ``path``, mapped into memory; None if the file is not what was written."""
    import pyarrow as pa

    try:
        expected = int(path.stem.rsplit("-", 1)[1], 16)
        with pa.memory_map(str(path)) as source:
            if zlib.crc32(source.read_buffer()) != expected:
                return None
            source.seek(0)
            return pa.ipc.open_file(source).read_all()
    except (OSError, ValueError, IndexError):  # pa.ArrowInvalid is a ValueError
        return None


def _key_bytes(table: pa.Table) -> bytes:
    return b"".join(
        memoryview(c.buffers()[1])[c.offset * KEY_BYTES : (c.offset + len(c)) * KEY_BYTES].tobytes()
        for c in table.column("key").chunks
    )


def _key_pairs(keys: bytes) -> np.ndarray:
    """(N, 2) uint64, first and second half of each key; the first half sorts, the second confirms."""
    return np.frombuffer(keys, ">u8").reshape(-1, 2).astype(np.uint64)
