"""Public tables of how pretrained networks fared after fine-tuning, typed from where ``sources.json`` says.

They are what the prior is made of and what ``benchmarks/replay.py`` replays. Accuracies are in per cent.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from headstart.base.files import parse_json

TABLES = ("sfda_supervised", "sfda_self_supervised", "tllib", "stable_transfer")
SAME_DATA = {"oxford_flowers102": "flowers", "oxford_iiit_pet": "pets"}  # one name for a data set in all tables


@dataclass(frozen=True)
class Replayed:
    """One data set of one table: M networks, how each fared after fine-tuning, and what was published of it before.

    finetuned: (M,) test accuracy, per cent.  scores: (M,) each, higher is better in all of them.
    """

    table: str
    data: str
    models: tuple[str, ...]
    finetuned: np.ndarray
    scores: Mapping[str, np.ndarray]


def replayed(table: str, *, all_columns: bool = False) -> Iterator[Replayed]:
    """The data sets of a table. all_columns: also those that ``sources.json`` calls unusable."""
    rows = rows_of(table)
    unusable = sources()[table]["unusable"]
    for data in dict.fromkeys(row["dataset"] for row in rows):
        mine = [row for row in rows if row["dataset"] == data]
        bad = () if all_columns else unusable.get(data, ())
        columns = [c for c in mine[0] if c not in ("dataset", "model", "finetuned", *bad)]
        yield Replayed(
            table,
            SAME_DATA.get(data, data),
            tuple(row["model"] for row in mine),
            np.array([float(row["finetuned"]) for row in mine]),
            {c: np.array([float(row[c]) for row in mine]) for c in columns},
        )


def source_accuracy() -> dict[str, float]:
    """ImageNet-1k top-1 in per cent, by network."""
    return {row["model"]: float(row["top1"]) for row in rows_of("source_accuracy")}


def rows_of(table: str) -> list[dict[str, str]]:
    return list(csv.DictReader(_read(f"{table}.csv").splitlines()))


def sources() -> Any:
    """Where each table comes from, what its columns mean, and which of its numbers cannot be right."""
    return parse_json(_read("sources.json"), where="ranking/tables/sources.json")


def _read(name: str) -> str:
    return files("headstart.ranking.tables").joinpath(name).read_text(encoding="utf-8")
