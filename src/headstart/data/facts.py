"""What was seen of each example, kept by content: a second run decodes nothing.

One row for each content key, good or quarantined. The folder's name holds everything a row depends on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.base.files import key_of
from headstart.base.shards import ShardStore
from headstart.data.decode import BadExample, ImageLimits

FACTS_VERSION = 1  # raise it when decode_image would say something else about the same bytes


@dataclass(frozen=True)
class Schema:
    """What is kept of one example beside 'ok', 'code' and 'reason'.

    numbers: name → dtype.  texts: names.  tiny: shape of the uint8 array that stands for it, (0,) for none.
    """

    numbers: Mapping[str, type[np.generic]]
    texts: tuple[str, ...]
    tiny: tuple[int, ...]


PICTURES = Schema(
    {
        "width": np.int32,
        "height": np.int32,
        "phash": np.uint64,
        "phash_mirrored": np.uint64,
        "mean": np.float32,
        "std": np.float32,
    },
    ("mode", "format", "notes"),
    (16, 16, 3),
)


def facts_folder(cache: Path, limits: ImageLimits) -> Path:
    """Where the facts of pictures read under these limits, by this code and this Pillow, are kept."""
    import PIL

    return Path(cache) / "facts" / key_of([FACTS_VERSION, asdict(limits), PIL.__version__])[:16]


class FactsStore:
    """Facts and quarantine verdicts by 16-byte content key; see ShardStore for how they lie on disk."""

    def __init__(self, folder: Path, schema: Schema = PICTURES) -> None:
        self._shards = ShardStore(folder)
        self._numbers = {"ok": np.bool_, **schema.numbers}
        self._texts = (*schema.texts, "code", "reason")
        self._tiny = schema.tiny

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
        """name → (n,) array: ok bool, the schema's numbers, and its texts (several joined by '; '), code and reason as
        str objects. Zero or '' where they do not apply.
        """
        positions = np.asarray(positions, np.int64)
        if not len(positions):
            return {name: np.zeros(0, dtype) for name, dtype in self._numbers.items()} | {
                name: np.zeros(0, object) for name in self._texts
            }
        found = {name: self._shards.read(positions, name) for name in (*self._numbers, *self._texts)}
        return {name: np.asarray(column.to_numpy(), self._numbers.get(name, object)) for name, column in found.items()}

    def tiny(self, positions: np.ndarray) -> np.ndarray:
        """(n, *schema.tiny) uint8; zeros where an example is quarantined."""
        positions = np.asarray(positions, np.int64)
        size = math.prod(self._tiny)
        if not len(positions) or not size:
            return np.zeros((len(positions), *self._tiny), np.uint8)
        column = self._shards.read(positions, "tiny").combine_chunks()
        data = np.frombuffer(column.buffers()[1], np.uint8)
        start = column.offset * size
        return data[start : start + len(positions) * size].reshape(-1, *self._tiny).copy()

    def append(self, keys: Sequence[bytes], facts: Sequence[Mapping[str, Any] | BadExample]) -> None:
        """Write one shard; seen by find() after refresh(). Keys of 16 bytes, one for each fact.

        A fact holds the schema's numbers and texts (or a tuple of texts) by name, and 'tiny' as bytes.
        """
        import pyarrow as pa

        if not keys:
            return
        rows = [self._row(fact) for fact in facts]
        columns = {name: pa.array([r[name] for r in rows], pa.from_numpy_dtype(t)) for name, t in self._numbers.items()}
        columns |= {name: pa.array([r[name] for r in rows], pa.string()) for name in self._texts}
        size = math.prod(self._tiny)
        if size:
            columns["tiny"] = pa.array([r["tiny"] for r in rows], pa.binary(size))
        self._shards.append(keys, columns)

    def _row(self, fact: Mapping[str, Any] | BadExample) -> dict[str, Any]:
        if isinstance(fact, BadExample):
            nothing: dict[str, Any] = dict.fromkeys(self._numbers, 0) | dict.fromkeys(self._texts, "")
            return nothing | {
                "ok": False,
                "code": fact.code,
                "reason": fact.reason,
                "tiny": bytes(math.prod(self._tiny)),
            }
        texts = {n: v if isinstance(v := fact[n], str) else "; ".join(v) for n in self._texts if n in fact}
        return {**fact, **texts, "ok": True, "code": "", "reason": ""}
