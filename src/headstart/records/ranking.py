"""Which network will serve this data best, how sure that is, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from headstart.records.estimate import Estimate

Status = Literal["recommended", "finalist", "kept", "dropped", "failed", "not fetched"]


@dataclass(frozen=True)
class RankedCandidate:
    """One network, or one layer of it.

    probe: left-out score of a ridge head on the rows of the last round it was in.  chance: to be in the top k.
    prior: z of how it fared elsewhere, NaN if nothing is known; prior_from: 'fine-tuned elsewhere', 'source accuracy',
    'own runs' or ''.  combined: 0 for the worst to 1 for the best of the candidates it was last compared with.
    tuned: after a short fine-tuning, on rows that it did not learn from.  scores: further ones by name.
    rounds: how many it was in.  why: the reason where it was dropped, failed or was not tried.
    weights_bytes: its parameters in memory, in float32.
    """

    model: str
    layer: str
    status: Status
    probe: Estimate | None = None
    chance: float = float("nan")
    prior: float = float("nan")
    prior_from: str = ""
    source_accuracy: float = float("nan")
    combined: float = float("nan")
    tuned: Estimate | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    rounds: int = 0
    runner: str = ""
    images_per_s: float = float("nan")
    parameters: int = 0
    weights_bytes: int = 0
    licence: str = ""
    here: bool = True
    how_to_get: str = ""
    why: str = ""

    @property
    def name(self) -> str:
        """Model, and the layer where it is not the network's own output."""
        return self.model if self.layer == "features" else f"{self.model} {self.layer}"

    @property
    def ms(self) -> float:
        """Milliseconds for one image."""
        return 1000 / self.images_per_s if self.images_per_s > 0 else float("nan")


@dataclass(frozen=True)
class RankRound:
    """One round of the race. n: examples.  entered, dropped: candidates."""

    n: int
    entered: int
    dropped: int
    seconds: float


@dataclass(frozen=True)
class RankCost:
    """Seconds. forward: the passes through the networks.  timing: choosing a runner for each.  of_model: by network.

    computed, from_cache: feature vectors of all networks and rounds.
    """

    looking: float
    loading: float
    timing: float
    forward: float
    scoring: float
    tuning: float
    total: float
    computed: int
    from_cache: int
    of_model: Mapping[str, float]


@dataclass(frozen=True)
class RankRecord:
    """ranking.json. candidates: best first.  score: what ``probe`` is.  k: of the chance.  split: who was looked at.

    learning, sealed: rows that the ranking could draw from, and those that it left alone.  same_split: fit with this
    seed will seal the same rows, whichever network it takes.  budget_s: None without a limit.
    """

    schema: int
    command: str
    data: str
    data_fingerprint: str
    task: str
    score: str
    k: int
    seed: int
    created: str
    learning: int
    sealed: int
    same_split: bool
    split: str
    candidates: tuple[RankedCandidate, ...]
    rounds: tuple[RankRound, ...]
    recommended: str
    sentence: str
    budget_s: float | None
    cost: RankCost
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    notes: tuple[str, ...] = ()
    modality: str = "image"
