"""Arrays in files: an .npy of features, or an .npz that holds their targets too. Nothing in them is unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from headstart.base.errors import DataError, listed, shown
from headstart.data.readers.arrays import plain_list, vectors
from headstart.data.readers.reader import Found, Request, check_lengths, distinct
from headstart.data.readers.utf8 import text_as_utf8

EXTENSIONS = (".npy", ".npz")
_FEATURES = ("x", "features", "embeddings", "embedding", "vectors", "data")
_TARGETS = ("y", "labels", "label", "targets", "target", "classes")
_IDS = ("ids", "id", "names")


class ArrayFile:
    name = "array file"

    def recognises(self, source: Any) -> bool:
        return isinstance(source, Path) and source.suffix.lower() in EXTENSIONS

    def read(self, source: Path, request: Request) -> Found:
        arrays = _arrays(source)
        features = _chosen(arrays, _FEATURES, source)
        matrix = arrays[features]
        if matrix.ndim != 2 or matrix.dtype.kind not in "fiub":
            raise DataError(
                f"TB70 {shown(source.name)}: '{shown(features)}' is {matrix.dtype} of shape {matrix.shape}; expected "
                "numbers of shape (examples, features)."
            )
        if not matrix.size:
            raise DataError(f"DA32 {shown(source.name)} holds no examples (shape {matrix.shape}).")
        targets = _targets(arrays, source, request)
        check_lengths(len(matrix), targets, source.name)
        found = vectors(matrix, replace(request, y=None), str(source))
        names = next((arrays[n] for n in arrays if n.lower() in _IDS and len(arrays[n]) == len(matrix)), None)
        ids = found.ids if names is None else distinct([str(n) for n in names.tolist()])
        return replace(found, ids=ids, targets=targets)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the file by name; '' for the one of an .npy."""
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return {"": found}
        with found:
            return {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise DataError(
            f"TB70 {shown(path.name)} is not an array file that can be read: {shown(error)[:160]} "
            "Objects are not unpickled; save plain numbers with numpy.save or numpy.savez."
        ) from error


def _chosen(arrays: Mapping[str, np.ndarray], names: tuple[str, ...], path: Path) -> str:
    """The one array, or the one with a usual name, or the only one of two axes."""
    known = [name for wanted in names for name in arrays if name.lower() == wanted]
    flat = [name for name, array in arrays.items() if array.ndim == 2]
    for candidates in ([*arrays] if len(arrays) == 1 else [], known, flat if len(flat) == 1 else []):
        if candidates:
            return candidates[0]
    raise DataError(
        f"TB70 {shown(path.name)} holds {listed(arrays, most=8)}; which are the features? Call them X, and the targets "
        "y: numpy.savez(path, X=features, y=targets)."
    )


def _targets(arrays: Mapping[str, np.ndarray], path: Path, request: Request) -> list[Any] | None:
    """Targets given apart, from the .npz, or from the file beside the array that --target names."""
    if request.y is not None:
        return plain_list(request.y)
    if isinstance(request.target, str):
        if request.target in arrays:
            return plain_list(arrays[request.target])
        return _from_file(Path(request.target), path, arrays)
    named = [name for wanted in _TARGETS for name in arrays if name.lower() == wanted]
    return plain_list(arrays[named[0]]) if named else None


def _from_file(target: Path, path: Path, arrays: Mapping[str, np.ndarray]) -> list[Any]:
    beside = next((p for p in (target, path.parent / target) if p.is_file()), None)
    if beside is None:
        raise DataError(
            f"TB63 {shown(path.name)} has no array '{shown(target)}' for the target (it has: "
            f"{listed([n or 'one without a name' for n in arrays])}), and there is no such file. Name an array of the "
            ".npz, or an .npy or .txt file with one target for each row."
        )
    if beside.suffix.lower() in EXTENSIONS:
        found = _arrays(beside)
        return plain_list(found[_chosen(found, _TARGETS, beside)])
    return text_as_utf8(beside, None).decode().splitlines()
