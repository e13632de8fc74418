"""The score by the number of labels, and what twice as many may give."""

from __future__ import annotations

from typing import Any

from headstart.base.config import to_dict
from headstart.records.few_shot import FOLLOWED, FewShotPoint, FewShotRecord
from headstart.report import wording
from headstart.report.proof import fitted
from headstart.report.reading import Records


def few_shot(records: Records) -> dict[str, Any] | None:
    """None where there was nothing between one example and all of them."""
    record = records.few_shot
    if record is None:
        return None
    words = wording.metric_words(record.metric)
    is_lower_better = words.higher_is_better is False
    points = [{"n": p.n, "score": to_dict(p.score)} for p in record.points]
    law = record.law
    measured = [p.n for p in record.points if law is not None]
    curve = {
        "key": "transfer",
        "name": wording.head_name(record.head),
        "points": points,
        "fitted": fitted(law, measured[-FOLLOWED:], is_lower_better) if law else [],
    }
    return {
        "sentence": wording.capital(record.sentence),
        "metric": words.name,
        "is_share": words.is_share,
        "higher_is_better": words.higher_is_better,
        "head": wording.head_name(record.head),
        "of": "the frozen network's features" if records.columns is None else "the columns as the network gives them",
        "judged": wording.counted(record.n, records.words.one),
        "draws": record.draws,
        "curves": [curve],
        "is_curve": len(points) > 1,
        "rows": [{"labels": _labels(p, record), "n": round(p.n), "score": to_dict(p.score)} for p in record.points],
        "doubled": to_dict(record.doubled) if record.doubled else None,
        "twice": round(2 * record.points[-1].n),
        "why_not": record.why_not,
    }


def _labels(point: FewShotPoint, record: FewShotRecord) -> str:
    """'8 of each class'; '64' where there are no classes; 'all'."""
    if point is record.points[-1]:
        return "all"
    return f"{point.most} of each class" if record.is_by_class else f"{point.most:,}"
