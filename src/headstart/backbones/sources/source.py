"""What a source of backbones must answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from headstart.backbones.card import BackboneCard
from headstart.base.errors import DataError, NotInCatalogue, did_you_mean, shown
from headstart.inputs.spec import Fit, ImageSpec

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

    def card(self, name: str, *, offline: bool = False) -> BackboneCard:
        """The card of a name that starts with ours but is not listed; else NotInCatalogue. May import the library.

        offline: nothing may be fetched for it.
        """
        ...

    def load(self, card: BackboneCard, request: Request) -> Backbone:
        """The network with its weights, in eval mode."""
        ...


def not_in_catalogue(name: str, options: Iterable[str]) -> NotInCatalogue:
    return NotInCatalogue(
        f"no backbone '{shown(name)}'.{did_you_mean(name, options)}\nList them with: headstart models"
    )


def checked_spec(*, size: Any, mean: Any, std: Any, crop: Any, fit: Fit, interpolation: Any, where: str) -> ImageSpec:
    """An ImageSpec from values that somebody's file holds; DataError names the one that makes no sense."""
    if type(size) is not int or not 1 <= size <= 4096:
        raise DataError(f"{where}: a picture of '{shown(size)}' pixels; only square RGB pictures are read.")
    if not _is_triple(mean) or not _is_triple(std) or min(std) <= 0:
        raise DataError(f"{where}: mean '{shown(mean)}' and std '{shown(std)}' are not three numbers, std above 0.")
    if not isinstance(crop, int | float) or not 0 < crop <= 1:
        raise DataError(f"{where}: crop_pct '{shown(crop)}' is not a number above 0 and at most 1.")
    if interpolation not in ("bilinear", "bicubic"):
        raise DataError(f"{where}: resizing by '{shown(interpolation)}'; only bilinear and bicubic are done here.")
    red, green, blue = (float(v) for v in mean)
    r, g, b = (float(v) for v in std)
    return ImageSpec(size, (red, green, blue), (r, g, b), float(crop), fit, interpolation)


def _is_triple(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(isinstance(v, int | float) for v in value)
