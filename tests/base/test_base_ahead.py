"""Modules that are imported in a thread of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from headstart.base.ahead import import_ahead


def test_what_is_imported_ahead_is_the_module_that_everyone_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_to_load.py").write_text("import time\ntime.sleep(0.2)\nanswer = object()\n")
    monkeypatch.syspath_prepend(tmp_path)
    thread = import_ahead("slow_to_load")
    import slow_to_load  # waits for the thread, and does not run the file again

    assert slow_to_load.answer is sys.modules["slow_to_load"].answer
    thread.join()
    del sys.modules["slow_to_load"]


def test_a_module_that_is_not_there_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there_is_one.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    import_ahead("there_is_no_such_module", "there_is_one").join()
    assert "there_is_one" in sys.modules
    del sys.modules["there_is_one"]
