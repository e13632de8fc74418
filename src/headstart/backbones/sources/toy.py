"""Tiny networks with seeded random weights, for tests and examples. They are real timm architectures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headstart.backbones.card import BackboneCard, Weights
from headstart.backbones.sources.source import Request, not_in_catalogue
from headstart.base.seeds import number
from headstart.inputs.spec import ImageSpec

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone

_SPEC = ImageSpec(size=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop=1.0, fit="crop", interpolation="bilinear")
_SEEDED = Weights("none", "seeded", here=True)


def _card(name: str, architecture: str, feature_dim: int, parameters: int, gmacs: float) -> BackboneCard:
    return BackboneCard(
        name, "image", architecture, _SPEC, feature_dim, parameters, "apache-2.0", "nothing", _SEEDED, gmacs
    )


CARDS = (
    _card("toy/conv", "test_resnet", 96, 372_688, 0.016),
    _card("toy/vit", "test_vit", 64, 300_864, 0.005),
)


class ToySource:
    """Two networks of about 0.3 M parameters for 64 × 64 pictures; the same weights on every machine."""

    name = "toy"

    def cards(self) -> Sequence[BackboneCard]:
        return CARDS

    def card(self, name: str) -> BackboneCard:
        raise not_in_catalogue(name, [card.name for card in CARDS])

    def load(self, card: BackboneCard, request: Request) -> Backbone:
        from headstart.backbones.backbone import Backbone, build_seeded, record_of
        from headstart.backbones.loading import load_file
        from headstart.backbones.sources.timm import TimmArchitecture

        size = (("img_size", _SPEC.size),) if card.architecture == "test_vit" else ()
        architecture = TimmArchitecture(card.architecture, size)
        if request.weights is not None:
            return load_file(card, architecture, request.weights)
        network = build_seeded(architecture, number(0, "toy", card.name))
        return Backbone(card, network, architecture, record_of(card, network, loader="seeded"))
