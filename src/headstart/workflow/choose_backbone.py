"""Which network, when the user names none."""

from __future__ import annotations

from collections.abc import Callable

from headstart.backbones.card import BackboneCard
from headstart.backbones.catalogue import Catalogue
from headstart.base.errors import DataError, NotInCatalogue
from headstart.data.words import words_of

# Small, fast, Apache-2.0, and inside a pip package.
STARTER = "package/efficientnet-lite0"
STARTERS = {"image": STARTER, "text": "package/minilm-l6", "audio": "package/whisper-tiny-en"}


def choose_backbone(
    name: str, catalogue: Catalogue, ranked: Callable[[], str] | None = None, *, modality: str = "image"
) -> str:
    """``name``; for 'starter' the starter network if it is here, else the smallest one that is; for 'auto' the best.

    ranked: ranks the networks that are here on the user's data and gives the name of the best; where there are no
    labelled data to rank on, 'auto' is a DataError.
    """
    if name == "starter":
        return _starter(catalogue, modality)
    if name != "auto":
        return name
    if ranked is None:
        raise DataError(
            "RK15 --backbone auto ranks the networks on labelled data, which only fit does on its way. See which it "
            "would take with 'headstart rank DATA', and name that one."
        )
    return ranked() if len(_here(catalogue, modality)) > 1 else _starter(catalogue, modality)


def _here(catalogue: Catalogue, modality: str) -> list[str]:
    """Names of the real networks on this machine, the smallest first."""
    cards = [c for c in catalogue.find(modality=modality, here=True) if not c.name.startswith("toy/")]
    return [c.name for c in sorted(cards, key=lambda card: (card.parameters, card.name))]


def _starter(catalogue: Catalogue, modality: str) -> str:
    starter = STARTERS[modality]
    if catalogue.card(starter).weights.here:
        return starter
    here = _here(catalogue, modality)
    if here:
        return here[0]
    raise NotInCatalogue(
        f"no pretrained network for {words_of(modality).many} is on this machine. Install the starter network with: "
        f"{catalogue.card(starter).weights.how_to_get}; or name one with --backbone "
        "('headstart models' lists them), with --weights FILE for a checkpoint you have."
    )


def network_words(card: BackboneCard) -> str:
    """'toy/conv'; 'toy/conv (test_resnet, up to layer2)' where its structure was changed."""
    return f"{card.name} ({card.architecture})" if "," in card.architecture else card.name
