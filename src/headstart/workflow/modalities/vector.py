"""Rows of a table, shown as the cells they hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from headstart.data.cells import in_words
from headstart.data.dataset import Dataset
from headstart.data.looks import Look
from headstart.data.rows import Row
from headstart.data.survey import Survey
from headstart.inputs.spec import InputSpec
from headstart.workflow.judge import Plain
from headstart.workflow.modalities.evidence import Shown
from headstart.workflow.modalities.rivals import linear, predicted

MOST_CELLS = 12  # of a row on the page
LONGEST = 60  # characters of one


class VectorEvidence:
    def plain(self, dataset: Dataset, survey: Survey, rows: np.ndarray, look: Look) -> Plain:
        values: list[Row] = [dataset.values[int(row)] for row in rows]
        return Plain(
            "linear",
            "a linear model (scikit-learn's, on the encoded columns)",
            lambda contest: predicted(linear, values, contest.known, [(contest.train, contest.test)])[0],
        )

    def shown(self, dataset: Dataset, shown: Shown, *, spec: InputSpec, look: Look) -> dict[str, dict[str, Any]]:
        row_of = {name: row for row, name in enumerate(dataset.ids)}
        wanted = [name for name in dict.fromkeys([*shown.wanted, *shown.seen]) if name in row_of]
        return {name: {"cells": cells_of(dataset.values[row_of[name]])} for name in wanted}


def cells_of(row: Row) -> list[tuple[str, str]]:
    """(column, cell) in words for the first columns; '–' for what is missing."""
    kinds = row.frame.kinds
    return [(name, in_words(value, kinds[name])[:LONGEST]) for name, value in list(row.cells.items())[:MOST_CELLS]]
