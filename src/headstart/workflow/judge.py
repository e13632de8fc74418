"""Who is predicted by whom: held-out rows by a head that learnt from the others, and the baselines beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from headstart.adapt.heads.choose import Chosen, choose
from headstart.adapt.heads.head import HeadFamily
from headstart.adapt.heads.layers import learnt_weights, mixture
from headstart.base.progress import QUIET, Observer, track
from headstart.base.seeds import stream
from headstart.data.split import folds
from headstart.evaluation.baselines import compare, majority
from headstart.evaluation.label_errors import label_issues
from headstart.records.evaluation import Baseline, LabelIssue
from headstart.records.predictions import Predictions
from headstart.tasks.task import Task

if TYPE_CHECKING:
    from headstart.features.extract import Features

ENOUGH_FOLDS = 1000  # training rows above which one round of cross-validation is steady enough
RANDOM_ROWS = (100, 200)  # rows on each side of a look at a random network, unless asked for in full


@dataclass(frozen=True, eq=False)
class Known:
    """Everything the judges may look at: features, encoded targets, groups, ids, all of the usable rows."""

    X: np.ndarray  # (n, D) float32
    y: np.ndarray
    groups: np.ndarray  # (n,) int64
    ids: np.ndarray  # (n,) object
    task: Task

    def take(self, rows: np.ndarray) -> Known:
        return Known(self.X[rows], self.y[rows], self.groups[rows], self.ids[rows], self.task)

    def seeing(self, X: np.ndarray) -> Known:
        """The same examples through other eyes."""
        return replace(self, X=X)

    def mixing(self, layers: np.ndarray, learning: np.ndarray, *, seed: int) -> Known:
        """The same examples by a mixture of ``layers`` (n, L, D), its weights learnt from the rows ``learning``."""
        weights = learnt_weights(
            layers[learning], self.y[learning], task=self.task, groups=self.groups[learning], seed=seed
        )
        return self.seeing(mixture(layers, weights))

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Rules:
    """How heads are chosen; the same for the model and for every baseline it is compared with."""

    folds: int
    metric: str | None
    balance: str
    seed: int
    families: tuple[str, ...] | None = None  # None: all
    names: np.ndarray | None = None  # (K, D) directions of the class names among these very features


def choose_head(known: Known, rules: Rules, observer: Observer = QUIET, *, extra: HeadFamily | None = None) -> Chosen:
    """The head for these rows, by (repeated) cross-validation inside them. extra: a kind of head beside the usual."""
    strata = known.task.strata(known.y)
    repeats = 1 if len(known) >= ENOUGH_FOLDS else 2 if len(known) >= ENOUGH_FOLDS // 4 else 4
    parts = folds(strata, known.groups, k=rules.folds, repeats=repeats, seed=rules.seed)
    return choose(
        known.X,
        known.y,
        task=known.task,
        folds=parts,
        groups=known.groups,
        metric=rules.metric,
        balance=rules.balance,
        seed=rules.seed,
        families=rules.families,
        names=rules.names,
        extra=extra,
        observer=observer,
    )


@dataclass(frozen=True, eq=False)
class Judgement:
    """Predictions for rows that the head did not see; ``before`` is without temperature."""

    after: Predictions
    before: Predictions


def doubted(learnt: Known, chosen: Chosen) -> tuple[LabelIssue, ...]:
    """Labels of the rows that learnt which the head, not having seen them, does not believe; of classes alone."""
    if learnt.task.name != "classification":
        return ()
    probabilities = learnt.task.decode(chosen.oof_logits / chosen.temperature)
    return label_issues(learnt.ids.tolist(), learnt.y, probabilities, learnt.task.labels)


def held_out(chosen: Chosen, known: Known) -> Judgement:
    """What the chosen head says of ``known``, which it must not have seen."""
    logits = chosen.head.logits(known.X)
    return judgement(known, logits / chosen.temperature, logits)


def cross_validated(
    known: Known,
    rules: Rules,
    *,
    repeats: int = 1,
    layers: np.ndarray | None = None,
    observer: Observer = QUIET,
    what: str = "judging by cross-validation",
) -> Judgement:
    """Every row predicted by a head that was chosen, and calibrated, without it (nested cross-validation).

    layers: (n, L, D) of which known.X is a mixture; its weights are learnt without the row, too.
    The rows of a class that has a single group are in every training part and so in no judgement; they are left out.
    """
    strata = known.task.strata(known.y)
    parts = folds(strata, known.groups, k=rules.folds, repeats=repeats, seed=rules.seed + 1)
    total = np.zeros((len(known), known.task.outputs))
    raw, count = np.zeros_like(total), np.zeros(len(known))
    for train, rest in track(parts, observer, what, unit="rounds"):
        seen = known if layers is None else known.mixing(layers, train, seed=rules.seed)
        chosen = choose_head(seen.take(train), rules)
        logits = chosen.head.logits(seen.X[rest])
        raw[rest] += logits
        total[rest] += logits / chosen.temperature
        count[rest] += 1
    judged = np.flatnonzero(count)
    known, share = known.take(judged), count[judged, None]
    return judgement(known, total[judged] / share, raw[judged] / share)


def judgement(known: Known, after: np.ndarray, before: np.ndarray) -> Judgement:
    """From (n, K) logits with and without the temperature."""
    return Judgement(_predictions(known, after), _predictions(known, before))


def _predictions(known: Known, logits: np.ndarray) -> Predictions:
    task = known.task
    return Predictions(
        ids=known.ids,
        scores=task.decode(logits),
        targets=known.y,
        labels=task.labels,
        task=task.name,
        logits=None if task.name == "regression" else logits,
        groups=known.groups,
    )


@dataclass(frozen=True, eq=False)
class Contest:
    """The rows on which baselines meet the model: ``train`` and ``test``, or everything by cross-validation."""

    known: Known
    rules: Rules
    train: np.ndarray
    test: np.ndarray  # empty: cross-validated

    @property
    def by_folds(self) -> bool:
        return len(self.test) == 0

    @property
    def learnt_from(self) -> int:
        """Rows behind one prediction."""
        return len(self.train) - (len(self.train) // self.rules.folds if self.by_folds else 0)

    def judge(self, X: np.ndarray) -> Predictions:
        """Predictions of the same rows from other features, with the same kind of head."""
        seen = self.known.seeing(X)
        if self.by_folds:
            return cross_validated(seen, self.rules).after
        return held_out(choose_head(seen.take(self.train), self.rules), seen.take(self.test)).after

    def part(self, train: np.ndarray, test: np.ndarray) -> Contest:
        """The contest on some of the rows; positions refer to the rows of this one."""
        rows = np.concatenate([train, test])
        return Contest(self.known.take(rows), self.rules, np.arange(len(train)), np.arange(len(train), len(rows)))


@dataclass(frozen=True, eq=False)
class Plain:
    """What a modality does without a network. key: of the Baseline.  judge: predictions for the rows of a contest."""

    key: str
    what: str
    judge: Callable[[Contest], Predictions]


def baselines(
    model: Predictions,
    contest: Contest,
    *,
    plain: Plain,
    random_features: Callable[[np.ndarray], Features] | None,
    full_random: bool,
    probe: Predictions | None = None,
) -> tuple[Baseline, ...]:
    """Majority, something plain and a random copy of the network, each paired with the model on the same rows.

    probe: what the frozen network with its head says of the same rows, where the model is a fine-tuned one.
    random_features: rows → their features by a randomly initialised copy; None: left out.
    """
    known = contest.known
    y_train = known.y if contest.by_folds else known.y[contest.train]
    metric, seed = contest.rules.metric, contest.rules.seed
    found = [
        compare(
            model,
            majority(y_train, model),
            key="majority",
            what=majority_words(known.task),
            trained_on=contest.learnt_from,
            metric=metric,
            seed=seed,
        )
    ]
    found.append(
        compare(
            model,
            plain.judge(contest),
            key=plain.key,
            what=plain.what,
            trained_on=contest.learnt_from,
            metric=metric,
            seed=seed,
        )
    )
    if random_features is not None:
        found.append(against_random(model, contest, lambda rows: random_features(rows).X, full_random))
    if probe is not None:
        what = "the same network frozen, with the head chosen on its features"
        found.append(
            compare(model, probe, key="probe", what=what, trained_on=contest.learnt_from, metric=metric, seed=seed)
        )
    return tuple(found)


def majority_words(task: Task) -> str:
    return {
        "classification": "always the most frequent class",
        "multilabel": "the share of each label, for every example",
        "regression": "the mean of the training targets, for every example",
    }[task.name]


def against_random(
    model: Predictions,
    contest: Contest,
    random_features: Callable[[np.ndarray], np.ndarray],
    full: bool,
    *,
    what: str = "the same head on the same network with random weights",
) -> Baseline:
    """The same architecture with random weights: what the structure alone is worth, without what it has learnt.

    Running it costs as much as the features did. On more than a few hundred examples both sides therefore learn from,
    and are judged on, the same subsample; the baseline's words say so. The larger subsample is looked at only where
    the smaller does not tell the two apart; the intervals are wide enough for two looks (Bonferroni).
    """
    known, metric, seed = contest.known, contest.rules.metric, contest.rules.seed
    small = len(known) <= 2 * max(RANDOM_ROWS)
    if contest.by_folds or full or small:
        rows = np.arange(len(known))
        theirs = contest.judge(random_features(rows))
        return compare(
            model, theirs, key="random-network", what=what, trained_on=contest.learnt_from, metric=metric, seed=seed
        )
    for most in RANDOM_ROWS:
        train = _some(contest.train, known, seed, "random-train", most)
        test = _some(contest.test, known, seed, "random-test", most)
        part = contest.part(train, test)
        X = random_features(np.concatenate([train, test]))
        ours, theirs = part.judge(part.known.X), part.judge(X)
        found = compare(
            ours,
            theirs,
            key="random-network",
            what=f"{what} (both on {len(train)} training and {len(test)} test examples)",
            trained_on=len(train),
            metric=metric,
            seed=seed,
            level=1 - 0.05 / len(RANDOM_ROWS),
        )
        if found.gain.excludes_zero:
            break
    return found


def _some(rows: np.ndarray, known: Known, seed: int, name: str, most: int) -> np.ndarray:
    """Up to ``most`` of ``rows``, each stratum in proportion and at least twice where it can be; less lies in more."""
    if len(rows) <= most:
        return rows
    strata = known.task.strata(known.y)[rows]
    order = stream(seed, name).permutation(len(rows))
    chosen: list[int] = []
    for stratum in np.unique(strata):
        members = order[strata[order] == stratum]
        chosen += members[: max(2, round(len(members) * most / len(rows)))].tolist()
    return rows[np.sort(chosen)]
