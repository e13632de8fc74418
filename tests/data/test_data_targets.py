"""The kind of target is told from the column, in words, and can be overruled (rows 51, 52, 58, 59)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.base.errors import DataError
from headstart.data.targets import settle_targets


def told(values: list, **options: object) -> tuple[str, list]:
    settled = settle_targets(values, name="label", **options)
    return settled.kind, settled.values


def problem(values: list, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        settle_targets(values, name="label", where="d.csv", **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["cat", "dog"], "single-label"),
        (["0", "1", "1"], "single-label"),
        ([0, 1, 1], "single-label"),
        (["007", "7", "07"], "single-label"),
        (["NA", "nan", "None"], "single-label"),
        ([True, False], "single-label"),
        (["1.0", "2.0", "1.0"], "single-label"),
        ([str(k % 100) for k in range(1000)], "single-label"),
        (["a|b", "a", "c"], "multi-label"),
        ([["a"], [], ["a", "b"]], "multi-label"),
        ([(0, 1, 1), (0, 0, 0)], "multi-label"),
        ([f"{i / 7:.3f}" for i in range(40)], "regression"),
        ([i / 7 for i in range(40)], "regression"),
        ([(0.5, 2.0), (1.5, 1.0)], "regression"),
        ([f"{v}e-3" for v in range(30)], "regression"),
    ],
)
def test_the_kind_is_told_from_the_values(values: list, kind: str) -> None:
    assert told(values)[0] == kind
    assert settle_targets(values, name="label").reason


def test_values_come_in_their_form() -> None:
    assert told([1, 2, 1])[1] == ["1", "2", "1"]
    assert told([np.str_("a"), "b"])[1] == ["a", "b"]
    assert told(["b|a|b", " c | ", "a"])[1] == [("b", "a"), ("c",), ("a",)]
    assert told([(0, 1, 1), (0, 0, 0)])[1] == [("1", "2"), ()]
    assert told(["1.5", "2e3"], task="regression")[1] == [1.5, 2000.0]
    assert told([("1.5", "2"), ("0", "1")], task="regression")[1] == [(1.5, 2.0), (0.0, 1.0)]
    assert all(type(v) is str for v in told([np.str_("a"), "b"])[1][1:])


@given(st.lists(st.text(min_size=1).filter(lambda t: "|" not in t and t.strip()), min_size=1, max_size=19))
def test_single_labels_are_never_changed(labels: list[str]) -> None:
    assert told(labels, task="single-label") == ("single-label", labels)


def test_the_user_can_overrule() -> None:
    assert told(["1", "2", "3"], task="regression") == ("regression", [1.0, 2.0, 3.0])
    assert told(["a|b", "c"], task="single-label") == ("single-label", ["a|b", "c"])
    assert told(["a", "b"], task="multi-label") == ("multi-label", [("a",), ("b",)])
    assert "Did you mean 'regression'?" in problem(["1"], task="regresion")


def test_rows_without_a_label_are_named_by_line() -> None:
    values = ["a", "", "b", None, "  ", float("nan"), "a"]
    said = problem(values, places=[f"line {i + 2}" for i in range(7)])
    assert said.startswith("TB52 d.csv, column 'label': 4 of 7 rows have no label (lines 3, 5, 6, 7).")
    assert "--drop-unlabelled" in said
    settled = settle_targets(values, name="label", drop_unlabelled=True)
    assert settled.values == ["a", "b", "a"]
    assert settled.keep.tolist() == [0, 2, 6]
    assert settled.notes == ("4 rows without a label were left out.",)
    assert "every one of its 2 rows is empty" in problem(["", None], drop_unlabelled=True)


def test_an_empty_cell_in_a_declared_multi_label_column_means_none() -> None:
    assert told(["a|b", "", "c"], task="multi-label")[1] == [("a", "b"), (), ("c",)]
    assert "TB52" in problem(["a|b", "", "c"])


def test_nearly_as_many_values_as_rows_are_ids_or_numbers() -> None:
    said = problem([str(i) for i in range(9214)] + ["0"] * 86)
    assert said.startswith(
        "TB58 d.csv, column 'label': target has 9,214 values in 9,300 rows. Regression? --task regression"
    )
    assert "TB58" in problem([f"id{i}" for i in range(50)])
    assert "TB58" in problem([f"{i / 7:.3f}" for i in range(40)], task="single-label")
    assert told([f"class{i}" for i in range(10)])[0] == "single-label"  # ten images of ten things is few, not wrong


def test_decimal_commas_are_recognised() -> None:
    said = problem([f"{i},5" for i in range(49)] + ["x"])
    assert said.startswith("TB59 d.csv, column 'label': 98% look like numbers with a decimal comma (first: '0,5')")
    assert "decimal commas" in problem(["1,5", "2.5"], task="regression")
    assert told(["1,5", "2,5"], task="single-label")[0] == "single-label"


def test_words_among_numbers_are_named_by_line() -> None:
    said = problem(["1", "two", "inf", "1e999"], task="regression", places=[f"line {i + 2}" for i in range(4)])
    assert "3 of 4 values are not numbers: 'two' (line 3), 'inf' (line 4), '1e999' (line 5)" in said
