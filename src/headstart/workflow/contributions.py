"""What each column is worth to a model: how much it loses on rows it has not seen when that column is shuffled.

Permutation importance (Breiman 2001, section 10), on held-out rows, with paired intervals. It says what the model uses,
not what causes the target: of two columns that tell the same, each seems worth little.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from headstart.base.progress import QUIET, Observer, track
from headstart.base.seeds import stream
from headstart.data.rows import Frame, Row, column_of
from headstart.evaluation.intervals import Resamples, paired_difference
from headstart.evaluation.scores import LOWER_IS_BETTER, resampled, score
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
    whole = _said(judges, rows, known, None, 0, seed)
    assert whole.targets is not None, "judged rows have targets"
    drawn = Resamples(len(whole), resamples, seed, whole.groups)
    sign = -1 if metric in LOWER_IS_BETTER else 1
    value, spread = _scored(whole, metric, drawn)
    found = []
    names = list(rows[0].frame.kinds)[:MOST_COLUMNS]
    for name in track(names, observer, "what each column is worth", unit="columns"):
        parts = [_scored(_said(judges, rows, known, name, i, seed), metric, drawn) for i in range(SHUFFLES)]
        shuffled = float(np.mean([v for v, _ in parts]))
        theirs = np.mean([r for _, r in parts], axis=0)
        loss = paired_difference(
            sign * (value - shuffled), sign * spread, sign * theirs, n=len(whole), units=drawn.units
        )
        found.append(Contribution(name, loss))
    return tuple(sorted(found, key=lambda c: -c.loss.value))


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


def _said(
    judges: Sequence[Judge], rows: Sequence[Row], known: Known, shuffled: str | None, time: int, seed: int
) -> Predictions:
    """What the judges say of their rows, with one column shuffled among the rows of each."""
    parts = []
    for i, judge in enumerate(judges):
        theirs: list[Row] = [rows[at] for at in judge.at]
        if shuffled is not None:
            order = stream(seed, "shuffle", shuffled, time, i).permutation(len(theirs))
            theirs = list(_with_shuffled(theirs, shuffled, order))
        parts.append(judge.model.predict(theirs, known.take(judge.at)))
    return joined(parts, np.argsort(np.concatenate([judge.at for judge in judges]), kind="stable"))


def _with_shuffled(rows: Sequence[Row], name: str, order: np.ndarray) -> Iterator[Row]:
    frame = rows[0].frame
    columns = {n: column_of(rows, n) for n in frame.kinds}
    columns[name] = columns[name][order]
    made = Frame(columns, frame.kinds, frame.where, [str(i) for i in range(len(rows))])
    return (Row(made, i) for i in range(len(rows)))


def _scored(said: Predictions, metric: str, drawn: Resamples) -> tuple[float, np.ndarray]:
    assert said.targets is not None, "judged rows have targets"
    value = score(said.task, said.targets, said.scores, [metric])[metric][0]
    return float(value), resampled(said.task, said.targets, said.scores, [metric], drawn)[metric]
