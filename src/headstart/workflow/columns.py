"""Which network on the columns of a table, told by cross-validation on the rows that learn."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from headstart.adapt.heads.choose import Chosen
from headstart.adapt.heads.head import LinearHead
from headstart.adapt.heads.perceptron import Perceptron
from headstart.base.progress import QUIET, Observer, track
from headstart.data.cells import in_words
from headstart.data.rows import Row, column_of
from headstart.evaluation.baselines import compare
from headstart.inputs.columns import Column, encode, learn_columns
from headstart.inputs.spec import VectorSpec
from headstart.records.columns import ColumnRecord, NetworkTrial
from headstart.records.estimate import Estimate
from headstart.records.evaluation import Baseline
from headstart.records.predictions import Predictions
from headstart.tasks.regression import Regression
from headstart.tasks.task import Task
from headstart.workflow.judge import Contest, Known, Rules, choose_head, judgement

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone

SKEWED = 1.0  # skewness of a positive target from which its logarithm is tried
EXAMPLES = 3  # names of a category that the record shows
FINER = {"classification": "log_loss", "multilabel": "log_loss", "regression": "mae"}
FAMILIES = ("ridge", "lda", "logistic")  # heads that make sense on columns
FEWEST_ROWS = 300  # below it hidden layers are not tried unless asked for by name


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network on columns and what its head learns; hidden: layers that learn between the two, None without."""

    backbone: Backbone
    task: Task
    hidden: Perceptron | None = None


@dataclass(frozen=True, eq=False)
class OnColumns:
    """A network on columns with its head, chosen on some rows. held_out: of those rows, by models without them."""

    backbone: Backbone
    task: Task
    chosen: Chosen
    held_out: Predictions
    seconds: float

    def judge(self, rows: Sequence[Row], known: Known) -> tuple[Predictions, Predictions]:
        """What it says of other rows, with the temperature and without it; known: their targets and names."""
        spec = self.backbone.card.input
        assert isinstance(spec, VectorSpec), "a network on columns"
        return self.of_encoded(encode(rows, spec.columns), known)

    def of_encoded(self, X: np.ndarray, known: Known) -> tuple[Predictions, Predictions]:
        """The same for rows that are encoded already, (n, E)."""
        from headstart.features.extract import through_network

        logits = self.chosen.head.logits(through_network(self.backbone, X))
        made = judgement(replace(known, task=self.task), logits / self.chosen.temperature, logits)
        return made.after, made.before


def choose_network(
    rows: Sequence[Row],
    known: Known,
    names: Sequence[str],
    rules: Rules,
    *,
    target: str = "",
    observer: Observer = QUIET,
) -> tuple[OnColumns, tuple[NetworkTrial, ...], str]:
    """(the one to keep, the table of what was tried, the reason in words).

    rows: that learn; everything is measured on them alone.  known: their targets.  names: networks to try.
    The simplest is kept of those that are not shown to be worse than the best (paired over the same held-out rows),
    neither by the score that decides nor by a finer one.
    """
    candidates = _candidates(rows, known, names, rules.seed, target)
    plainly = replace(rules, balance="none")  # a balanced head trades the score that they are compared by
    tried = [
        _tried(candidate, rows, known, plainly)
        for candidate in track(candidates, observer, "networks on the columns", unit="networks")
    ]
    best = _best(tried, rules)
    beside = [_compared(best, one, rules) for one in tried]
    # candidates stand from simple to rich
    simplest = next(one for one, b in zip(tried, beside, strict=True) if not _is_worse(best, one, b, rules))
    # A logarithm is no richer than what it is taken of: on one network the better of the two is kept.
    kept = tried.index(_best([one for one in tried if one.backbone is simplest.backbone], rules))
    trials = tuple(_trial(one, b, is_kept=i == kept) for i, (one, b) in enumerate(zip(tried, beside, strict=True)))
    reason = _reason(trials, kept, tried.index(best), beside[kept].reference)
    if rules.balance == "none" or known.task.name != "classification":
        return tried[kept], trials, reason
    return _tried(candidates[kept], rows, known, rules), trials, reason


def tasks_for(known: Known) -> list[Task]:
    """The task itself; for targets above 0 with a long tail also with their logarithm learnt."""
    task = known.task
    if not isinstance(task, Regression) or task.link != "identity":
        return [task]
    y = known.y.reshape(len(known), -1)
    spread = y.std(axis=0)
    if (y <= 0).any() or not (spread > 0).all():
        return [task]
    skewness = (((y - y.mean(axis=0)) / spread) ** 3).mean(axis=0)
    return [task, replace(task, link="log")] if skewness.min() > SKEWED else [task]


def _candidates(rows: Sequence[Row], known: Known, names: Sequence[str], seed: int, target: str) -> list[Candidate]:
    """From simple to rich; those that are different on these rows: without numbers there is nothing to bend."""
    from headstart.backbones.columns import LEARNT, columns_backbone

    columns = learn_columns(rows)
    X = encode(rows, columns)
    tasks = tasks_for(known)
    made: dict[int, Backbone] = {}
    for name in names:
        if name != LEARNT:
            backbone = columns_backbone(name, columns, X, seed=seed, target=target)
            made.setdefault(backbone.card.feature_dim, backbone)
    found = [Candidate(backbone, task) for backbone in made.values() for task in tasks]
    if LEARNT in names and (len(rows) >= FEWEST_ROWS or not found):
        # A logarithm alone where there may be one: each training costs as much as all closed forms together.
        curves = columns_backbone("columns/curves", columns, X, seed=seed, target=target)
        found.append(Candidate(curves, tasks[-1], Perceptron(seed)))
    return found


def _tried(candidate: Candidate, rows: Sequence[Row], known: Known, rules: Rules) -> OnColumns:
    from headstart.features.extract import features_of_rows

    started = time.perf_counter()
    backbone, task, hidden = candidate.backbone, candidate.task, candidate.hidden
    seen = replace(known, X=features_of_rows(backbone, rows), task=task)
    families = rules.families or tuple(f for f in FAMILIES if f == "ridge" or task.name != "regression")
    fair = replace(rules, families=families if hidden is None else ())
    chosen = _unbiased(choose_head(seen, fair, extra=hidden), seen)
    if hidden is not None:
        backbone, head = with_hidden_layers(backbone, chosen.head)
        chosen = replace(chosen, head=head)
    judged = np.flatnonzero(np.isfinite(chosen.oof_logits).all(axis=1))
    logits = chosen.oof_logits[judged]
    held_out = judgement(seen.take(judged), logits / chosen.temperature, logits).after
    return OnColumns(backbone, task, chosen, held_out, time.perf_counter() - started)


def with_hidden_layers(backbone: Backbone, head: LinearHead) -> tuple[Backbone, LinearHead]:
    """The same answers from a network that holds the hidden layers of the head, and a head that is one layer."""
    import torch
    from torch import nn

    from headstart.adapt.grown import Growth, grown
    from headstart.backbones.backbone import Backbone, record_of
    from headstart.backbones.columns import LEARNT

    layers = []
    for weight, bias in head.hidden:
        layer = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0])
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
        layers.append(layer)
    growth = Growth((), backbone.card.feature_dim, tuple(layer.out_features for layer in layers))
    deeper = grown(backbone, copy.deepcopy(backbone.network), growth, layers)
    card = replace(deeper.card, name=LEARNT, trained_on="the training rows")
    made = Backbone(card, deeper.network, deeper.architecture, record_of(card, deeper.network, loader="columns"))
    return made, replace(head, hidden=())


def _unbiased(chosen: Chosen, known: Known) -> Chosen:
    """exp() of a mean logarithm is too small a mean: one factor, from held-out rows, mends that as well as can be."""
    task = known.task
    if not (isinstance(task, Regression) and task.link == "log"):
        return chosen
    judged = np.isfinite(chosen.oof_logits).all(axis=1)
    guess, y = task.decode(chosen.oof_logits[judged]), known.y.reshape(len(known), -1)[judged]
    factor = (guess * y).sum(axis=0) / np.maximum(np.square(guess).sum(axis=0), 1e-300)
    shift = np.log(np.clip(factor, 0.5, 2.0))
    return replace(chosen, head=chosen.head.shifted(shift), oof_logits=chosen.oof_logits + shift)


def _best(tried: Sequence[OnColumns], rules: Rules) -> OnColumns:
    """By the score on held-out rows; ties to the simpler."""
    best = tried[0]
    for one in tried[1:]:
        if _compared(best, one, rules).gain.value < 0:
            best = one
    return best


def _is_worse(best: OnColumns, one: OnColumns, beside: Baseline, rules: Rules) -> bool:
    """Whether it is shown that ``best`` is better: by the score that decides, or by one that sees more on these rows.

    Accuracy moves in whole rows, and a few far-off rows make most of an RMSE; on some thousand rows neither can tell
    networks apart that differ by the few percent that matter.
    """
    if beside.gain.low > 0:
        return True
    finer = replace(rules, metric=FINER[best.held_out.task])
    return _compared(best, one, finer).gain.low > 0


def _compared(best: OnColumns, one: OnColumns, rules: Rules) -> Baseline:
    """gain: how much better ``best`` is."""
    theirs = replace(one.held_out, task=best.held_out.task)
    return compare(
        best.held_out, theirs, key="network", what="", trained_on=len(theirs), metric=rules.metric, seed=rules.seed
    )


def _trial(one: OnColumns, beside: Baseline, *, is_kept: bool) -> NetworkTrial:
    gain = beside.gain
    worse = Estimate(-gain.value, -gain.high, -gain.low, gain.n, gain.level)
    return NetworkTrial(
        name=one.backbone.card.name,
        link=one.task.link if isinstance(one.task, Regression) else "",
        head=one.chosen.family,
        features=one.backbone.card.feature_dim,
        score=beside.score,
        difference=worse,
        seconds=round(one.seconds, 3),
        kept=is_kept,
    )


def _reason(trials: Sequence[NetworkTrial], kept: int, best: int, score: Estimate) -> str:
    name = named(trials[kept])
    if len(trials) == 1:
        return f"{name} is the only one that was tried."
    if kept == best:
        return f"{name} is the best on held-out rows, and no simpler one comes close enough."
    return (
        f"{name} cannot be told from the best on held-out rows, {named(trials[best])} ({score}), and it is the "
        "simplest such network."
    )


def named(trial: NetworkTrial) -> str:
    return f"{trial.name} with the logarithm of the target" if trial.link == "log" else trial.name


def few_labels(
    kept: OnColumns, rows: Sequence[Row], known: Known, train: np.ndarray, test: np.ndarray, rules: Rules
) -> Contest:
    """For the curve of few labels: the rows as the kept network sees them, and the kind of head it has.

    What is measured on columns without any target is measured on all training rows, as it would be by somebody who
    has many rows and few labels. Hidden layers have learnt from targets; beneath them the network has not.
    """
    from headstart.backbones.columns import LEARNT, columns_backbone
    from headstart.features.extract import features_of_rows

    backbone, family = kept.backbone, kept.chosen.family
    if backbone.card.name == LEARNT:
        spec = backbone.card.input
        assert isinstance(spec, VectorSpec), "a network on columns"
        X = encode([rows[i] for i in train], spec.columns)
        backbone, family = columns_backbone("columns/curves", spec.columns, X, seed=rules.seed), "ridge"
    seen = replace(known, X=features_of_rows(backbone, rows), task=kept.task)
    return Contest(seen, replace(rules, balance="none", families=(family,)), train, test)


# ---------------------------------------------------------------------------------------------------------- the judges


@dataclass(frozen=True, eq=False)
class Judge:
    """A model, and rows that it has not seen. at: their positions in all rows."""

    model: OnColumns
    at: np.ndarray


def averaged(judges: Sequence[Judge], rows: Sequence[Row], known: Known) -> tuple[Predictions, Predictions]:
    """Predictions of every judged row by the judge that has not seen it, with and without temperature."""
    parts = [judge.model.judge([rows[i] for i in judge.at], known.take(judge.at)) for judge in judges]
    order = np.argsort(np.concatenate([judge.at for judge in judges]), kind="stable")
    return joined([after for after, _ in parts], order), joined([before for _, before in parts], order)


def joined(parts: Sequence[Predictions], order: np.ndarray) -> Predictions:
    """Several predictions as one, its rows in this order."""
    first = parts[0]
    whole = Predictions(
        ids=np.concatenate([p.ids for p in parts]),
        scores=np.concatenate([p.scores for p in parts]),
        targets=np.concatenate([p.targets for p in parts if p.targets is not None]),
        labels=first.labels,
        task=first.task,
        logits=None if first.logits is None else np.concatenate([p.logits for p in parts if p.logits is not None]),
        groups=None if first.groups is None else np.concatenate([p.groups for p in parts if p.groups is not None]),
    )
    return whole.take(order)


# ------------------------------------------------------------------------------------------------------------ in words


def describe(column: Column, rows: Sequence[Row]) -> ColumnRecord:
    """A column as these rows fill it."""
    values = column_of(rows, column.name)
    if column.kind == "category":
        counts = Counter(v for v in values.tolist() if v)
        return ColumnRecord(
            column.name,
            column.kind,
            len(column.parts),
            int((values == "").sum()),
            len(counts),
            examples=tuple(name for name, _ in counts.most_common(EXAMPLES)),
        )
    known = values[~np.isnan(values)]
    ends = np.quantile(known, (0, 0.5, 1)).tolist() if len(known) else [np.nan] * 3
    low, middle, high = (in_words(v, column.kind) for v in ends)
    missing, values_held = int(np.isnan(values).sum()), len(np.unique(known))
    return ColumnRecord(column.name, column.kind, len(column.parts), missing, values_held, low, middle, high)
