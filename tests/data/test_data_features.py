"""Which columns of a table are learnt from."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.base.errors import DataError
from headstart.data.dataset import content_key
from headstart.data.open import open_dataset
from headstart.data.readers.features import matching
from headstart.data.rows import Rows, column_of


def table(path, header, rows):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture
def cars(tmp_path):
    rows = [f"c{i},{i * 7 % 50},{'red' if i % 3 else 'blue'},{i % 4},{100 + i % 9}.5" for i in range(60)]
    return table(tmp_path / "cars.csv", "id,age,colour,doors,price", rows)


def columns_of(dataset):
    return list(dataset.values[0].frame.kinds)


def test_all_but_the_target_and_what_says_nothing_is_learnt_from(cars):
    dataset = open_dataset(cars, target="price", task="regression")
    assert dataset.modality == "vector"
    assert columns_of(dataset) == ["age", "colour", "doors"]
    assert list(dataset.meta) == ["id"]
    assert dataset.notes == ("TB68 column 'id' left out: it names the rows: 60 different values in 60 rows.",)


@pytest.mark.parametrize(
    ("patterns", "taken"),
    [
        (["age", "d*"], ["age", "doors"]),
        (["*", "-age"], ["colour", "doors"]),
        (["-colour"], ["age", "doors"]),
        (["id", "age"], ["id", "age"]),
    ],
)
def test_columns_are_chosen_by_name_and_pattern(cars, patterns, taken):
    assert columns_of(open_dataset(cars, target="price", task="regression", features=patterns)) == taken


def test_a_pattern_that_fits_nothing_is_an_error(cars):
    with pytest.raises(DataError, match=r"TB63 cars\.csv has no column 'agee' for --features\. Did you mean 'age'"):
        open_dataset(cars, target="price", features=["agee"])


def test_a_column_that_begins_with_a_dash_can_be_named():
    assert matching(["-a", "b"], ["-a"], "t") == ["-a"]


def test_a_target_known_by_its_name_makes_a_table_of_features(tmp_path):
    rows = [f"{i % 5},{i % 7},{'ab'[i % 2]}" for i in range(30)]
    dataset = open_dataset(table(tmp_path / "t.csv", "x,z,label", rows))
    assert dataset.modality == "vector"
    assert columns_of(dataset) == ["x", "z"]


def test_a_table_of_pictures_stays_one(tmp_path):
    with pytest.raises(DataError, match=r"DA36 t\.csv: none of its 2 files exists"):
        open_dataset(table(tmp_path / "t.csv", "path,age,label", ["a.jpg,3,x", "b.jpg,4,y"]), target="label")


def test_where_only_texts_are_left_the_way_to_them_is_told(tmp_path):
    rows = [f"this is review number {i},{'ab'[i % 2]}" for i in range(30)]
    with pytest.raises(DataError, match=r"TB63 t\.csv: column 'review' holds texts.*--text review"):
        open_dataset(table(tmp_path / "t.csv", "review,mood", rows), target="mood")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1,a,0.5"] * 30, r"TB63 t\.csv has no column to learn from.*'x' \(every row holds '1'\)"),
        ([f"{i}.5,{'ab'[i % 2]},0.{i}" for i in range(1, 40)] + ["inf,a,0.7"], r"TB53 t\.csv, column 'x'.*line 41"),
        (
            [f"{i}.5,{'ab'[i % 2]},0.{i}" for i in range(1, 40)] + ["oops,a,0.7"],
            r"TB67 t\.csv, column 'x'.*'oops' \(line 41",
        ),
        ([f'"{i},5",{"ab"[i % 2]},0.{i}' for i in range(1, 40)], r"TB59 t\.csv, column 'x'.*first: '1,5'"),
        ([f"{i * i},n{i},0.{i}" for i in range(1, 40)] + ["3,a"], r"TB55 t\.csv: line 41 has 2 fields, header has 3"),
        (
            [f"{i * i % 7},{'ab'[i % 2]}," for i in range(30)],
            r"TB52 t\.csv, column 'y': every one of its 30 rows is empty",
        ),
    ],
)
def test_a_table_that_cannot_be_learnt_from_is_one_error_that_names_the_place(rows, message, tmp_path):
    with pytest.raises(DataError, match=message):
        open_dataset(table(tmp_path / "t.csv", "x,b,y", rows), target="y")


def test_rows_are_views_and_keys_follow_content(cars):
    dataset = open_dataset(cars, target="price", task="regression")
    assert isinstance(dataset.values, Rows)
    part = dataset.take([5, 2])
    np.testing.assert_array_equal(column_of(part.values, "age"), [35, 14])
    assert content_key(part.values[0]) == content_key(dataset.values[5])
    assert len({content_key(v) for v in dataset.values}) == 60


def test_equal_rows_have_equal_keys_in_any_order_of_columns(tmp_path):
    import pandas

    frame = pandas.DataFrame({"a": [1.0, 1.0, 2.0] * 9, "b": ["x", "x", "y"] * 9, "y": [1.5, 2.5, 3.5] * 9})
    first = open_dataset(frame, target="y", task="regression")
    turned = open_dataset(frame[["y", "b", "a"]], target="y", task="regression")
    keys = [content_key(v) for v in first.values]
    assert keys[0] == keys[1] != keys[2]
    assert keys == [content_key(v) for v in turned.values]


def test_csv_and_frame_give_the_same_rows(cars):
    import pandas

    written = open_dataset(cars, target="price", task="regression")
    typed = open_dataset(pandas.read_csv(cars), target="price", task="regression")
    assert [content_key(v) for v in written.values] == [content_key(v) for v in typed.values]


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (lambda p: np.save(p, np.array([{"a": 1}], dtype=object), allow_pickle=True), "TB70 .*not an array file"),
        (lambda p: p.write_bytes(b"\x93NUMPY garbage"), "TB70 .*not an array file"),
        (lambda p: np.save(p, np.zeros((3, 4, 5))), r"TB70 .*shape \(3, 4, 5\)"),
        (lambda p: np.save(p, np.array([[1.0, np.inf], [2.0, 1.0]])), r"TB53 .*column 'x1': 1 of 2 values.*row 0"),
        (lambda p: np.save(p, np.zeros((0, 4))), "DA32 .*no examples"),
    ],
)
def test_arrays_that_cannot_be_learnt_from_are_named(tmp_path, save, message):
    path = tmp_path / "a.npy"
    save(path)
    with pytest.raises(DataError, match=message):
        open_dataset(path)


def test_targets_of_an_array_lie_beside_it(tmp_path):
    np.save(tmp_path / "X.npy", np.arange(12.0).reshape(4, 3))
    (tmp_path / "y.txt").write_text("a\nb\na\nb\n")
    assert open_dataset(tmp_path / "X.npy", target="y.txt").targets == ["a", "b", "a", "b"]
    np.save(tmp_path / "y.npy", np.array(["a", "b", "a"]))
    with pytest.raises(DataError, match=r"DA35 .*4 examples but 3 targets"):
        open_dataset(tmp_path / "X.npy", target=str(tmp_path / "y.npy"))
    with pytest.raises(DataError, match=r"TB63 .*no array 'z' for the target"):
        open_dataset(tmp_path / "X.npy", target="z")
