"""Tables are read in pieces, and no border between pieces can be seen in what comes out."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from headstart.base.errors import DataError
from headstart.base.progress import Advanced, Event, Finished, Started
from headstart.data.audit import audit
from headstart.data.looks import TextLook
from headstart.data.looks.text import _bare, normalised
from headstart.data.open import open_dataset
from headstart.data.readers import table, text_tables, utf8

TEXTS = ["plain", 'with "quotes", commas', "naïve 猫 café", "two\nlines", "", "NA"]


def rows(n: int) -> list[tuple[str, str]]:
    return [(f"{TEXTS[i % 6]} {i % 11}" if i % 6 != 4 else "", "yes" if i % 5 else "no") for i in range(n)]


def written(path: Path, n: int) -> Path:
    """The rows as the kind of table that the name says."""
    if path.suffix == ".jsonl":
        late = [{"late": "x"} if i > 20 else {} for i in range(n)]
        lines = [json.dumps({"review": t, "label": y, **more}) for (t, y), more in zip(rows(n), late, strict=True)]
        path.write_text("\n".join(lines) + "\n")
    else:
        made = pa.table({"review": [t for t, _ in rows(n)], "label": [y for _, y in rows(n)]})
        if path.suffix == ".parquet":
            parquet.write_table(made, path, row_group_size=10)
        else:
            made.to_pandas().to_csv(path, index=False, encoding="utf-8" if "utf8" in path.name else "gb18030")
    return path


@pytest.mark.parametrize("name", ["utf8.csv", "chinese.csv", "t.jsonl", "t.parquet"])
def test_borders_between_pieces_leave_no_trace(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / name, 60)
    encoding = "gb18030" if name == "chinese.csv" else None
    whole = open_dataset(path, text="review", target="label", encoding=encoding)
    assert list(whole.values) == [t for t, _ in rows(60)] and whole.targets == [y for _, y in rows(60)]
    monkeypatch.setattr(utf8, "PIECE", 5)
    monkeypatch.setattr(text_tables, "AT_ONCE", 64)
    monkeypatch.setattr(text_tables, "LINES_AT_ONCE", 4)
    monkeypatch.setattr(table, "ROWS_AT_ONCE", 3)
    pieces = open_dataset(path, text="review", target="label", encoding=encoding)
    assert pieces.values == whole.values and pieces.targets == whole.targets and pieces.ids == whole.ids
    assert pieces.meta == whole.meta and pieces.fingerprint == whole.fingerprint


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 9), st.integers(0, 40), st.sampled_from([b"\xe9", b"\xff\xfe", b"\xc3", b"\0"]))
def test_a_wrong_byte_is_named_where_it_is_whatever_the_pieces(piece: int, at: int, wrong: bytes) -> None:
    good = "t,y\nça,b\nnaïve,c\nplain,d\n猫,e\n".encode()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "d.csv"
        path.write_bytes(good[:at] + wrong + good[at:])
        whole = said(path)
        patch.setattr(utf8, "PIECE", piece)
        assert said(path) == whole
        data = path.read_bytes()
        if data.startswith(b"\xff\xfe"):  # the mark of UTF-16, by which the rest is then read
            assert "not utf-16-le" in whole
            return
        try:
            data.decode()
        except UnicodeDecodeError as error:
            first, line = error.start, data.count(b"\n", 0, error.start) + 1
            assert f"at line {line}, column {first - data.rfind(bytes([10]), 0, first)})" in whole


def said(path: Path) -> str:
    try:
        open_dataset(path, text="t", target="y")
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("encoding", "text"), [("utf-16-le", "猫,b\n"), ("gbk", "猫,b\n"), ("cp1252", "é,b\n")])
def test_a_byte_that_is_not_of_the_named_encoding_is_named(tmp_path: Path, encoding: str, text: str) -> None:
    wrong = {"utf-16-le": b"\x00\xd8\x00\x00", "gbk": b"\xff", "cp1252": b"\x81"}[encoding]
    head = ("t,y\n" + text * 3).encode(encoding)
    path = tmp_path / "d.csv"
    path.write_bytes(head + wrong + b"\n" * 2)
    with pytest.raises(DataError, match=rf"TB54 d.csv is not {encoding} \(byte 0x{wrong[0]:02X} at line 5, column"):
        open_dataset(path, text="t", target="y", encoding=encoding)


def test_many_wrong_lines_are_counted_and_five_are_named(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join(["{"] * 30))
    with pytest.raises(DataError, match=r"TB55 .*line 1: .*line 5: .* and 25 more\. Each line"):
        open_dataset(path, text="t", target="y")
    path = tmp_path / "d.csv"
    path.write_text("t,y\n" + "a,b,c\n" * 30)
    with pytest.raises(DataError, match=r"TB55 .*line 2 has 3 fields.*line 6 has 3 fields.* and 25 more\. Put"):
        open_dataset(path, text="t", target="y")


def test_reading_tells_how_far_it_is(tmp_path: Path) -> None:
    events: list[Event] = []
    open_dataset(written(tmp_path / "utf8.csv", 60), text="review", target="label", observer=events.append)
    started = [e.what for e in events if isinstance(e, Started)]
    assert started == ["checking utf8.csv (MiB)", "reading utf8.csv"]
    assert [e.what for e in events if isinstance(e, Finished)] == started
    assert any(isinstance(e, Advanced) and e.done == 60 for e in events)


@settings(deadline=None)
@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_is_normalised_by_its_table_as_by_unicode(text: str) -> None:
    assert _bare(text) == normalised(text).encode()


def test_a_look_in_many_stretches_finds_what_a_look_at_a_list_finds(tmp_path: Path) -> None:
    table = open_dataset(written(tmp_path / "utf8.csv", 3000), text="review", target="label")
    rows = [(t, y) for t, y in zip(table.values, table.targets or (), strict=True)]
    listed = open_dataset([t for t, _ in rows], y=[y for _, y in rows], text="t")
    one, other = (TextLook().survey(d, tmp_path) for d in (table, listed))
    assert one.keys == other.keys and list(one.problems) == list(other.problems) != []
    assert all((one.columns[name] == other.columns[name]).all() for name in one.columns)
    found, same = audit(table, one), audit(listed, other)
    assert [c.targets for c in found.clusters] == [c.targets for c in same.clusters] != []
    assert found.counts == same.counts and len(found.conflicts) == len(same.conflicts) > 0
