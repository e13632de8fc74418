"""Rows that someone gives a saved model: dictionaries, frames or tables, as the columns it learnt from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstart.base.errors import DataError, did_you_mean, listed, shown
from headstart.data.compact import LineNumbers
from headstart.data.dataset import Dataset
from headstart.data.open import open_dataset
from headstart.data.readers.columns import examples_of
from headstart.data.readers.features import features_of
from headstart.data.readers.reader import Containment, Request, resolve_all
from headstart.inputs.columns import kinds_of
from headstart.inputs.spec import MixedSpec, VectorSpec


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
    columns = {name: [row.get(name) for row in values] for name in names}
    places = LineNumbers(len(values), first=0, word="row")
    rows, _ = features_of(columns, places, where="the rows", taken=(), learnt=learnt)
    return Dataset("vector", [str(i) for i in range(len(values))], rows, origin="the rows")


def as_mixed(values: Any, spec: MixedSpec) -> Dataset:
    """The same for rows of several kinds of columns; a dictionary may leave out what is not known."""
    if isinstance(values, Mapping):
        values = [values]
    if not isinstance(values, list | tuple) or not all(isinstance(v, Mapping) for v in values):
        return open_dataset(values, learnt=spec.kinds)
    if not values:
        raise DataError("DA32 the list is empty: there are no rows.")
    columns = {name: [row.get(name) for row in values] for name in spec.kinds}
    strange = next((str(name) for row in values for name in row if name not in (*spec.kinds, spec.target)), None)
    if strange is not None:
        raise DataError(
            f"TB63 the model learnt from no column '{shown(strange)}'.{did_you_mean(strange, spec.kinds)} It learnt "
            f"from: {listed(spec.kinds, most=12)}."
        )
    places = LineNumbers(len(values), first=0, word="row")
    containment = Containment(None, allow_outside=True)  # the caller's own paths
    found = examples_of(
        columns,
        places,
        where="the rows",
        origin="the rows",
        request=Request(learnt=spec.kinds),
        files=lambda written, places: (resolve_all(written, places, "the rows", containment), []),
    )
    return Dataset("mixed", [str(i) for i in range(len(values))], found.values, origin="the rows")
