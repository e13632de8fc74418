"""Predictions as CSV run nothing in a spreadsheet and lose nothing (RELIABILITY E3)."""

from __future__ import annotations

import csv
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.base.errors import DataError, EnvironmentFault
from headstart.base.seeds import stream
from headstart.bundle.csv import original, read_predictions_csv, safe, write_predictions_csv
from headstart.records.audit import Quarantined
from headstart.records.predictions import Predictions

DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠")
NASTY = [f"{prefix}cmd|' /C calc'!A0" for prefix in DANGEROUS] + [
    f" {DANGEROUS[0]}1",
    "'=1",
    "''=1",
    "'tis",
    "no",
    "007",
    "NA",
]


def predictions(task, scores, labels, ids=None):
    scores = np.asarray(scores, float)
    ids = [f"{i}.jpg" for i in range(len(scores))] if ids is None else ids
    return Predictions(np.asarray(ids, object), scores, None, tuple(labels), task)


def probabilities(count, classes):
    return stream(0, "csv").dirichlet(np.ones(classes), count)


def cells(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_classification_has_a_column_for_each_class(tmp_path):
    write_predictions_csv(tmp_path / "p.csv", predictions("classification", [[0.25, 0.75], [0.9, 0.1]], ["cat", "dog"]))
    assert cells(tmp_path / "p.csv") == [
        ["id", "prediction", "confidence", "p_cat", "p_dog", "problem"],
        ["0.jpg", "dog", "0.75", "0.25", "0.75", ""],
        ["1.jpg", "cat", "0.9", "0.9", "0.1", ""],
    ]


def test_with_more_than_fifty_classes_the_five_best_are_written(tmp_path):
    scores = probabilities(4, 51)
    write_predictions_csv(tmp_path / "p.csv", predictions("classification", scores, [f"c{i}" for i in range(51)]))
    rows = read_predictions_csv(tmp_path / "p.csv")
    assert list(rows[0]) == [
        "id",
        "prediction",
        "confidence",
        *(name for i in range(1, 6) for name in (f"class_{i}", f"p_{i}")),
        "problem",
    ]
    for row, truth in zip(rows, scores, strict=True):
        best = np.argsort(-truth)[:5]
        assert [row[f"class_{i + 1}"] for i in range(5)] == [f"c{k}" for k in best]
        assert [float(row[f"p_{i + 1}"]) for i in range(5)] == pytest.approx(truth[best], rel=1e-8)


def test_multilabel_confidence_is_that_of_the_least_certain_decision(tmp_path):
    write_predictions_csv(tmp_path / "p.csv", predictions("multilabel", [[0.9, 0.4], [0.1, 0.2]], ["red", "round"]))
    rows = read_predictions_csv(tmp_path / "p.csv")
    assert [(r["prediction"], r["confidence"]) for r in rows] == [("red", "0.6"), ("", "0.8")]


def test_regression_values_are_numbers_negative_ones_too(tmp_path):
    write_predictions_csv(tmp_path / "p.csv", predictions("regression", [[-1.5], [2e-7]], ["value"]))
    assert cells(tmp_path / "p.csv") == [["id", "prediction", "problem"], ["0.jpg", "-1.5", ""], ["1.jpg", "2e-07", ""]]


def test_several_regression_values_have_a_column_each(tmp_path):
    write_predictions_csv(tmp_path / "p.csv", predictions("regression", [[-1.5, 3.0]], ["x", "y"]))
    assert read_predictions_csv(tmp_path / "p.csv") == [
        {"id": "0.jpg", "prediction": "-1.5 3", "value_x": "-1.5", "value_y": "3.0", "problem": ""}
    ]


def test_unreadable_files_are_listed_with_their_reason(tmp_path):
    bad = [Quarantined("=bad.jpg", "IM26", "is an HTML page, not an image")]
    write_predictions_csv(tmp_path / "p.csv", predictions("classification", [[0.5, 0.5]], ["a", "b"]), bad)
    last = read_predictions_csv(tmp_path / "p.csv")[-1]
    assert last["id"] == "=bad.jpg" and last["problem"] == "IM26: is an HTML page, not an image"
    assert last["prediction"] == last["confidence"] == last["p_a"] == ""


# -- E3 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_no_cell_is_a_formula_and_the_originals_come_back(tmp_path, task):
    n = len(NASTY)
    scores = np.eye(n) * 0.9 + 0.05 / n
    write_predictions_csv(
        tmp_path / "p.csv", predictions(task, scores, NASTY, NASTY), [Quarantined(i, i, i) for i in NASTY]
    )
    for row in cells(tmp_path / "p.csv"):
        for cell in row:
            assert not cell.lstrip(" \u3000").startswith(DANGEROUS), cell
    rows = read_predictions_csv(tmp_path / "p.csv")
    assert [r["id"] for r in rows] == NASTY * 2
    assert [r["prediction"] for r in rows[:n]] == NASTY
    assert list(rows[0])[3:-1] == [f"p_{name}" for name in NASTY]
    assert [r["problem"] for r in rows[n:]] == [f"{i}: {i}" for i in NASTY]


def test_no_cell_of_the_top_five_is_a_formula(tmp_path):
    labels = NASTY + [f"={i}" for i in range(60 - len(NASTY))]
    write_predictions_csv(tmp_path / "p.csv", predictions("classification", probabilities(30, 60), labels))
    for row in cells(tmp_path / "p.csv"):
        assert not any(cell.lstrip(" ").startswith(DANGEROUS) for cell in row)
    assert all(
        r["class_1"] == r["prediction"] and r["class_5"] in labels for r in read_predictions_csv(tmp_path / "p.csv")
    )


@given(st.text(alphabet=st.sampled_from("'= +-@\t\r\n\0＝ab 　"), max_size=6) | st.text())
def test_safe_and_original_are_inverse(text):
    assert original(safe(text)) == text
    assert not safe(text).lstrip(" \u00a0\u3000").startswith(DANGEROUS)


def test_numbers_survive_pandas(tmp_path):
    pandas = pytest.importorskip("pandas")
    scores = probabilities(20, 3)
    write_predictions_csv(tmp_path / "p.csv", predictions("classification", scores, ["a", "b", "c"]))
    table = pandas.read_csv(tmp_path / "p.csv", keep_default_na=False)
    assert table[["p_a", "p_b", "p_c"]].to_numpy() == pytest.approx(scores, rel=1e-8)
    assert table["confidence"].to_numpy() == pytest.approx(scores.max(axis=1), rel=1e-8)


def test_names_that_are_not_utf8_are_written_as_escapes(tmp_path):
    write_predictions_csv(
        tmp_path / "p.csv", predictions("classification", [[0.5, 0.5]], ["a", "b"], ["caf\udce9.jpg"])
    )
    assert read_predictions_csv(tmp_path / "p.csv")[0]["id"] == "caf\\udce9.jpg"


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    table = predictions("classification", [[0.5, 0.5]], ["a", "b"])
    write_predictions_csv(tmp_path / "p.csv", table)
    before = (tmp_path / "p.csv").read_bytes()

    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(EnvironmentFault, match="EN69"):
        write_predictions_csv(tmp_path / "p.csv", table)
    assert (tmp_path / "p.csv").read_bytes() == before and os.listdir(tmp_path) == ["p.csv"]


def test_a_table_of_something_else_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="not a table of predictions"):
        read_predictions_csv(tmp_path / "x.csv")
