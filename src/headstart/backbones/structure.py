"""What a user can change about the shape of a network; restructure.py carries it out. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from headstart.base.errors import PlanError, did_you_mean, shown

Pooling = Literal["avg", "max", "avgmax", "token"]
POOLINGS: tuple[str, ...] = get_args(Pooling)


@dataclass(frozen=True)
class Structure:
    """How the network is changed before anything is learnt; the defaults change nothing.

    cut_at: the last stage that is kept; those above it are removed, and its output is pooled.
    pooling: 'avg' or 'max' over places, 'avgmax' the mean of both, 'token' the class token; None: the network's own.
    channels: 3 as published; 1 for grey pictures: the first layer's weights are summed over colours, as timm does.
    """

    cut_at: str | None = None
    pooling: Pooling | None = None
    channels: int = 3

    def __post_init__(self) -> None:
        if self.pooling is not None and self.pooling not in POOLINGS:
            raise PlanError(
                f"PL70 no pooling '{shown(self.pooling)}'.{did_you_mean(self.pooling, POOLINGS)} "
                f"There are: {', '.join(POOLINGS)}."
            )
        if self.channels not in (1, 3):
            raise PlanError(
                f"PL71 channels is {shown(self.channels)}: pictures are decoded to red, green and blue, which are fed "
                "as they are (3) or as their luminance (1). Give --channels 1 for grey pictures, or leave it out."
            )

    @property
    def is_plain(self) -> bool:
        return self == Structure()

    @property
    def in_words(self) -> tuple[str, ...]:
        """'up to blocks.4', 'max pooling', '1 channel'; empty where nothing is changed."""
        words = [f"up to {self.cut_at}"] if self.cut_at is not None else []
        words += [f"{self.pooling} pooling"] if self.pooling is not None else []
        return (*words, *(["1 channel"] if self.channels == 1 else []))
