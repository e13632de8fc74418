"""Lists and arrays from Python: texts, paths, encoded bytes, PIL images, arrays of pixels, sounds as samples with their
rate, or rows of numbers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from headstart.base.errors import DataError, listed, shown
from headstart.data.cells import Kind
from headstart.data.compact import LineNumbers
from headstart.data.dataset import Modality
from headstart.data.mixed import ColumnKind
from headstart.data.readers.blocks import cells_among
from headstart.data.readers.features import rows_of_array
from headstart.data.readers.reader import (
    IMAGE_EXTENSIONS,
    Containment,
    Found,
    Request,
    check_lengths,
    distinct,
    resolve_all,
)
from headstart.data.readers.sounds import modality_of_files
from headstart.data.sound import as_waveform


class Arrays:
    name = "list or array"

    def recognises(self, source: Any) -> bool:
        return isinstance(source, list | tuple | np.ndarray)

    def read(self, source: Any, request: Request) -> Found:
        if isinstance(source, np.ndarray) and source.ndim == 2 and source.dtype.kind in "fiub":
            return vectors(source, request, f"{len(source)} rows in memory")
        if isinstance(source, np.ndarray) and source.ndim not in (1, 3, 4):
            raise DataError(
                f"DA34 an array of shape {source.shape} is not a set of images. "
                "Give (N, H, W), (N, H, W, 3), or (N, D) for features that are computed already."
            )
        values = list(source)
        if not values:
            raise DataError("DA32 the list is empty: there are no examples. Give paths, PIL images or arrays.")
        if request.text is not None or _are_texts(values):
            return _texts(values, request)
        sounds = [as_waveform(v) for v in values]
        if all(sound is not None for sound in sounds):
            return _found("audio", sounds, [str(i) for i in range(len(sounds))], request)
        _check_kinds(values)
        if all(isinstance(v, str | os.PathLike) for v in values):
            return _paths(values, request)
        return _found(modality_of_files(values), values, [str(i) for i in range(len(values))], request)


def vectors(source: np.ndarray, request: Request, origin: str) -> Found:
    """(N, D) numbers as rows of D columns."""
    rows = rows_of_array(source, origin, _cells(request.learnt, origin))
    found = _found("vector", rows, [str(i) for i in range(len(source))], request)
    return replace(found, origin=origin, target_name="y")


def _are_texts(values: Sequence[Any]) -> bool:
    """Whether these strings are what is meant, not names of files: most hold several words, and none is a file here."""
    if not all(isinstance(v, str) for v in values):
        return False
    sample = values[:200]
    several = sum(" " in v.strip() for v in sample)
    return several > len(sample) / 2 and not any(v.lower().endswith(IMAGE_EXTENSIONS) or _is_file(v) for v in sample)


def _is_file(text: str) -> bool:
    return len(text) < 1024 and "\0" not in text and os.path.exists(text)


def _texts(values: Sequence[Any], request: Request) -> Found:
    odd = [f"item {i} is a {shown(type(v).__name__)}" for i, v in enumerate(values) if not isinstance(v, str)]
    if odd:
        raise DataError(f"TX34 {len(odd)} of {len(values)} items are no texts ({listed(odd)}). Give strings.")
    return _found("text", values, [str(i) for i in range(len(values))], request)


def _paths(values: Sequence[Any], request: Request) -> Found:
    written = [os.fspath(v) for v in values]
    where, rows = "the list of paths", LineNumbers(len(written), first=0, word="item")
    paths = resolve_all(written, rows, where, Containment(None, allow_outside=True))
    return _found(modality_of_files(paths), paths, distinct([Path(w).as_posix() for w in written]), request)


def _check_kinds(values: Sequence[Any]) -> None:
    from PIL import Image

    kinds = (str, os.PathLike, bytes, Image.Image, np.ndarray)
    for row, value in enumerate(values):
        if not isinstance(value, kinds):
            raise DataError(
                f"DA34 item {row} is a {shown(type(value).__name__)}; each must be a path, bytes, a PIL image, "
                "an array, or (samples, rate) of a sound."
            )
    if any(isinstance(v, str | os.PathLike) for v in values) and not all(
        isinstance(v, str | os.PathLike) for v in values
    ):
        raise DataError("DA34 the list mixes paths with other values. Give paths only, or pictures only.")


def _found(modality: Modality, values: Sequence[Any], ids: Sequence[str], request: Request) -> Found:
    targets = None if request.y is None else plain_list(request.y)
    check_lengths(len(values), targets, "y")
    return Found(
        modality,
        ids,
        values,
        targets,
        target_name="y",
        places=LineNumbers(len(values), first=0, word="row"),
        origin=f"{len(values)} values in memory",
    )


def _cells(learnt: Mapping[str, ColumnKind] | None, where: str) -> Mapping[str, Kind] | None:
    """The columns that a saved model learnt from; DataError TB63 where some of them hold no numbers."""
    if learnt is None:
        return None
    cells = cells_among(learnt)
    if len(cells) < len(learnt):
        raise DataError(
            f"TB63 {shown(where)} holds numbers only; the model learnt from texts or files too. Give a table."
        )
    return cells


def plain_list(y: Any) -> list[Any]:
    """y as Python values; an (N, K) array gives N tuples."""
    if hasattr(y, "to_numpy"):
        y = y.to_numpy()
    if isinstance(y, np.ndarray):
        return [tuple(row) for row in y.tolist()] if y.ndim > 1 else y.tolist()
    return list(y)
