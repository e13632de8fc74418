"""What each column is worth to a model: how much it loses on rows it has not seen when that column is shuffled.

Permutation importance (Breiman 2001, section 10), on held-out rows, with paired intervals. It says what the model uses,
not what causes the target: of two columns that tell the same, each seems worth little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from headstart.base.progress import QUIET, Observer, track
from headstart.base.seeds import stream
from headstart.data.rows import Row
from headstart.evaluation.intervals import Resamples, paired_difference
from headstart.evaluation.scores import LOWER_IS_BETTER, score
from headstart.inputs.columns import encode, places_of
from headstart.inputs.spec import VectorSpec
from headstart.records.columns import Contribution
from headstart.records.predictions import Predictions
from headstart.workflow.columns import Judge, joined
from headstart.workflow.judge import Known

SHUFFLES = 3
MOST_COLUMNS = 60  # beyond that only as many are shuffled, the first in the table
MOST_ROWS = 2000  # judged rows that are enough for it


def contributions(
    judges: Sequence[Judge],
    rows: Sequence[Row],
    known: Known,
    *,
    metric: str,
    seed: int,
    resamples: int,
    observer: Observer = QUIET,
) -> tuple[Contribution, ...]:
    """The largest first. judges: models with the rows they have not seen; metric: what the loss is measured in."""
    judges = _fewer(judges, seed)
    order = np.argsort(np.concatenate([judge.at for judge in judges]), kind="stable")
    seen = [_Seen(judge, rows, known) for judge in judges]
    whole = joined([one.said(one.X) for one in seen], order)
    assert whole.targets is not None, "judged rows have targets"
    drawn = Resamples(len(whole), resamples, seed, whole.groups)
    weights = drawn.matrix()  # drawn once: drawing costs more than scoring
    sign = -1 if metric in LOWER_IS_BETTER else 1
    value, spread = _scored(whole, metric, weights)
    found = []
    names = list(rows[0].frame.kinds)[:MOST_COLUMNS]
    for name in track(names, observer, "what each column is worth", unit="columns"):
        parts = [
            _scored(
                joined([one.shuffled(name, stream(seed, "shuffle", name, i)) for one in seen], order), metric, weights
            )
            for i in range(SHUFFLES)
        ]
        shuffled = float(np.mean([v for v, _ in parts]))
        theirs = np.mean([r for _, r in parts], axis=0)
        loss = paired_difference(
            sign * (value - shuffled), sign * spread, sign * theirs, n=len(whole), units=drawn.units
        )
        found.append(Contribution(name, loss))
    return tuple(sorted(found, key=lambda c: -c.loss.value))


class _Seen:
    """A judge's rows, encoded once: to shuffle a column is to shuffle its parts."""

    def __init__(self, judge: Judge, rows: Sequence[Row], known: Known) -> None:
        spec = judge.model.backbone.card.input
        assert isinstance(spec, VectorSpec), "a model on columns"
        self.model, self.known = judge.model, known.take(judge.at)
        self.places = places_of(spec.columns)
        self.X = encode([rows[at] for at in judge.at], spec.columns)

    def shuffled(self, name: str, rng: np.random.Generator) -> Predictions:
        X, at = self.X.copy(), self.places[name]
        X[:, at] = X[rng.permutation(len(X)), at]
        return self.said(X)

    def said(self, X: np.ndarray) -> Predictions:
        return self.model.of_encoded(X, self.known)[0]


def _fewer(judges: Sequence[Judge], seed: int) -> list[Judge]:
    """The same judges with at most MOST_ROWS rows in all."""
    total = sum(len(judge.at) for judge in judges)
    if total <= MOST_ROWS:
        return list(judges)
    share = MOST_ROWS / total
    chosen = []
    for i, judge in enumerate(judges):
        picked = stream(seed, "contributions", i).permutation(len(judge.at))[: max(1, round(share * len(judge.at)))]
        chosen.append(replace(judge, at=np.sort(judge.at[picked])))
    return chosen


def _scored(said: Predictions, metric: str, weights: np.ndarray) -> tuple[float, np.ndarray]:
    assert said.targets is not None, "judged rows have targets"
    value = score(said.task, said.targets, said.scores, [metric])[metric][0]
    return float(value), score(said.task, said.targets, said.scores, [metric], weights)[metric]
