"""What a checkpoint holds, as bytes: tensors as a safetensors file, state as strict JSON. No pickle, no rounding.

Written by hand where the library has a function, because a checkpoint's writes must each be checked, and may not need
the tensors twice in memory.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.base.files import parse_json, read_json

if TYPE_CHECKING:
    from torch import Tensor

_DTYPES = {  # what formats/safetensors_file.py reads
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
_NOT_FINITE = "__float__"  # JSON has no NaN: {"__float__": "-inf"}


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The training at ``step``, bit for bit as it was saved.

    tensors: on the CPU, contiguous, mapped from the file: a write to one changes neither the file nor the others.
    state: as it was given, but tuples have become lists.
    """

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def tensor_header(tensors: Mapping[str, Tensor]) -> tuple[bytes, int]:
    """The head of a safetensors file (its length in 8 bytes, then JSON) and the number of bytes that follow it.

    TypeError for a tensor that such a file cannot hold (sparse, complex, without values).
    """
    import torch

    entries, end = {}, 0
    for name, tensor in _in_order(tensors):
        dtype = _DTYPES.get(str(tensor.dtype).removeprefix("torch."))
        if dtype is None or tensor.layout is not torch.strided or tensor.is_meta or name == "__metadata__":
            raise TypeError(f"tensor '{name}' ({tensor.dtype}, {tensor.layout}, {tensor.device}) cannot be saved")
        first, end = end, end + tensor.numel() * tensor.dtype.itemsize
        entries[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [first, end]}
    text = json.dumps(entries, ensure_ascii=True).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, end


def tensor_pieces(header: bytes, tensors: Mapping[str, Tensor]) -> Iterator[memoryview]:
    """The bytes of a safetensors file; at most one tensor is copied at a time, and none that lies ready on the CPU."""
    import torch

    yield memoryview(header)
    for _, tensor in _in_order(tensors):
        if tensor.numel():
            yield tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _in_order(tensors: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    """Wide types first, so that every tensor starts at a multiple of its item size."""
    return sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file, mapped. Raises Refused (CK05, CK07, CK08) where it is none."""
    from headstart.backbones.formats import safetensors_file

    return safetensors_file.read(path)


def state_bytes(state: Mapping[str, Any]) -> bytes:
    """``state`` as JSON from which read_state makes the same again: floats to the last bit, NaN and infinities too.

    TypeError for what JSON cannot hold: str, int, float, bool, None, lists and dicts with str keys are all there is.
    """
    # ASCII, so that file names that are not UTF-8 (lone surrogates) come back as they were
    text = json.dumps(_plain(state, "state"), allow_nan=False, ensure_ascii=True)
    parse_json(text, where="state")  # what could not be read back must fail now, not on resuming
    return text.encode("ascii")


def read_state(path: Path) -> dict[str, Any]:
    """What state_bytes made into ``path``. Raises DataError (CF24) where it is no JSON."""
    return _with_floats(read_json(path, largest=2**40))


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or key == _NOT_FINITE:
                raise TypeError(f"{where}: key {key!r} cannot be saved; keys are strings other than '{_NOT_FINITE}'")
        return {key: _plain(inner, f"{where}.{key}") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, f"{where}[{number}]") for number, inner in enumerate(value)]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {_NOT_FINITE: repr(float(value))}
    if value is None or isinstance(value, str | int):
        return value
    raise TypeError(
        f"{where}: {type(value).__name__} cannot be saved; give tensors as tensors, numbers as int or float"
    )


def _with_floats(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_NOT_FINITE}:
            return float(value[_NOT_FINITE])
        return {key: _with_floats(inner) for key, inner in value.items()}
    return [_with_floats(inner) for inner in value] if isinstance(value, list) else value
