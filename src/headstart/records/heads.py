"""Which heads were tried on the features, and why one was kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headstart.records.estimate import Estimate


@dataclass(frozen=True)
class HeadTrial:
    """One head, judged by cross-validation on the training rows only.

    setting: chosen hyperparameters, e.g. {'lambda': 12.3}.  difference: paired, this head minus the best one.
    rank: simplicity; ties go to the lower.
    """

    name: str
    setting: Mapping[str, float | str]
    scores: Mapping[str, Estimate]
    difference: Estimate
    rank: int
    seconds: float
    linear: bool  # a linear layer on the features: can be saved into the network
    kept: bool = False


@dataclass(frozen=True)
class HeadRecord:
    """The table of what was tried.

    metric: the score that decided.  folds: how the cross-validation was made, in words.
    balance: 'none' | 'weights' | 'logit-adjust'; balance_reason says what decided.
    """

    metric: str
    folds: str
    n: int
    trials: tuple[HeadTrial, ...]
    chosen: str
    reason: str
    balance: str = "none"
    balance_reason: str = ""
    temperature: float = 1.0
    notes: tuple[str, ...] = field(default_factory=tuple)
