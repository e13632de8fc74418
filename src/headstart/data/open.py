"""``open_dataset``: a folder, a table, a frame or a list becomes a Dataset, or an error that says what to do."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from headstart.base.errors import DataError, did_you_mean, listed, shown
from headstart.base.progress import QUIET, Observer
from headstart.data.compact import counted
from headstart.data.dataset import Dataset
from headstart.data.decimals import Decimal
from headstart.data.mixed import ColumnKind
from headstart.data.readers import (
    READERS,
    Arrays,
    AudioFolder,
    Found,
    ImageFolder,
    Reader,
    Request,
    TextFolder,
    TextLines,
)
from headstart.data.readers.reader import check_lengths
from headstart.data.targets import settle_targets


def open_dataset(
    source: Any,
    *,
    y: Any = None,
    target: str | Sequence[str] | None = None,
    path_column: str | None = None,
    split_column: str | None = None,
    task: str | None = None,
    encoding: str | None = None,
    allow_outside: bool = False,
    drop_unlabelled: bool = False,
    allow_empty: bool = False,
    text: str | None = None,
    features: Sequence[str] | None = None,
    group_by: str | None = None,
    learnt: Mapping[str, ColumnKind] | None = None,
    observer: Observer = QUIET,
    decimal: Decimal = ".",
) -> Dataset:
    """The examples in ``source``; nothing is decoded yet, and nothing is ever written there.

    source: a folder of class folders (perhaps below train/val/test), a CSV, TSV, Parquet or JSONL table of
        paths or texts, a folder with metadata.csv, a folder of .txt files by class, a .txt file of lines, a data
        frame, or a list of paths, images, bytes, arrays or texts.
    y: targets for lists, arrays and unlabelled folders.  target, path_column, split_column: columns of a table.
    task: 'single-label' | 'multi-label' | 'regression' where the column would be told wrongly.
    encoding: of a text table that is not UTF-8.  allow_outside: follow paths and links out of the data folder.
    text: column of a table that holds the texts to learn from. Where a list of strings could be taken for paths, any
        value says that they are texts.
    features: names or patterns ('emb_*', '-id') of the columns of a table that are learnt from; not given: all but the
        target, where none names files and a target is known.  group_by: a column that is not learnt from.
    Several of text (one column, or more with commas), path_column (also) and features: a table of mixed rows, each of
        these a block of its own.
    learnt: columns and kinds that a saved model was made for; exactly these are read.
    drop_unlabelled: leave out rows without a target.  allow_empty: accept class folders without images.
    observer: is told how far the reading of a table is.  decimal: ',' where a table's numbers are written '1,5'.
    """
    if isinstance(source, Dataset):
        return source
    columns = tuple(target) if target is not None and not isinstance(target, str) else target
    request = Request(
        y,
        columns,
        path_column,
        split_column,
        encoding,
        allow_outside,
        allow_empty,
        text,
        None if features is None else tuple(features),
        group_by,
        learnt,
        observer,
        decimal,
    )
    place = _existing(source)
    reader = next((r for r in READERS if r.recognises(place)), None)
    if reader is None:
        raise _none_of_ours(place)
    _check_request(reader, request)
    found = reader.read(place, request)
    if y is not None and found.targets is None:
        found = replace(found, targets=list(y), target_name="y", kind=None)
        check_lengths(len(found.ids), found.targets, "y")
    dataset = _to_dataset(found, task, drop_unlabelled=drop_unlabelled)
    _check_sides(dataset)
    return dataset


def _existing(source: Any) -> Any:
    """A Path that exists for anything path-like; other values as they are."""
    if isinstance(source, bytes):
        raise DataError("DA34 bytes are one example, not a data set. Give a list of them, a folder or a table.")
    if not isinstance(source, str | os.PathLike):
        return source
    text = os.fspath(source)
    if not text or "\0" in text:
        raise DataError(f"DA30 '{shown(text)}' is not a path. Name a folder or a table.")
    if "://" in text:
        raise DataError(f"DA30 {shown(text)} is a URL; nothing is fetched. Download it and name the folder.")
    path = Path(text).expanduser()
    if not path.exists():
        raise _no_such(path)
    return path


def _no_such(path: Path) -> DataError:
    parent = path.parent
    siblings = sorted(os.listdir(parent)) if parent.is_dir() else []
    hint = did_you_mean(path.name, siblings)
    if not hint and not parent.exists():
        hint = f" '{shown(parent)}' does not exist either."
    return DataError(f"DA30 no such file or folder: {shown(path)}.{hint} Looked in {shown(parent.absolute())}.")


def _none_of_ours(source: Any) -> DataError:
    what = shown(source) if isinstance(source, Path) else f"a {shown(type(source).__name__)}"
    return DataError(
        f"DA31 {what} is nothing headstart can read as a data set. Give a folder of images or sounds (one sub-folder "
        "for each class) or of .txt files, a table (.csv, .tsv, .parquet, .jsonl) of paths, texts or features and "
        "targets, a data frame, an array (.npy, .npz), or a list of paths, images or texts."
    )


def _check_request(reader: Reader, request: Request) -> None:
    """Column names given for something that has no columns are a mistake, not to be passed over."""
    asked = {"--target": request.target, "--path-column": request.path_column, "--split-column": request.split_column}
    named = [flag for flag, value in asked.items() if value is not None]
    if request.text is not None and isinstance(reader, AudioFolder | ImageFolder):
        named.append("--text")
    if named and isinstance(reader, Arrays | AudioFolder | ImageFolder | TextFolder | TextLines):
        raise DataError(
            f"TB63 {listed(named)} names a column, but the source was read as: {reader.name}, which has none. "
            "Name the table instead of the folder, or leave the option out."
        )


def _to_dataset(found: Found, task: str | None, *, drop_unlabelled: bool) -> Dataset:
    """The Dataset of what a reader found, with its targets in form."""
    dataset = Dataset(
        found.modality,
        found.ids,
        found.values,
        found.targets,
        found.kind,
        found.reason,
        found.splits,
        found.meta,
        found.origin,
        found.classes,
        found.skipped,
        tuple(found.notes),
    )
    if found.targets is None or (found.kind is not None and task is None and None not in found.targets):
        return dataset
    settled = settle_targets(
        found.targets,
        name=found.target_name,
        where=Path(found.origin).name if found.kind is None else found.origin,
        places=found.places,
        task=task or found.kind,
        drop_unlabelled=drop_unlabelled,
    )
    dataset = dataset.take(settled.keep)
    how = "; ".join(r for r in (settled.reason, found.reason) if r)
    return replace(
        dataset,
        targets=settled.values,
        target_kind=settled.kind,
        target_reason=how,
        notes=(*dataset.notes, *settled.notes),
    )


def _check_sides(dataset: Dataset) -> None:
    """DA41: a class that is tested but never learnt, in the user's own split."""
    if dataset.target_kind != "single-label" or not dataset.targets or "train" not in counted(dataset.splits):
        return
    pairs = set(zip(dataset.targets, dataset.splits, strict=True))
    learnt = {t for t, side in pairs if side in ("train", None)}
    problems = []
    for side in ("validation", "test"):
        for name in sorted({t for t, s in pairs if s == side} - learnt):
            hint = did_you_mean(name, learnt).strip()
            problems.append(f"'{shown(name)}' is in {side} but not in train" + (f" ({hint})" if hint else ""))
    if problems:
        raise DataError(
            f"DA41 {shown(dataset.origin)}: {listed(problems, most=5)}. "
            "Add training examples of the class, rename it, or remove it from the other side."
        )
