"""What it would have cost to do without transfer, in numbers with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headstart.records.estimate import Estimate
from headstart.records.evaluation import Baseline


@dataclass(frozen=True)
class Multiplier:
    """Labels without transfer over labels with it, at equal error. times: 6 means that a sixth of them is enough.

    least, most: what the measured curves can tell apart; a value or an end of the interval that stands there may lie
    beyond it.  kind: 'measured' between them; 'at least' at ``most``; 'at most' at ``least``; 'cannot be told' where
    the interval covers everything.
    """

    times: Estimate
    least: float
    most: float
    kind: Literal["measured", "at least", "at most", "cannot be told"]


@dataclass(frozen=True)
class Rival:
    """The same architecture without pretrained weights, on the same examples as the model.

    against: as any baseline; its key is 'scratch' (everything trained, as long as the adaptation took), 'scratch-long'
        (five times as long) or 'random-network' (frozen, with a head from all training rows).
    seconds, steps, epochs: of its training; 0 where only a head was fitted.
    worth: None where no curve, or none for these examples, could be measured.
    """

    against: Baseline
    seconds: float
    steps: int
    epochs: float
    worth: Multiplier | None


@dataclass(frozen=True)
class PowerLaw:
    """error = floor + drop · (n / most)^(−exponent), most being the largest n that was measured.

    error is 1 − score, or the score itself where less is better; floor, drop ≥ 0, so it never rises with n.
    """

    floor: float
    drop: float
    exponent: float
    most: float


@dataclass(frozen=True)
class CurvePoint:
    """n: labels learnt from (the mean, where parts differ).  score: mean over the seeds, on all judged examples."""

    share: float
    n: float
    score: Estimate


@dataclass(frozen=True)
class LearningCurve:
    """key: 'transfer' (the loaded network) or 'random-network'.  law: None for fewer than three sizes."""

    key: str
    what: str
    points: tuple[CurvePoint, ...]
    law: PowerLaw | None


@dataclass(frozen=True)
class ProofRecord:
    """Was transfer worth it, and how many labels?

    how: 'held-out' or 'cross-validation'.  n: examples that judged; learnt_from: examples behind one prediction.
    adaptation_s: seconds that the model took.  seeds: draws of the subsets.
    multiplier: the least of the rivals' worth, ``against`` is its key; None and '' without curves.
    negative: a sentence for each way in which transfer failed; empty where it did in none.
    """

    metric: str
    how: str
    n: int
    learnt_from: int
    adaptation_s: float
    rivals: tuple[Rival, ...]
    curves: tuple[LearningCurve, ...]
    seeds: int
    multiplier: Multiplier | None
    against: str
    negative: tuple[str, ...]
    sentence: str
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
