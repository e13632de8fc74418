"""What 1, 2, 4, 8 … examples of each class would have given, and whether twice as many may pay.

Heads are fitted to nested parts of the training examples, on the features that are there; the examples that judged the
model judge them, too. So the curve costs no pass of a network, and says what ``fit --examples-per-class`` would say.

What lies beyond is told only where the curve has shown that it can foretell: fitted without its last point it must meet
that point, within the interval of their paired difference.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headstart.adapt.heads.head import LinearHead
from headstart.adapt.heads.lda import ShrunkLDA
from headstart.adapt.heads.named import NamedMean
from headstart.adapt.heads.nearest_mean import NearestMean
from headstart.adapt.heads.ridge import RELATIVE_LAMBDAS, correct, mean_eigenvalue, path_on, squared
from headstart.adapt.heads.rotated import rotate
from headstart.adapt.heads.threads import blas_for
from headstart.base.progress import QUIET, Observer, Said, track
from headstart.base.seeds import number, stream
from headstart.data.split import folds
from headstart.evaluation.curves import FEWEST_SIZES, ahead, error_of, few_of_each, nested_subsets
from headstart.evaluation.intervals import Resamples, estimate, independent, wilson
from headstart.evaluation.scores import LOWER_IS_BETTER, resampled, score
from headstart.records.estimate import Estimate
from headstart.records.few_shot import FOLLOWED, FewShotPoint, FewShotRecord
from headstart.records.predictions import Predictions
from headstart.records.proof import PowerLaw
from headstart.workflow.judge import Contest, Known, judgement

DRAWS = 5
MOST_ROWS = 1024  # examples of the largest part; beyond it only the model itself stands in the curve
FEWEST = 16  # examples of the smallest part where there are no classes
RESAMPLES = 300
OF_PROBABILITIES = ("log_loss", "brier")  # of the small heads nothing is calibrated
NEARLY_ALL = 0.95  # of all examples; a part beyond that says nothing of its own
STAND_INS = {"logistic": "ridge"}  # in closed form, and as good where examples are few


@dataclass(frozen=True, eq=False)
class _Part:
    """What heads from parts of one size say of the judged examples. most: of each class.  n: mean of their sizes."""

    most: int
    n: float
    said: Sequence[Predictions]


def few_shot(
    model: Predictions, contest: Contest, *, names: np.ndarray | None = None, observer: Observer = QUIET
) -> FewShotRecord | None:
    """The curve from few labels to all of them; None where there is nothing between.

    model: what the head from all training examples says of the judged ones.  contest: all usable examples as the
    frozen network sees them, who learns and who judges, and rules that name one family of heads.
    names: (K, D) directions of the class names, for the head that learns from them, too.
    """
    began = time.monotonic()
    family = (contest.rules.families or ("ridge",))[0]
    head = STAND_INS.get(family, family)
    wanted = contest.rules.metric or contest.known.task.headline
    metric = contest.known.task.headline if wanted in OF_PROBABILITIES else wanted
    with blas_for(0):  # hundreds of small systems: threads would wait for each other
        grown = _grown(contest, head, names, observer)
    if not grown:
        return None
    parts = [*grown, _Part(0, float(contest.learnt_from), [model])]
    scores = _Scores.of(metric, parts, contest.rules.seed)
    points = tuple(FewShotPoint(p.most, p.n, scores.point(i)) for i, p in enumerate(parts))
    doubled, law, why_not = _beyond(scores, np.array([p.n for p in parts]))
    record = FewShotRecord(
        metric=metric,
        head=head,
        draws=DRAWS,
        n=len(model),
        is_by_class=contest.known.task.name == "classification",
        points=points,
        law=law,
        doubled=doubled,
        why_not=why_not,
        sentence=_sentence(metric, points, doubled, contest.known.task.name == "classification"),
        seconds=time.monotonic() - began,
    )
    observer(Said(record.sentence, "result"))
    return record


# --- heads from few examples


def _grown(contest: Contest, head: str, names: np.ndarray | None, observer: Observer) -> list[_Part]:
    """From the smallest part to the largest below MOST_ROWS and below all; parts without a class are none."""
    known, divided = contest.known, _divided(contest)
    sizes = _sizes(known, divided[0][0])
    logits = np.full((len(sizes), DRAWS, len(known), known.task.outputs), np.nan)
    rounds = [(draw, train, rest) for draw in range(DRAWS) for train, rest in divided]

    def fill(draw: int, train: np.ndarray, rest: np.ndarray) -> list[int]:
        """The draw's own part of ``logits``; how many examples each size gave."""
        learnt = known.take(train)
        subsets = _subsets(learnt, sizes, number(contest.rules.seed, "few-shot", draw))
        for i, rows in enumerate(subsets):
            if 2 <= len(rows) <= MOST_ROWS:
                logits[i, draw, rest] = small_head(learnt.take(rows), head, names).logits(known.X[rest])
        return [len(rows) for rows in subsets]

    # Side by side: single-threaded numpy that lets go of the interpreter.
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        filled = pool.map(fill, *zip(*rounds, strict=True))
        given = list(track(filled, observer, "what fewer labels give", total=len(rounds), unit="draws"))
    counts = np.mean(given, axis=0)
    judged = contest.test if not contest.by_folds else np.sort(np.concatenate([rest for _, rest in divided]))
    seen = known.take(judged)
    return [
        _Part(sizes[i], float(counts[i]), [judgement(seen, z[judged], z[judged]).after for z in logits[i]])
        for i in range(len(sizes))
        if np.isfinite(logits[i][:, judged]).all() and counts[i] < NEARLY_ALL * contest.learnt_from
    ]


def _divided(contest: Contest) -> Sequence[tuple[np.ndarray, np.ndarray]]:
    """(learn, judge) positions: the division, or the folds by which the model was judged."""
    if not contest.by_folds:
        return [(contest.train, contest.test)]
    known, rules = contest.known, contest.rules
    return folds(known.task.strata(known.y), known.groups, k=rules.folds, repeats=1, seed=rules.seed + 1)


def _sizes(known: Known, train: np.ndarray) -> list[int]:
    """1, 2, 4 … of each class, below what the largest has; without classes 16, 32, 64 … examples."""
    if known.task.name == "classification":
        first, most = 1, int(np.bincount(known.y[train]).max())
    else:
        first, most = FEWEST, len(train)
    return [first << i for i in range(32) if first << i < most]


def _subsets(learnt: Known, sizes: Sequence[int], seed: int) -> list[np.ndarray]:
    if learnt.task.name == "classification":
        return few_of_each(learnt.y, learnt.groups, sizes, seed=seed)
    shares = [size / len(learnt) for size in sizes]
    return nested_subsets(learnt.task.strata(learnt.y), learnt.groups, shares=shares, seed=seed)


def small_head(known: Known, head: str, names: np.ndarray | None = None) -> LinearHead:
    """A head of the named kind that chooses what it must by leave-one-out.

    Where most classes have a single example there is no spread within them to learn: the nearest class mean then.
    Examples that the network cannot tell apart, such as two texts without a known word, teach only what is usual.
    """
    task = known.task
    if (known.X == known.X[0]).all():
        usual = task.regress_on(known.y).reshape(len(known), -1).mean(axis=0)
        return LinearHead(np.zeros((len(usual), known.X.shape[1])), usual)
    rotated = rotate(known.X)
    if head == NamedMean().name:
        return NamedMean(names).fit(rotated, known.y, task, {})
    if task.name == "classification" and (head == "nearest-mean" or len(known) < 2 * len(np.unique(known.y))):
        return NearestMean().fit(rotated, known.y, task, {})
    if head == "lda":
        return ShrunkLDA().fit(rotated, known.y, task, {})
    right = correct if task.name == "classification" else squared
    penalties = RELATIVE_LAMBDAS * mean_eigenvalue(rotated)
    return path_on(rotated, task.regress_on(known.y), penalties, None, right).solution()


# --- numbers


@dataclass(frozen=True, eq=False)
class _Scores:
    """values: (P,) means over the draws.  drawn: (P, R) on shared resamples of judged examples and of draws."""

    metric: str
    values: np.ndarray
    drawn: np.ndarray
    judged: Predictions
    units: int

    @classmethod
    def of(cls, metric: str, parts: Sequence[_Part], seed: int) -> _Scores:
        judged = parts[-1].said[0]
        resamples = Resamples(len(judged), RESAMPLES, seed, judged.groups)
        again = stream(seed, "few-shot draws").integers(0, DRAWS, (RESAMPLES, DRAWS))
        values, drawn = [], []
        for part in parts:
            found = [_score(metric, said, resamples) for said in part.said]
            each = np.array([drawn for _, drawn in found])  # (draws, R); all examples are drawn in one way only
            values.append(np.mean([value for value, _ in found]))
            drawn.append(np.take_along_axis(each, again.T % len(each), axis=0).mean(axis=0))
        return cls(metric, np.array(values), np.array(drawn), judged, resamples.units)

    def point(self, i: int) -> Estimate:
        """A share of right answers is no surer than Wilson's interval."""
        n = len(self.judged)
        found = estimate(float(self.values[i]), self.drawn[i], n=n, units=self.units)
        if self.metric != "accuracy" or not independent(self.judged.groups):
            return found
        low, high = wilson(self.values[i] * n, n)
        return replace(found, low=min(low, found.low), high=max(high, found.high))


def _score(metric: str, said: Predictions, resamples: Resamples) -> tuple[float, np.ndarray]:
    assert said.targets is not None, "judged examples have targets"
    value = score(said.task, said.targets, said.scores, [metric])[metric][0]
    return float(value), resampled(said.task, said.targets, said.scores, [metric], resamples)[metric]


def _beyond(scores: _Scores, n: np.ndarray) -> tuple[Estimate | None, PowerLaw | None, str]:
    """(the score with twice as many labels, the law, why it is not told)."""
    errors, drawn = error_of(scores.metric, scores.values), error_of(scores.metric, scores.drawn)
    fine = np.isfinite(drawn).all(axis=0)
    if len(n) <= FEWEST_SIZES or not np.isfinite(errors).all() or not fine.any():
        return None, None, f"{len(n)} sizes are too few to see a law in them"
    errors, drawn, n = errors[-FOLLOWED:], drawn[-FOLLOWED:, fine], n[-FOLLOWED:]
    foretold, foretold_drawn, _ = ahead(n[:-1], errors[:-1], drawn[:-1], to=n[-1])
    off = estimate(foretold - errors[-1], foretold_drawn - drawn[-1], n=len(scores.judged), units=scores.units)
    if off.excludes_zero:
        there, here = _as_score(scores.metric, foretold), _as_score(scores.metric, errors[-1])
        why = f"from {n[-2]:.0f} labels the curve foretells {there:.3f} for {n[-1]:.0f}, which give {here:.3f}"
        return None, None, f"{why}: it cannot be followed further"
    error, error_drawn, law = ahead(n, errors, drawn, to=2 * n[-1])
    value, values = _as_score(scores.metric, error), _as_score(scores.metric, error_drawn)
    return estimate(value, values, n=len(scores.judged), units=scores.units), law.first(), ""


def _as_score(metric: str, error: Any) -> Any:
    return error if metric in LOWER_IS_BETTER else 1 - error


# --- in words


def _sentence(metric: str, points: Sequence[FewShotPoint], doubled: Estimate | None, is_by_class: bool) -> str:
    name = metric.replace("_", "-").replace("rmse", "RMSE").replace("mae", "MAE")
    few = [p for p in points[:-1] if p.most in (1, 8, 64)] or points[:1]
    each = " of each class" if is_by_class else ""
    said = [f"{p.score.value:.3f} from {p.most}{each if p is few[0] else ''}" for p in few]
    last = points[-1]
    now = f"{name} is {', '.join(said)}, and {last.score.value:.3f} from all {last.n:,.0f} labels"
    if doubled is None:
        return f"{now}."
    return f"{now}; twice as many may give {doubled.value:.3f} [{doubled.low:.3f}, {doubled.high:.3f}]."
