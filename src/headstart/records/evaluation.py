"""The judgement of a model, in numbers with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headstart.records.estimate import Estimate


@dataclass(frozen=True)
class ClassScores:
    """One class (or one label of a multi-label task) on the test examples."""

    name: str
    support: int
    precision: Estimate
    recall: Estimate
    f1: Estimate


@dataclass(frozen=True)
class Bin:
    """One bar of a reliability diagram: mean confidence, share correct, how many."""

    confidence: float
    accuracy: float
    n: int


@dataclass(frozen=True)
class Baseline:
    """Something simpler on the same test examples. gain: how much better the model is, paired (for errors such
    as RMSE: baseline minus model); p_value: exact McNemar.

    key: 'majority' | 'pixels' | 'random-network' | ….  trained_on / n: examples used (a subsample is said in ``what``).
    reference: the model's own score under the baseline's conditions (the headline itself unless a subsample was used).
    """

    key: str
    what: str
    score: Estimate
    reference: Estimate
    gain: Estimate
    p_value: float | None
    trained_on: int
    n: int


@dataclass(frozen=True)
class Verdict:
    """'Did transfer help?', or what else is asked: yes, no, or not shown, in one sentence with its numbers."""

    answer: str  # "yes" | "no" | "not shown"
    sentence: str
    against: str  # key of the baseline
    question: str = "Did transfer help?"


@dataclass(frozen=True)
class Example:
    """One test example with what was said about it."""

    id: str
    target: str
    predicted: str
    confidence: float
    loss: float


@dataclass(frozen=True)
class LabelIssue:
    """A training example whose label looks wrong (confident learning). margin < 0: the given label loses."""

    id: str
    given: str
    suggested: str
    margin: float


@dataclass(frozen=True)
class Evaluation:
    """metrics: name → Estimate; the first named in ``headline`` is the one people quote.

    confusion[i][j]: test examples of class i called j.
    ece_before/after and the bins: calibration before and after temperature scaling.
    """

    task: str
    labels: tuple[str, ...]
    n: int
    headline: str
    metrics: Mapping[str, Estimate]
    per_class: tuple[ClassScores, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    reliability_before: tuple[Bin, ...] = ()
    reliability_after: tuple[Bin, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    verdict: Verdict | None = None
    worst: tuple[Example, ...] = ()
    least_certain: tuple[Example, ...] = ()
    label_issues: tuple[LabelIssue, ...] = ()
    how: str = "held-out"  # as in SplitRecord
    resamples: int = 0
    seed: int = 0

    @property
    def score(self) -> Estimate:
        return self.metrics[self.headline]
