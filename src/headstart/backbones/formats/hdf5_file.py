"""HDF5 (Keras .h5): the arrays by path. Nothing of the stored graph is read, no link is followed (extra ``keras``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from headstart.base.errors import Refused, shown
from headstart.base.files import human_bytes
from headstart.base.optional import require

_MOST_FOLD = 100  # a compressed array may be this much larger than the file


def read(path: Path) -> dict[str, np.ndarray]:
    """Every numeric array of the file. Refused: CK05 damaged, CK17 links to other files, CK18 absurd sizes."""
    h5py = require("h5py", extra="keras")
    where = shown(path.name)
    try:
        with h5py.File(path, "r") as file:
            arrays: dict[str, np.ndarray] = {}
            _collect(file, "", arrays, path.stat().st_size, where, h5py)
            return arrays
    except (OSError, RuntimeError, KeyError) as error:
        raise Refused(f"CK05 {where}: ends early or is damaged ({shown(error)[:120]}). Download it again.") from error


def _collect(group: Any, prefix: str, arrays: dict[str, np.ndarray], size: int, where: str, h5py: Any) -> None:
    for name in group:
        full = f"{prefix}{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink) or full.count("/") > 32:
            raise Refused(f"CK17 {where}: '{shown(full)}' points elsewhere. Refused.")
        item = group[name]
        if isinstance(item, h5py.Group):
            _collect(item, full + "/", arrays, size, where, h5py)
            continue
        if item.is_virtual or item.external:
            raise Refused(f"CK17 {where}: dataset '{shown(full)}' points to another file. Refused.")
        if item.dtype.kind not in "fiu":
            continue
        declared = item.size * item.dtype.itemsize
        if declared > _MOST_FOLD * size:
            raise Refused(
                f"CK18 {where}: '{shown(full)}' declares {human_bytes(declared)} but the file is {human_bytes(size)}. "
                "Refused."
            )
        arrays[full] = np.asarray(item[()])
