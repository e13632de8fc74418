"""Columns become numbers of one size, by what was measured on the rows they were learnt from."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.base.config import from_dict, to_dict
from headstart.data.cells import parsed, tell
from headstart.data.rows import Frame, Rows
from headstart.inputs.columns import encode, learn_columns, places_of, unfamiliar, width_of
from headstart.inputs.spec import VectorSpec


def rows_of(**columns):
    n = len(next(iter(columns.values())))
    places = [str(i) for i in range(n)]
    kinds = {name: tell(name, values).kind for name, values in columns.items()}
    made = {name: parsed(name, kinds[name], values, places, "t") for name, values in columns.items()}
    return Rows(Frame(made, kinds, "t", places))


def some_rows(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return rows_of(
        x=[repr(float(v)) if i % 7 else "" for i, v in enumerate(rng.lognormal(size=n))],
        colour=rng.choice(["red", "green", "blue", ""], n).tolist(),
        when=[str(np.datetime64("2020-01-01") + int(d)) for d in rng.integers(0, 900, n)],
        sold=rng.choice(["yes", "no"], n).tolist(),
    )


def test_every_column_is_centred_and_has_variance_one_in_its_values():
    rows = some_rows()
    columns = learn_columns(rows)
    X = encode(rows, columns).astype(np.float64)
    assert X.shape == (60, width_of(columns))
    np.testing.assert_allclose(X.mean(axis=0), 0, atol=1e-6)
    places = places_of(columns)
    for column in columns:
        variance = X[:, places[column.name]].var(axis=0)
        if column.kind == "category":
            assert variance.sum() == pytest.approx(1, abs=1e-5)
        else:
            np.testing.assert_allclose(variance, 1, atol=1e-5)


def test_a_number_is_standardised_and_a_missing_one_is_the_middle_and_marked():
    rows = rows_of(x=["1", "2", "", "7", "5"])
    (column,) = learn_columns(rows)
    assert column.parts == ("value", "missing")
    assert column.fill == 3.5
    filled = np.array([1, 2, 3.5, 7, 5])
    expected = (filled - filled.mean()) / filled.std()
    np.testing.assert_allclose(encode(rows, [column])[:, 0], expected, rtol=1e-6)


def test_names_that_were_not_learnt_are_none_of_those_that_were():
    learnt = rows_of(colour=["red", "red", "blue", "blue", "green"])
    columns = learn_columns(learnt)
    assert columns[0].parts == ("blue", "red")
    assert columns[0].rare == ("green",)
    new = rows_of(colour=["mauve", "green", "red"])
    X = encode(new, columns)
    np.testing.assert_array_equal(X[0], X[1])
    assert not np.array_equal(X[0], X[2])
    assert unfamiliar(new, columns) == {"colour": ("mauve",)}


def test_encoding_does_not_depend_on_the_other_rows():
    rows = some_rows()
    columns = learn_columns(rows)
    whole = encode(rows, columns)
    for i in (0, 7, 33):
        np.testing.assert_array_equal(encode([rows[i]], columns)[0], whole[i])
    assert encode([], columns).shape == (0, width_of(columns))


def test_what_is_learnt_survives_json():
    spec = VectorSpec(learn_columns(some_rows()), "price")
    assert from_dict(VectorSpec, to_dict(spec)) == spec


def test_columns_without_spread_in_the_training_rows_have_no_parts():
    rows = rows_of(x=["1", "1", "1", "2"], c=["a", "a", "a", "b"])
    columns = learn_columns(rows[:3])
    assert [c.parts for c in columns] == [(), ()]
    assert encode(rows, columns).shape == (4, 0)


def test_a_numbered_series_keeps_the_lengths_of_its_directions():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(50, 20)) * np.linspace(1, 5, 20) + 3
    rows = rows_of(**{f"emb_{i}": X[:, i].tolist() for i in range(20)}, age=rng.normal(size=50).tolist())
    columns = learn_columns(rows)
    found = encode(rows, columns)[:, :20].astype(np.float64)
    centred = X - X.mean(axis=0)
    ratio = found / centred
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)
    assert found.var(axis=0).mean() == pytest.approx(1, rel=1e-4)


def test_dates_keep_their_order_and_tell_weekday_and_season():
    days = [np.datetime64("2021-01-04") + i for i in range(400)]
    rows = rows_of(when=[str(d) for d in days])
    (column,) = learn_columns(rows)
    assert {"value", "weekday 0", "season cos"} <= set(column.parts)
    assert "hour cos" not in column.parts
    X = encode(rows, [column])
    assert (np.diff(X[:, 0]) > 0).all()
    monday = X[:, column.parts.index("weekday 0")]
    assert (np.flatnonzero(monday > 0) % 7 == 0).all()


def test_large_numbers_with_little_spread_keep_it():
    values = [1.6e12 + i for i in range(0, 3000, 100)]
    rows = rows_of(t=[f"{v + (v % 700):.0f}" for v in values])
    X = encode(rows, learn_columns(rows))
    assert len(np.unique(X)) == 30
