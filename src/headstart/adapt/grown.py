"""What training added and a library has no place for: adapters beside blocks, hidden layers before the answer.

A grown network is a Backbone like any other: its features are what the last linear layer is fed, so hidden layers count
as a part of the network, and the head stays one linear layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from headstart.adapt.surgery.adapter import Branch, attach_
from headstart.backbones.around import Around
from headstart.backbones.backbone import Architecture, Backbone
from headstart.backbones.restructure import OUTPUT, own_config
from headstart.base.config import from_dict, to_dict
from headstart.base.errors import DataError, shown
from headstart.inputs.spec import ImageSpec

HIDDEN = "headstart_hidden"  # name of the hidden layers in the network
_LARGEST = 2**16  # width, rank or side of a map


@dataclass(frozen=True)
class Growth:
    """What was added. width: of the features that the hidden layers are fed.  hidden: their widths, GELU after each."""

    branches: tuple[Branch, ...]
    width: int
    hidden: tuple[int, ...]

    @property
    def in_words(self) -> tuple[str, ...]:
        words = [f"adapters beside {len(self.branches)} blocks"] if self.branches else []
        widths = " and ".join(map(str, self.hidden))
        return (*words, *([f"hidden layer{'s' if len(self.hidden) > 1 else ''} of {widths}"] if self.hidden else []))


@dataclass(frozen=True)
class GrownArchitecture(Around):
    """Another architecture with what was added to it."""

    growth: Growth

    def build(self, classes: int) -> nn.Module:
        network = self.inner.build(0)
        for branch in self.growth.branches:
            attach_(network, branch, seed=0)
        widths = (self.growth.width, *self.growth.hidden)
        if self.growth.hidden:
            network.add_module(HIDDEN, hidden_layers(widths))
        if classes:
            network.add_module(OUTPUT, nn.Linear(widths[-1], classes))
        return network

    def features(self, network: nn.Module, images: Tensor) -> Tensor:
        features = self.inner.features(network, images)
        if not self.growth.hidden:
            return features
        deeper: Tensor = network.get_submodule(HIDDEN)(features)
        return deeper

    def config(self, spec: ImageSpec, labels: Sequence[str], feature_dim: int) -> dict[str, Any]:
        return own_config(self.inner, "grown", to_dict(self.growth), spec, labels, feature_dim)


def hidden_layers(widths: Sequence[int]) -> nn.Sequential:
    """Linear and GELU for each pair of neighbouring widths."""
    return nn.Sequential(
        *(layer for before, after in pairwise(widths) for layer in (nn.Linear(before, after), nn.GELU()))
    )


def grown(backbone: Backbone, network: nn.Module, growth: Growth, hidden: Sequence[nn.Linear]) -> Backbone:
    """``backbone`` with ``network`` in its place (in which the branches stand already) and the layers ``hidden``.

    The same kind of backbone, with its own library, where nothing was added.
    """
    if growth.hidden:
        layers = hidden_layers((growth.width, *growth.hidden))
        for own, learnt in zip((m for m in layers if isinstance(m, nn.Linear)), hidden, strict=True):
            own.load_state_dict(learnt.state_dict())
        network.add_module(HIDDEN, layers)
    if not (growth.branches or growth.hidden):
        return Backbone(backbone.card, network, backbone.architecture, backbone.record)
    facts: dict[str, Any] = {
        "architecture": ", ".join([backbone.card.architecture, *growth.in_words]),
        "feature_dim": growth.hidden[-1] if growth.hidden else growth.width,
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    made = GrownArchitecture(backbone.architecture, growth)
    return Backbone(replace(backbone.card, **facts), network, made, replace(backbone.record, **facts))


def architecture_from(inner: Architecture, changes: Any, *, where: str) -> GrownArchitecture:
    """The architecture with the additions that a config.json states; DataError where they do not fit it."""
    growth = from_dict(Growth, changes, where=f"{where}, changes")
    sizes = [growth.width, *growth.hidden, *(b.rank for b in growth.branches)]
    sizes += [side for b in growth.branches for side in b.shape]
    fine = all(1 <= size <= _LARGEST for size in sizes) and all(math.isfinite(b.scale) for b in growth.branches)
    if not fine or any(len(b.shape) not in (3, 4) for b in growth.branches):
        raise DataError(f"{where}: the additions that it states are not ones that headstart makes.")
    architecture = GrownArchitecture(inner, growth)
    try:
        with torch.device("meta"):
            architecture.build(0)
    except (AttributeError, StopIteration) as error:
        blocks = ", ".join(shown(b.block) for b in growth.branches[:3])
        raise DataError(f"{where}: adapters stand beside blocks ({blocks}, …) that {inner.name} has not.") from error
    return architecture
