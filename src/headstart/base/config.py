"""Frozen dataclasses to plain values and back; unknown keys are refused with a suggestion.

The only types a record or a configuration may hold: str, int, float, bool, None, sequences of them, mappings with
string keys, and further dataclasses. A file can therefore never name a class or an import path.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from headstart.base.errors import DataError, did_you_mean, shown

T = TypeVar("T")


def to_dict(value: Any) -> Any:
    """Plain dicts, lists and scalars for a dataclass (recursively)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_dict(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [to_dict(v) for v in value]
    return value


def from_dict(cls: type[T], values: Any, *, where: str = "config") -> T:
    """An instance of the dataclass ``cls`` from plain values; DataError CF23 on unknown, missing or ill-typed keys."""
    if not isinstance(values, Mapping):
        raise DataError(f"CF23 {where}: expected a table of keys for {cls.__name__}, got {type(values).__name__}.")
    hints = _hints(cls)  # type: ignore[arg-type]
    for key in values:
        if key not in hints:
            raise DataError(f"CF23 {where}: unknown key '{shown(key)}'.{did_you_mean(str(key), hints)}")
    made: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name in values:
            made[field.name] = _convert(hints[field.name], values[field.name], f"{where}.{field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise DataError(f"CF23 {where}: key '{field.name}' is missing.")
    return cls(**made)


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _first_that_fits(arguments, value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise DataError(f"CF23 {where}: '{shown(value)}' is not one of {', '.join(map(str, arguments))}.")
        return value
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, where=where)
    if origin in (tuple, list, Sequence):
        if not isinstance(value, list | tuple):
            raise DataError(f"CF23 {where}: expected a list, got {type(value).__name__}.")
        if origin is tuple and arguments and arguments[-1] is not Ellipsis:
            if len(value) != len(arguments):
                raise DataError(f"CF23 {where}: expected {len(arguments)} values, got {len(value)}.")
            return tuple(_convert(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(arguments, value, strict=True)))
        kind = arguments[0] if arguments else Any
        if kind in (int, str) and all(type(v) is kind for v in value):  # long lists of ids and counts
            return list(value) if origin is list else tuple(value)
        items = [_convert(kind, v, f"{where}[{i}]") for i, v in enumerate(value)]
        return items if origin is list else tuple(items)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise DataError(f"CF23 {where}: expected a table, got {type(value).__name__}.")
        return {str(k): _convert(arguments[1] if arguments else Any, v, f"{where}.{k}") for k, v in value.items()}
    return _scalar(hint, value, where)


def _first_that_fits(options: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in options:
        return None
    problems = []
    for option in options:
        if option is type(None):
            continue
        try:
            return _convert(option, value, where)
        except DataError as error:
            problems.append(error)
    raise problems[0]


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float:
        if value is None:
            return float("nan")  # NaN is written as null
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif hint is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif isinstance(hint, type) and isinstance(value, hint):
        return value
    expected = getattr(hint, "__name__", str(hint))
    raise DataError(f"CF23 {where}: expected {expected}, got '{shown(value)}' ({type(value).__name__}).")
