"""Decimal commas are read where the user says so, and nowhere else (RELIABILITY row 59)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headstart.base.errors import DataError
from headstart.data import compact
from headstart.data.decimals import as_point
from headstart.data.open import open_dataset


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1,5", "1.5"),
        (" -0,25 ", " -0.25 "),
        ("1.234,5", "1234.5"),
        ("1.234.567", "1234567"),
        ("2,5e3", "2.5e3"),
        ("12", "12"),
        ("1,2,3", "1,2,3"),
        ("12.34,5", "12.34,5"),
        ("0.125", "0.125"),
        ("31.12.2024", "31.12.2024"),
        ("a,5", "a,5"),
        ("", ""),
        (None, None),
        (1.5, 1.5),
    ],
)
def test_cells_that_are_numbers_get_their_point(written: object, read: object) -> None:
    assert as_point(written) == read


def table(folder: Path, rows: int = 40) -> Path:
    lines = [f"{i},5;{i % 7 + 1}.000;{'ab'[i % 2]} 1,5;" + f"{i * 0.37:.2f}".replace(".", ",") for i in range(rows)]
    path = folder / "t.csv"
    path.write_text("x;thousands;name;price\n" + "\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("spooled", [False, True])
def test_features_and_targets_are_read(tmp_path: Path, spooled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if spooled:
        monkeypatch.setattr(compact, "MOST_WORDS", 3)
    made = open_dataset(table(tmp_path), target="price", decimal=",")
    assert made.target_kind == "regression"
    assert list(made.targets or ()) == [round(i * 0.37, 2) for i in range(40)]
    frame = made.values.frame
    assert np.array_equal(frame.columns["x"], np.arange(40) + 0.5)
    assert np.array_equal(frame.columns["thousands"], (np.arange(40) % 7 + 1) * 1000.0)
    assert frame.kinds == {"x": "number", "thousands": "number", "name": "category"}
    with pytest.raises(DataError, match=r"TB59 .*--decimal ','"):
        open_dataset(table(tmp_path), target="price")


def test_texts_keep_their_commas(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('text,grade\n"1,5","2,5"\n"2,5","1,0"\n' * 8)
    made = open_dataset(path, text="text", target="grade", decimal=",")
    assert made.values[:2] == ["1,5", "2,5"]
    assert made.targets is not None and made.targets[:2] == ["2.5", "1.0"]


def test_commas_and_points_in_one_column_are_an_error_with_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x;y\n1,5;a\n2.5;b\n3,5;a\n")
    with pytest.raises(DataError, match=r"TB59 t\.csv, column 'x' has numbers with a comma .*: '2\.5' \(line 3\)\."):
        open_dataset(path, target="y", features=("x",), decimal=",")


def test_a_bar_divides_columns_where_no_comma_does(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("text|label\n" + "good, very good|yes\nbad|no\n" * 3)
    assert open_dataset(path, text="text").values[0] == "good, very good"
