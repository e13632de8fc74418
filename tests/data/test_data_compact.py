"""Compact columns are what a list of the same values would be, in a few bytes a row."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.base.errors import EnvironmentFault
from headstart.base.files import to_json
from headstart.data import compact
from headstart.data.compact import (
    Coded,
    Compact,
    Gathered,
    Keys,
    LineNumbers,
    Numbers,
    Spool,
    Strings,
    counted,
    numbered,
    stretches,
    taken,
)

WORDS = st.lists(st.none() | st.text(st.characters(exclude_categories=()), max_size=12), max_size=40)


def gathered(values: list, *, at_once: int = 7, arrow: bool = False) -> Compact:
    column = Gathered()
    for start in range(0, len(values), at_once):
        part = values[start : start + at_once]
        if arrow:
            column.add_arrow(pa.array(part, pa.string()))
        else:
            column.add(part)
    return column.column()


def behaves_as(column: Compact, values: list) -> None:
    n = len(values)
    assert column == values and values == column and len(column) == n
    assert list(column) == values and column.tolist() == values
    assert [v for part in stretches(column) for v in part] == values
    assert [column[i] for i in range(-n, n)] == values + values
    assert column[2:9] == values[2:9] and column[::-3] == values[::-3] and column[5:1] == []
    with pytest.raises(IndexError):
        column[n]
    rows = np.random.default_rng(n).permutation(n)
    for chosen in (rows, np.sort(rows[: n // 2]), rows[:0], np.arange(n)):
        part = taken(column, chosen)
        assert list(part) == [values[i] for i in chosen]
        again = taken(part, np.arange(len(part))[::2])
        assert list(again) == [values[i] for i in chosen[::2]]
    assert to_json(column) == json.dumps(values, ensure_ascii=False)


@pytest.fixture(params=[False, True], ids=["by number", "in a spool"])
def spooled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether columns change to a spool at once, and that to a file."""
    if request.param:
        monkeypatch.setattr(compact, "MOST_WORDS", 2)
        monkeypatch.setattr(compact, "SPILLED", 20)
        monkeypatch.setattr(compact, "BLOCK", 3)
        monkeypatch.setattr(compact, "BLOCK_BYTES", 10)
    return bool(request.param)


def test_strings_are_what_a_list_of_them_would_be(spooled: bool) -> None:
    @settings(deadline=None, max_examples=60)
    @given(WORDS)
    def check(values: list) -> None:
        behaves_as(gathered(values), values)

    check()
    many = [f"text {i}" for i in range(50)]
    assert isinstance(gathered(many), Strings if spooled else Coded)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_arrow_strings_are_what_a_list_of_them_would_be(spooled: bool, kind: pa.DataType) -> None:
    from headstart.data.readers.columns import arrow_columns

    values = ["é猫", "", None, "long " * 9, "a", "a", None, "b", "c", "ab"] * 3
    table = pa.table({"t": pa.array(values, pa.string()).cast(kind), "n": [1.5, None] * 15})
    columns = arrow_columns(table.slice(4), "t")
    behaves_as(columns["t"], values[4:])
    assert columns["n"] == [1.5, None] * 13
    behaves_as(gathered(values, arrow=True), values)
    behaves_as(gathered([v or "x" for v in values], arrow=True), [v or "x" for v in values])


def test_what_is_no_string_makes_a_plain_list(spooled: bool) -> None:
    values = ["a", "b", "c", "d", "e", "f", "g", ["h"], {"i": 1}, None]
    assert gathered(values) == values and isinstance(gathered(values), list)


def test_line_numbers_and_numbers_and_keys_are_sequences_too() -> None:
    behaves_as(LineNumbers(30), [f"line {i}" for i in range(2, 32)])
    behaves_as(LineNumbers.at(np.array([3, 7, 8]), "row"), ["row 3", "row 7", "row 8"])
    behaves_as(Numbers(np.array([0.5, 2.0, -1.0])), [0.5, 2.0, -1.0])
    assert np.asarray(Numbers(np.arange(3.0)), np.float64).tolist() == [0, 1, 2]
    keys = [bytes(range(i, i + 16)) if i % 3 else b"" for i in range(20)]
    made = Keys.of(keys)
    assert made == keys and list(made.take(np.array([4, 0]))) == [keys[4], b""] and Keys.of(made) is made


def test_values_are_counted_and_numbered_as_strings() -> None:
    values = ["b", "a", "b", "c"]
    assert list(counted(values).items()) == list(counted(Coded.of(values)).items()) == [("b", 2), ("a", 1), ("c", 1)]
    twice = Coded(np.array([0, 1, 2]), [("a",), ("a",), ()])
    assert counted(twice) == {("a",): 2, (): 1}
    for column in (values, Coded.of(values), Coded.of(["z", *values]).take(np.arange(1, 5))):
        codes, names = numbered(column)
        assert (codes.tolist(), names) == ([1, 0, 1, 2], ["a", "b", "c"])


def test_a_million_strings_cost_a_few_bytes_each() -> None:
    chunk = pa.array([f"{i:08d} {'x' * 92}" for i in range(2**14)])
    tracemalloc.start()
    column = Gathered()
    for _ in range(64):
        column.add_arrow(chunk)
    held = column.column()
    size, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(held) == 2**20 and held[2**20 - 1] == held[2**14 - 1]
    assert size < 20 * len(held) and peak < 120 * 2**20  # 101 bytes each, as Python strings 150
    rows = [0, 2**19 + 5, 17]
    assert taken(held, np.array(rows)).tolist() == [chunk[r % 2**14].as_py() for r in rows]


def test_a_full_disk_is_told_with_the_way_out(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    spool = Spool()
    with pytest.raises(EnvironmentFault, match=r"EN69 no room for the texts of the table in .*gone.* Set TMPDIR"):
        spool.write(bytes(compact.SPILLED))
