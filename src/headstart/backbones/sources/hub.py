"""``hf/ORG/NAME``: any model of the Hugging Face hub that a local folder could hold, fetched once.

``hf/ORG/NAME@REVISION`` names a branch, tag or commit. What arrives is read like any other untrusted folder; remote
code is never run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.backbones.card import BackboneCard, Weights
from headstart.backbones.sources.fetch import snapshot
from headstart.backbones.sources.local import WEIGHTS, LocalSource
from headstart.backbones.sources.source import Request
from headstart.base.errors import NotInCatalogue, shown

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone

DESCRIBING = ("*.json", "1_Pooling/config.json", "vocab.txt", "merges.txt", "*.model")  # everything but the weights
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_NAME = re.compile(rf"hf/({_PART}/{_PART})(?:@({_PART}))?")


class HubSource:
    """Models by the name that the hub has for them."""

    name = "hf"

    def cards(self) -> Sequence[BackboneCard]:
        return ()

    def card(self, name: str, *, offline: bool = False) -> BackboneCard:
        repository, revision = _named(name)
        folder = snapshot(name, repository, revision, offline=offline, needed=("config.json",), also=DESCRIBING)
        is_here = any((folder / file).is_file() for file in WEIGHTS)
        card = LocalSource().card(f"file:{folder}")
        return replace(
            card,
            name=name,
            licence="see its page",
            trained_on="see its page",
            weights=Weights("hub", repository, is_here, how_to_get="fetched at first use"),
            reference=f"https://huggingface.co/{repository}",
        )

    def load(self, card: BackboneCard, request: Request) -> Backbone:
        from headstart.backbones.backbone import Backbone

        repository, revision = _named(card.name)
        fetch = request.pretrained and request.weights is None
        folder: Path = snapshot(
            card.name,
            repository,
            revision,
            offline=request.offline,
            needed=WEIGHTS if fetch else ("config.json",),
            also=DESCRIBING,
        )
        loaded = LocalSource().load(replace(card, weights=Weights("file", str(folder), here=True)), request)
        return Backbone(card, loaded.network, loaded.architecture, loaded.record, source=loaded.source)


def _named(name: str) -> tuple[str, str | None]:
    """(ORG/NAME, revision)."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise NotInCatalogue(
            f"'{shown(name)}' is no model of the hub. Write hf/ORG/NAME or hf/ORG/NAME@REVISION, as in "
            "hf/sentence-transformers/all-MiniLM-L6-v2."
        )
    return found[1], found[2]
