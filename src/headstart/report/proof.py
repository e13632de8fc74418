"""What pretrained weights were worth: curves of label efficiency, and rivals that did without them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headstart.base.config import to_dict
from headstart.records.proof import LearningCurve, Multiplier, PowerLaw, ProofRecord, Rival
from headstart.report import wording
from headstart.report.reading import Records
from headstart.report.wording import capital, counted, number

DRAWN = 40  # places at which a fitted curve is drawn
NAMES = {
    "transfer": "pretrained, frozen",
    "random-network": "random weights, frozen",
    "scratch": "trained from scratch",
    "scratch-long": "trained from scratch, longer",
}
SIDES = {"held-out": "test images", "cross-validation": "images, each judged by models that had not seen it"}


def proof(records: Records) -> dict[str, Any] | None:
    """None where the fit was not asked to prove anything."""
    record = records.proof
    if record is None:
        return None
    words = wording.metric_words(record.metric)
    is_lower_better = words.higher_is_better is False
    curves = [_curve(curve, is_lower_better) for curve in record.curves]
    return {
        "sentence": record.sentence,
        "negative": list(record.negative),
        "metric": words.name,
        "is_share": words.is_share,
        "higher_is_better": words.higher_is_better,
        "judged": f"{record.n:,} {SIDES.get(record.how, record.how)}",
        "learnt_from": record.learnt_from,
        "seeds": record.seeds,
        "curves": curves,
        "is_curve": all(len(curve["points"]) > 1 for curve in curves) and len(curves) > 0,
        "lines": [_line(r) for r in record.rivals if r.against.key.startswith("scratch")],
        "rivals": [_rival(r, record) for r in record.rivals],
        "level": next((r.against.gain.level for r in record.rivals), None),
        "notes": list(record.notes),
        "time": f"The proof took {wording.seconds(record.seconds)}; the model itself, {_adaptation(record)}.",
    }


def _adaptation(record: ProofRecord) -> str:
    return wording.seconds(record.adaptation_s) if record.adaptation_s else "no time of training"


def _curve(curve: LearningCurve, is_lower_better: bool) -> dict[str, Any]:
    points = [{"n": p.n, "score": to_dict(p.score)} for p in curve.points]
    return {
        "key": _kind(curve.key),
        "name": NAMES.get(curve.key, curve.key),
        "what": curve.what,
        "points": points,
        "fitted": fitted(curve.law, [p.n for p in curve.points], is_lower_better) if curve.law else [],
    }


def fitted(law: PowerLaw, sizes: Sequence[float], is_lower_better: bool) -> list[tuple[float, float]]:
    """(labels, score) along the power law, between the sizes that were measured."""
    if len(sizes) < 2:
        return []
    n = np.geomspace(min(sizes), max(sizes), DRAWN)
    errors = law.floor + law.drop * (n / law.most) ** -law.exponent
    scores = errors if is_lower_better else 1 - errors
    return [(float(a), float(b)) for a, b in zip(n, scores, strict=True)]


def _line(rival: Rival) -> dict[str, Any]:
    """A rival that was measured with all labels only."""
    key = rival.against.key
    return {"key": _kind(key), "name": NAMES.get(key, key), "value": rival.against.score.value}


def _kind(key: str) -> str:
    """A word for the style sheet; of keys that are not ours, none."""
    return key if key in NAMES else "other"


def _rival(rival: Rival, record: ProofRecord) -> dict[str, Any]:
    b = rival.against
    return {
        "name": capital(NAMES.get(b.key, b.key)),
        "what": b.what,
        "score": to_dict(b.score),
        "gain": to_dict(b.gain),
        "is_behind": b.gain.high < 0,
        "training": _training(rival),
        "worth": worth_words(rival.worth),
        "is_hardest": b.key == record.against,
    }


def _training(rival: Rival) -> str:
    """'52 s, 9.5 passes'; nothing where only a head was fitted."""
    if not rival.steps:
        return ""
    return f"{wording.seconds(rival.seconds)}, {counted(rival.steps, 'step')}, {number(rival.epochs, 1)} passes"


def worth_words(m: Multiplier | None) -> str:
    """'6.1 × [3.2, 16 or more]', '16 × or more'; '–' where it was not measured."""
    if m is None:
        return wording.DASH
    if m.kind == "cannot be told":
        return "cannot be told"
    if m.kind == "at least":
        return f"{_times(_down(m.times.low), m)} × or more"
    if m.kind == "at most":
        return f"{_times(m.times.high, m)} × or less"
    return f"{_times(m.times.value, m)} × [{_end(m.times.low, m)}, {_end(m.times.high, m)}]"


def _end(x: float, m: Multiplier) -> str:
    """An end of the interval; the ends of what the curves can tell apart are open."""
    if x >= m.most:
        return f"{_times(_down(x), m)} or more"
    return f"{_times(x, m)} or less" if x <= m.least else _times(x, m)


def _down(x: float) -> float:
    """16.7 labels are 'at least 16'."""
    return float(int(x)) if x >= 10 else int(10 * x) / 10


def _times(x: float, m: Multiplier) -> str:
    if x >= 10 or abs(x - round(x)) < 0.05 <= x:
        return f"{x:.0f}"
    return f"{x:.1f}" if x >= 0.1 else f"{x:.2f}"
