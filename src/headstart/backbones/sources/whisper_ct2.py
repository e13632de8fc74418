"""Whisper as CTranslate2 stores it: one file (or its parts) of named arrays in float16. Only the encoder is taken.

The format (CTranslate2, model.bin version 6): little-endian; strings are led by their length, zero byte included.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headstart.backbones.card import BackboneCard
from headstart.backbones.sources.audio_transformers import AudioArchitecture
from headstart.base.errors import Refused, shown

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone

_KINDS = (np.float32, np.int8, np.int16, np.int32, np.float16)
_LAYERS = {  # transformers: CTranslate2
    "self_attn.out_proj": "self_attention/linear_1",
    "fc1": "ffn/linear_0",
    "fc2": "ffn/linear_1",
}
_NORMS = {"self_attn_layer_norm": "self_attention/layer_norm", "final_layer_norm": "ffn/layer_norm"}


def architecture_of(width: int, layers: int, heads: int) -> AudioArchitecture:
    """The encoder of a Whisper whose inner layers are four times as wide."""
    settings = {
        "d_model": width,
        "encoder_layers": layers,
        "encoder_attention_heads": heads,
        "encoder_ffn_dim": 4 * width,
        "num_mel_bins": 80,
        "max_source_positions": 1500,
    }
    return AudioArchitecture("whisper", tuple(sorted(settings.items())))


def load(card: BackboneCard, architecture: AudioArchitecture, parts: Sequence[Path]) -> Backbone:
    """parts: the files that make up model.bin, in order."""
    import torch

    from headstart.backbones.checkpoint import Checkpoint
    from headstart.backbones.loading import with_checkpoint

    data = b"".join(part.read_bytes() for part in parts)
    if hashlib.sha256(data).hexdigest() != card.weights.sha256:
        raise Refused(
            f"CK06 {shown(parts[0].name)} is not the file that {shown(card.weights.where)} ships. Refused; install it "
            "again."
        )
    tensors = {name: torch.from_numpy(array) for name, array in encoder_arrays(arrays_of(data)).items()}
    notes = ("stored as float16, used as float32", "the decoder is left out")
    checkpoint = Checkpoint(parts[0], tensors, "ctranslate2", card.weights.sha256, len(data), notes)
    return with_checkpoint(card, architecture, checkpoint)


def arrays_of(data: bytes) -> dict[str, np.ndarray]:
    """Name → array, without copying."""
    at = 4
    at += 2 + struct.unpack_from("<H", data, at)[0] + 4  # the name of the specification, and its revision
    (count,) = struct.unpack_from("<I", data, at)
    at += 4
    found = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 1 + length].decode()
        at += 2 + length
        axes = data[at]
        shape = struct.unpack_from(f"<{axes}I", data, at + 1)
        kind, size = struct.unpack_from("<BI", data, at + 1 + 4 * axes)
        at += 6 + 4 * axes
        dtype = np.dtype(_KINDS[kind])
        found[name] = np.frombuffer(data, dtype, size // dtype.itemsize, at).reshape(shape)
        at += size
    return found


def encoder_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """transformers' names of WhisperEncoder → float32 arrays.

    Queries, keys and values come as one matrix; keys have no bias in Whisper, and the zeros stored for it are dropped.
    """
    places = {"conv1": "conv1", "conv2": "conv2"}
    norms = {"layer_norm": "layer_norm"}
    found = {"embed_positions.weight": arrays["encoder/position_encodings/encodings"]}
    for layer in range(sum(1 for name in arrays if re.fullmatch(r"encoder/layer_\d+/ffn/linear_0/weight", name))):
        places |= {f"layers.{layer}.{ours}": f"layer_{layer}/{theirs}" for ours, theirs in _LAYERS.items()}
        norms |= {f"layers.{layer}.{ours}": f"layer_{layer}/{theirs}" for ours, theirs in _NORMS.items()}
        fused = f"encoder/layer_{layer}/self_attention/linear_0"
        weights, biases = np.split(arrays[f"{fused}/weight"], 3), np.split(arrays[f"{fused}/bias"], 3)
        for part, weight, bias in zip("qkv", weights, biases, strict=True):
            found[f"layers.{layer}.self_attn.{part}_proj.weight"] = weight
            if part != "k":
                found[f"layers.{layer}.self_attn.{part}_proj.bias"] = bias
    for ours, theirs in places.items():
        found |= {f"{ours}.{leaf}": arrays[f"encoder/{theirs}/{leaf}"] for leaf in ("weight", "bias")}
    for ours, theirs in norms.items():
        found[f"{ours}.weight"] = arrays[f"encoder/{theirs}/gamma"]
        found[f"{ours}.bias"] = arrays[f"encoder/{theirs}/beta"]
    return {name: array.astype(np.float32) for name, array in found.items()}
