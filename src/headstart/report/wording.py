"""Words and figures for people: names of metrics, heads and baselines, and how numbers are printed.

NaN prints as '–' everywhere; every name that is not known here is shown as it was recorded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headstart.data.words import Words, counted  # noqa: F401 - one of the words of a page

DASH = "–"
MINUS = "−"


@dataclass(frozen=True)
class MetricWords:
    """is_share: lies in [0, 1], so that its interval can be drawn on that axis. higher_is_better: None if unknown."""

    name: str
    meaning: str
    is_share: bool = True
    higher_is_better: bool | None = True


METRICS: Mapping[str, MetricWords] = {
    "accuracy": MetricWords("Accuracy", "share of images named correctly"),
    "balanced_accuracy": MetricWords("Balanced accuracy", "recall averaged over classes, rare ones count as much"),
    "macro_precision": MetricWords("Precision (macro)", "of the images given a name, the share that deserves it"),
    "macro_recall": MetricWords("Recall (macro)", "of the images of a class, the share that is found"),
    "macro_f1": MetricWords("F1 (macro)", "harmonic mean of precision and recall, averaged over classes"),
    "micro_f1": MetricWords("F1 (micro)", "F1 over all labels of all images taken together"),
    "subset_accuracy": MetricWords("Exact match", "share of images with every label right"),
    "roc_auc": MetricWords("ROC-AUC", "chance that a positive scores above a negative; 0.5 is guessing"),
    "average_precision": MetricWords("Average precision", "precision averaged along the recall axis"),
    "log_loss": MetricWords("Log-loss", "surprise of the true class in nats; 0 is perfect", False, False),
    "brier": MetricWords("Brier score", "squared error of the probabilities; 0 is perfect", False, False),
    "ece_before": MetricWords("Calibration error, as fitted", "mean gap of confidence and share correct", True, False),
    "ece": MetricWords("Calibration error", "the same gap after temperature scaling", True, False),
    "rmse": MetricWords("RMSE", "root of the mean squared error, in units of the target", False, False),
    "mae": MetricWords("MAE", "mean distance from the target, in its units", False, False),
    "r2": MetricWords("R²", "share of the variance explained; 0 is predicting the mean", False, True),
}

HEADS: Mapping[str, str] = {
    "ridge": "Ridge regression",
    "logistic": "Logistic regression",
    "lda": "Shrunk LDA",
    "nearest-mean": "Nearest class mean",
    "names+mean": "Class means and names",
    "neighbours": "Nearest neighbours",
    "mlp": "Hidden layers",
}

BALANCES: Mapping[str, str] = {
    "none": "Classes are left as they are.",
    "weights": "Rare classes weigh more in the fit.",
    "logit-adjust": "Scores are shifted by the class frequencies.",
}

SIDES: Mapping[str, str] = {
    "held-out": "held-out test images",
    "given": "test images of your own split",
    "cross-validation": "images, each predicted by a model that had not seen it",
}


def metric_words(key: str) -> MetricWords:
    known = METRICS.get(key)
    if known is None:
        known = METRICS.get(key.removeprefix("macro_"))
    return known or MetricWords(key.replace("_", " "), "", is_share=False, higher_is_better=None)


def head_name(key: str) -> str:
    return HEADS.get(key, key)


def spoken(sentence: str, words: Words) -> str:
    """A sentence of ours about images, said of other examples. What stands between quotes came from data and stays."""
    if words.one == "image":
        return sentence
    parts = re.split(r"('[^']*')", sentence)
    return "".join(part if i % 2 else _IMAGES.sub(lambda m: _said(m, words), part) for i, part in enumerate(parts))


_IMAGES = re.compile(r"\b(?P<article>[Aa]n? )?(?P<word>[Ii]mage|[Pp]icture)(?P<many>s?)\b")


def _said(found: re.Match[str], words: Words) -> str:
    word = words.many if found["many"] else words.a if found["article"] else words.one
    return capital(word) if found.group()[0].isupper() else word


def measure(x: float) -> str:
    """'1,204', '31.4', '0.25': a length in whatever unit, with two or three figures that matter."""
    return f"{x:,.0f}" if x >= 100 or x == int(x) else f"{x:.3g}"


def count(n: int) -> str:
    return f"{n:,}"


def is_nan(value: float | None) -> bool:
    return value is None or value != value  # noqa: PLR0124 - NaN test


def decimals(*values: float) -> int:
    """Digits after the point so that about four figures show; three for anything below ten, as Estimate prints."""
    largest = max((abs(v) for v in values if not is_nan(v)), default=0.0)
    for limit, digits in ((10, 3), (100, 2), (1000, 1)):
        if largest < limit:
            return digits
    return 0


def number(value: float | None, digits: int | None = None) -> str:
    if value is None or is_nan(value):
        return DASH
    return _minus(f"{value:,.{decimals(value) if digits is None else digits}f}")


def interval(estimate: Mapping[str, Any]) -> str:
    """'[0.894, 0.930]', or nothing where no interval is known."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if is_nan(value) or is_nan(low) or is_nan(high):
        return ""
    digits = decimals(value, low, high)
    return f"[{number(low, digits)}, {number(high, digits)}]"


def value_of(estimate: Mapping[str, Any]) -> str:
    """The value alone, with as many decimals as its interval."""
    return number(estimate["value"], decimals(estimate["value"], estimate["low"], estimate["high"]))


def estimate_words(estimate: Mapping[str, Any]) -> str:
    """'0.913 [0.894, 0.930]'; '–' where the value is not defined."""
    return f"{value_of(estimate)} {interval(estimate)}".strip()


def signed(estimate: Mapping[str, Any]) -> str:
    """'+0.412 [+0.380, +0.445]' for differences."""
    if is_nan(estimate["value"]):
        return DASH
    digits = decimals(estimate["value"], estimate["low"], estimate["high"])
    value, low, high = (_minus(f"{estimate[k]:+,.{digits}f}") for k in ("value", "low", "high"))
    return value if is_nan(estimate["low"]) else f"{value} [{low}, {high}]"


def p_value(p: float | None) -> str:
    if p is None or is_nan(p):
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def capital(words: str) -> str:
    """The first letter large, the rest as it is."""
    return words[:1].upper() + words[1:]


def sentence(words: str) -> str:
    """Words of a record as a sentence: a large letter first, a full stop last."""
    words = capital(words.strip())
    return words if not words or words[-1] in ".!?…" else f"{words}."


def percent(share: float | None) -> str:
    """'93 %', with one decimal where rounding would claim 0 or 100."""
    if share is None or is_nan(share):
        return DASH
    text = f"{100 * share:.0f}"
    if text in ("0", "100") and share not in (0, 1):
        text = f"{100 * share:.1f}"
        text = {"0.0": "< 0.1", "100.0": "> 99.9"}.get(text, text)
    return f"{text}\u00a0%"  # no line break before the sign


def seconds(s: float | None) -> str:
    if s is None or is_nan(s):
        return DASH
    if s < 0.01:
        return "< 0.01 s"
    if s < 10:
        return f"{s:.2f} s"
    if s < 120:
        return f"{s:.0f} s"
    minutes, rest = divmod(round(s), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min")] if hours else [(minutes, "min"), (rest, "s")]
    return " ".join(f"{amount} {unit}" for amount, unit in parts if amount)


def _minus(text: str) -> str:
    """A true minus sign; never a signed zero."""
    if not text.strip("+-0.,"):
        text = text.replace("-", "")
    return text.replace("-", MINUS)
