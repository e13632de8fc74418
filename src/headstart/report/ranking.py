"""The page of a ranking, and its section in the report of a run: who was compared, how they stand, what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headstart.base.config import to_dict
from headstart.base.files import human_bytes, write_text
from headstart.data.words import words_of
from headstart.records.ranking import RankedCandidate, RankRecord
from headstart.report import privacy, wording

STATUS = {
    "recommended": "take this",
    "finalist": "fine-tuned",
    "kept": "",
    "dropped": "dropped",
    "failed": "failed",
    "not fetched": "not here",
}


def write_ranking(folder: Path, record: RankRecord) -> Path:
    """Write ``ranking.html`` beside ranking.json, whole or not at all, and return its path."""
    from headstart.report.html import environment, page_style

    place = folder / "ranking.html"
    page = privacy.private(contents(record))
    write_text(place, environment().get_template("ranking.html").render(page=page, **page_style()))
    return place


def contents(record: RankRecord) -> dict[str, Any]:
    """Everything the page shows, as nested dicts, lists, numbers and texts."""
    return {
        **candidates(record),
        "title": record.data,
        "created": record.created[:10],
        "recommended": record.recommended,
        "rounds": [to_dict(r) for r in record.rounds],
        "cost": _costs(record),
        "notes": list(record.notes),
        "command": record.command,
        "facts": _facts(record),
    }


def candidates(record: RankRecord) -> dict[str, Any]:
    """What the page of the ranking and the report of a run that began with one have in common."""
    ranked = [c for c in record.candidates if c.probe is not None]
    return {
        "words": to_dict(words_of(record.modality)),
        "sentence": record.sentence,
        "score": record.score,
        "k": record.k,
        "rows": [_row(number, c) for number, c in enumerate(ranked, 1)],
        "has_tuned": any(c.tuned is not None for c in ranked),
        "scores": sorted({name for c in ranked for name in c.scores}),
        "points": points(ranked),
        "others": [
            {
                "name": c.name,
                "status": STATUS[c.status] or c.status,
                "why": c.why,
                "how_to_get": "" if c.how_to_get in c.why else c.how_to_get,
                "prior": c.prior,
            }
            for c in record.candidates
            if c.probe is None
        ],
    }


def points(ranked: Sequence[RankedCandidate]) -> list[dict[str, Any]]:
    """Quality and cost of those whose speed is known, numbered as in the table; on_front: none is better and cheaper.

    Only candidates of the last round are drawn: earlier ones were judged on fewer examples.
    """
    last = max((c.rounds for c in ranked), default=0)
    found = [
        {
            "number": number,
            "name": c.name,
            "cost": c.ms,
            **to_dict(c.probe),
            "chosen": c.status == "recommended",
        }
        for number, c in enumerate(ranked, 1)
        if c.rounds == last and c.ms > 0
    ]
    return [{**p, "on_front": not any(_dominates(q, p) for q in found)} for p in found]


def _dominates(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """No worse in either, better in one."""
    no_worse = a["value"] >= b["value"] and a["cost"] <= b["cost"]
    return no_worse and (a["value"] > b["value"] or a["cost"] < b["cost"])


def _row(number: int, c: RankedCandidate) -> dict[str, Any]:
    return {
        "number": number,
        "model": c.model,
        "layer": "" if c.layer == "features" else c.layer,
        "status": STATUS[c.status],
        "is_chosen": c.status == "recommended",
        "is_gone": c.status == "dropped",
        "probe": to_dict(c.probe),
        "tuned": to_dict(c.tuned) if c.tuned else None,
        "chance": c.chance,
        "prior": c.prior,
        "prior_from": c.prior_from,
        "combined": c.combined,
        "scores": dict(c.scores),
        "images_per_s": c.images_per_s,
        "parameters_millions": c.parameters / 1e6,
        "memory": human_bytes(c.weights_bytes),
        "licence": c.licence,
        "here": c.here,
        "why": c.why,
    }


def _costs(record: RankRecord) -> list[dict[str, Any]]:
    cost = record.cost
    parts = (
        ("Passes through networks", cost.forward),
        ("Choosing how to run them", cost.timing),
        ("Short fine-tunes", cost.tuning),
        (f"Looking at the {words_of(record.modality).many}", cost.looking),
        ("Loading weights", cost.loading),
        ("Scoring", cost.scoring),
    )
    return [{"name": name, "seconds": seconds} for name, seconds in parts if seconds >= 0.005]


def _facts(record: RankRecord) -> list[dict[str, str]]:
    ranked = sum(c.probe is not None for c in record.candidates)
    examples, one = record.rounds[-1].n if record.rounds else 0, words_of(record.modality).one
    facts = [
        ("Candidates", f"{ranked} of {len(record.candidates)} raced"),
        ("Last round on", wording.counted(examples, one)),
        ("Sealed for fit", wording.counted(record.sealed, one)),
        ("Time", wording.seconds(record.cost.total)),
    ]
    if record.budget_s is not None:
        facts.append(("Time given", wording.seconds(record.budget_s)))
    return [{"name": name, "text": text} for name, text in facts]
