"""A table of paths and targets: CSV, TSV, Parquet, JSON lines, or a folder with a Hugging Face metadata file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headstart.base.errors import DataError, listed, shown
from headstart.base.progress import Observer, track
from headstart.data.compact import LineNumbers
from headstart.data.readers.columns import ArrowColumns, examples_of
from headstart.data.readers.reader import Containment, Found, Request, resolve_all, split_named
from headstart.data.readers.text_tables import Rows, read_csv, read_jsonl

_CSV, _JSONL, _PARQUET = (".csv", ".tsv", ".tab"), (".jsonl", ".ndjson"), (".parquet", ".pq")
ROWS_AT_ONCE = 2**14  # of a row group
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


class Table:
    name = "table"

    def recognises(self, source: Any) -> bool:
        if not isinstance(source, Path):
            return False
        if source.is_dir():
            return bool(_metadata_files(source))
        return source.suffix.lower() in _CSV + _JSONL + _PARQUET

    def read(self, source: Path, request: Request) -> Found:
        if source.is_dir():
            return _read_metadata(source, request)
        rows = _read_rows(source, request)
        return _found(rows, source.parent, source.name, str(source), request)


def _read_rows(path: Path, request: Request) -> Rows:
    kind = path.suffix.lower()
    if kind in _CSV:
        return read_csv(path, request.encoding, request.observer)
    if kind in _JSONL:
        return read_jsonl(path, request.encoding, request.observer)
    return _read_parquet(path, request.observer)


def _read_parquet(path: Path, observer: Observer) -> Rows:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"TB60 {shown(path.name)} is not a readable Parquet file: {shown(error)[:160]}") from error
    with file:
        columns = ArrowColumns(file.schema_arrow, path.name)
        for group in track(range(file.num_row_groups), observer, f"reading {shown(path.name)}", unit="row groups"):
            try:
                for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group]):
                    columns.add(batch)
            except (pa.ArrowException, OSError) as error:
                raise DataError(
                    f"TB60 {shown(path.name)}: row group {group} unreadable: {shown(error)[:160]} "
                    "The file is damaged; write or download it again."
                ) from error
    return Rows(columns.done(), LineNumbers(columns.rows, first=0, word="row"))


def _found(rows: Rows, folder: Path, where: str, origin: str, request: Request) -> Found:
    return examples_of(
        rows.columns,
        rows.places,
        where=where,
        origin=origin,
        request=request,
        files=lambda written, places: _files(written, places, folder, where, request),
    )


def _files(
    written: Sequence[str], places: Sequence[str], folder: Path, where: str, request: Request
) -> tuple[list[Path], list[str]]:
    """(the files, notes). Paths are relative to the table; where none is there, to the one sub-folder with them."""
    paths = resolve_all(written, places, where, Containment(folder, allow_outside=request.allow_outside))
    if not paths or any(p.exists() for p in paths[:50]) or any(p.exists() for p in paths[50:]):
        return paths, []
    inside = Containment(folder, allow_outside=False)
    for sub in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        moved = [inside.resolve(f"{sub.name}/{text}")[0] for text in written[:50]]
        if all(p is not None and p.exists() for p in moved):
            again = [f"{sub.name}/{text}" for text in written]
            return resolve_all(again, places, where, inside), [
                f"The paths of {shown(where)} are read relative to the folder '{shown(sub.name)}', where the files are."
            ]
    raise DataError(
        f"DA36 {shown(where)}: none of its {len(paths):,} files exists (first: {shown(paths[0])}). "
        "Paths are read relative to the folder of the table; move the table beside the files or mend the paths."
    )


# ---------------------------------------------------------------------------------------------- Hugging Face metadata


def _metadata_files(folder: Path) -> list[tuple[Path, str | None]]:
    """(file, split) of metadata files with a file_name column, in a folder or in its split folders."""
    found: list[tuple[Path, str | None]] = []
    for name in _METADATA:
        if (folder / name).is_file():
            found.append((folder / name, None))
    for sub in sorted(p for p in folder.iterdir() if p.is_dir() and split_named(p.name)):
        found += [(sub / name, split_named(sub.name)) for name in _METADATA if (sub / name).is_file()]
    return [(path, split) for path, split in found if _names_files(path)]


def _names_files(path: Path) -> bool:
    if path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        try:
            return "file_name" in parquet.read_schema(path).names
        except (pa.ArrowException, OSError):
            return True  # reading it will say what is wrong
    with open(path, "rb") as file:
        return b"file_name" in file.read(2**16).replace(b"\0", b"")


def _read_metadata(folder: Path, request: Request) -> Found:
    parts: list[tuple[str, str | None, Rows]] = []
    for path, split in _metadata_files(folder):
        rows = _read_rows(path, request)
        above = path.parent.relative_to(folder).as_posix()
        prefix = "" if above == "." else f"{above}/"
        if "file_name" not in rows.columns:
            raise DataError(
                f"TB63 {shown(prefix + path.name)} has no column 'file_name'. It has: {listed(rows.columns, most=12)}."
            )
        rows.columns["file_name"] = [f"{prefix}{name}" if name else name for name in rows.columns["file_name"]]
        parts.append((prefix + path.name, split, rows))
    if len(parts) == 1 and parts[0][1] is None:
        return _found(parts[0][2], folder, parts[0][0], str(folder), request)
    names = list(dict.fromkeys(name for _, _, rows in parts for name in rows.columns))
    merged: dict[str, Sequence[Any]] = {
        n: [v for _, _, r in parts for v in r.columns.get(n, [None] * len(r.places))] for n in names
    }
    if all(split for _, split, _ in parts) and "split" not in merged:
        merged["split"] = [split for _, split, rows in parts for _ in rows.places]
    places = [f"{name}, {place}" for name, _, rows in parts for place in rows.places]
    return _found(Rows(merged, places), folder, "metadata", str(folder), request)
