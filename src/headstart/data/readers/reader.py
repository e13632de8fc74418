"""The contract of a reader, and the words that readers share: junk, splits, containment."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from headstart.base.errors import DataError, Refused, listed, shown
from headstart.base.progress import QUIET, Observer
from headstart.data.dataset import Modality, TargetKind
from headstart.data.decimals import Decimal
from headstart.data.mixed import ColumnKind


@dataclass(frozen=True)
class Request:
    """What the user said about their data, beyond where it is; None and False where they said nothing.

    target: column name, or several for regression with several numbers. encoding: of text tables.
    y: targets given apart (for lists and arrays).  text: column of texts; for a list of strings, whatever it is, they
        are texts and not paths.  features: patterns of the columns to learn from.  group_by: a column that is none of
        them.  learnt: columns and kinds that a saved model learnt from; no others are looked at.
    observer: who is told how far the reading is.  decimal: the sign between a number's whole part and the rest.
    """

    y: Any = None
    target: str | tuple[str, ...] | None = None
    path_column: str | None = None
    split_column: str | None = None
    encoding: str | None = None
    allow_outside: bool = False
    allow_empty: bool = False
    text: str | None = None
    features: tuple[str, ...] | None = None
    group_by: str | None = None
    learnt: Mapping[str, ColumnKind] | None = None
    observer: Observer = QUIET
    decimal: Decimal = "."


@dataclass(frozen=True, eq=False)
class Found:
    """What a reader found: as Dataset, but targets are still what was written (None or '' where there is none).

    target_name: the column or place the targets come from.  places: N of 'line 7' | 'row 6', for messages.
    kind: the kind of target where the layout itself says it (class folders), else None.
    """

    modality: Modality
    ids: Sequence[str]
    values: Sequence[Any]
    targets: Sequence[Any] | None = None
    target_name: str = "target"
    kind: TargetKind | None = None
    reason: str = ""
    places: Sequence[str] = ()
    splits: Sequence[str | None] = ()
    meta: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    origin: str = ""
    classes: Sequence[str] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()


class Reader(Protocol):
    """Stateless. ``recognises`` looks at names and types only; ``read`` raises DataError or Refused."""

    name: str

    def recognises(self, source: Any) -> bool: ...

    def read(self, source: Any, request: Request) -> Found: ...


# ------------------------------------------------------------------------------------------------------------- names

_JUNK_NAMES = frozenset(
    {"thumbs.db", "desktop.ini", "__macosx", "__pycache__", "@eadir", "$recycle.bin", "lost+found", "icon\r"}
)
_OTHER = """
    .txt .csv .tsv .json .jsonl .ndjson .xml .md .rst .py .ipynb .yaml .yml .toml .ini .cfg .log .html .htm .css .js
    .sh .bat .parquet .arrow .feather .npy .npz .mat .h5 .hdf5 .pkl .pickle .pt .pth .ckpt .safetensors .onnx .bin .db
    .sqlite .zip .tar .gz .tgz .bz2 .xz .7z .rar .pdf .doc .docx .xls .xlsx .ppt .pptx .wav .mp3 .flac .ogg .m4a .mp4
    .oga .opus .aif .aiff .au .gsm
    .avi .mov .mkv .webm .exe .dll .so .c .h .cpp .java .r .m .lock .part .tmp .bak .sha256 .md5
"""
_OTHER_EXTENSIONS = frozenset(_OTHER.split())
IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".mpo")

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


def is_junk(name: str) -> bool:
    """Hidden files and what systems leave lying about: .DS_Store, Thumbs.db, ._x, __MACOSX, .ipynb_checkpoints …"""
    return name.startswith(".") or name.lower() in _JUNK_NAMES


def is_clearly_other(name: str) -> bool:
    """Whether the extension names another kind of file. Anything else is tried: its bytes decide."""
    return os.path.splitext(name)[1].lower() in _OTHER_EXTENSIONS


def split_named(word: str) -> str | None:
    """'train' | 'validation' | 'test' for the words people use, None for others."""
    return _SPLITS.get(word.strip().lower())


# ------------------------------------------------------------------------------------------------------- containment

_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:(//|[^\\/])")
_WINDOWS_ROOT = re.compile(r"^([A-Za-z]:[\\/]|\\\\)")


class Containment:
    """Decides for each written path which file it means, and that the file lies in the data folder.

    root: the data folder, or None where the user named each file in Python (then only URLs are refused).
    """

    def __init__(self, root: Path | None, *, allow_outside: bool) -> None:
        self.root = root
        self.allow_outside = allow_outside or root is None
        self._real_root = os.path.realpath(root) if root is not None else ""
        self._real_parents: dict[str, str] = {}

    def resolve(self, written: str) -> tuple[Path | None, str]:
        """(path, '') or (None, why it is refused). The file need not exist."""
        if "\0" in written or len(written) > 4096:
            return None, "is not a path"
        if _WINDOWS_ROOT.match(written) and os.sep == "/":
            return None, "path leaves the data folder"
        if _URL.match(written) and not (os.sep == "\\" and _WINDOWS_ROOT.match(written)):
            return None, "is a URL; nothing is fetched"
        path = os.path.join(self.root or "", written)
        if os.sep == "/" and "\\" in written and not os.path.lexists(path):
            path = os.path.join(self.root or "", written.replace("\\", "/"))  # a table made on Windows
        if not self.allow_outside and not self._is_inside(path):
            return None, "path leaves the data folder"
        try:
            mode = os.stat(path).st_mode
        except (OSError, ValueError):
            return Path(path), ""  # the survey will say what is wrong with it
        if not stat.S_ISREG(mode):
            return None, "is not a file"
        return Path(path), ""

    def _is_inside(self, path: str) -> bool:
        parent = os.path.dirname(path)
        if parent not in self._real_parents:
            self._real_parents[parent] = os.path.realpath(parent)
        real = os.path.join(self._real_parents[parent], os.path.basename(path))
        if os.path.basename(path) in ("", ".", "..") or os.path.islink(path):
            real = os.path.realpath(path)
        return real == self._real_root or real.startswith(self._real_root.rstrip(os.sep) + os.sep)


def resolve_all(written: Sequence[str], places: Sequence[str], where: str, containment: Containment) -> list[Path]:
    """The files that ``written`` means; Refused TB61 naming the first lines whose path is not one of ours."""
    paths: list[Path] = []
    refused: list[str] = []
    for text, place in zip(written, places, strict=True):
        path, why = containment.resolve(text)
        if path is None:
            refused.append(f"{place}: '{shown(text)[:120]}' {why}")
        else:
            paths.append(path)
    if refused:
        raise Refused(
            f"TB61 {shown(where)}, {listed(refused, most=5)}. Refused. "
            "Paths are read relative to the table and must stay in its folder; move the files there, or give "
            "--allow-outside if you trust this table."
        )
    return paths


def distinct(ids: Sequence[str]) -> list[str]:
    """``ids`` with '#2', '#3' … on repeats, so that each names one row."""
    taken, seen = set(ids), dict.fromkeys(ids, 0)
    result = []
    for name in ids:
        seen[name] += 1
        unique = name
        if seen[name] > 1:
            number = seen[name]
            while (unique := f"{name}#{number}") in taken:
                number += 1
            taken.add(unique)
        result.append(unique)
    return result


def check_lengths(n: int, targets: Sequence[Any] | None, what: str) -> None:
    if targets is not None and len(targets) != n:
        raise DataError(f"DA35 {what}: {n} examples but {len(targets)} targets. Give one target for each example.")
