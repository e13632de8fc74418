"""Rows of numbers in a file of text: JSON lines, or CSV in long form."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

from headstart.base.files import write_bytes
from headstart.base.progress import Measured


class JsonlLog:
    """One JSON object a line: training, step, and the numbers by name; a number that is not finite is null."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def begin(self, what: str, step: int) -> None:
        _forget(self._path, lambda line: _is_after(_parsed(line), what, step))

    def add(self, row: Measured) -> None:
        values = {name: x if math.isfinite(x) else None for name, x in row.values.items()}
        _append(self._path, json.dumps({"training": row.what, "step": row.step} | values, ensure_ascii=False) + "\n")

    def close(self) -> None:
        return None


class CsvLog:
    """Columns training, step, name, value: one line for each number, since trainings do not all have the same."""

    HEAD = "training,step,name,value\n"

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def begin(self, what: str, step: int) -> None:
        if not self._path.exists():
            _append(self._path, self.HEAD)
        _forget(self._path, lambda line: _is_after(_cells(line), what, step))

    def add(self, row: Measured) -> None:
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerows([row.what, row.step, name, repr(float(value))] for name, value in row.values.items())
        _append(self._path, text.getvalue())

    def close(self) -> None:
        return None


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def _forget(path: Path, is_old: Any) -> None:
    """Leave out lines that are old, and one at the end that a kill has torn."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and not is_old(line)]
    if kept != lines:
        write_bytes(path, "".join(kept).encode())


def _is_after(row: dict[str, Any], what: str, step: int) -> bool:
    return row.get("training") == what and isinstance(row.get("step"), int) and row["step"] > step


def _parsed(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return row if isinstance(row, dict) else {}


def _cells(line: str) -> dict[str, Any]:
    cells = next(csv.reader([line]), [])
    if len(cells) != 4 or not cells[1].isdigit():
        return {}
    return {"training": cells[0], "step": int(cells[1])}
