"""How far the fit climbed beyond the frozen probe, and why it stopped there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headstart.records.estimate import Estimate
from headstart.records.history import History


@dataclass(frozen=True)
class Candidate:
    """One way to fine-tune in the screening, after ``steps``. loss: on rows it did not learn from.

    factor: times the strategy's default rates.  dropped: in this round or a later one; one candidate was not.
    """

    name: str
    factor: float
    steps: int
    loss: float
    score: float
    seconds: float
    dropped: bool


@dataclass(frozen=True)
class Rung:
    """One rung: what was tried, what it scored on rows it had not learnt from, and whether it was kept.

    score: of the deciding metric; n is in it.  gain: this score minus that of the best rung
    below, paired; for errors such as RMSE less is better.  interpolation: share of the
    tuned weights in what was kept of this rung, 1 where nothing was mixed in (WiSE-FT).  plan: as the value it is.
    finer: the gain by the score that was the evidence, where the deciding one moves in whole rows (Brier score for
    accuracy; less is better); None where the deciding score was the evidence itself.
    """

    name: str
    what: str
    score: Estimate | None
    gain: Estimate | None
    kept: bool
    reason: str
    seconds: float = 0.0
    interpolation: float = 1.0
    plan: Mapping[str, Any] | None = None
    candidates: tuple[Candidate, ...] = ()
    finer: Estimate | None = None


@dataclass(frozen=True)
class LadderRecord:
    """metric: the score that decided.  folds: how rows were held back.  kept: name of the rung whose model was saved.

    stopped: why the climb ended, a sentence.  budget_s: given time, None without.  history: of the saved model's
    training, None for the probe.
    """

    metric: str
    folds: str
    rungs: tuple[Rung, ...]
    kept: str
    stopped: str
    budget_s: float | None
    seconds: float
    notes: tuple[str, ...] = ()
    history: History | None = None
