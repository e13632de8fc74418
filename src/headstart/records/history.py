"""What a training run did, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

StopReason = Literal["finished", "patience", "time", "failed"]


@dataclass(frozen=True)
class PhaseRecord:
    """A phase that was entered. first: step of the plan, from 0.  rates: stage → peak rate, as the plan asked for."""

    name: str
    first: int
    rates: Mapping[str, float]


@dataclass(frozen=True)
class StepRecord:
    """One update of the weights.

    phase: position in History.phases.  loss: mean over the batch, penalties included, before the update.
    norm: of all gradients together, before clipping.  share: of the peak rate, so that a stage learnt at
    phases[phase].rates[stage] · share.  seconds: training time so far, interruptions left out.
    """

    step: int
    phase: int
    loss: float
    norm: float
    share: float
    seconds: float


@dataclass(frozen=True)
class ValidationRecord:
    """step: updates made before it.  score: of the chosen metric.  best: better than all before it."""

    step: int
    score: float
    loss: float
    best: bool


@dataclass(frozen=True)
class History:
    """stopped_because: 'finished', 'patience' (no better validation for so long), 'time' (the limit was reached) or
    'failed' (it had learnt less than a constant answer knows, and was begun anew).

    planned: steps of the plan; len(steps) were made.  best_step: updates behind the weights that were kept.
    images_per_s: training alone, validations and checkpoints left out.  micro_batch: examples that went through the
    network together at the end; smaller than batch_size where memory did not suffice for a whole batch.
    """

    phases: tuple[PhaseRecord, ...]
    steps: tuple[StepRecord, ...]
    validations: tuple[ValidationRecord, ...]
    planned: int
    best_step: int
    stopped_because: StopReason
    batch_size: int
    micro_batch: int
    images_per_s: float
    seconds: float
