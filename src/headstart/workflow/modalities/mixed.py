"""Rows of several kinds of columns, shown block by block."""

from __future__ import annotations

from typing import Any

import numpy as np

from headstart.base.errors import DataError
from headstart.data.dataset import Dataset
from headstart.data.looks import Look
from headstart.data.looks.mixed import MixedLook
from headstart.data.parts import Part, parts_of
from headstart.data.survey import Survey
from headstart.inputs.spec import ImageSpec, InputSpec
from headstart.workflow.judge import Plain
from headstart.workflow.modalities.evidence import Shown
from headstart.workflow.modalities.text import clipped
from headstart.workflow.modalities.vector import cells_of
from headstart.workflow.pictures import pictures


class MixedEvidence:
    def plain(self, dataset: Dataset, survey: Survey, rows: np.ndarray, look: Look) -> Plain:
        raise DataError("DA34 a mixed table has a plain rival for each of its blocks: fit names them.")

    def shown(self, dataset: Dataset, shown: Shown, *, spec: InputSpec, look: Look) -> dict[str, dict[str, Any]]:
        """The first picture, the first text and some cells of each row."""
        assert isinstance(look, MixedLook), "rows of several blocks"
        wanted = set(dict.fromkeys([*shown.wanted, *shown.seen]))
        found: dict[str, dict[str, Any]] = {}
        for part in parts_of(dataset):
            here = part.dataset.take([row for row, name in enumerate(part.dataset.ids) if name in wanted])
            for name, told in _of_block(part, here, look).items():
                found[name] = {**told, **found.get(name, {})}
        return found


def _of_block(part: Part, here: Dataset, look: MixedLook) -> dict[str, dict[str, Any]]:
    if part.modality == "image":
        return dict(pictures(here, here.ids, (), spec=ImageSpec(), look=look.of("image")))
    if part.modality == "text":
        return {name: {"text": clipped(text)} for name, text in zip(here.ids, here.values, strict=True)}
    if part.modality == "vector":
        return {name: {"cells": cells_of(row)} for name, row in zip(here.ids, here.values, strict=True)}
    return {}  # of sounds there is nothing that a row of a page has room for
