"""Columns become examples: which one names the files, which one is the target, which one divides the data."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.base.errors import DataError, listed, shown
from headstart.data.compact import Coded, Gathered, Strings, counted
from headstart.data.dataset import Modality
from headstart.data.decimals import with_points
from headstart.data.mixed import COLUMNS, Block, Mixed
from headstart.data.readers.blocks import Asked, asked_for, blocks_asked, check_modality_of, texts_or_none
from headstart.data.readers.features import features_of
from headstart.data.readers.reader import IMAGE_EXTENSIONS, Found, Request, distinct, split_named
from headstart.data.readers.sounds import modality_of_files
from headstart.data.sound import SOUND_EXTENSIONS, as_waveform

if TYPE_CHECKING:
    import pyarrow as pa

Files = Callable[[Sequence[str], Sequence[str]], tuple[list[Path], list[str]]]  # (written, places) → (paths, notes)

_PATH_NAMES = (
    *("path", "file", "file_name", "filename", "filepath", "file_path", "image", "image_path", "img", "img_path"),
    *("image_file", "image_name", "picture", "photo"),
    *("audio", "audio_path", "audio_file", "wav", "sound", "recording", "clip"),
)
_TARGET_NAMES = (
    *("label", "labels", "target", "targets", "class", "classes", "class_name", "category", "categories", "y"),
    *("tag", "tags", "diagnosis", "species", "outcome"),
)
_SPLIT_NAMES = ("split", "subset", "partition", "set")


def examples_of(
    columns: Mapping[str, Sequence[Any]],
    places: Sequence[str],
    *,
    where: str,
    origin: str,
    request: Request,
    files: Files,
) -> Found:
    """The examples in a table. where: the table's name for messages."""
    if not places:
        raise DataError(f"DA32 {shown(where)} has column names ({listed(columns, most=8)}) but no rows.")
    blocks = blocks_asked(columns, where, request)
    if request.decimal == ",":
        apart = (*blocks.texts, *blocks.files)
        columns = with_points(columns, places, where, apart=apart)
    if blocks.are_several:
        return _mixed(columns, places, where, origin, request, blocks, files)
    if _is_of_features(columns, request):
        return _features(columns, places, where, origin, request, blocks)
    is_text = request.text is not None
    if request.text is not None:
        held_in = asked_for(request.text, columns, where, "texts", "--text")
    else:
        held_in = _path_column(columns, where, request.path_column)
    split_column = _split_column(columns, where, request.split_column, taken=(held_in,))
    targets, target_name, reason = _targets(columns, where, request, taken=(held_in, split_column))
    ids: Sequence[str]
    notes: list[str]
    if is_text:
        ids, values, notes = places, _texts(columns[held_in], places, where, held_in), []
    else:
        ids, values, notes = _values(columns[held_in], places, where, held_in, files)
    used = {held_in, split_column, *(request.target if isinstance(request.target, tuple) else (target_name,))}
    return Found(
        "text" if is_text else modality_of_files(values),
        ids,
        values,
        targets,
        target_name=target_name,
        reason=reason,
        places=places,
        splits=_splits(columns[split_column], places, where, split_column) if split_column else (),
        meta={name: column for name, column in columns.items() if name not in used},
        origin=origin,
        notes=notes,
    )


def _is_of_features(columns: Mapping[str, Sequence[Any]], request: Request) -> bool:
    """Whether the columns themselves are what is learnt from: asked for, or nothing names files and a target is known.

    A column that could be the target by its name alone counts only beside two others: 'name, label' is a mistake in the
    names of files more often than a table with one feature.
    """
    if request.features is not None or request.learnt is not None:
        return True
    if request.text is not None or request.path_column is not None or _paths_held_in(columns) is not None:
        return False
    if request.target is not None or request.y is not None:
        return True
    return len(columns) > 2 and bool(_by_name(columns, _TARGET_NAMES))


def _features(
    columns: Mapping[str, Sequence[Any]],
    places: Sequence[str],
    where: str,
    origin: str,
    request: Request,
    asked: Asked,
) -> Found:
    """Rows of columns. What is not learnt from stays beside them, for groups and slices."""
    split_column = _split_column(columns, where, request.split_column, taken=())
    targets, target_name, reason = _targets(columns, where, request, taken=(split_column,))
    aims = request.target if isinstance(request.target, tuple) else (target_name,)
    taken = (split_column, request.group_by, *aims)
    rows, notes = features_of(columns, places, where=where, taken=taken, patterns=request.features, learnt=asked.cells)
    used = {split_column, *aims, *rows.frame.columns}
    return Found(
        "vector",
        places,
        rows,
        targets,
        target_name=target_name,
        reason=reason,
        places=places,
        splits=_splits(columns[split_column], places, where, split_column) if split_column else (),
        meta={name: column for name, column in columns.items() if name not in used},
        origin=origin,
        notes=notes,
    )


def _mixed(
    columns: Mapping[str, Sequence[Any]],
    places: Sequence[str],
    where: str,
    origin: str,
    request: Request,
    asked: Asked,
    files: Files,
) -> Found:
    """Rows of several blocks. What is not learnt from stays beside them, for groups and slices."""
    held = (*asked.texts, *asked.files)
    split_column = _split_column(columns, where, request.split_column, taken=held)
    targets, target_name, reason = _targets(columns, where, request, taken=(*held, split_column))
    aims = request.target if isinstance(request.target, tuple) else (target_name,)
    notes: list[str] = []
    blocks = [Block(name, "text", texts_or_none(_texts(columns[name], places, where, name))) for name in asked.texts]
    for name in asked.files:
        modality, values, told = _files_or_none(columns[name], places, where, name, files)
        blocks.append(Block(name, check_modality_of(name, modality, values, where, request.learnt), values))
        notes += told
    of_columns: Sequence[str] = ()
    if asked.has_columns:
        rows, told = features_of(
            columns,
            places,
            where=where,
            taken=(*held, split_column, request.group_by, *aims),
            patterns=request.features,
            learnt=asked.cells,
        )
        blocks.append(Block(COLUMNS if COLUMNS not in held else f"other {COLUMNS}", "vector", rows))
        of_columns, notes = list(rows.frame.columns), [*notes, *told]
    used = {split_column, *aims, *of_columns, *held} - {request.group_by}
    return Found(
        "mixed",
        places,
        [Mixed(tuple(blocks), at) for at in range(len(places))],
        targets,
        target_name=target_name,
        reason=reason,
        places=places,
        splits=_splits(columns[split_column], places, where, split_column) if split_column else (),
        meta={name: column for name, column in columns.items() if name not in used},
        origin=origin,
        notes=notes,
    )


def _files_or_none(
    column: Sequence[Any],
    places: Sequence[str],
    where: str,
    name: str,
    files: Files,
) -> tuple[Modality, list[Any], list[str]]:
    """(modality of the files, N of them or None where there is none, notes)."""
    at = [i for i, value in enumerate(column) if value is not None and value != ""]
    _, held, notes = _values([column[i] for i in at], [places[i] for i in at], where, name, files)
    values: list[Any] = [None] * len(column)
    for i, value in zip(at, held, strict=True):
        values[i] = value
    return modality_of_files(held), values, notes


# ---------------------------------------------------------------------------------------- which column is it


def _path_column(columns: Mapping[str, Sequence[Any]], where: str, asked: str | None) -> str:
    if asked is not None:
        return asked_for(asked, columns, where, "paths", "--path-column")
    held_in = _paths_held_in(columns)
    if held_in is not None:
        return held_in
    raise DataError(
        f"TB63 {shown(where)} has no column of paths of images or sounds. It has: {listed(columns, most=12)}. "
        f"Name the right one with --path-column; to learn from the columns themselves, name the one to predict with "
        f"--target{_or_texts(columns)}."
    )


def _paths_held_in(columns: Mapping[str, Sequence[Any]]) -> str | None:
    by_name = _by_name(columns, _PATH_NAMES)
    for name in by_name + [c for c in columns if c not in by_name]:
        if _holds_paths(columns[name], by_name=name in by_name):
            return name
    return None


def _or_texts(columns: Mapping[str, Sequence[Any]]) -> str:
    """The column that holds the longest words, as a suggestion; '' where none holds several words."""
    lengths = {}
    for name, column in columns.items():
        sample = [v for v in column[:200] if isinstance(v, str) and v]
        if sample and sum(" " in v for v in sample) > len(sample) / 2:
            lengths[name] = sum(map(len, sample)) / len(sample)
    return f"; for texts: --text {shown(max(lengths, key=lambda n: lengths[n]))}" if lengths else ""


def _by_name(columns: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Columns with one of these names (case does not matter), in the order of ``names``."""
    lower: dict[str, str] = {}
    for column in columns:
        lower.setdefault(column.strip().lower(), column)
    return [lower[n] for n in names if n in lower]


def _holds_paths(values: Sequence[Any], *, by_name: bool) -> bool:
    sample = [v for v in values[:200] if v not in (None, "")]
    if not sample:
        return False
    if all(_inline_bytes(v) is not None for v in sample) or all(as_waveform(v) is not None for v in sample):
        return True
    if not all(isinstance(v, str | Path) for v in sample):
        return False
    files = sum(str(v).lower().endswith((*IMAGE_EXTENSIONS, *SOUND_EXTENSIONS)) for v in sample)
    return by_name or files >= 0.9 * len(sample)


def _split_column(
    columns: Mapping[str, Sequence[Any]], where: str, asked: str | None, taken: tuple[str, ...]
) -> str | None:
    """The column asked for; or one called 'split' (…) that holds nothing but the usual words."""
    if asked is not None:
        return asked_for(asked, columns, where, "split", "--split-column")
    for name in _by_name(columns, _SPLIT_NAMES):
        words = {v for v in counted(columns[name]) if v not in (None, "")}
        if name not in taken and words and all(isinstance(w, str) and split_named(w) for w in words):
            return name
    return None


def _targets(
    columns: Mapping[str, Sequence[Any]], where: str, request: Request, taken: tuple[str | None, ...]
) -> tuple[Sequence[Any] | None, str, str]:
    """(targets or None, column name, how it was found). A model that is learnt already looks for none by itself."""
    if request.learnt is not None and request.target is None and request.y is None:
        return None, "target", ""
    if request.y is not None:
        return list(request.y), "y", ""
    if isinstance(request.target, tuple):
        for name in request.target:
            asked_for(name, columns, where, "target", "--target")
        several = zip(*(columns[name] for name in request.target), strict=True)
        return list(several), ", ".join(request.target), ""
    if request.target is not None:
        name = asked_for(request.target, columns, where, "target", "--target")
        if name in taken:
            raise DataError(
                f"TB63 {shown(where)}: column '{shown(name)}' cannot be the target and the path or split too."
            )
        return columns[name], name, ""
    left = [c for c in columns if c not in taken]
    by_name = [c for c in _by_name(columns, _TARGET_NAMES) if c not in taken]
    if by_name:
        return columns[by_name[0]], by_name[0], f"column '{shown(by_name[0])}' by its name"
    if len(left) == 1 and left[0].strip():
        return columns[left[0]], left[0], f"column '{shown(left[0])}', the only one left"
    if left:
        raise DataError(
            f"TB63 {shown(where)} has no column that looks like the target (label, target, class, category, y). "
            f"It has: {listed(left, most=12)}. Name the right one with --target."
        )
    return None, "target", ""


# ---------------------------------------------------------------------------------------------------------- the values


def _texts(column: Sequence[Any], places: Sequence[str], where: str, name: str) -> Sequence[str]:
    """The texts of a column; '' where there is none, which the look will name."""
    if isinstance(column, Strings):
        return column.filled()
    if isinstance(column, Coded) and all(word is None or isinstance(word, str) for word in column.words):
        return column.mapped([word or "" for word in column.words])
    odd = [
        f"{place} holds a {shown(type(value).__name__)}"
        for value, place in zip(column, places, strict=True)
        if value is not None and not isinstance(value, str)
    ]
    if odd:
        raise DataError(
            f"TB66 {shown(where)}, column '{shown(name)}': {len(odd)} of {len(column)} values are no texts "
            f"({listed(odd)}). Name the column of texts with --text."
        )
    return ["" if value is None else value for value in column]


def _values(
    column: Sequence[Any],
    places: Sequence[str],
    where: str,
    name: str,
    files: Files,
) -> tuple[list[str], list[Any], list[str]]:
    """(ids, values, notes) from paths, or from pictures that lie in the table itself."""
    empty = [place for value, place in zip(column, places, strict=True) if value is None or value == ""]
    if empty:
        raise DataError(
            f"TB64 {shown(where)}, column '{shown(name)}': {len(empty)} of {len(column)} rows have no path "
            f"({listed(empty, most=5)}). Remove those rows."
        )
    sounds = [as_waveform(value) for value in column]
    if all(sound is not None for sound in sounds):
        return [str(i) for i in range(len(sounds))], sounds, []
    inline = [_inline_bytes(value) for value in column]
    if all(found is not None for found in inline):
        pictures = [found for found in inline if found is not None]
        ids = [hint or str(i) for i, (_, hint) in enumerate(pictures)]
        return distinct(ids), [data for data, _ in pictures], []
    written = [str(value) for value in column]
    paths, notes = files(written, places)
    return distinct([w.replace("\\", "/") for w in written]), paths, notes


def _inline_bytes(value: Any) -> tuple[bytes, str] | None:
    """(encoded picture, its name) where a cell holds the picture itself: bytes, or Hugging Face's {'bytes', 'path'}."""
    if isinstance(value, bytes):
        return value, ""
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        return value["bytes"], str(value.get("path") or "")
    return None


def _splits(column: Sequence[Any], places: Sequence[str], where: str, name: str) -> Sequence[str | None]:
    if isinstance(column, Coded):
        named = [None if v in (None, "") else split_named(str(v)) for v in column.words]
        if all(side is not None or v in (None, "") for v, side in zip(column.words, named, strict=True)):
            return column.mapped(named)
    sides = [None if v in (None, "") else split_named(str(v)) for v in column]
    odd = [
        f"'{shown(v)}' ({place})"
        for v, side, place in zip(column, sides, places, strict=True)
        if side is None and v not in (None, "")
    ]
    if odd:
        raise DataError(
            f"TB65 {shown(where)}, column '{shown(name)}': {len(odd)} rows are neither train, validation nor test "
            f"(first: {listed(odd)}). Write train, validation or test, or leave the cell empty."
        )
    return sides


# --------------------------------------------------------------------------------------------------------- Arrow tables


class ArrowColumns:
    """The columns of an Arrow table, batch by batch; class numbers become names where Hugging Face's schema gives them.

    Strings stay compact; anything else becomes Python values. DataError TB56 for a name that appears twice.
    """

    def __init__(self, schema: pa.Schema, where: str) -> None:
        double = sorted({n for n in schema.names if schema.names.count(n) > 1})
        if double:
            raise DataError(f"TB56 {shown(where)}: column '{shown(double[0])}' appears twice. Rename one of them.")
        self._names = _class_labels(schema)
        self._columns: dict[str, Gathered | list[Any]] = {
            field.name: Gathered() if _of_strings(field.type) else [] for field in schema
        }
        self.rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        for (name, column), chunk in zip(self._columns.items(), batch.columns, strict=True):
            if isinstance(column, Gathered):
                column.add_arrow(_plain_strings(chunk))
            else:
                column.extend(_named(chunk.to_pylist(), self._names.get(name, ())))
        self.rows += batch.num_rows

    def done(self) -> dict[str, Sequence[Any]]:
        return {n: c.column() if isinstance(c, Gathered) else c for n, c in self._columns.items()}


def _named(values: list[Any], names: Sequence[str]) -> list[Any]:
    if not names:
        return values
    return [names[v] if isinstance(v, int) and 0 <= v < len(names) else v for v in values]


def _of_strings(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _plain_strings(chunk: pa.Array) -> pa.Array:
    """As strings with 32-bit offsets, which is how they are gathered."""
    import pyarrow as pa

    return chunk if chunk.type == pa.string() else chunk.cast(pa.string())


def arrow_columns(table: pa.Table, where: str) -> dict[str, Sequence[Any]]:
    """name → values of a table in memory."""
    columns = ArrowColumns(table.schema, where)
    for batch in table.to_batches(max_chunksize=2**14):
        columns.add(batch)
    return columns.done()


def _class_labels(schema: pa.Schema) -> dict[str, list[str]]:
    """column → class names, from the 'huggingface' metadata that ``datasets`` writes into Parquet files."""
    raw = (schema.metadata or {}).get(b"huggingface")
    if raw is None:
        return {}
    try:
        features = json.loads(raw)["info"]["features"]
        return {
            name: [str(n) for n in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and isinstance(feature["names"], list)
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
