"""How examples of one modality reach a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from headstart.inputs.prepared import Prepared


class Feed(Protocol):
    """Made for one backbone.

    window: how many examples are sorted by length before they are cut into batches; None where all have one shape.
    at_least: the sides that JPEGs may not be shrunk below twice of; None where that means nothing.
    timed: examples that tell how fast a runner is.
    versions: packages whose version decides what ``prepare`` gives.
    """

    window: int | None
    at_least: int | None
    timed: int
    versions: tuple[str, ...]

    def prepare(self, values: Sequence[Any]) -> list[Prepared]:
        """Decoded examples (as the modality's look gives them) as this network wants them. Called from threads."""
        ...

    def nothing(self) -> Prepared:
        """A plain example for timing where a dataset has none that can be used."""
        ...
