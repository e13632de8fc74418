"""The layers of an encoder of sounds: all of them beside each other, or one mixture of them.

Both are Backbones like any other, so that runners, cache, training and saving need to know nothing of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from headstart.backbones.around import Around
from headstart.backbones.backbone import Backbone
from headstart.backbones.restructure import own_config
from headstart.backbones.sources.audio_transformers import AudioArchitecture
from headstart.base.errors import DataError
from headstart.inputs.spec import InputSpec

KIND = "layers"


@dataclass(frozen=True)
class LayersArchitecture(Around):
    """An encoder that is listened to at each of its layers.

    weights: of the layers, input side first; empty: their features stand beside each other, (B, L · D).
    """

    inner: AudioArchitecture
    weights: tuple[float, ...] = ()

    def build(self, classes: int) -> nn.Module:
        return self.inner.build(classes)

    def features(self, network: nn.Module, sounds: Tensor) -> Tensor:
        layers = torch.stack(self.inner.layers(network, sounds), dim=1)
        if not self.weights:
            return layers.flatten(1)
        weights = torch.tensor(self.weights, dtype=torch.float32, device=layers.device)
        return (layers.float() * weights[:, None]).sum(dim=1).to(layers.dtype)

    def config(self, spec: InputSpec, labels: Sequence[str], feature_dim: int) -> dict[str, Any]:
        assert self.weights, "layers beside each other are looked at and never saved"
        return own_config(self.inner, KIND, {"weights": list(self.weights)}, spec, labels, feature_dim)


def depth_of(backbone: Backbone) -> int:
    """How many layers can be listened to; 1 where the last one is all there is."""
    inner = backbone.architecture
    return inner.depth(backbone.network) if isinstance(inner, AudioArchitecture) else 1


def beside(backbone: Backbone) -> Backbone:
    """The same network (shared weights), giving (B, L · D): each layer's features, the last ones its own."""
    depth = depth_of(backbone)
    return _around(backbone, (), f"all {depth} layers", depth * backbone.card.feature_dim)


def mixed(backbone: Backbone, weights: Sequence[float]) -> Backbone:
    """The same network (shared weights), giving the weighted sum of its layers' features. weights: one for each."""
    assert len(weights) == depth_of(backbone), "one weight for each layer"
    words = f"layers weighted {', '.join(f'{w:g}' for w in weights)}"
    return _around(backbone, tuple(weights), words, backbone.card.feature_dim)


def _around(backbone: Backbone, weights: tuple[float, ...], words: str, width: int) -> Backbone:
    assert isinstance(backbone.architecture, AudioArchitecture), "layers of an encoder of sounds"
    # The words are a part of the features' key: other weights, another store.
    facts: dict[str, Any] = {"architecture": f"{backbone.card.architecture}, {words}", "feature_dim": width}
    architecture = LayersArchitecture(backbone.architecture, weights)
    return Backbone(replace(backbone.card, **facts), backbone.network, architecture, replace(backbone.record, **facts))


def architecture_from(inner: AudioArchitecture, changes: Any, *, where: str) -> LayersArchitecture:
    """The architecture with the weights that a config.json states; DataError where they do not fit it."""
    stated = changes.get("weights") if isinstance(changes, Mapping) else None
    weights = [w for w in stated if isinstance(w, int | float) and 0 <= w <= 1] if isinstance(stated, list) else []
    with torch.device("meta"):
        depth = inner.depth(inner.build(0))
    if stated != weights or len(weights) != depth:
        raise DataError(f"{where}: expected {depth} weights of layers, each from 0 to 1.")
    return LayersArchitecture(inner, tuple(map(float, weights)))
