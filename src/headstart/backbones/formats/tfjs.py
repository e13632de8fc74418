"""TensorFlow.js graph models: a JSON file with the graph, and binary files beside it with the weights.

Nothing is run here, and every size is checked before memory is taken. What the nodes mean is for others to say
(``sources/tfjs_ops.py``). Weights that were stored in fewer bits are widened to float32.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.base.errors import DataError, Refused, did_you_mean, shown
from headstart.base.files import human_bytes, read_json

MOST_JSON = 32 * 2**20  # the largest graph seen, of 2,140 nodes, has 0.9 MiB
_MOST_NODES = 100_000
_KINDS: Mapping[str, type[np.generic]] = {"float32": np.float32, "int32": np.int32, "bool": np.bool_}
_STORED: Mapping[str, type[np.generic]] = {"float16": np.float16, "uint8": np.uint8, "uint16": np.uint16}


@dataclass(frozen=True)
class TfNode:
    """One operation. inputs: 'name' or 'name:1' of other nodes.  attributes: numbers, words and lists of them."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class TfjsFile:
    """A graph as it is stored.

    nodes: by name.  arrays: of the Const nodes.  sha256: of the JSON and all files of weights.
    size: bytes of the latter.  weights: name of the first of them.  notes: how the weights were stored.
    """

    path: Path
    nodes: Mapping[str, TfNode]
    arrays: Mapping[str, np.ndarray]
    sha256: str
    size: int
    weights: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Entry:
    """One array: ``stored`` is how its numbers lie in the file, ``kind`` what they are; stored · scale + low."""

    name: str
    shape: tuple[int, ...]
    kind: str
    stored: type[np.generic]
    scale: float
    low: float

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.stored).itemsize


def is_graph_model(path: Path) -> bool:
    """Whether ``path`` is a JSON file with a graph of TensorFlow.js in it; the whole file is parsed."""
    if path.suffix.lower() != ".json" or not path.is_file() or path.stat().st_size > MOST_JSON:
        return False
    content = read_json(path, largest=MOST_JSON)
    return isinstance(content, Mapping) and "modelTopology" in content


def read(path: Path) -> TfjsFile:
    """The graph and its arrays.

    DataError for another kind of model or a missing file of weights.  Refused: CK05 too short, CK07 a header that makes
    no sense, CK08 a name twice, CK10 NaN or infinity, CK17 weights outside the folder, CK18 more declared than there.
    """
    where = shown(path.name)
    content = read_json(path, largest=MOST_JSON)
    topology = content.get("modelTopology") if isinstance(content, Mapping) else None
    stored = topology.get("node") if isinstance(topology, Mapping) else None
    if not isinstance(stored, list) or not isinstance(content.get("weightsManifest"), list):
        kind = " It is a layers model;" if isinstance(topology, Mapping) and "model_config" in topology else ""
        raise DataError(
            f"CK30 {where} holds no graph model of TensorFlow.js.{kind} convert it with "
            "tensorflowjs_converter --output_format=tfjs_graph_model."
        )
    digest = hashlib.sha256(path.read_bytes())
    arrays, files, size = {}, [], 0
    entries = [_group(group, path, where) for group in content["weightsManifest"]]
    _check_names([e.name for group, _ in entries for e in group], "array", where)
    for group, shards in entries:
        data = _content(group, shards, where)
        digest.update(data)
        size += len(data)
        files += shards
        arrays.update(_arrays(group, data, where))
    nodes = [_node(n, where) for n in stored[:_MOST_NODES]]
    _check_names([n.name for n in nodes], "node", where)
    kinds = sorted({e.stored.__name__ for group, _ in entries for e in group if e.stored not in _KINDS.values()})
    notes = (f"stored as {' and '.join(kinds)}, used as float32",) if kinds else ()
    weights = files[0].name if files else path.name
    return TfjsFile(path, {n.name: n for n in nodes}, arrays, digest.hexdigest(), size, weights, notes)


def _group(group: Any, path: Path, where: str) -> tuple[list[_Entry], list[Path]]:
    """(arrays in the order of their bytes, the files that hold them one after the other)."""
    names = group.get("paths") if isinstance(group, Mapping) else None
    weights = group.get("weights") if isinstance(group, Mapping) else None
    if not isinstance(names, list) or not isinstance(weights, list):
        raise Refused(f"CK07 {where}: weightsManifest is no list of files and their arrays. Refused.")
    shards = []
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or "\\" in name or name in (".", ".."):
            raise Refused(f"CK17 {where}: keeps weights in '{shown(name)}', which is not a file beside it. Refused.")
        shard = path.parent / name
        if not shard.is_file():
            near = did_you_mean(name, [p.name for p in path.parent.glob("*.bin")])
            raise DataError(f"CK14 {where}: its weights are in {shown(name)}, which is not beside it.{near}")
        shards.append(shard)
    return [_entry(entry, where) for entry in weights], shards


def _entry(entry: Any, where: str) -> _Entry:
    fields = entry if isinstance(entry, Mapping) else {}
    name, shape, kind = fields.get("name"), _counts(fields.get("shape")), str(fields.get("dtype"))
    if not isinstance(name, str) or shape is None or kind not in _KINDS:
        raise Refused(
            f"CK07 {where}: array '{shown(name)}' has no usable shape, or numbers of kind '{shown(kind)}' "
            f"({', '.join(_KINDS)} are read). Refused."
        )
    rounding = fields.get("quantization")
    if not rounding:
        return _Entry(name, shape, kind, _KINDS[kind], 1.0, 0.0)
    stated = rounding if isinstance(rounding, Mapping) else {}
    stored, scale, low = _STORED.get(str(stated.get("dtype"))), stated.get("scale", 1.0), stated.get("min", 0.0)
    if stored is None or not _is_number(scale) or not _is_number(low):
        raise Refused(f"CK07 {where}: array '{shown(name)}' is rounded in a way that is not known. Refused.")
    return _Entry(name, shape, kind, stored, float(scale), float(low))


def _counts(value: Any) -> tuple[int, ...] | None:
    is_list = isinstance(value, list) and all(type(n) is int and 0 <= n < 2**40 for n in value)
    return tuple(value) if is_list else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _content(entries: list[_Entry], shards: list[Path], where: str) -> bytes:
    needed, there = sum(e.bytes for e in entries), sum(s.stat().st_size for s in shards)
    if any(side > there for e in entries for side in e.shape) or needed > 2 * there + 2**20:
        raise Refused(
            f"CK18 {where}: declares arrays of {human_bytes(needed)}, its weights are {human_bytes(there)}. Refused."
        )
    if needed > there:
        raise Refused(f"CK05 {where}: its weights end early: {there:,} of {needed:,} bytes. Download them again.")
    if needed < there:
        raise Refused(f"CK07 {where}: {there - needed:,} bytes of weights belong to no array. Refused.")
    return b"".join(shard.read_bytes() for shard in shards)


def _arrays(entries: list[_Entry], data: bytes, where: str) -> dict[str, np.ndarray]:
    arrays, at = {}, 0
    for entry in entries:
        count = math.prod(entry.shape)
        array = np.frombuffer(data, np.dtype(entry.stored).newbyteorder("<"), count, at).reshape(entry.shape)
        at += entry.bytes
        if entry.stored in _STORED.values():
            array = array.astype(np.float32) * np.float32(entry.scale) + np.float32(entry.low)
        array = array.astype(_KINDS[entry.kind])  # a copy: the original cannot be written to
        # A single number may be infinite, as what a map is padded with before its largest values are taken.
        if np.isnan(array).any() or (array.ndim and not np.isfinite(array).all()):
            raise Refused(f"CK10 {where}: array '{shown(entry.name)}' holds NaN or infinity. Refused.")
        arrays[entry.name] = array
    return arrays


def _node(node: Any, where: str) -> TfNode:
    fields = node if isinstance(node, Mapping) else {}
    name, op, inputs = fields.get("name"), fields.get("op"), fields.get("input", [])
    attributes = fields.get("attr", {})
    are_names = isinstance(inputs, list) and all(isinstance(i, str) for i in inputs)
    if not isinstance(name, str) or not isinstance(op, str) or not are_names or not isinstance(attributes, Mapping):
        raise Refused(f"CK07 {where}: node '{shown(name)}' has no usable name, operation or inputs. Refused.")
    plain = {str(key): _attribute(value, name, where) for key, value in attributes.items()}
    return TfNode(name, op, tuple(i.removesuffix(":0") for i in inputs if not i.startswith("^")), plain)


def _attribute(value: Any, name: str, where: str) -> Any:
    """The value of an attribute; None for one of a kind that no operation here needs."""
    if not isinstance(value, Mapping):
        raise Refused(f"CK07 {where}: node '{shown(name)}' has an attribute without a kind. Refused.")
    try:
        if "list" in value:
            kinds = value["list"] or {}
            return [_single(kind, one) for kind in ("i", "f", "s", "b") for one in kinds.get(kind, [])]
        if "shape" in value:
            return [int(side["size"]) for side in value["shape"].get("dim", [])]
        return next((_single(k, value[k]) for k in ("i", "f", "s", "b", "type") if k in value), None)
    except (TypeError, ValueError, AttributeError, KeyError, binascii.Error) as error:
        raise Refused(f"CK07 {where}: node '{shown(name)}' has an attribute that makes no sense. Refused.") from error


def _single(kind: str, value: Any) -> Any:
    if kind == "i":
        return int(value)
    if kind == "f":
        return float(value)
    if kind == "b":
        return bool(value)
    return base64.b64decode(value, validate=True).decode("utf-8") if kind == "s" else str(value)


def _check_names(names: list[str], what: str, where: str) -> None:
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise Refused(f"CK08 {where}: {what} '{shown(twice)}' appears twice. Refused.")
