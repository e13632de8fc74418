"""The catalogue: facts about every backbone first, weights when asked for. Listing imports no heavy library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.backbones.card import BackboneCard
from headstart.backbones.sources.hub import HubSource
from headstart.backbones.sources.local import LocalSource
from headstart.backbones.sources.packages import PackageSource
from headstart.backbones.sources.source import Request, Source, not_in_catalogue
from headstart.backbones.sources.timm import TimmSource
from headstart.backbones.sources.torchvision import TorchvisionSource
from headstart.backbones.sources.toy import ToySource
from headstart.backbones.sources.words import WordsSource

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone

SOURCES: tuple[Source, ...] = (
    PackageSource(),
    TimmSource(),
    TorchvisionSource(),
    LocalSource(),
    HubSource(),
    WordsSource(),
    ToySource(),
)


class Catalogue:
    """Backbones of several sources, by name."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)

    def cards(self) -> list[BackboneCard]:
        """Everything worth listing, sources in order."""
        return [card for source in self.sources for card in source.cards()]

    def find(
        self,
        *,
        modality: str | None = None,
        max_parameters: int | None = None,
        licence: str | None = None,
        here: bool | None = None,
    ) -> list[BackboneCard]:
        """The cards that meet every condition given. licence: part of its name, any case ('apache')."""
        return [
            card
            for card in self.cards()
            if (modality is None or card.modality == modality)
            and (max_parameters is None or card.parameters <= max_parameters)
            and (licence is None or licence.lower() in card.licence.lower())
            and (here is None or card.weights.here == here)
        ]

    def card(self, name: str, *, offline: bool = False) -> BackboneCard:
        """The card of one backbone; NotInCatalogue with the nearest name otherwise.

        offline: nothing may be fetched, not even what describes a model of the hub.
        """
        source = self._source(name)
        return next((card for card in source.cards() if card.name == name), None) or source.card(name, offline=offline)

    def load(
        self, name: str, *, weights: Path | None = None, offline: bool = False, pretrained: bool = True
    ) -> Backbone:
        """The network with its weights: the source's own, those in the file ``weights``, or (pretrained=False) none.

        Refused for a file that is not plain weights, CheckpointMismatch for one of another network,
        EnvironmentFault where something would have to be fetched and cannot be.
        """
        card = self.card(name, offline=offline)
        return self._source(name).load(card, Request(weights, offline, pretrained))

    def _source(self, name: str) -> Source:
        for source in self.sources:
            if name.startswith((source.name + "/", source.name + ":")):
                return source
        raise not_in_catalogue(name, [card.name for card in self.cards()])


catalogue = Catalogue(SOURCES)
