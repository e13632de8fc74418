"""Texts in files: a folder of .txt files by class, or one .txt file with a text on each line."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import Any

from headstart.base.errors import DataError, shown
from headstart.data.compact import Gathered, LineNumbers
from headstart.data.readers.image_folder import ClassFolders, Wanted
from headstart.data.readers.reader import Found, Request, is_clearly_other, is_junk
from headstart.data.readers.text_tables import LINES_AT_ONCE
from headstart.data.readers.utf8 import opened_as_utf8
from headstart.data.words import TEXTS

EXTENSION = ".txt"
LOOKED_AT = 200  # files whose names tell what a folder holds


def is_text_file(name: str) -> bool:
    return name.lower().endswith(EXTENSION)


class TextFolder:
    """Told by its files: .txt, and none that may be a picture. Captions beside pictures make no folder of texts."""

    name = "folder of texts"

    def recognises(self, source: Any) -> bool:
        if not isinstance(source, Path) or not source.is_dir():
            return False
        texts = seen = 0
        for _, folders, files in os.walk(source):
            folders[:] = sorted(f for f in folders if not is_junk(f))
            for name in sorted(files):
                if is_junk(name):
                    continue
                if not is_clearly_other(name):
                    return False
                texts += is_text_file(name)
                seen += 1
            if seen >= LOOKED_AT:
                break
        return texts > 0

    def read(self, source: Path, request: Request) -> Found:
        return ClassFolders(Wanted("text", TEXTS, is_text_file)).read(source, request)


class TextLines:
    """One text on each line, without targets: what ``predict`` is given."""

    name = "file of texts"

    def recognises(self, source: Any) -> bool:
        return isinstance(source, Path) and source.is_file() and is_text_file(source.name)

    def read(self, source: Path, request: Request) -> Found:
        gathered = Gathered()
        with opened_as_utf8(source, request.encoding, request.observer) as text, text.lines() as file:
            while some := list(islice(file, LINES_AT_ONCE)):
                gathered.add([line for stretch in some for line in stretch.splitlines()])
        lines = gathered.column()
        if not len(lines):
            raise DataError(f"TB62 {shown(source.name)} is empty. Expected one text on each line.")
        places = LineNumbers(len(lines), first=1)
        return Found("text", places, lines, places=places, origin=str(source))
