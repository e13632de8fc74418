"""Thumbnails for the report: what the file shows, and what the network saw of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from headstart.data.dataset import Dataset
from headstart.data.decode import BadExample
from headstart.data.looks import Look
from headstart.inputs.image import prepare
from headstart.inputs.spec import ImageSpec

SIDE = 144  # longest side of a thumbnail, in pixels
PER_CLASS = 4
CLASSES = 12  # classes that get samples


def samples(targets: Sequence[Any], ids: Sequence[str]) -> dict[str, list[str]]:
    """Up to PER_CLASS ids of each of the first CLASSES classes, evenly spread over the rows."""
    by_class: dict[str, list[str]] = {}
    for target, name in zip(targets, ids, strict=True):
        for label in target if isinstance(target, tuple) else (target,):
            by_class.setdefault(label if isinstance(label, str) else "examples", []).append(name)
    chosen = {}
    for label in sorted(by_class)[:CLASSES]:
        members = by_class[label]
        at = np.unique(np.linspace(0, len(members) - 1, PER_CLASS).round().astype(int))
        chosen[label] = [members[i] for i in at]
    return chosen


def pictures(
    dataset: Dataset, shown: Iterable[str], seen: Iterable[str], *, spec: ImageSpec, look: Look
) -> dict[str, dict[str, str]]:
    """id → {'shown': data URI, 'seen': data URI for ids in ``seen``}; ids that cannot be decoded are left out."""
    with_seen = set(seen)
    row_of = {name: row for row, name in enumerate(dataset.ids)}
    found: dict[str, dict[str, str]] = {}
    for name in dict.fromkeys([*shown, *with_seen]):
        row = row_of.get(name)
        if row is None:
            continue
        try:
            image = look.value(dataset.content(row)[1], name=name, at_least=spec.resized)
        except (BadExample, OSError):
            continue
        found[name] = {"shown": _uri(_thumbnail(image))}
        if name in with_seen:
            from PIL import Image

            found[name]["seen"] = _uri(_thumbnail(Image.fromarray(prepare(image, spec))))
    return found


def _thumbnail(image: Any) -> Any:
    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    return small


def _uri(image: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
