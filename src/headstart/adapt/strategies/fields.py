"""The fields that belong to one strategy, set by name: ``--set rank=8``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from headstart.adapt.strategies.strategy import Strategy
from headstart.base.errors import PlanError, did_you_mean, shown

Field = int | float | str  # what a field can be set to from outside
S = TypeVar("S", bound=Strategy)


def fields_of(strategy: Strategy) -> dict[str, Field | None]:
    """Name → value of every field that can be set; None is 'told by the network'."""
    kinds = get_type_hints(type(strategy))
    return {f.name: getattr(strategy, f.name) for f in fields(_dataclass(strategy)) if _kinds(kinds[f.name])}


def with_fields(strategy: S, chosen: Mapping[str, Field]) -> S:
    """``strategy`` with its fields as chosen. Words are read as what the field holds, so '8' is 8 for a rank.

    PlanError PL14 for a field that it has not, and for a value that is not of the field's kind.
    """
    known = fields_of(strategy)
    hints = get_type_hints(type(strategy))
    read: dict[str, Field] = {}
    for name, value in chosen.items():
        if name not in known:
            raise PlanError(
                f"PL14 '{strategy.name}' has no field '{shown(name)}'.{did_you_mean(name, known)} {_listed(strategy)}"
            )
        read[name] = _read(strategy, name, value, _kinds(hints[name]))
    return replace(_dataclass(strategy), **read) if read else strategy


def parsed(words: list[str]) -> dict[str, Field]:
    """{'rank': '8'} of ['rank=8']; PlanError PL14 for a word without '=' and for a name given twice."""
    found: dict[str, Field] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name or not value:
            raise PlanError(f"PL14 --set takes NAME=VALUE, such as --set rank=8; got '{shown(word)}'.")
        if name in found:
            raise PlanError(f"PL14 --set {shown(name)} is given twice; give it once.")
        found[name] = value
    return found


def _read(strategy: Strategy, name: str, value: Field, kinds: tuple[Any, ...]) -> Field:
    for kind in kinds:
        if isinstance(kind, str):
            if value == kind:
                return kind
            continue
        try:
            number: Field = kind(value)
        except (TypeError, ValueError):
            continue
        if isinstance(value, str) or (number == value and not isinstance(value, bool)):
            return number
    wanted = " or ".join(_in_words(kind) for kind in kinds)
    raise PlanError(f"PL14 {strategy.name}: {name} is '{shown(value)}'; it must be {wanted}. {_listed(strategy)}")


def _kinds(hint: Any) -> tuple[Any, ...]:
    """int, float, or the words of a Literal; () for a field that is not set from outside, such as a table."""
    if hint in (int, float):
        return (hint,)
    if get_origin(hint) is Literal:
        return get_args(hint)
    parts = [part for part in get_args(hint) if part is not NoneType]
    return _kinds(parts[0]) if len(parts) == 1 and NoneType in get_args(hint) else ()


def _in_words(kind: Any) -> str:
    return f"'{kind}'" if isinstance(kind, str) else {int: "a whole number", float: "a number"}[kind]


def _listed(strategy: Strategy) -> str:
    known = fields_of(type(strategy)())
    if not known:
        return "It has no fields."
    said = ", ".join(f"{name} ({'by the network' if value is None else value})" for name, value in known.items())
    return f"Its fields with their defaults: {said}."


def _dataclass(strategy: Any) -> Any:
    """Strategies are frozen dataclasses, which a protocol cannot say."""
    return strategy
