"""Rows of a table: encoded by the columns that the network was made for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headstart.inputs.columns import encode, width_of
from headstart.inputs.prepared import Prepared
from headstart.inputs.spec import VectorSpec


class VectorFeed:
    window: int | None = None
    timed = 16
    versions: tuple[str, ...] = ()
    at_least: int | None = None

    def __init__(self, spec: VectorSpec) -> None:
        self.columns = spec.columns

    def prepare(self, values: Sequence[Any]) -> list[Prepared]:
        return [Prepared(row) for row in encode(values, self.columns)]

    def nothing(self) -> Prepared:
        return Prepared(np.zeros(width_of(self.columns), np.float32))
