"""A look at a table of texts costs a few bytes a row (RELIABILITY B7 in small; at full size: benchmarks/scale.py)."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from headstart.data import compact
from headstart.data.readers import text_tables
from headstart.workflow.config import DataConfig, FitConfig
from headstart.workflow.inspect import inspect


def peak(path: Path, rows: int) -> int:
    """Most bytes that Python and numpy hold during a look at so many texts, a tenth of them copies."""
    lines = [f"this is text number {i % (9 * rows // 10)} of a long table,{'ab'[i % 2]}\n" for i in range(rows)]
    path.write_text("text,label\n" + "".join(lines))
    tracemalloc.start()
    found = inspect(path, config=FitConfig(data=DataConfig(text="text")))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.audit.usable == rows and len(found.audit.clusters) == rows // 10
    assert found.split is not None and len(found.split.train) + len(found.split.test) == rows
    return most


def test_a_row_more_costs_few_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact, "MOST_WORDS", 100)
    monkeypatch.setattr(compact, "SPILLED", 2**16)
    monkeypatch.setattr(text_tables, "AT_ONCE", 2**16)  # else all rows are parsed at once, and nothing else shows
    peak(tmp_path / "first.csv", 1000)  # tables that are made once
    few, many = peak(tmp_path / "few.csv", 20_000), peak(tmp_path / "many.csv", 60_000)
    assert (many - few) / 40_000 < 140  # 118 here; with keys as bytes objects 158; with lists of strings 1,000
