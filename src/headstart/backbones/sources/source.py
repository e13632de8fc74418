"""What a source of backbones must answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from headstart.backbones.card import BackboneCard
from headstart.base.errors import NotInCatalogue, did_you_mean, shown

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone


@dataclass(frozen=True)
class Request:
    """How a backbone is wanted.

    weights: a local file to use in place of the source's own.  offline: nothing may be fetched.
    pretrained: False gives the architecture with its own random initialisation.
    """

    weights: Path | None = None
    offline: bool = False
    pretrained: bool = True


class Source(Protocol):
    """Backbones of one origin; their names start with ``name`` and a slash (a colon for files)."""

    @property
    def name(self) -> str: ...

    def cards(self) -> Sequence[BackboneCard]:
        """What is worth listing. Needs no network and no heavy library, and works when the library is absent."""
        ...

    def card(self, name: str) -> BackboneCard:
        """The card of a name that starts with ours but is not listed; else NotInCatalogue. May import the library."""
        ...

    def load(self, card: BackboneCard, request: Request) -> Backbone:
        """The network with its weights, in eval mode."""
        ...


def not_in_catalogue(name: str, options: Iterable[str]) -> NotInCatalogue:
    return NotInCatalogue(
        f"no backbone '{shown(name)}'.{did_you_mean(name, options)}\nList them with: headstart models"
    )
