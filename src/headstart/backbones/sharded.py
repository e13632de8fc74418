"""Weights split over several files, as transformers saves large models: an index and the files that it names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePath

from torch import Tensor

from headstart.backbones.checkpoint import Checkpoint, read_checkpoint
from headstart.base.errors import CheckpointMismatch, DataError, Refused, listed, shown
from headstart.base.files import read_json

_LARGEST_INDEX = 2**26  # bytes; 200,000 tensors
_MOST_FILES = 1000


def read_sharded(index: Path) -> Checkpoint:
    """The weights of all files beside ``index`` (NAME.safetensors.index.json), each read as any single file is.

    DataError CK14 where a file is missing; Refused CK02 for an index that names anything but files beside it;
    CheckpointMismatch CK11 where a file does not hold what the index says. sha256: of the files' own, in order of name.
    """
    where = shown(index.name)
    place_of = _weight_map(index)
    names = sorted(set(place_of.values()))
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise DataError(
            f"CK14 {where}: {len(missing)} of {len(names)} weights files are not beside it ({listed(missing)}). "
            "Copy or download them too."
        )
    parts = {name: read_checkpoint(index.parent / name) for name in names}
    tensors: dict[str, Tensor] = {}
    for name, file in place_of.items():
        if name not in parts[file].tensors:
            raise CheckpointMismatch(f"CK11 {where}: '{shown(name)}' should be in {shown(file)} and is not.")
        tensors[name] = parts[file].tensors[name]
    return Checkpoint(
        path=index,
        tensors=tensors,
        format=parts[names[0]].format,
        sha256=hashlib.sha256("".join(parts[name].sha256 for name in names).encode()).hexdigest(),
        size=sum(part.size for part in parts.values()),
        notes=tuple(dict.fromkeys(note for part in parts.values() for note in part.notes)),
    )


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor → name of the file that holds it."""
    where = shown(index.name)
    content = read_json(index, largest=_LARGEST_INDEX)
    found = content.get("weight_map") if isinstance(content, Mapping) else None
    if not isinstance(found, Mapping) or not found or not all(isinstance(name, str) for name in found.values()):
        raise DataError(f"CK14 {where}: no 'weight_map' of tensors to files is in it.")
    names = set(found.values())
    outside = sorted(name for name in names if PurePath(name).name != name or name.startswith("."))
    if outside or len(names) > _MOST_FILES:
        what = f"names '{shown(outside[0])}', no file beside it" if outside else f"names {len(names):,} files"
        raise Refused(f"CK02 {where}: {what}. Refused.")
    return {str(tensor): str(name) for tensor, name in found.items()}
