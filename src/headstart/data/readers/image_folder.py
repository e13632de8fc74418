"""A folder of images (or other files): class sub-folders, perhaps train/val/test above them, or files without labels.

Every level below a class folder is allowed. The order is that of the ids (POSIX paths by code point): the same on
every machine, whatever order the disk lists files in.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headstart.base.errors import DataError, listed, shown
from headstart.data.dataset import Modality
from headstart.data.readers.reader import Found, Request, is_clearly_other, is_junk, split_named
from headstart.data.words import IMAGES, Words

Parts = tuple[str, ...]


@dataclass
class _Walk:
    """What lies in the tree: files and folders by their parts below the root."""

    files: list[Parts] = field(default_factory=list)
    folders: list[Parts] = field(default_factory=list)
    others: Counter[Parts] = field(default_factory=Counter)  # folder → files of other kinds directly in it
    skipped: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Wanted:
    """What a folder is read for. takes: whether a file of this name is one of them, or at least tried."""

    modality: Modality
    words: Words
    takes: Callable[[str], bool]


class ImageFolder:
    name = "image folder"

    def recognises(self, source: Any) -> bool:
        return isinstance(source, Path) and source.is_dir()

    def read(self, source: Path, request: Request) -> Found:
        return ClassFolders(Wanted("image", IMAGES, lambda name: not is_clearly_other(name))).read(source, request)


class ClassFolders:
    """Files of one kind by class folder."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted

    def read(self, source: Path, request: Request) -> Found:
        words = self.wanted.words
        walk = _walk(source, self.wanted, allow_outside=request.allow_outside)
        notes = [f"DA49 folder '{shown(f)}' cannot be read (permission); it was left out." for f in walk.unreadable]
        if walk.skipped[_OUTSIDE]:
            notes.append(
                f"DA46 {walk.skipped[_OUTSIDE]} links lead outside the data folder; skipped "
                "(--allow-outside follows them)."
            )
        base = _wrapper(walk)
        if base:
            notes.append(f"Everything is in the folder '{shown(base[0])}'; its sub-folders are the classes.")
        splits, classes, loose = _layout(walk, base)
        if loose and any(c is not None for c in classes.values()):
            walk.skipped[f"{words.one} outside the class folders"] += len(loose)
            for parts in loose:
                del classes[parts]
        notes += _ignored_folders(walk, base, splits, words)
        files = sorted(classes, key="/".join)
        if not files:
            raise _nothing_found(source, walk, words)
        names = _class_names(walk, base, splits, classes)
        if not request.allow_empty:
            _check_empty(source, walk, base, splits, classes, words)
        notes += _twins(names)
        labelled = any(classes[f] is not None for f in files)
        return Found(
            self.wanted.modality,
            ["/".join(f) for f in files],
            [source.joinpath(*f) for f in files],
            [classes[f] for f in files] if labelled else None,
            target_name="class folder",
            kind="single-label" if labelled else None,
            reason=f"{len(names)} class folders" if labelled else "",
            places=["/".join(f) for f in files],
            splits=[splits.get(f) for f in files] if splits else (),
            origin=str(source),
            classes=names,
            skipped=dict(sorted(walk.skipped.items())),
            notes=notes,
        )


# -------------------------------------------------------------------------------------------------------------- walk

_OUTSIDE = "link outside the data folder"


def _walk(root: Path, wanted: Wanted, *, allow_outside: bool) -> _Walk:
    """Every folder once, however links are laid: links to folders are followed only with allow_outside, and only to
    folders that were not visited (those inside the root are visited anyway).
    """
    walk = _Walk()
    real_root = os.path.realpath(root)
    visited = {real_root}
    waiting: list[tuple[str, Parts]] = [(str(root), ())]
    while waiting:
        folder, parts = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda e: e.name)
        except OSError:
            walk.unreadable.append("/".join(parts))
            walk.skipped["folder that cannot be read"] += 1
            continue
        for entry in found:
            place = (*parts, entry.name)
            if is_junk(entry.name):
                walk.skipped["hidden or system file"] += 1
            elif entry.is_symlink() and not _follow(entry, real_root, visited, walk, allow_outside):
                continue
            elif entry.is_dir():
                visited.add(os.path.realpath(entry.path)) if entry.is_symlink() else None
                walk.folders.append(place)
                waiting.append((entry.path, place))
            elif not entry.is_file():
                walk.skipped["not a regular file"] += 1
            elif not wanted.takes(entry.name):
                walk.skipped[f"not {wanted.words.a}"] += 1
                walk.others[parts] += 1
            else:
                walk.files.append(place)
    return walk


def _follow(entry: os.DirEntry[str], real_root: str, visited: set[str], walk: _Walk, allow_outside: bool) -> bool:
    """Whether a link is taken up; counts it if not."""
    real = os.path.realpath(entry.path)
    inside = real == real_root or real.startswith(real_root.rstrip(os.sep) + os.sep)
    if not os.path.exists(real):
        walk.skipped["link to nothing"] += 1
        return False
    if not inside and not allow_outside:
        walk.skipped[_OUTSIDE] += 1
        return False
    if os.path.isdir(real) and (inside or real in visited or real_root.startswith(real.rstrip(os.sep) + os.sep)):
        walk.skipped["link to a folder that is read anyway"] += 1
        return False
    return True


# ------------------------------------------------------------------------------------------------------------ layout


def _wrapper(walk: _Walk) -> Parts:
    """The one folder that holds everything, as archives often unpack; () where there is none."""
    tops = {f[0] for f in walk.files}
    if len(tops) != 1 or any(len(f) < 3 for f in walk.files):
        return ()
    (top,) = tops
    inner = {f[1] for f in walk.files}
    return (top,) if len(inner) > 1 and split_named(top) is None else ()


def _layout(walk: _Walk, base: Parts) -> tuple[dict[Parts, str], dict[Parts, str | None], list[Parts]]:
    """(file → split, file → class, files outside class folders)."""
    depth = len(base)
    tops = {f[depth] for f in walk.folders if len(f) == depth + 1 and f[:depth] == base}
    named = {t: split_named(t) for t in tops}
    kinds = {s for s in named.values() if s}
    is_split = bool(kinds) and (all(named.values()) or ("train" in kinds and len(kinds) > 1))
    splits: dict[Parts, str] = {}
    classes: dict[Parts, str | None] = {}
    loose: list[Parts] = []
    for file in walk.files:
        below = file[depth:]
        if is_split:
            side = split_named(below[0]) if len(below) > 1 else None
            if side is None:
                continue
            splits[file], below = side, below[1:]
        classes[file] = below[0] if len(below) > 1 else None
        if len(below) == 1:
            loose.append(file)
    return splits, classes, loose


def _ignored_folders(walk: _Walk, base: Parts, splits: dict[Parts, str], words: Words) -> Iterator[str]:
    if not splits:
        return
    ignored: dict[str, int] = defaultdict(int)
    for file in walk.files:
        below = file[len(base) :]
        if len(below) == 1 or split_named(below[0]) is None:
            ignored[below[0] if len(below) > 1 else ""] += 1
    for folder, count in sorted(ignored.items()):
        walk.skipped[f"{words.one} outside the split folders"] += count
        left_out = f"1 {words.one} was" if count == 1 else f"{count:,} {words.many} were"
        where = f"in '{shown(folder)}', beside the train/test folders" if folder else "beside the train/test folders"
        yield f"{left_out} left out: {where}."


def _class_folders(walk: _Walk, base: Parts, splits: dict[Parts, str]) -> list[Parts]:
    depth = len(base) + (1 if splits else 0)
    return [
        f
        for f in walk.folders
        if len(f) == depth + 1 and f[: len(base)] == base and (not splits or split_named(f[len(base)]))
    ]


def _class_names(
    walk: _Walk, base: Parts, splits: dict[Parts, str], classes: dict[Parts, str | None]
) -> tuple[str, ...]:
    if all(c is None for c in classes.values()):
        return ()
    return tuple(sorted({f[-1] for f in _class_folders(walk, base, splits)} | {c for c in classes.values() if c}))


def _check_empty(
    source: Path,
    walk: _Walk,
    base: Parts,
    splits: dict[Parts, str],
    classes: dict[Parts, str | None],
    words: Words,
) -> None:
    """DA39 for class folders without a single example; one message for all of them."""
    if all(c is None for c in classes.values()):
        return
    full = {f[: len(base) + (2 if splits else 1)] for f in classes}
    others = Counter[Parts]()
    for folder, count in walk.others.items():
        others[folder[: len(base) + (2 if splits else 1)]] += count
    empty = sorted(f for f in _class_folders(walk, base, splits) if f not in full)
    if empty:
        found = [
            f"class '{shown('/'.join(f[len(base) :]))}' has 0 {words.many}"
            + (f" ({others[f]} files of other kinds)" if others[f] else "")
            for f in empty
        ]
        raise DataError(
            f"DA39 {shown(source)}: {listed(found, most=5)}. "
            "Remove the folder or use --allow-empty to go on without it."
        )


def _twins(names: tuple[str, ...]) -> Iterator[str]:
    same: dict[str, list[str]] = defaultdict(list)
    for name in names:
        same[unicodedata.normalize("NFKC", name).casefold().strip()].append(name)
    for twins in same.values():
        if len(twins) > 1:
            both = " and ".join(f"'{ascii(t)[1:-1]}'" for t in twins)
            yield f"DA47 the classes {both} differ only in case, spaces or Unicode form; they are kept apart."


def _nothing_found(source: Path, walk: _Walk, words: Words) -> DataError:
    seen = ", ".join(f"{count} × {kind}" for kind, count in sorted(walk.skipped.items()))
    what = f"nothing but: {seen}" if seen else "no files"
    if walk.folders and not seen:
        what = f"{len(walk.folders)} folders without a file"
    return DataError(
        f"DA32 {shown(source)} holds no {words.many} ({what}). "
        f"Expected: one sub-folder for each class with its {words.many} inside, or a table (CSV, Parquet, JSONL) of "
        "paths and labels."
    )
