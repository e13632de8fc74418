"""Predictions as a table that opens in a spreadsheet and runs nothing there.

A cell of text that a spreadsheet would take for a formula gets a leading apostrophe (OWASP ASVS 1.2.10); numbers stay
numbers, negative ones too. Every text cell is quoted. ``read_predictions_csv`` gives the original texts back.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from headstart.base.errors import DataError, shown
from headstart.base.files import write_bytes
from headstart.records.audit import Quarantined
from headstart.records.predictions import Predictions

MOST_CLASSES = 50  # with more, the five most probable classes are written instead of one column each
TOP = 5

# Also after blanks, which some programs drop, and after apostrophes, so that removing one is unambiguous.
_DANGEROUS = re.compile(r"[' \u00a0\u3000]*[=+\-@\t\r\n\0＝＋－＠]")


def write_predictions_csv(path: Path, predictions: Predictions, quarantined: Sequence[Quarantined] = ()) -> None:
    """One row for each example, then one for each that could not be read (its ``problem`` says why).

    Columns: id, prediction, confidence (not for regression), then ``p_<label>`` for each label, or for more than 50
    labels ``class_1, p_1 … class_5, p_5``; regression has ``value_<name>`` when there are several values; problem.
    confidence: classification, the largest probability; multi-label, of the least certain yes or no.
    UTF-8; characters that are not (file names from other encodings) are written as escapes. Written whole or not at
    all: EnvironmentFault on a full disk or a folder that cannot be written.
    """
    header, cells = _columns(predictions)
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow([*(safe(name) for name in header), "problem"])
    for row in cells:
        writer.writerow([*row, ""])
    empty = [""] * (len(header) - 1)
    for bad in quarantined:
        writer.writerow([safe(bad.id), *empty, safe(f"{bad.code}: {bad.reason}")])
    write_bytes(Path(path), buffer.getvalue().encode("utf-8", "backslashreplace"))


def safe(text: object) -> str:
    """``text`` as a cell that no spreadsheet evaluates."""
    text = str(text)
    return "'" + text if _DANGEROUS.match(text) else text


def original(cell: str) -> str:
    """The text that ``safe`` was given."""
    return cell[1:] if cell.startswith("'") and _DANGEROUS.match(cell) else cell


def read_predictions_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a file from write_predictions_csv, with the original texts; numbers as they are written."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{shown(path)} cannot be read as a table of predictions ({error}).") from error
    if not rows or [original(c) for c in rows[0][:2]] != ["id", "prediction"]:
        raise DataError(f"{shown(path)} is not a table of predictions: its first columns are not 'id, prediction'.")
    header = [original(cell) for cell in rows[0]]
    return [dict(zip(header, [original(cell) for cell in row], strict=False)) for row in rows[1:]]


def _columns(predictions: Predictions) -> tuple[list[str], Iterator[list[str | float]]]:
    if predictions.task == "regression":
        return _regression(predictions)
    names, confidence = predictions.names, _confidence(predictions)
    lead = ["id", "prediction", "confidence"]
    if len(predictions.labels) <= MOST_CLASSES:
        header = lead + [f"p_{label}" for label in predictions.labels]
        tail: Iterator[list[str | float]] = ([_short(v) for v in row] for row in predictions.scores)
    else:
        header = lead + [name for i in range(1, TOP + 1) for name in (f"class_{i}", f"p_{i}")]
        tail = _top(predictions)
    rows = zip(predictions.ids, names, confidence, tail, strict=True)
    return header, ([safe(i), safe(n), _short(c), *t] for i, n, c, t in rows)


def _regression(predictions: Predictions) -> tuple[list[str], Iterator[list[str | float]]]:
    scores = predictions.scores
    if scores.shape[1] == 1:
        return ["id", "prediction"], ([safe(i), _short(row[0])] for i, row in zip(predictions.ids, scores, strict=True))
    header = ["id", "prediction", *(f"value_{label}" for label in predictions.labels)]
    rows = zip(predictions.ids, predictions.names, scores, strict=True)
    return header, ([safe(i), safe(n), *(_short(v) for v in row)] for i, n, row in rows)


def _confidence(predictions: Predictions) -> np.ndarray:
    """(N,) in [0, 1]."""
    if predictions.task == "classification":
        return predictions.scores.max(axis=1)
    return np.maximum(predictions.scores, 1 - predictions.scores).min(axis=1)


def _top(predictions: Predictions) -> Iterator[list[str | float]]:
    for row in predictions.scores:
        best = np.argsort(-row, kind="stable")[:TOP]
        yield [cell for k in best for cell in (safe(predictions.labels[k]), _short(row[k]))]


def _short(value: float) -> float:
    """Nine digits: enough to tell any two float32 apart."""
    return float(f"{float(value):.9g}")
