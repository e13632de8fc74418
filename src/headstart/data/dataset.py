"""The examples, lazily: a Dataset knows ids, targets and where each value is; it decodes when asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from headstart.base.errors import DataError, shown
from headstart.base.files import content_hash
from headstart.data.compact import stretches, taken
from headstart.data.mixed import NOTHING, Mixed, key_of_parts
from headstart.data.rows import Row
from headstart.data.sound import Waveform

Modality = Literal["image", "text", "audio", "vector", "mixed"]
TargetKind = Literal["single-label", "multi-label", "regression"]


@dataclass(frozen=True)
class Sample:
    """One example. id: the same in every run (relative path or row number). target: as the user wrote it."""

    id: str
    value: Any
    target: Any | None
    meta: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Dataset(Sequence[Sample]):
    """Examples in a fixed order that does not depend on the machine. Final; readers build it.

    ids: N distinct strings.  values: N of Path | bytes | PIL.Image | ndarray | str | Row | Mixed, not decoded.
    targets: N of str (single-label), tuple[str, ...] (multi-label), float or tuple of floats (regression), or None.
    splits: N of 'train' | 'validation' | 'test' | None, as the user divided the data; empty if they did not.
    meta: column → N values (never the target).
    skipped: what the reader passed over, by kind ('hidden file', 'not an image', 'link outside', …).
    notes: sentences the user should read once.
    """

    modality: Modality
    ids: Sequence[str]
    values: Sequence[Any]
    targets: Sequence[Any] | None = None
    target_kind: TargetKind | None = None
    target_reason: str = ""
    splits: Sequence[str | None] = ()
    meta: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    origin: str = ""
    classes: Sequence[str] = ()  # class folders seen, empty ones too; sorted
    skipped: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, row: int) -> Sample: ...
    @overload
    def __getitem__(self, row: slice) -> Dataset: ...
    def __getitem__(self, row: int | slice) -> Sample | Dataset:
        if isinstance(row, slice):
            return self.take(range(*row.indices(len(self))))
        from headstart.data.looks import LOOKS

        content = self.content(row)[1]
        value = LOOKS[self.modality]().value(content, name=self.ids[row]) if self.modality in LOOKS else content
        target = None if self.targets is None else self.targets[row]
        return Sample(self.ids[row], value, target, {k: v[row] for k, v in self.meta.items()})

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def content(self, row: int) -> tuple[bytes, Any]:
        """(16-byte content key, undecoded value) of a row; reads the file, decodes nothing.

        Equal content has an equal key, whatever its name or place. Raises OSError if a file cannot be read.
        """
        value = self.values[row]
        if isinstance(value, Mixed):
            read = [None if part is None else _read(part) for part in value.values]
            return key_of_parts([NOTHING if part is None else content_key(part) for part in read]), value
        value = _read(value)
        return content_key(value), value

    def take(self, rows: Sequence[int] | np.ndarray) -> Dataset:
        """The dataset of these rows, in this order."""
        chosen = np.asarray(rows, np.int64)
        if len(chosen) == len(self) and np.array_equal(chosen, np.arange(len(self))):
            return self
        return replace(
            self,
            ids=taken(self.ids, chosen),
            values=taken(self.values, chosen),
            targets=None if self.targets is None else taken(self.targets, chosen),
            splits=taken(self.splits, chosen) if self.splits else (),
            meta={name: taken(column, chosen) for name, column in self.meta.items()},
        )

    @property
    def fingerprint(self) -> str:
        """32 hex characters for ids, targets, user's split, and size and time of files (or bytes of values).

        Cheap, for noticing that something changed; caches use the content key instead.
        """
        digest = hashlib.sha256(f"{len(self)} {self.target_kind} {self.targets is None}".encode())
        for column in (self.ids, self.targets or (), self.splits):
            for some in stretches(column):
                digest.update(json.dumps(some).encode())
        for values in stretches(self.values):
            if all(isinstance(value, str) for value in values):
                digest.update(json.dumps(values).encode())
            else:
                digest.update(b"".join(map(_mark, values)))
        return digest.hexdigest()[:32]


def _read(value: Any) -> Any:
    return value.read_bytes() if isinstance(value, Path) else value


def _mark(value: Any) -> bytes:
    """What tells, cheaply, that an example is another one."""
    if isinstance(value, Mixed):
        return b"".join(NOTHING if part is None else _mark(part) for part in value.values)
    if not isinstance(value, Path):
        return content_key(value)
    try:
        stat = value.stat()
    except OSError:
        return b"gone "
    return f"{stat.st_size} {stat.st_mtime_ns} ".encode()


def content_key(value: Any) -> bytes:
    """16 bytes of SHA-256 over the value's content."""
    if isinstance(value, Row | Waveform):
        return value.key
    if isinstance(value, bytes | bytearray | memoryview):
        return content_hash(bytes(value), 16)
    if isinstance(value, str):
        return content_hash(b"text\0" + value.encode("utf-8", "surrogatepass"), 16)
    if isinstance(value, np.ndarray):
        head = f"array\0{value.dtype.str}\0{value.shape}\0".encode()
        return content_hash(head + np.ascontiguousarray(value).tobytes(), 16)
    if hasattr(value, "mode") and hasattr(value, "tobytes"):  # PIL.Image
        orientation = value.getexif().get(0x0112, 1) if hasattr(value, "getexif") else 1
        head = f"pil\0{value.mode}\0{value.size}\0{orientation}\0".encode()
        return content_hash(head + value.tobytes(), 16)
    raise DataError(
        f"a value of type {shown(type(value).__name__)} is not an example headstart can read. "
        "Give paths, bytes, PIL images, numpy arrays or strings."
    )
