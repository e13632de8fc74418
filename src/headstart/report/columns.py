"""The section on columns of a table: what each was taken for, which network was kept, and what each is worth."""

from __future__ import annotations

from typing import Any

from headstart.base.config import to_dict
from headstart.records.columns import ColumnRecord, ColumnsRecord, NetworkTrial
from headstart.report import wording

MOST_WORTH = 30  # columns whose worth is drawn
KINDS = {
    "number": "number",
    "boolean": "yes or no",
    "date": "date",
    "day-first date": "date, the day first",
    "month-first date": "date, the month first",
    "category": "names",
}


def columns(record: ColumnsRecord) -> dict[str, Any]:
    words = wording.metric_words(record.metric)
    shown = record.contributions[:MOST_WORTH]
    return {
        "metric": words.name,
        "higher_is_better": words.higher_is_better,
        "columns": [_column(c) for c in record.columns],
        "left_out": [note.removeprefix("TB68 ") for note in record.left_out],
        "trials": [_trial(t) for t in record.trials],
        "reason": record.reason,
        "worth": [{"column": c.column, "loss": to_dict(c.loss)} for c in shown],
        "worth_more": len(record.contributions) - len(shown),
        "shuffles": record.shuffles,
    }


def _column(column: ColumnRecord) -> dict[str, Any]:
    return {**to_dict(column), "kind": KINDS.get(column.kind, column.kind), "holds": holds(column)}


def holds(column: ColumnRecord) -> str:
    """What is in a column, in words."""
    if column.kind == "category":
        more = column.values - len(column.examples)
        return ", ".join(column.examples) + (f" and {more:,} more" if more > 0 else "")
    if column.kind == "boolean":
        return f"more often {column.middle}"
    return f"{column.low} to {column.high}, middle {column.middle}"


def _trial(trial: NetworkTrial) -> dict[str, Any]:
    return {**to_dict(trial), "head": wording.head_name(trial.head), "is_kept": trial.kept}
