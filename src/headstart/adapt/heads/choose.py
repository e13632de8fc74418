"""Which head to keep: all are tried on the same held-out rows, and the simplest that is not shown to be worse wins."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from headstart.adapt.calibration import fit_temperature
from headstart.adapt.heads.folds import Folds
from headstart.adapt.heads.head import HeadFamily, LinearHead, OutOfFold, Setting
from headstart.adapt.heads.lda import ShrunkLDA
from headstart.adapt.heads.logistic import Logistic
from headstart.adapt.heads.named import NamedMean
from headstart.adapt.heads.nearest_mean import NearestMean
from headstart.adapt.heads.neighbours import MOST_ROWS, Neighbours
from headstart.adapt.heads.ridge import Ridge
from headstart.adapt.heads.rotated import Rotated, check_features, rotate
from headstart.adapt.heads.threads import blas_for
from headstart.base.errors import DataError, did_you_mean, listed, shown
from headstart.base.progress import QUIET, Observer, Said, track
from headstart.evaluation.intervals import Resamples, estimate, paired_difference
from headstart.evaluation.scores import LOWER_IS_BETTER, check_score, is_better, is_worse, resampled, score
from headstart.records.estimate import Estimate
from headstart.records.heads import HeadRecord, HeadTrial
from headstart.tasks.task import Task

HEADS: tuple[HeadFamily, ...] = (NamedMean(), NearestMean(), Ridge(), ShrunkLDA(), Logistic(), Neighbours())
BALANCES = ("auto", "none", "weights", "logit-adjust")
STRENGTHS = (0.5, 1.0)  # of logit adjustment: 1 is right for balanced accuracy, less is often right for macro-F1
UNEVEN = 1.5  # classes whose counts differ by less than this factor are left as they are
SHOWN = {
    "classification": ("accuracy", "macro_f1", "log_loss"),
    "multilabel": ("macro_f1", "micro_f1", "log_loss"),
    "regression": ("rmse", "mae", "r2"),
}


@dataclass(frozen=True)
class Chosen:
    """head: on raw features; its logits divided by ``temperature`` are calibrated. The temperature is not in it yet.

    oof_logits: (n, K) of the kept head by models that had not seen the row, on the scale of ``head`` (NaN: never held
    out).  Probabilities: ``task.decode(oof_logits / temperature)``.
    names: (K, D) directions of the class names, where the head counts them as examples.
    """

    record: HeadRecord
    head: LinearHead
    temperature: float
    oof_logits: np.ndarray
    family: str
    setting: Setting
    names: np.ndarray | None = None


@dataclass(frozen=True)
class Contest:
    """What all heads share: rows, folds, and the resamples on which they are compared."""

    X: np.ndarray
    y: np.ndarray
    task: Task
    folds: Folds
    metric: str
    rows: np.ndarray  # judged positions
    resamples: Resamples

    @property
    def sign(self) -> int:
        """−1 for errors, so that more is always better."""
        return -1 if self.metric in LOWER_IS_BETTER else 1


@dataclass(frozen=True)
class Entry:
    """One head after cross-validation. values and drawn: score name → value, and (R,) on the shared resamples."""

    family: HeadFamily
    setting: Setting
    logits: np.ndarray
    temperature: float
    values: Mapping[str, float]
    drawn: Mapping[str, np.ndarray]
    seconds: float


def choose(
    X: np.ndarray,
    y: np.ndarray,
    *,
    task: Task,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    groups: np.ndarray | None = None,
    metric: str | None = None,
    balance: str = "auto",
    seed: int = 0,
    observer: Observer = QUIET,
    resamples: int = 1000,
    families: Sequence[str] | None = None,
    names: np.ndarray | None = None,
    extra: HeadFamily | None = None,
) -> Chosen:
    """The head to keep for features X, with the table of what was tried.

    X: (n, D) finite floats; never changed.  y: as ``task.encode`` gives it.  folds: (train, held-out) positions, the
    same for all heads, possibly repeated.  groups: (n,) rows that belong together; folds must not part them.
    metric: the score that decides, the task's headline when not given.  families: names of the only ones to try.
    names: (K, D) directions of the class names in the space of the features, where a network has read them.
    extra: a kind of head beside those, or with families=() alone.

    Centre and scale are those of each fold's training rows. Settings (λ, C, k) are chosen inside each kind of head.
    Differences are paired over bootstrap resamples of the held-out rows; of all heads whose difference to the best may
    be 0, the simplest is kept. DataError for features with NaN, folds that leak, or an unknown metric or balance.
    """
    contest = _contest(X, y, task, folds, groups, metric, seed, resamples)
    _check_balance(balance)
    with blas_for(X.shape[0] * X.shape[1] * task.outputs):
        return _chosen(contest, balance, groups, families, names, extra, observer)


def _chosen(
    contest: Contest,
    balance: str,
    groups: np.ndarray | None,
    families: Sequence[str] | None,
    names: np.ndarray | None,
    extra: HeadFamily | None,
    observer: Observer,
) -> Chosen:
    task = contest.task
    weights = _class_weights(contest) if balance == "weights" else None
    rotated = rotate(contest.X, weights=weights)
    shift = _adjustment(contest) if balance == "logit-adjust" else None
    tried, notes = _families(contest, groups, families, names, extra)
    # Side by side: each family is single-threaded numpy that lets go of the interpreter.
    with ThreadPoolExecutor(min(len(tried), os.cpu_count() or 1)) as pool:
        judged = pool.map(lambda family: _enter(contest, family, rotated, shift), tried)
        entries = list(track(judged, observer, "heads", total=len(tried), unit="heads"))
    best = max(
        (e for e in entries if e.family.linear), key=lambda e: (contest.sign * e.values[contest.metric], -e.family.rank)
    )
    differences = {e.family.name: _difference(contest, e, best) for e in entries}
    kept = _simplest(contest, entries, differences)
    notes += _reference_notes(contest, entries, differences)
    trials = tuple(_trial(contest, e, differences[e.family.name], e is kept) for e in entries)
    reason = _reason(contest, kept, best, differences[kept.family.name])

    used, why = balance, "asked for"
    if balance == "auto" or task.name != "classification":
        kept, rotated, shift, used, why = _balanced(contest, kept, rotated)
    elif balance == "none":
        why = "asked for: classes keep the weight of their numbers"
    head = kept.family.fit(rotated, contest.y, task, kept.setting)
    if shift is not None:
        head = head.shifted(kept.temperature * shift)
    record = HeadRecord(
        metric=contest.metric,
        folds=contest.folds.in_words,
        n=len(contest.rows),
        trials=trials,
        chosen=kept.family.name,
        reason=reason,
        balance=used,
        balance_reason=why,
        temperature=kept.temperature,
        notes=tuple(notes),
    )
    observer(Said(f"{kept.family.name} head kept: {reason}", "result"))
    counted = names if isinstance(kept.family, NamedMean) else None
    return Chosen(record, head, kept.temperature, kept.logits, kept.family.name, kept.setting, counted)


# --- before the contest


def _contest(
    X: np.ndarray,
    y: np.ndarray,
    task: Task,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    groups: np.ndarray | None,
    metric: str | None,
    seed: int,
    resamples: int,
) -> Contest:
    check_features(X)
    if X.dtype != np.float64:
        X = X.astype(np.float32, copy=False)
    y = np.asarray(y)
    expected = (len(X),) if task.name == "classification" else (len(X), task.outputs)
    if y.shape != expected:
        raise DataError(f"heads: targets have shape {y.shape}, expected {expected} for {task.name}.")
    if groups is not None and np.asarray(groups).shape != (len(X),):
        raise DataError(f"heads: expected one group per row ({len(X)}), got shape {np.asarray(groups).shape}.")
    made = Folds.checked(len(X), folds)
    _check_groups(made, groups)
    rows = made.judged
    drawn = Resamples(len(rows), resamples, seed, None if groups is None else np.asarray(groups)[rows])
    return Contest(X, y, task, made, check_score(metric or task.headline, task.name), rows, drawn)


def _check_groups(folds: Folds, groups: np.ndarray | None) -> None:
    if groups is None:
        return
    for i, (train, val) in enumerate(folds.pairs):
        both = np.intersect1d(np.asarray(groups)[train], np.asarray(groups)[val])
        if len(both):
            raise DataError(
                f"cross-validation: {len(both)} groups stand on both sides of fold {i} (first: {shown(both[0])}). "
                "Scores would be too good: keep the rows of a group on one side."
            )


def _check_balance(balance: str) -> None:
    if balance not in BALANCES:
        known = ", ".join(BALANCES)
        raise DataError(f"no balance '{shown(balance)}'.{did_you_mean(balance, BALANCES)} There are: {known}.")


def _families(
    contest: Contest,
    groups: np.ndarray | None,
    only: Sequence[str] | None,
    names: np.ndarray | None,
    extra: HeadFamily | None,
) -> tuple[list[HeadFamily], list[str]]:
    """Those that suit the task, and what is said about those left out."""
    every = [NamedMean(names) if isinstance(f, NamedMean) else f for f in HEADS]
    if only is not None and names is None:  # other features, whose names nobody has read: the same head without them
        only = [NearestMean().name if name == NamedMean().name else name for name in only]
    notes, suiting = [], [f for f in every if f.fits(contest.task)]
    families = [f for f in suiting if only is None or f.name in only] + ([extra] if extra is not None else [])
    if not any(f.linear for f in families):
        known = ", ".join(f.name for f in suiting if f.linear)
        wanted = listed(only or [])
        raise DataError(f"heads: none of '{wanted}' can be saved for {contest.task.name}. At least one of: {known}.")
    if len(contest.X) > MOST_ROWS and not all(f.linear for f in families):
        families = [f for f in families if f.linear]
        notes.append(f"nearest neighbours were left out: {len(contest.X)} rows are more than {MOST_ROWS}")
    grouped = None if groups is None else np.asarray(groups)
    return [replace(f, groups=grouped) if isinstance(f, Ridge) else f for f in families], notes


# --- the contest


def _enter(contest: Contest, family: HeadFamily, rotated: Rotated, shift: np.ndarray | None) -> Entry:
    started = time.perf_counter()
    found = family.cross_validate(rotated, contest.y, contest.task, contest.folds)
    return _entry(contest, family, found, shift, time.perf_counter() - started)


def _entry(contest: Contest, family: HeadFamily, found: OutOfFold, shift: np.ndarray | None, seconds: float) -> Entry:
    """Calibrated and scored. shift: (K,) added to calibrated logits, so its size does not depend on the head."""
    task, rows = contest.task, contest.rows
    temperature = fit_temperature(found.logits[rows], contest.y[rows], task)
    logits = found.logits if shift is None else found.logits + temperature * shift
    scores = task.decode(logits[rows] / temperature)
    names = list(dict.fromkeys((contest.metric, *SHOWN[task.name])))
    values = {k: float(v[0]) for k, v in score(task.name, contest.y[rows], scores, names).items()}
    drawn = resampled(task.name, contest.y[rows], scores, names, contest.resamples)
    return Entry(family, found.setting, logits, temperature, values, drawn, seconds)


def _difference(contest: Contest, entry: Entry, best: Entry, metric: str | None = None) -> Estimate:
    """Score of ``entry`` minus that of ``best``, paired."""
    name = metric or contest.metric
    return paired_difference(
        entry.values[name] - best.values[name],
        entry.drawn[name],
        best.drawn[name],
        n=len(contest.rows),
        units=contest.resamples.units,
    )


def _simplest(contest: Contest, entries: Sequence[Entry], differences: Mapping[str, Estimate]) -> Entry:
    equal = [e for e in entries if e.family.linear and not is_worse(differences[e.family.name], contest.metric)]
    return min(equal, key=lambda e: e.family.rank)


def _trial(contest: Contest, entry: Entry, difference: Estimate, kept: bool) -> HeadTrial:
    n, units = len(contest.rows), contest.resamples.units
    scores = {k: estimate(v, entry.drawn[k], n=n, units=units) for k, v in entry.values.items()}
    family = entry.family
    return HeadTrial(
        family.name, dict(entry.setting), scores, difference, family.rank, entry.seconds, family.linear, kept
    )


# --- in words


def _reason(contest: Contest, kept: Entry, best: Entry, difference: Estimate) -> str:
    name = contest.metric.replace("_", "-")
    if kept is best:
        return (
            f"best {name} on held-out rows ({best.values[contest.metric]:.3f}), and no simpler head comes close enough."
        )
    return (
        f"its {name} on held-out rows ({kept.values[contest.metric]:.3f}) cannot be told from the best, "
        f"{best.family.name} ({best.values[contest.metric]:.3f}; difference {_interval(difference)}), "
        "and it is the simplest such head."
    )


def _reference_notes(contest: Contest, entries: Sequence[Entry], differences: Mapping[str, Estimate]) -> list[str]:
    """What heads say that cannot be saved as a layer."""
    notes = []
    for entry in entries:
        d = differences[entry.family.name]
        ahead = is_better(d, contest.metric)
        if not entry.family.linear and ahead:
            notes.append(
                f"{entry.family.name} would have won ({contest.metric.replace('_', '-')} {_interval(d)} "
                "against the best linear head) but cannot be saved as a layer: "
                "a straight boundary is not enough for these features, so fine-tuning may gain."
            )
    return notes


def _interval(d: Estimate) -> str:
    return f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]"


# --- uneven classes


def _class_weights(contest: Contest) -> np.ndarray | None:
    """(n,) weights that give every class the same total, mean 1; None where a task has no classes."""
    if contest.task.name != "classification":
        return None
    counts = np.bincount(contest.y, minlength=contest.task.outputs)
    return (len(contest.y) / ((counts > 0).sum() * np.maximum(counts, 1)))[contest.y]


def _adjustment(contest: Contest) -> np.ndarray | None:
    """(K,) −ln(class share) around its mean: Menon et al. 2021 (arXiv:2007.07314), the Bayes rule for balanced error.

    The shares are those of all rows: stratified folds have the same to within a row.
    """
    if contest.task.name != "classification":
        return None
    classes = contest.task.outputs
    share = (np.bincount(contest.y, minlength=classes) + 0.5) / (len(contest.y) + classes / 2)
    shift = -np.log(share)
    return shift - shift.mean()


def _balanced(contest: Contest, kept: Entry, rotated: Rotated) -> tuple[Entry, Rotated, np.ndarray | None, str, str]:
    """The kept head, balanced if that raises macro-F1 on held-out rows by more than noise; and what decided.

    A way that costs more of the score that decides between heads than macro-F1 gains is not taken: that is a trade
    for the user to make, with --balance or --metric.
    """
    if contest.task.name != "classification":
        return kept, rotated, None, "none", "balancing is for tasks with one label per example"
    counts = np.bincount(contest.y, minlength=contest.task.outputs)
    ratio = counts.max() / max(1, counts[counts > 0].min())
    if ratio <= UNEVEN:
        return kept, rotated, None, "none", f"class counts are even (largest / smallest = {ratio:.2g})"
    tried = [_adjusted(contest, kept, rotated, strength) for strength in STRENGTHS]
    if kept.family.name not in ("nearest-mean", "names+mean"):  # its class means are the same with any weights
        weighted = rotate(contest.X, weights=_class_weights(contest))
        tried.append(Balancing("weights", "weights", _enter(contest, kept.family, weighted, None), weighted, None))
    gains = [_difference(contest, t.entry, kept, "macro_f1") for t in tried]
    costs = [-contest.sign * _difference(contest, t.entry, kept).value for t in tried]
    worth = [gain.low > 0 and gain.value > cost for gain, cost in zip(gains, costs, strict=True)]
    said = "; ".join(
        f"{t.words} {_interval(gain)} at a cost of {max(cost, 0):.3f} {contest.metric}"
        for t, gain, cost in zip(tried, gains, costs, strict=True)
    )
    best = max(range(len(tried)), key=lambda i: (worth[i], gains[i].value - max(costs[i], 0)))
    if not worth[best]:
        return (
            kept,
            rotated,
            None,
            "none",
            f"class counts differ {ratio:.2g}-fold, but no way gains more than it costs: macro-F1 {said}",
        )
    t = tried[best]
    why = f"class counts differ {ratio:.2g}-fold, and {t.words} raises macro-F1 on held-out rows: {said}"
    return t.entry, t.rotated, t.shift, t.way, why


@dataclass(frozen=True)
class Balancing:
    """One way to balance the kept head, judged."""

    way: str
    words: str
    entry: Entry
    rotated: Rotated
    shift: np.ndarray | None


def _adjusted(contest: Contest, kept: Entry, rotated: Rotated, strength: float) -> Balancing:
    shift = _adjustment(contest)
    assert shift is not None, "only tasks with one label per example are balanced"
    found = OutOfFold(kept.logits, kept.setting)
    entry = _entry(contest, kept.family, found, strength * shift, 0.0)
    words = "logit-adjust" if strength == 1 else f"logit-adjust at strength {strength:g}"
    return Balancing("logit-adjust", words, entry, rotated, strength * shift)
