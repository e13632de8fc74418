"""What fewer labels would have given, and what more may give, in numbers with intervals."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.records.estimate import Estimate
from headstart.records.proof import PowerLaw

FOLLOWED = 5  # last points that the law goes through: the first ones lie on no power law


@dataclass(frozen=True)
class FewShotPoint:
    """most: examples of each class at most, or of all where the task has no classes; 0 at the point of all examples.

    n: examples learnt from (the mean, where parts differ).  score: mean over the draws, on all judged examples.
    """

    most: int
    n: float
    score: Estimate


@dataclass(frozen=True)
class FewShotRecord:
    """The score by the number of labels, from cached features; no network was run or trained for it.

    points: ascending; the last is all training examples.  draws: of the smaller sets, nested in each draw.
    head: kind of the heads.  n: judged examples.  is_by_class: sizes are of each class, not of all.
    law: through the points that stand for it, where it can be followed.
    doubled: what twice as many labels may give; None where that would be a guess, and ``why_not`` says why.
    """

    metric: str
    head: str
    draws: int
    n: int
    is_by_class: bool
    points: tuple[FewShotPoint, ...]
    law: PowerLaw | None
    doubled: Estimate | None
    why_not: str
    sentence: str
    seconds: float
