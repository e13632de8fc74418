"""Facts about a backbone, known before any weights are read. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.inputs.spec import InputSpec


@dataclass(frozen=True)
class Weights:
    """Where the weights are.

    kind: 'package' (inside a pip package), 'hub' (fetched on first use), 'file' (local path), 'none' (random).
    where: package name, hub id or path.  sha256: expected hash if known.  here: on this machine now.
    size: bytes, 0 if unknown.  how_to_get: one line that makes ``here`` true.
    """

    kind: str
    where: str
    here: bool
    sha256: str = ""
    size: int = 0
    how_to_get: str = ""


@dataclass(frozen=True)
class BackboneCard:
    """One pretrained network.

    name: 'package/efficientnet-lite0', 'timm/vit_small_patch14_dinov2.lvd142m', 'file:/path', 'toy/conv'.
    architecture: timm or torchvision name that builds it.
    feature_dim: D, width of one feature vector.  parameters: of the network without its source head.
    gmacs: multiply-adds for one input, in 1e9; 0.0 if unknown.
    """

    name: str
    modality: str
    architecture: str
    input: InputSpec
    feature_dim: int
    parameters: int
    licence: str
    trained_on: str
    weights: Weights
    gmacs: float = 0.0
    reference: str = ""  # paper or page
