"""Stages: every parameter of a network in exactly one of a few ordered groups, input side first.

A stage is what thaws, learns at a rate of its own, or stays frozen. Found from the shape of the network alone, so that
timm, torchvision and transformers networks are divided by one rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

STEM, TOP = "stem", "top"
_HEAVY = 0.05  # share of all parameters from which a module is worth dividing


@dataclass(frozen=True)
class Stage:
    """name: 'stem', 'blocks.3', 'top'.  prefixes: names of modules or of single parameters that belong to it."""

    name: str
    prefixes: tuple[str, ...]

    def holds(self, parameter: str) -> bool:
        return any(parameter == p or parameter.startswith(p + ".") for p in self.prefixes)


@dataclass(frozen=True)
class _Unit:
    """A module (or bare parameter) that is not divided further; ``compound``: one of a row, so a stage of its own."""

    name: str
    compound: bool


def stages_of(network: nn.Module) -> tuple[Stage, ...]:
    """The stages, in the order in which the network registers its modules.

    Small pieces before the first block are the stem, those after the last one the top; any in between join the block
    before them.
    """
    units = list(_units(network, "", sum(p.numel() for p in network.parameters())))
    first = next((i for i, u in enumerate(units) if u.compound), len(units))
    last = max((i for i, u in enumerate(units) if u.compound), default=-1)
    stages: list[Stage] = []
    for i, unit in enumerate(units):
        if unit.compound and i >= first:
            stages.append(Stage(unit.name, (unit.name,)))
            continue
        name = STEM if i < first else TOP if i > last else stages[-1].name
        if stages and stages[-1].name == name:
            stages[-1] = Stage(name, (*stages[-1].prefixes, unit.name))
        else:
            stages.append(Stage(name, (unit.name,)))
    return tuple(stages)


def check_stages(network: nn.Module, stages: Sequence[Stage]) -> None:
    """ValueError unless every parameter is in exactly one stage, names are unique and no stage is empty."""
    names = [s.name for s in stages]
    if len(set(names)) != len(names):
        raise ValueError(f"stage names are not unique: {names}")
    filled = set()
    for parameter, _ in network.named_parameters():
        owners = [s.name for s in stages if s.holds(parameter)]
        if len(owners) != 1:
            raise ValueError(f"parameter '{parameter}' is in {len(owners)} stages {owners}; it must be in exactly one")
        filled.add(owners[0])
    empty = [n for n in names if n not in filled]
    if empty:
        raise ValueError(f"stages without parameters: {empty}")


def _units(module: nn.Module, path: str, total: int) -> Iterator[_Unit]:
    for name, _ in module.named_parameters(recurse=False):
        yield _Unit(path + name, compound=False)
    children = [(n, c) for n, c in module.named_children() if _has_parameters(c)]
    row = _row_types([c for _, c in children])
    for name, child in children:
        if not row and _is_compound(child) and _count(child) >= _HEAVY * total:
            yield from _units(child, f"{path}{name}.", total)
        else:
            yield _Unit(path + name, compound=bool(row) and (type(child) in row or _is_compound(child)))


def _row_types(children: list[nn.Module]) -> set[type]:
    """Types of which these children are a row of blocks: three or more of one type, or two and nothing else.

    Normalisation layers alone are no blocks; their weights have one axis. Nor are tables of embeddings.
    """
    times = Counter(
        type(c) for c in children if type(c).__name__ != "Embedding" and any(p.ndim > 1 for p in c.parameters())
    )
    return {kind for kind, n in times.items() if n >= 3 or (n == len(children) == 2 and kind.__name__ != "Sequential")}


def _is_compound(module: nn.Module) -> bool:
    return any(_has_parameters(c) for c in module.children())


def _has_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
