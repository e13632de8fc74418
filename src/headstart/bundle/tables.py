"""Rows that someone gives a saved model: dictionaries, frames or tables, as the columns it learnt from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstart.base.errors import DataError, shown
from headstart.data.compact import LineNumbers
from headstart.data.dataset import Dataset
from headstart.data.open import open_dataset
from headstart.data.readers.features import features_of
from headstart.inputs.columns import kinds_of
from headstart.inputs.spec import VectorSpec


def as_rows(values: Any, spec: VectorSpec) -> Dataset:
    """The rows in ``values``: a dictionary, a list of them, or what open_dataset reads. DataError as it raises."""
    learnt = kinds_of(spec.columns)
    if isinstance(values, Mapping):
        values = [values]
    if not isinstance(values, list | tuple) or not all(isinstance(v, Mapping) for v in values):
        return open_dataset(values, learnt=learnt)
    if not values:
        raise DataError("DA32 the list is empty: there are no rows.")
    names = list(dict.fromkeys(str(name) for row in values for name in row))
    short = next(
        ((i, name) for i, row in enumerate(values) for name in learnt if name in names and name not in row), None
    )
    if short is not None:
        raise DataError(f"TB63 row {short[0]} has no '{shown(short[1])}'. Give None where a value is not known.")
    places = LineNumbers(len(values), first=0, word="row")
    columns = {name: [row.get(name) for row in values] for name in names}
    rows, _ = features_of(columns, places, where="the rows", taken=(), learnt=learnt)
    return Dataset("vector", [str(i) for i in range(len(values))], rows, origin="the rows")
