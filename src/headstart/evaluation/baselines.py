"""Something simpler on the same test examples, and whether transfer was worth it.

A score alone says little: 0.97 is poor where always answering "healthy" gives 0.98. Every comparison is paired: both
models are judged on the same resamples of the same examples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headstart.base.errors import DataError
from headstart.evaluation.intervals import (
    Resamples,
    estimate,
    independent,
    mcnemar_exact,
    paired_difference,
    proportion,
)
from headstart.evaluation.scores import HEADLINES, LOWER_IS_BETTER, resampled, score
from headstart.records.estimate import Estimate
from headstart.records.evaluation import Baseline, Verdict
from headstart.records.predictions import Predictions

WITHOUT_TRANSFER = ("pixels", "tf-idf", "log-mel", "columns", "random-network")
RIVALS = ("linear", "boosting")  # what most people would use where nothing is transferred


def majority(y_train: np.ndarray, test: Predictions) -> Predictions:
    """What someone says who looks only at the training labels: class shares, label shares, or the mean target.

    y_train: (n,) class indices, (n, K) 0/1, or (n, K) values.  The answer is given for every row of ``test``.
    """
    y = np.asarray(y_train)
    if not len(y):
        raise DataError("majority baseline: no training targets. Give at least one.")
    if test.task == "classification":
        answer = np.bincount(y, minlength=len(test.labels)) / len(y)
    else:
        answer = y.reshape(len(y), -1).mean(axis=0)
    scores = np.tile(np.asarray(answer, np.float64), (len(test), 1))
    return Predictions(test.ids, scores, test.targets, test.labels, test.task, None, test.groups)


def compare(
    model: Predictions,
    baseline: Predictions,
    *,
    key: str,
    what: str,
    trained_on: int,
    metric: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Baseline:
    """``baseline`` beside ``model`` on the same examples.

    gain is an improvement: above 0 the model is better, also for errors such as RMSE (then baseline minus model).
    metric: the task's headline when not given.  p_value: exact McNemar on right/wrong, for classification only.
    """
    targets = _same_examples(model, baseline)
    task, n = model.task, len(model)
    name = metric or HEADLINES[task]
    drawn = Resamples(n, resamples, seed, model.groups)
    ours, theirs = (score(task, targets, p.scores, [name])[name][0] for p in (model, baseline))
    a, b = (resampled(task, targets, p.scores, [name], drawn)[name] for p in (model, baseline))
    sign = -1 if name in LOWER_IS_BETTER else 1
    gain = paired_difference(sign * (ours - theirs), sign * a, sign * b, n=n, units=drawn.units, level=level)
    return Baseline(
        key=key,
        what=what,
        score=_headline(baseline, targets, name, theirs, b, drawn, level),
        reference=_headline(model, targets, name, ours, a, drawn, level),
        gain=gain,
        p_value=_mcnemar(model, baseline, targets),
        trained_on=int(trained_on),
        n=n,
    )


def verdict(baselines: Sequence[Baseline], task: str, metric: str | None = None) -> Verdict:
    """'Did transfer help?' against the strongest of the baselines that use no pretrained knowledge.

    metric: the score that the baselines were compared by; the task's headline when not given.
    yes: the paired interval of the gain lies above 0.  no: it lies below.  not shown: it includes 0.
    """
    without = [b for b in baselines if b.key in WITHOUT_TRANSFER]
    if not without:
        return Verdict("not shown", "Not shown: nothing without transfer was measured beside the model.", "")
    hardest = min(without, key=lambda b: b.gain.value)
    answer = _answer(hardest.gain)
    metric = metric or HEADLINES[task]
    name = metric.replace("_", "-").replace("rmse", "RMSE")
    better, worse = ("below", "above") if metric in LOWER_IS_BETTER else ("above", "below")
    size = f"{abs(hardest.gain.value):.3f} [{_ends(hardest.gain)}]"
    side = better if hardest.gain.value >= 0 else worse
    lead = {"yes": "Yes, transfer helped", "no": "No, transfer did harm", "not shown": "Not shown that transfer helped"}
    sentence = (
        f"{lead[answer]}: {name} {hardest.reference.value:.3f} is {size} {side} the {hardest.score.value:.3f} of "
        f"{hardest.what}, on the same {hardest.n} test examples{_p_in_words(hardest.p_value)}."
    )
    if answer == "not shown":
        sentence = sentence[:-1] + "; the interval includes 0, so more test examples would be needed to tell."
    return Verdict(answer, sentence, hardest.key)


def standing(baselines: Sequence[Baseline], task: str, metric: str | None = None) -> Verdict:
    """'Is it better than the usual models?' against the strongest of RIVALS; answers as in ``verdict``.

    For models that transfer nothing, such as those on columns of a table.
    """
    rivals = [b for b in baselines if b.key in RIVALS]
    hardest = min(rivals, key=lambda b: b.gain.value)
    answer = _answer(hardest.gain)
    metric = metric or HEADLINES[task]
    name = metric.replace("_", "-").replace("rmse", "RMSE")
    better, worse = ("below", "above") if metric in LOWER_IS_BETTER else ("above", "below")
    lead = {"yes": "Yes, it is better", "no": "No, it is worse", "not shown": "On a par with them"}[answer]
    sentence = (
        f"{lead}: {name} {hardest.reference.value:.3f} is {abs(hardest.gain.value):.3f} [{_ends(hardest.gain)}] "
        f"{better if hardest.gain.value >= 0 else worse} the {hardest.score.value:.3f} of {hardest.what}, "
        f"the strongest of {len(rivals)}, on the same {hardest.n} examples{_p_in_words(hardest.p_value)}"
    )
    sentence += "; the interval includes 0." if answer == "not shown" else "."
    return Verdict(answer, sentence, hardest.key, "Is it better than the usual models?")


def _answer(gain: Estimate) -> str:
    if gain.low > 0:
        return "yes"
    return "no" if gain.high < 0 else "not shown"


def _ends(gain: Estimate) -> str:
    """The interval of the distance itself, so that 'below' is followed by positive numbers."""
    low, high = (gain.low, gain.high) if gain.value >= 0 else (-gain.high, -gain.low)
    return f"{low:.3f}, {high:.3f}"


def _p_in_words(p: float | None) -> str:
    if p is None:
        return ""
    return " (McNemar p < 0.001)" if p < 0.001 else f" (McNemar p = {p:.2g})"


def _headline(
    predictions: Predictions,
    targets: np.ndarray,
    name: str,
    value: float,
    drawn_values: np.ndarray,
    drawn: Resamples,
    level: float,
) -> Estimate:
    if name == "accuracy" and independent(predictions.groups):
        right = int((predictions.predicted == targets).sum())
        return proportion(right, len(targets), level)
    return estimate(value, drawn_values, n=len(targets), units=drawn.units, level=level)


def _mcnemar(model: Predictions, baseline: Predictions, targets: np.ndarray) -> float | None:
    if model.task != "classification":
        return None
    a, b = model.predicted == targets, baseline.predicted == targets
    return mcnemar_exact(int((a & ~b).sum()), int((b & ~a).sum()))


def _same_examples(model: Predictions, baseline: Predictions) -> np.ndarray:
    if model.targets is None:
        raise DataError("comparison: the targets of these examples are not known. Compare on labelled examples.")
    if len(model) != len(baseline) or list(model.ids) != list(baseline.ids):
        raise DataError(
            f"comparison: model and baseline judge different examples ({len(model)} and {len(baseline)} rows). "
            "Predict the same rows in the same order with both."
        )
    if model.labels != baseline.labels or model.task != baseline.task:
        raise DataError("comparison: model and baseline have different labels. Use one task for both.")
    return model.targets
