"""Predictions → Evaluation: every number with its interval, its n, and something to compare it with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from headstart.base.errors import DataError
from headstart.evaluation.baselines import RIVALS, WITHOUT_TRANSFER, standing, verdict
from headstart.evaluation.intervals import Resamples, estimate, independent, proportion, undefined, wilson
from headstart.evaluation.metrics import calibration, classification, counts, multilabel
from headstart.evaluation.metrics.counts import Counts
from headstart.evaluation.scores import HEADLINES, SCORES, check_score, score
from headstart.records.estimate import Estimate
from headstart.records.evaluation import Baseline, ClassScores, Evaluation, Example, LabelIssue, Verdict
from headstart.records.predictions import Predictions

RANKING = ("roc_auc", "average_precision")
RANKING_CELLS = 1_500_000_000  # resamples × examples × classes that are sorted scores: some seconds of work


def evaluate(
    predictions: Predictions,
    *,
    baselines: Sequence[Baseline] = (),
    before: Predictions | None = None,
    label_issues: Sequence[LabelIssue] = (),
    how: str = "held-out",
    headline: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    examples: int = 24,
) -> Evaluation:
    """The judgement of a model on examples that it has not learnt from.

    before: the same rows with uncalibrated probabilities, for the 'before' half of the reliability diagram.
    headline: the score that people quote, the task's own when not given; the baselines were compared by it.
    examples: how many worst mistakes, and how many least certain examples, are listed.
    """
    y = _known_targets(predictions, before)
    task, drawn = predictions.task, Resamples(len(predictions), resamples, seed, predictions.groups)
    headline = check_score(headline or HEADLINES[task], task)
    metrics, per_class = _with_intervals(predictions, y, before, drawn, level)
    shown_bins = _bins(predictions, y)
    return Evaluation(
        task=task,
        labels=predictions.labels,
        n=len(predictions),
        headline=headline,
        metrics=metrics,
        per_class=per_class,
        confusion=_confusion(predictions, y),
        reliability_before=_bins(before, y) if before is not None else (),
        reliability_after=shown_bins,
        baselines=tuple(baselines),
        verdict=_verdict(baselines, task, headline),
        worst=_worst(predictions, y, examples),
        least_certain=_least_certain(predictions, y, examples),
        label_issues=tuple(label_issues),
        how=how,
        resamples=resamples,
        seed=seed,
    )


def _verdict(baselines: Sequence[Baseline], task: str, headline: str) -> Verdict | None:
    keys = {b.key for b in baselines}
    if keys & set(WITHOUT_TRANSFER):
        return verdict(baselines, task, headline)
    return standing(baselines, task, headline) if keys & set(RIVALS) else None


def _known_targets(predictions: Predictions, before: Predictions | None) -> np.ndarray:
    if predictions.targets is None:
        raise DataError("evaluation: the targets of these examples are not known. Evaluate on labelled examples.")
    if not len(predictions):
        raise DataError("evaluation: no examples. Give at least one labelled example that was not trained on.")
    if not np.isfinite(predictions.scores).all():
        bad = int((~np.isfinite(predictions.scores)).any(axis=1).sum())
        raise DataError(f"evaluation: the scores of {bad} of {len(predictions)} examples are NaN or infinite.")
    if before is not None and list(before.ids) != list(predictions.ids):
        raise DataError("evaluation: 'before' holds other examples. Give the same rows in the same order.")
    return predictions.targets


# --- scores with intervals


def _with_intervals(
    predictions: Predictions, y: np.ndarray, before: Predictions | None, drawn: Resamples, level: float
) -> tuple[Mapping[str, Estimate], tuple[ClassScores, ...]]:
    task, n = predictions.task, len(predictions)
    values = _all_scores(predictions, y, before, None)
    chunks, done = [], 0
    for weights in drawn.chunks():
        chunks.append(
            _all_scores(predictions, y, before, weights, skip_ranking=done >= _ranking_resamples(predictions))
        )
        done += len(weights)
    resampled = {name: np.concatenate([c[name] for c in chunks if name in c]) for name in values}
    made = {
        name: estimate(float(v[0]), resampled[name], n=n, units=drawn.units, level=level)
        for name, v in values.items()
        if v.ndim == 1
    }
    if task == "regression":
        return made, ()
    per_class = _per_class(predictions, y, {k: v for k, v in resampled.items() if v.ndim == 2}, values, drawn, level)
    for name in ("ece", "ece_before"):
        if name in made:
            made[name] = _centred(made[name], resampled[name])
    return _never_certain(made, per_class, predictions, y, drawn, level), per_class


def _all_scores(
    predictions: Predictions,
    y: np.ndarray,
    before: Predictions | None,
    weights: np.ndarray | None,
    *,
    skip_ranking: bool = False,
) -> dict[str, np.ndarray]:
    """Every score of the task, (R,), and precision, recall and F1 by class, (R, K)."""
    task = predictions.task
    names = [n for n in SCORES[task] if not (skip_ranking and n in RANKING)]
    out = score(task, y, predictions.scores, names, weights)
    if task == "regression":
        return out
    out["ece"] = calibration.ece(*_confidence(predictions, y), weights)
    if before is not None:
        out["ece_before"] = calibration.ece(*_confidence(before, y), weights)
    counted = _count(predictions, y, weights)
    return out | {"precision": counts.precision(counted), "recall": counts.recall(counted), "f1": counts.f1(counted)}


def _count(predictions: Predictions, y: np.ndarray, weights: np.ndarray | None) -> Counts:
    if predictions.task == "classification":
        return counts.count_classes(y, predictions.predicted, len(predictions.labels), weights)
    return counts.count_labels(y, predictions.predicted, weights)


def _ranking_resamples(predictions: Predictions) -> int:
    """How many resamples the sorted scores get: all, unless that would take minutes; at least 200."""
    return max(200, RANKING_CELLS // (len(predictions) * max(1, len(predictions.labels))))


def _per_class(
    predictions: Predictions,
    y: np.ndarray,
    resampled: Mapping[str, np.ndarray],
    values: Mapping[str, np.ndarray],
    drawn: Resamples,
    level: float,
) -> tuple[ClassScores, ...]:
    counted = _count(predictions, y, None)
    right, support, called = (a[0].astype(int) for a in (counted.right, counted.support, counted.called))

    alone = independent(predictions.groups)

    def one(name: str, k: int, successes: int, among: int) -> Estimate:
        if support[k] == 0:
            return undefined(0, level)
        if alone:
            return _ratio_estimate(name, successes, among, int(support[k]), level)
        e = estimate(values[name][0, k], resampled[name][:, k], n=int(support[k]), units=drawn.units, level=level)
        # All right or all wrong: no resample doubts it. Count each group as one example.
        share = drawn.units / drawn.n
        return _ratio_estimate(name, successes * share, among * share, e.n, level) if e.low == e.high else e

    return tuple(
        ClassScores(
            name=label,
            support=int(support[k]),
            precision=one("precision", k, int(right[k]), int(called[k])),
            recall=one("recall", k, int(right[k]), int(support[k])),
            f1=one("f1", k, int(right[k]), int(support[k] + called[k] - right[k])),
        )
        for k, label in enumerate(predictions.labels)
    )


def _ratio_estimate(name: str, successes: float, among: float, support: int, level: float) -> Estimate:
    """Wilson's interval. F1 = 2J/(1 + J) rises with J = right / (in the class or called it), which is a proportion."""
    if among == 0:  # never called: precision is 0 by convention, and nothing is known about it
        return Estimate(0.0, 0.0, 1.0, support, level)
    if name != "f1":
        return proportion(successes, among, level, of=support)
    low, high = wilson(successes, among, level)
    f = [2 * j / (1 + j) for j in (successes / among, low, high)]
    return Estimate(f[0], f[1], f[2], support, level)


def _never_certain(
    made: dict[str, Estimate],
    per_class: Sequence[ClassScores],
    predictions: Predictions,
    y: np.ndarray,
    drawn: Resamples,
    level: float,
) -> dict[str, Estimate]:
    """Intervals for perfect scores, where every resample is perfect too and would show no doubt at all."""
    name = "accuracy" if predictions.task == "classification" else "subset_accuracy"
    share = 1.0 if independent(predictions.groups) else drawn.units / drawn.n
    if share == 1 or made[name].low == made[name].high:
        right = (y == predictions.predicted) if name == "accuracy" else (y == predictions.predicted).all(axis=1)
        made[name] = proportion(int(right.sum()) * share, len(y) * share, level, of=len(y))
    for key, part in (("macro_f1", "f1"), ("macro_precision", "precision"), ("macro_recall", "recall")):
        made[key] = _widened(made[key], [getattr(c, part) for c in per_class], level)
    if "balanced_accuracy" in made:
        made["balanced_accuracy"] = _widened(made["balanced_accuracy"], [c.recall for c in per_class], level)
    scarce = min([c.support for c in per_class if c.support] or [0])
    for key in RANKING:
        e = made[key]
        if e.low == e.high == 1.0:
            made[key] = Estimate(1.0, wilson(scarce, scarce, level)[0], 1.0, e.n, level)
    return made


def _widened(whole: Estimate, parts: Sequence[Estimate], level: float) -> Estimate:
    """A mean without spread takes its interval from its parts: distances add in squares (MOVER, Zou & Donner 2008)."""
    if not whole.low == whole.high == whole.value:
        return whole
    known = [p for p in parts if p.value == p.value]
    down = float(np.sqrt(sum((p.value - p.low) ** 2 for p in known))) / len(known)
    up = float(np.sqrt(sum((p.high - p.value) ** 2 for p in known))) / len(known)
    return Estimate(whole.value, max(0.0, whole.value - down), min(1.0, whole.value + up), whole.n, level)


def _centred(e: Estimate, resampled: np.ndarray) -> Estimate:
    """Resampling repeats examples, which makes bins look worse calibrated than they are: take that shift out again."""
    shift = float(np.median(resampled)) - e.value
    return Estimate(e.value, max(0.0, min(e.value, e.low - shift)), max(e.value, e.high - shift), e.n, e.level)


# --- calibration and confusion


def _confidence(predictions: Predictions, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and truth of each answer; for multi-label every label of every example is an answer."""
    if predictions.task == "classification":
        return calibration.top_label(y, predictions.scores)
    return predictions.scores, (y > 0).astype(np.float64)


def _bins(predictions: Predictions, y: np.ndarray) -> tuple:
    return () if predictions.task == "regression" else calibration.reliability(*_confidence(predictions, y))


def _confusion(predictions: Predictions, y: np.ndarray) -> tuple[tuple[int, ...], ...]:
    if predictions.task != "classification":
        return ()
    return tuple(map(tuple, classification.confusion(y, predictions.predicted, len(predictions.labels)).tolist()))


# --- single examples


def _worst(predictions: Predictions, y: np.ndarray, most: int) -> tuple[Example, ...]:
    """Mistakes with the highest loss first; for regression the largest errors."""
    loss = _loss(predictions, y)
    if predictions.task == "regression":
        wrong = np.arange(len(y))
    else:
        same = predictions.predicted == y
        wrong = np.flatnonzero(~(same if same.ndim == 1 else same.all(axis=1)))
    return _listed(predictions, y, loss, wrong[np.argsort(-loss[wrong], kind="stable")][:most])


def _least_certain(predictions: Predictions, y: np.ndarray, most: int) -> tuple[Example, ...]:
    """Where the first two answers are closest, right or wrong; multi-label: where a label is closest to one half."""
    if predictions.task == "regression":
        return ()
    if predictions.task == "classification":
        top = np.sort(predictions.scores, axis=1)
        doubt = top[:, -1] - (top[:, -2] if top.shape[1] > 1 else 0)
    else:
        doubt = np.abs(predictions.scores - 0.5).min(axis=1)
    return _listed(predictions, y, _loss(predictions, y), np.argsort(doubt, kind="stable")[:most])


def _loss(predictions: Predictions, y: np.ndarray) -> np.ndarray:
    """(N,) −ln p(truth), summed over labels; regression: absolute error, summed over outputs."""
    if predictions.task == "classification":
        return classification.example_loss(y, predictions.scores)
    if predictions.task == "multilabel":
        return multilabel.example_losses(y, predictions.scores).sum(axis=1)
    return np.abs(predictions.scores - y).sum(axis=1)


def _listed(predictions: Predictions, y: np.ndarray, loss: np.ndarray, rows: np.ndarray) -> tuple[Example, ...]:
    some = predictions.take(rows)
    return tuple(
        Example(str(i), target, said, sure, float(bad))
        for i, target, said, sure, bad in zip(
            some.ids, _target_names(some, y[rows]), some.names, _sureness(some), loss[rows], strict=True
        )
    )


def _target_names(some: Predictions, y: np.ndarray) -> list[str]:
    if some.task == "classification":
        return [some.labels[k] for k in y]
    if some.task == "multilabel":
        return ["|".join(some.labels[k] for k in np.flatnonzero(row)) for row in y]
    return [" ".join(f"{v:.6g}" for v in row) for row in y]


def _sureness(some: Predictions) -> list[float]:
    """Probability of the answer; multi-label: of its least certain label; regression has none (NaN)."""
    if some.task == "classification":
        return some.scores.max(axis=1).tolist()
    if some.task == "multilabel":
        return np.maximum(some.scores, 1 - some.scores).min(axis=1).tolist()
    return [float("nan")] * len(some)
