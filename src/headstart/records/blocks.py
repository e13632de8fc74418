"""The blocks of a mixed table: what each holds, how it was embedded, and what the model loses without it."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.records.estimate import Estimate


@dataclass(frozen=True)
class BlockRecord:
    """One block.

    missing: usable rows that do not have it.  network, parameters, licence, trained_on: what made its ``width``
    features.  runner, seconds, from_cache, cut: of that pass, as in FeatureRecord; '' and 0 for columns.
    alone: the score of a head on this block only.  loss: what is lost when the block is left out and the head chosen
    and fitted anew on the others; paired, above 0 where the block is worth something.
    """

    name: str
    modality: str
    missing: int
    network: str
    parameters: int
    licence: str
    trained_on: str
    width: int
    alone: Estimate
    loss: Estimate
    runner: str = ""
    seconds: float = 0.0
    from_cache: int = 0
    cut: int = 0


@dataclass(frozen=True)
class BlocksRecord:
    """blocks.json. metric: the score of alone and loss.  rows: usable ones."""

    metric: str
    rows: int
    blocks: tuple[BlockRecord, ...]
