"""The text of a file as UTF-8, piece by piece: checked once from end to end, never in memory as a whole.

UTF-8 and UTF-16 with a mark are told; another encoding must be named, and its text goes through a temporary file.
"""

from __future__ import annotations

import codecs
import io
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from headstart.base.errors import DataError, EnvironmentFault, shown
from headstart.base.progress import QUIET, Advanced, Finished, Observer, Started
from headstart.data.encoding import BOMS, looks_like, utf16_without_mark

PIECE = 2**22
HEAD = 2**20  # bytes from which an encoding is guessed, for messages


class Utf8:
    """file: open, perhaps a temporary one.  start: where its text begins.

    Known once it was checked: size in bytes, how many newlines and returns it holds, whether it ends with one.
    """

    def __init__(self, file: BinaryIO, start: int) -> None:
        self._file, self.start = file, start
        self.newlines = self.returns = self.size = 0
        self.ends_with_newline = True

    def from_start(self) -> BinaryIO:
        """The file at the beginning of its text. One reader at a time."""
        self._file.seek(self.start)
        return self._file

    @contextmanager
    def lines(self) -> Iterator[io.TextIOWrapper]:
        """The text with its line ends as they are, for the csv module."""
        wrapper = io.TextIOWrapper(self.from_start(), "utf-8", newline="")
        try:
            yield wrapper
        finally:
            wrapper.detach()

    def pieces(self) -> Iterator[bytes]:
        file = self.from_start()
        while piece := file.read(PIECE):
            yield piece

    def head(self) -> bytes:
        """The first line."""
        return self.from_start().readline(HEAD)


@contextmanager
def opened_as_utf8(path: Path, encoding: str | None, observer: Observer = QUIET) -> Iterator[Utf8]:
    """The file's text as UTF-8 without byte order mark.

    Raises DataError TB54 (not that encoding: byte, line, column, and what it looks like) or TB55 (NUL bytes).
    """
    with open(path, "rb") as file:
        head = file.read(4096)
        start, named = 0, encoding
        for mark, name in BOMS:
            if head.startswith(mark):
                start = len(mark)
                named = name if encoding is None or encoding.lower().startswith(name[:6]) else encoding
        if named is None and (found := utf16_without_mark(head)):
            raise DataError(
                f"TB54 {shown(path.name)} is not UTF-8 (every other byte is 0). Looks like {found}: --encoding {found}."
            )
        if named is None or named == "utf-8":
            text = Utf8(file, start)
            _check(path, text, "utf-8", None, observer)
            yield text
            return
        with cast(BinaryIO, tempfile.TemporaryFile(prefix="headstart-")) as copy:
            _check(path, Utf8(file, start), str(named), copy, observer)
            text = Utf8(copy, 0)
            _check(path, text, "utf-8", None, QUIET)
            yield text


def text_as_utf8(path: Path, encoding: str | None) -> bytes:
    """All of it at once, for files that are small."""
    with opened_as_utf8(path, encoding) as text:
        return text.from_start().read()


def _check(path: Path, text: Utf8, encoding: str, copy: BinaryIO | None, observer: Observer) -> None:
    """Decode every byte and count line ends; copy: where the text is written as UTF-8."""
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError as error:
        raise DataError(
            f"TB54 there is no encoding '{shown(encoding)}'. Common ones: utf-8, utf-16, latin-1, "
            "cp1252, gbk, shift_jis."
        ) from error
    what, total, began = f"checking {shown(path.name)} (MiB)", path.stat().st_size // 2**20, time.monotonic()
    nul, last = -1, b""
    observer(Started(what, total, "MiB"))
    for piece in _with_end(text.pieces()):
        text.size += len(piece)
        try:
            decoded = decoder.decode(piece, not piece)
        except UnicodeDecodeError as error:
            raise _not_that(path, text, encoding, text.size - len(error.object) + error.start) from error
        if copy is not None:
            _write(copy, decoded.encode("utf-8", "surrogatepass"))
        elif piece:
            if nul < 0 and (at := piece.find(b"\0")) >= 0:
                nul = text.size - len(piece) + at
            text.newlines += piece.count(b"\n")
            text.returns += piece.count(b"\r")
            last = piece[-1:]
        observer(Advanced(what, text.size // 2**20, total))
    observer(Finished(what, total, time.monotonic() - began))
    text.ends_with_newline = last in (b"", b"\n", b"\r")
    if nul >= 0:
        line, column = _position(text, nul)
        raise DataError(
            f"TB55 {shown(path.name)}: NUL byte at line {line:,}, column {column}. The file is damaged or not a table."
        )


def _with_end(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces and an empty one, at which a decoder says what it still waits for."""
    yield from pieces
    yield b""


def _write(copy: BinaryIO, data: bytes) -> None:
    try:
        copy.write(data)
    except OSError as error:
        raise EnvironmentFault(
            f"EN69 no room for the text as UTF-8 in {shown(tempfile.gettempdir())} ({error.strerror or error}). "
            "Set TMPDIR to a folder with more space."
        ) from error


def _not_that(path: Path, text: Utf8, encoding: str, at: int) -> DataError:
    line, column = _position(text, at)
    file = text.from_start()
    file.seek(text.start + at)
    byte = file.read(1)[0]
    around = text.from_start()
    if at >= HEAD:
        around.seek(text.start + at - column + 1)
    guess = looks_like(around.read(HEAD + 1))
    if encoding == "utf-8":
        return DataError(
            f"TB54 {shown(path.name)} is not UTF-8 (byte 0x{byte:02X} at line {line:,}, column {column}). "
            f"Looks like {guess}: --encoding {guess}."
        )
    return DataError(
        f"TB54 {shown(path.name)} is not {shown(encoding)} (byte 0x{byte:02X} at line {line:,}, "
        f"column {column}). Looks like {guess}."
    )


def _position(text: Utf8, at: int) -> tuple[int, int]:
    """(line, column), both from 1; the column counts bytes."""
    line, begin, seen = 1, 0, 0
    for whole in text.pieces():
        piece = whole[: at - seen]
        line += piece.count(b"\n")
        if (newline := piece.rfind(b"\n")) >= 0:
            begin = seen + newline + 1
        seen += len(piece)
        if seen >= at:
            break
    return line, at - begin + 1
