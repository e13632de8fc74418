"""One door for weight files: what is in this file, if it is plain weights; a refusal with its reason if it is not.

The format is told from the content, never from the name. No format's own loader runs (see ``formats``), every size is
checked against the file before memory is taken, and what was read is hashed for the record.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headstart.backbones.formats import hdf5_file, onnx_file, safetensors_file, torch_file
from headstart.base.errors import CheckpointMismatch, DataError, Refused, listed, shown
from headstart.base.files import file_sha256, human_bytes

_WRAPPINGS = ("module.", "_orig_mod.")
_KEYS_OF_WEIGHTS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "weights",
    "params",
    "net",
    "network",
    "module",
    "state_dict_ema",
    "model_ema",
    "ema",
    "ema_state_dict",
)
_SUFFIXES = {"safetensors": (".safetensors",), "hdf5": (".h5", ".hdf5", ".keras"), "onnx": (".onnx",)}
_PICKLES = re.compile(rb"\x80[\x02-\x05]|c[a-z_.0-9]+\n|\(|\]|\}")  # protocols 2 to 5, or a likely start of 0 and 1


@dataclass(frozen=True)
class Checkpoint:
    """Tensors of one file.

    tensors: by name, on the CPU, mapped from the file where the format allows it.
    format: 'safetensors' | 'torch' | 'torch-legacy' | 'hdf5' | 'onnx'.
    notes: sentences on what was unwrapped or left out.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    format: str
    sha256: str
    size: int
    notes: tuple[str, ...] = ()


def read_checkpoint(path: Path, *, sha256: str = "") -> Checkpoint:
    """The weights in ``path``. sha256: what the file must have, if known.

    DataError if there is no such file; Refused (CK01 to CK10, CK16 to CK19) for anything but whole, plain, finite
    weights; CheckpointMismatch if it holds no weights at all.
    """
    path = Path(path)
    if not path.is_file():
        kind = "is a folder; name a file in it, or use file:PATH" if path.is_dir() else "does not exist"
        raise DataError(f"{shown(path)} {kind}. --weights takes a .safetensors, .pth or .bin file.")
    found = file_sha256(path)
    if sha256 and found != sha256:
        raise Refused(
            f"CK06 {shown(path.name)}: sha256 differs from the recorded one (recorded {sha256[:12]}…, now "
            f"{found[:12]}…). Refused. Install or download it again."
        )
    kind = format_of(path)
    value, notes = _read(path, kind)
    size = path.stat().st_size
    tensors, unwrapped = _unwrapped(value, shown(path.name))
    _check_shapes(tensors, size, shown(path.name))
    _check_finite(tensors, shown(path.name))
    return Checkpoint(path, tensors, kind, found, size, (*notes, *unwrapped))


def format_of(path: Path) -> str:
    """The format by content; Refused where it is none of ours, or is not what the name says (CK02)."""
    with open(path, "rb") as file:
        head = file.read(64)
    where = shown(path.name)
    kind = _format_of_bytes(head)
    claimed = next((k for k, suffixes in _SUFFIXES.items() if path.suffix.lower() in suffixes), kind)
    if claimed != kind:
        what = {"pickle": "a pickle file", "torch": "a pickle file in a zip archive", "torch-legacy": "a pickle file"}
        raise Refused(f"CK02 {where}: named {shown(path.suffix)} but is {what.get(kind, 'not one')}. Refused.")
    if kind == "pickle":
        return "torch-legacy"  # read as such, so that the refusal says what it would have run
    if not kind:
        raise Refused(
            f"CK02 {where}: neither safetensors nor a file of torch.save ({len(head)} bytes looked at). Refused. "
            "Ask the publisher for a .safetensors file."
        )
    return kind


def _format_of_bytes(head: bytes) -> str:
    if head.startswith(b"PK\x03\x04"):
        return "torch"
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**40:
        return "safetensors"
    if head.startswith(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"):
        return "torch-legacy"
    if head[:1] == b"\x08" and head[2:3] in (b"\x12", b"\x3a", b"\x42") and len(head) > 16:
        return "onnx"
    return "pickle" if _PICKLES.match(head) else ""


def _read(path: Path, kind: str) -> tuple[Any, list[str]]:
    if kind == "torch":
        return torch_file.read_zip(path)
    if kind == "torch-legacy":
        return torch_file.read_legacy(path)
    if kind == "safetensors":
        return safetensors_file.read(path), []
    arrays = hdf5_file.read(path) if kind == "hdf5" else onnx_file.read(path)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}, []


def _unwrapped(value: Any, where: str) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors by name, out of the dicts that training scripts put around them, without wrappers' prefixes."""
    notes = []
    if isinstance(value, dict) and not _is_weights(value):
        keys = [k for k in _KEYS_OF_WEIGHTS if isinstance(value.get(k), dict) and _is_weights(value[k])]
        if not keys:
            entries = listed([str(k)[:60] for k in value], 6)
            raise CheckpointMismatch(
                f"CK11 {where}: holds no weights of a network (its entries: {entries}). "
                "It looks like the state of a training run without the model; name the model's file."
            )
        others = f" ('{keys[1]}' is there too and was not used)" if len(keys) > 1 else ""
        notes.append(f"weights taken from the entry '{keys[0]}'{others}")
        value = value[keys[0]]
    if not isinstance(value, dict):
        raise CheckpointMismatch(f"CK11 {where}: holds a {type(value).__name__}, not named tensors.")
    tensors = {str(k): v for k, v in value.items() if isinstance(v, Tensor)}
    for prefix in _WRAPPINGS * 2:  # DistributedDataParallel around torch.compile, or the other way round
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
            notes.append(f"loaded after removing '{prefix}' from every name")
    return tensors, notes


def _is_weights(value: Mapping[Any, Any]) -> bool:
    """Named tensors, perhaps with a few numbers among them; an optimiser's state has numbers for names."""
    named = sum(1 for k, v in value.items() if isinstance(v, Tensor) and isinstance(k, str))
    return named > 0 and named >= len(value) / 2


def _check_shapes(tensors: Mapping[str, Tensor], size: int, where: str) -> None:
    """No side of a tensor is longer than the file: an empty tensor of 0 × 2⁴⁰ takes no bytes, but what is it for?"""
    for name, tensor in tensors.items():
        if any(side > size for side in tensor.shape):
            raise Refused(
                f"CK18 {where}: '{shown(name)}' declares the shape {tuple(tensor.shape)} but the file is "
                f"{human_bytes(size)}. Refused."
            )


def _check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    bad = [n for n, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if bad:
        raise Refused(
            f"CK10 {where}: {len(bad)} of {len(tensors)} tensors hold NaN or infinity (first: {shown(bad[0])}). "
            "Refused: the file is damaged or its training diverged."
        )
