"""ONNX: the stored arrays and, for each, which layer uses it (extra ``onnx``). The graph is not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from headstart.base.errors import Refused, shown
from headstart.base.optional import require

MOST_BYTES = 2 * 2**30  # protobuf's own limit


def read(path: Path) -> dict[str, np.ndarray]:
    """Arrays by name; a nameless matrix (``onnx::MatMul_123``) goes by the name of the node that uses it.

    Refused: CK05 damaged, CK19 arrays kept in other files.
    """
    onnx = require("onnx", extra="onnx")
    from google.protobuf.message import DecodeError

    where = shown(path.name)
    if path.stat().st_size > MOST_BYTES:
        raise Refused(f"CK18 {where}: larger than an ONNX file can be. Refused.")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except (DecodeError, ValueError) as error:
        raise Refused(f"CK05 {where}: ends early or is damaged ({shown(error)[:120]}). Download it again.") from error
    users = {name: node.name for node in model.graph.node for name in node.input}
    arrays: dict[str, np.ndarray] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location != 0 or tensor.external_data:
            raise Refused(f"CK19 {where}: '{shown(tensor.name)}' is kept in another file. Refused.")
        anonymous = tensor.name.startswith("onnx::")
        name = users.get(tensor.name, tensor.name) if anonymous else tensor.name
        arrays[name] = _array(onnx, tensor, where)
    return arrays


def _array(onnx: Any, tensor: Any, where: str) -> np.ndarray:
    try:
        return np.array(onnx.numpy_helper.to_array(tensor))  # a copy: the original is read-only
    except (ValueError, TypeError) as error:
        raise Refused(f"CK05 {where}: '{shown(tensor.name)}' is damaged ({shown(error)[:80]}). Refused.") from error
