"""What was seen of each picture, kept by content: a second run decodes nothing.

One row for each content key, good or quarantined. The folder's name holds everything a row depends on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from headstart.base.files import key_of
from headstart.base.shards import ShardStore
from headstart.data.decode import BadExample, ImageFacts, ImageLimits

FACTS_VERSION = 1  # raise it when decode_image would say something else about the same bytes
TINY_BYTES = 16 * 16 * 3

_NUMBERS = {
    "ok": np.bool_,
    "width": np.int32,
    "height": np.int32,
    "phash": np.uint64,
    "phash_mirrored": np.uint64,
    "mean": np.float32,
    "std": np.float32,
}
_TEXTS = ("mode", "format", "notes", "code", "reason")


def facts_folder(cache: Path, limits: ImageLimits) -> Path:
    """Where the facts of pictures read under these limits, by this code and this Pillow, are kept."""
    import PIL

    return Path(cache) / "facts" / key_of([FACTS_VERSION, asdict(limits), PIL.__version__])[:16]


class FactsStore:
    """Facts and quarantine verdicts by 16-byte content key; see ShardStore for how they lie on disk."""

    def __init__(self, folder: Path) -> None:
        self._shards = ShardStore(folder)

    def __len__(self) -> int:
        return len(self._shards)

    @property
    def damaged(self) -> int:
        """Shards that were left out because they could not be read or failed their checksum."""
        return self._shards.damaged

    def refresh(self) -> None:
        """Take up what other processes, or append, have written since."""
        self._shards.refresh()

    def find(self, keys: Sequence[bytes]) -> np.ndarray:
        """(N,) positions for columns() and tiny(); -1 where nothing is known."""
        return self._shards.find(keys)

    def columns(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """name → (n,) array: ok bool; width, height int32; phash, phash_mirrored uint64; mean, std float32; and mode,
        format, notes (joined by '; '), code, reason as str objects. Zero or '' where they do not apply.
        """
        positions = np.asarray(positions, np.int64)
        if not len(positions):
            return {name: np.zeros(0, dtype) for name, dtype in _NUMBERS.items()} | {
                name: np.zeros(0, object) for name in _TEXTS
            }
        found = {name: self._shards.read(positions, name) for name in (*_NUMBERS, *_TEXTS)}
        return {name: np.asarray(column.to_numpy(), _NUMBERS.get(name, object)) for name, column in found.items()}

    def tiny(self, positions: np.ndarray) -> np.ndarray:
        """(n, 16, 16, 3) uint8 thumbnails; black where an example is quarantined."""
        positions = np.asarray(positions, np.int64)
        if not len(positions):
            return np.zeros((0, 16, 16, 3), np.uint8)
        column = self._shards.read(positions, "tiny").combine_chunks()
        data = np.frombuffer(column.buffers()[1], np.uint8)
        start = column.offset * TINY_BYTES
        return data[start : start + len(positions) * TINY_BYTES].reshape(-1, 16, 16, 3).copy()

    def append(self, keys: Sequence[bytes], facts: Sequence[ImageFacts | BadExample]) -> None:
        """Write one shard; seen by find() after refresh(). Keys of 16 bytes, one for each fact."""
        import pyarrow as pa

        if not keys:
            return
        rows = [_row(fact) for fact in facts]
        columns = {name: pa.array([r[name] for r in rows], pa.from_numpy_dtype(t)) for name, t in _NUMBERS.items()}
        columns |= {name: pa.array([r[name] for r in rows], pa.string()) for name in _TEXTS}
        columns["tiny"] = pa.array([r["tiny"] for r in rows], pa.binary(TINY_BYTES))
        self._shards.append(keys, columns)


def _row(fact: ImageFacts | BadExample) -> dict[str, object]:
    if isinstance(fact, BadExample):
        nothing: dict[str, object] = dict.fromkeys(_NUMBERS, 0) | dict.fromkeys(_TEXTS, "")
        return nothing | {"ok": False, "code": fact.code, "reason": fact.reason, "tiny": bytes(TINY_BYTES)}
    return asdict(fact) | {"ok": True, "notes": "; ".join(fact.notes), "code": "", "reason": ""}
