"""Facts about networks of timm and torchvision, measured once and shipped as ``catalogue.json``.

So that listing needs neither library. ``python -m headstart.backbones.sources.measure`` makes the table anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from headstart.base.config import from_dict
from headstart.base.files import key_of, parse_json
from headstart.inputs.spec import ImageSpec

# Tensors that are not told apart: tables a network computes for itself, and parts that only training uses.
_NOT_SIGNED = ("num_batches_tracked", "position_ids", "relative_position_index", "relative_coords_table", "attn_mask")


@dataclass(frozen=True)
class Listed:
    """One network.

    name: with the tag of its weights.  where: hub id, or address of the file.  bytes: of the weights file, about.
    heads: module names of its classifier.  signature: of the names and shapes of all other tensors.
    """

    name: str
    architecture: str
    input: ImageSpec
    feature_dim: int
    parameters: int
    gmacs: float
    licence: str
    trained_on: str
    where: str
    bytes: int
    heads: tuple[str, ...]
    signature: str


@cache
def listing(source: str) -> tuple[Listed, ...]:
    """The entries of 'timm' or 'torchvision'."""
    text = files("headstart.backbones.sources").joinpath("catalogue.json").read_text("utf-8")
    table = parse_json(text, where="catalogue.json")
    return tuple(from_dict(Listed, entry, where="catalogue.json") for entry in table[source])


def signature(shapes: Mapping[str, tuple[int, ...]], heads: Iterable[str]) -> str:
    """16 hex characters for the names and shapes of a network's tensors without its classifier."""
    left_out = tuple(head + "." for head in heads)
    kept = sorted(
        f"{name}:{tuple(shape)}"
        for name, shape in shapes.items()
        if not name.endswith(_NOT_SIGNED) and not name.startswith((*left_out, "AuxLogits.", "aux1.", "aux2."))
    )
    return key_of(kept)[:16]


def looks_like(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Names of the listed architectures that have exactly these tensors ('timm/resnet50'), or ''."""
    found = []
    for source in ("timm", "torchvision"):
        for entry in listing(source):
            name = f"{source}/{entry.architecture}"
            if name not in found and signature(shapes, entry.heads) == entry.signature:
                found.append(name)
    return " or ".join(found)


def cached_on_hub(repository: str, filename: str = "model.safetensors") -> bool:
    """Whether the Hugging Face cache on this machine holds the file. Looks at folders only."""
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    cache_folder = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    folder = cache_folder / f"models--{repository.replace('/', '--')}" / "snapshots"
    return folder.is_dir() and any((snapshot / filename).is_file() for snapshot in folder.iterdir())


def torch_cache() -> Path:
    """Where torch.hub keeps downloaded weights."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints"
