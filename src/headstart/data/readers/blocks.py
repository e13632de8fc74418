"""Which blocks a table is asked to be read as: columns of texts, columns of files, all columns of cells together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from headstart.base.errors import DataError, did_you_mean, listed, shown
from headstart.data.cells import Kind
from headstart.data.dataset import Modality
from headstart.data.mixed import BlockModality, ColumnKind
from headstart.data.readers.reader import Request


@dataclass(frozen=True)
class Asked:
    """texts, files: columns, each a block.  cells: columns and kinds that a saved model learnt from; None: not said."""

    texts: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    has_columns: bool = False
    cells: Mapping[str, Kind] | None = None

    @property
    def are_several(self) -> bool:
        return len(self.texts) + len(self.files) + self.has_columns > 1


def blocks_asked(columns: Mapping[str, Any], where: str, request: Request) -> Asked:
    """The blocks that a request names; DataError TB63 for columns that are not there, or that it names twice."""
    if request.learnt is not None:
        if request.text is not None or request.path_column is not None:
            raise DataError(
                f"TB63 {shown(where)}: the model knows its columns ({listed(request.learnt, most=12)}). Leave --text "
                "and --path-column out."
            )
        return _of_model(columns, where, request.learnt)
    texts = named(request.text, columns, where, "texts", "--text")
    files = named(request.path_column, columns, where, "paths", "--path-column")
    asked = Asked(texts, files, request.features is not None)
    names = [*texts, *files, *(request.target if isinstance(request.target, tuple) else (request.target,))]
    double = next((name for name in names if name is not None and names.count(name) > 1), None)
    if asked.are_several and double is not None:
        raise DataError(
            f"TB63 {shown(where)}: column '{shown(double)}' is named for two uses. Name it once among --text, "
            "--path-column and --target."
        )
    return asked


def named(asked: str | None, columns: Mapping[str, Any], where: str, what: str, flag: str) -> tuple[str, ...]:
    """The column of that name; or several, with commas. DataError TB63 for one that is not there."""
    if asked is None:
        return ()
    is_one = asked in columns or "," not in asked
    names = (asked,) if is_one else tuple(name.strip() for name in asked.split(",") if name.strip())
    return tuple(asked_for(name, columns, where, what, flag) for name in names)


def asked_for(name: str, columns: Mapping[str, Any], where: str, what: str, flag: str) -> str:
    """``name`` if there is such a column; DataError TB63 with a suggestion otherwise."""
    if name not in columns:
        raise DataError(
            f"TB63 {shown(where)} has no column '{shown(name)}' for the {what}.{did_you_mean(name, columns)} "
            f"It has: {listed(columns, most=12)}. Name the right one with {flag}."
        )
    return name


def _of_model(columns: Mapping[str, Any], where: str, learnt: Mapping[str, ColumnKind]) -> Asked:
    texts = tuple(name for name, kind in learnt.items() if kind == "text")
    files = tuple(name for name, kind in learnt.items() if kind in ("image", "audio"))
    cells = cells_among(learnt)
    missing = [name for name in (*texts, *files) if name not in columns]
    if missing:
        raise DataError(
            f"TB63 {shown(where)} lacks {listed(missing, most=8)}, which the model learnt from."
            f"{did_you_mean(missing[0], columns)} It has: {listed(columns, most=12)}. Leave cells empty where there is "
            "nothing."
        )
    return Asked(texts, files, bool(cells), cells)


def cells_among(learnt: Mapping[str, ColumnKind]) -> dict[str, Kind]:
    """The columns of cells among those that a saved model learnt from."""
    return {name: cast(Kind, kind) for name, kind in learnt.items() if kind not in ("text", "image", "audio")}


def texts_or_none(texts: Sequence[str]) -> list[str | None]:
    """The texts; None where there is nothing but spaces."""
    return [text if text.strip() else None for text in texts]


def check_modality_of(
    name: str,
    modality: Modality,
    values: Sequence[Any],
    where: str,
    learnt: Mapping[str, ColumnKind] | None,
) -> BlockModality:
    """What a column of files holds, as a saved model needs it. DataError TB64 for no file at all, TB66 for others."""
    wanted = None if learnt is None else learnt[name]
    if all(value is None for value in values):
        if wanted is None:
            raise DataError(
                f"TB64 {shown(where)}, column '{shown(name)}': no row has a path. Name another with --path-column, or "
                "leave it out."
            )
        modality = "image" if wanted == "image" else "audio"
    if wanted is not None and modality != wanted:
        raise DataError(
            f"TB66 {shown(where)}, column '{shown(name)}' holds files of the kind {modality}; the model learnt from "
            f"{wanted}. Give it files of that kind."
        )
    assert modality in ("image", "audio"), "files are pictures or sounds"
    return "image" if modality == "image" else "audio"
