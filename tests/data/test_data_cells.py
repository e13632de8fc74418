"""What a column holds is told from its cells, and obeyed afterwards."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.base.errors import DataError
from headstart.data.cells import in_words, parsed, seconds, tell, word


def places(values):
    return [f"line {i + 2}" for i in range(len(values))]


def read(kind, values, name="c"):
    return parsed(name, kind, values, places(values), "t.csv")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2.5", "-3e2", ""], "number"),
        ([1, 2, 3, None], "number"),
        ([1.5, float("nan"), 2.0], "number"),
        (["4", "NA", "5", "?"], "number"),
        (["1", "2", "3 and more", "1", "2"], "category"),
        (["red", "blue", "red", ""], "category"),
        (["01067", "10115", "01067"], "category"),
        (["yes", "no", "", "YES"], "boolean"),
        ([True, False, True], "boolean"),
        (["TRUE", "FALSE"], "boolean"),
        (["2024-03-31", "2023-01-02", ""], "date"),
        (["2024-03-31 16:05", "2024-03-31T16:05:10Z"], "date"),
        ([datetime.date(2024, 3, 31), datetime.date(2024, 4, 1)], "date"),
        (["03.04.2024", "31.12.2024", "", "1.2.2024 9:05"], "day-first date"),
        (["03/04/2024", "12/31/2024 16:05", "n/a"], "month-first date"),
        (["2024-03-04", "31-12-2024", "2024-03-05"], "day-first date"),
    ],
)
def test_the_kind_is_told_from_all_cells(values, kind):
    assert tell("c", values).kind == kind


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("c", ["a"] * 30, "every row holds 'a'"),
        ("c", [7] * 30, "every row holds '7'"),
        ("c", ["", None] * 5, "empty"),
        ("c", [str(i) for i in range(100, 130)], "numbers the rows"),
        ("c", list(reversed(range(30))), "numbers the rows"),
        ("user_id", [i * i for i in range(30)], "names the rows"),
        ("userId", [i * i for i in range(30)], "names the rows"),
        ("c", [f"k{i}" for i in range(30)], "names the rows"),
        ("c", [f"this is sentence {i} of them" for i in range(30)], "texts"),
        ("c", ["31/12/21", "30/12/21"] * 15, "'31/12/21' are not read"),
        ("c", [[1], [2]] * 15, "lists"),
    ],
)
def test_what_cannot_be_learnt_from_is_told_with_its_reason(name, values, why):
    found = tell(name, values)
    assert found.kind is None
    assert why in found.why


@pytest.mark.parametrize("name", ["paid", "humid", "width", "area"])
def test_a_name_that_only_ends_like_an_identifier_is_none(name):
    assert tell(name, [i * i for i in range(30)]).kind == "number"


def test_decimal_commas_are_an_error_that_says_what_to_do():
    with pytest.raises(
        DataError, match=r"TB59 t\.csv, column 'h': 100% look like numbers with a decimal comma \(first: '1,5'"
    ):
        tell("h", ["1,5", "2,25"] * 15, "t.csv")


def test_words_among_numbers_are_named_by_row_and_column():
    values = [f"{i}.5" for i in range(40)] + ["tall", "12"]
    assert tell("h", values).kind == "number"
    with pytest.raises(
        DataError, match=r"TB67 t\.csv, column 'h' holds numbers, but 1 of 42 cells .*'tall' \(line 42\)"
    ):
        read("number", values, "h")


@pytest.mark.parametrize("cell", ["inf", "-Infinity", float("inf"), "1e308"])
def test_infinite_and_absurd_numbers_are_named(cell):
    with pytest.raises(DataError, match=r"TB53 t\.csv, column 'h': 1 of 3 values .*line 3"):
        read("number", ["1", cell, "2"], "h")


def test_an_impossible_day_is_no_date():
    assert seconds("2023-02-31") is None
    with pytest.raises(DataError, match=r"TB67 .*'2023-02-31' \(line 3\)"):
        read("date", ["2023-02-01", "2023-02-31"])


@pytest.mark.parametrize("kind, text", [("day-first date", "31.3.2024"), ("month-first date", "3.31.2024")])
def test_a_date_is_the_same_however_its_column_writes_it(kind, text):
    assert seconds(text, kind) == seconds("2024-03-31") == seconds("2024-03-31", kind)
    assert seconds(f"{text} 9:05", kind) == seconds("2024-03-31T09:05")
    assert seconds(text) is None


def test_dates_that_can_be_read_in_two_ways_are_refused_by_cell_and_row():
    wanted = r"TB71 t\.csv, column 'day': dates such as '03/04/2021' \(line 3\) .* no day above 12 .*'\*,-day'"
    values = ["", "03/04/2021", "05/04/2021"]
    with pytest.raises(DataError, match=wanted):
        tell("day", values, "t.csv", places(values))
    wanted = r"TB71 .*'31/12/2021' \(row 1\) has the day first and '12/31/2021' \(row 2\) the month"
    with pytest.raises(DataError, match=wanted):
        tell("day", ["01/02/2021", "31/12/2021", "12/31/2021"])


def test_a_cell_against_the_order_of_its_column_is_named():
    with pytest.raises(DataError, match=r"TB67 .*dates with the day first.*'12/31/2021' \(line 3\)"):
        read("day-first date", ["01/02/2021", "12/31/2021"])


def test_missing_cells_are_nan_or_nothing():
    assert np.isnan(read("number", ["", "NA", None, "nan", "?"])).all()
    assert np.isnan(read("boolean", ["", None])).all()
    assert read("category", ["", None, float("nan")]).tolist() == ["", "", ""]
    assert read("category", ["NA", "null"]).tolist() == ["NA", "null"]


def test_a_category_has_one_name_whatever_a_library_typed():
    assert word(3.0) == word(3) == word(np.float64(3)) == word("3") == "3"
    assert word(True) == "true"
    assert word("007") == "007"
    assert word(2.5) == "2.5"


@given(st.floats(-1e90, 1e90))
def test_a_number_is_read_as_it_is_written(x):
    assert read("number", [repr(x), x]).tolist() == [x, x]


@given(st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2100, 1, 1)))
def test_dates_typed_and_written_are_the_same_moment(when):
    when = when.replace(microsecond=0)
    assert seconds(when) == seconds(when.isoformat(" ")) == seconds(np.datetime64(when))
    assert in_words(seconds(when.replace(hour=0, minute=0, second=0)), "date") == when.strftime("%Y-%m-%d")


def test_a_zone_is_a_shift():
    assert seconds("2024-03-31 16:00+02:00") == seconds("2024-03-31 14:00") == seconds("2024-03-31T14:00:00Z")
