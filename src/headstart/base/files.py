"""Files that are there whole or not at all.

Writing: a temporary name in the same folder, fsync, ``os.replace``, fsync of the folder (RELIABILITY 1.2: staging in
$TMPDIR or plain overwriting left 27 and 29 broken files in 100 kills; this left none).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from headstart.base.errors import DataError, EnvironmentFault, shown


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` under ``path``, replacing what was there only once the new file is safely on disk."""
    write_with(path, lambda file: file.write(content))


def write_text(path: Path, text: str) -> None:
    # surrogateescape: file names that are not UTF-8 survive a round trip through our JSON
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    write_text(path, to_json(value, indent=1) + "\n")


def write_with(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Like write_bytes, for content that is produced by ``write(file)``."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise disk_fault(error, path) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` survive a power cut; silently skipped where folders cannot be opened (Windows)."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def disk_fault(error: OSError, path: Path) -> EnvironmentFault:
    """The EnvironmentFault for an OSError met while writing ``path``; names the free space when the disk is full."""
    where = shown(path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        free = free_bytes(path)
        room = f" {human_bytes(free)} are free there." if free is not None else ""
        return EnvironmentFault(
            f"EN69 no room to write {where} ({os.strerror(error.errno)}).{room} "
            "What was there before is untouched. Free some space or choose another folder with --out."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return EnvironmentFault(
            f"EN68 {where} cannot be written ({os.strerror(error.errno)}). Choose a folder you may write to with --out."
        )
    return EnvironmentFault(f"EN67 writing {where} failed: {error}.")


def free_bytes(path: Path) -> int | None:
    """Free space on the disk that holds ``path`` (or its nearest existing parent)."""
    for candidate in (path, *path.parents):
        with suppress(OSError):
            return shutil.disk_usage(candidate).free
    return None


def human_bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")


def make_folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise DataError(f"EN66 {shown(path)} is a file; a folder is needed there. Name another with --out.") from error
    except OSError as error:
        raise disk_fault(error, path) from error
    return path


def content_hash(content: bytes | memoryview, size: int = 32) -> bytes:
    """The first ``size`` bytes of the SHA-256 of ``content``."""
    return hashlib.sha256(content).digest()[:size]


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_of(value: Any) -> str:
    """32 hex characters that name ``value`` (anything that to_json takes); equal values have equal keys everywhere."""
    return content_hash(to_json(value).encode("utf-8", "backslashreplace"), 16).hex()


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON with sorted keys and no NaN: NaN and infinities become null."""
    return json.dumps(_plain(value), sort_keys=True, indent=indent, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None  # noqa: PLR0124 - NaN test
    if isinstance(value, str | int | bool) or value is None:
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return _plain(value.tolist())
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def read_json(path: Path, *, largest: int = 64 * 2**20) -> Any:
    """Parse a JSON file strictly: no duplicate keys, no NaN, no depth or number bombs, at most ``largest`` bytes.

    Raises DataError with a CF24 message.
    """
    try:
        size = path.stat().st_size
        if size > largest:
            raise DataError(
                f"CF24 {shown(path)}: {human_bytes(size)} of JSON; at most {human_bytes(largest)} are read."
            )
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise DataError(f"CF24 {shown(path)} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"CF24 {shown(path)} is not UTF-8 (byte {error.start}).") from error
    return parse_json(text, where=shown(path))


def parse_json(text: str, *, where: str, deepest: int = 64) -> Any:
    if text.count("[") + text.count("{") > deepest and _depth(text) > deepest:
        raise DataError(f"CF24 {where}: nested deeper than {deepest} levels. Refused.")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in items:
            if key in seen:
                raise DataError(f"CF24 {where}: duplicate key '{shown(key)}'.")
            seen[key] = value
        return seen

    def constant(name: str) -> Any:
        raise DataError(f"CF24 {where}: {name} is not JSON.")

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except json.JSONDecodeError as error:
        raise DataError(f"CF24 {where} line {error.lineno}: not valid JSON ({error.msg}).") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"CF24 {where}: not valid JSON ({error}).") from error


_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def _depth(text: str) -> int:
    """How deep brackets nest, those inside strings aside."""
    depth = most = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        mark = found.group()[0]
        if mark in "[{":
            depth += 1
            most = max(most, depth)
        elif mark in "]}":
            depth -= 1
    return most
