"""What examples are shown by, from pictures.json, checked: only small base64 images and sounds and
short texts enter the page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headstart.base.errors import DataError, shown
from headstart.base.files import read_json
from headstart.report.privacy import Picture

LARGEST = 256 * 1024  # characters of one data URI
LONGEST = 2000  # characters of one text
MOST_CELLS = 50  # of one row
LEVELS = 3  # strengths of a mark
FAINTEST = 0.02  # a change of the score that is worth a mark
_SOUND = re.compile(r"data:audio/wav;base64,[A-Za-z0-9+/]+={0,2}")
_IMAGE = re.compile(r"data:image/(?:jpeg|png|webp|gif);base64,[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True)
class Pictures:
    """Thumbnails or texts by example id, and the ids that stand for each class. Any of them may be missing."""

    pictures: Mapping[str, Any] = field(default_factory=dict)
    samples: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Pictures:
        """From pictures.json; empty if it is not there. Raises DataError CF24 if it is not what was written."""
        if not path.exists():
            return cls()
        values = read_json(path)
        if not isinstance(values, dict) or not all(
            isinstance(values.get(k, {}), dict) for k in ("pictures", "samples")
        ):
            raise DataError(
                f"CF24 {shown(path)}: expected {{'pictures': {{…}}, 'samples': {{…}}}}. Delete it to go on."
            )
        return cls(values.get("pictures", {}), values.get("samples", {}))

    def of(self, id: str) -> dict[str, Any]:
        """name; shown, seen (None for a picture that is missing or is not an image); text and its marks.

        text: None where there is none.  marks: parts of it with a level from -3 (speaks against what was answered) to
        3 (speaks for it); [] where it was not looked into.  cells: (column, cell) of a row of a table.
        is_sound: the picture is one of a sound.  sound: None for all but those that can be listened to.
        """
        entry = self.pictures.get(id)
        entry = entry if isinstance(entry, dict) else {}
        text = entry.get("text")
        return {
            "name": id,
            "shown": _checked(entry.get("shown")),
            "seen": _checked(entry.get("seen")),
            "text": text if isinstance(text, str) and len(text) <= LONGEST else None,
            "marks": _marks(entry.get("marks")),
            "cells": _cells(entry.get("cells")),
            "is_sound": "sound" in entry,
            "sound": _checked(entry.get("sound"), _SOUND),
        }

    def has(self, id: str) -> bool:
        return id in self.pictures

    def is_shown(self, id: str) -> bool:
        """Whether it can stand in a strip beside others: a picture or a text, not a row of a table."""
        of = self.of(id)
        return self.has(id) and (not of["cells"] or of["shown"] is not None)

    def ids_of(self, name: str) -> list[str]:
        ids = self.samples.get(name, [])
        return [i for i in ids if isinstance(i, str)] if isinstance(ids, list) else []


def _marks(found: Any) -> list[dict[str, Any]]:
    """Parts with their levels; the strongest part of the text has the highest one."""
    if not isinstance(found, list) or not all(
        isinstance(m, list) and len(m) == 2 and isinstance(m[0], str) and isinstance(m[1], int | float) for m in found
    ):
        return []
    largest = max((abs(weight) for _, weight in found), default=0.0)
    return [{"text": part, "level": 0 if abs(w) < FAINTEST else round(LEVELS * w / largest)} for part, w in found]


def _cells(found: Any) -> list[list[str]]:
    if not isinstance(found, list) or len(found) > MOST_CELLS:
        return []
    return [c for c in found if isinstance(c, list) and len(c) == 2 and all(isinstance(t, str) for t in c)]


def _checked(uri: Any, kind: re.Pattern[str] = _IMAGE) -> Picture | None:
    is_plain = isinstance(uri, str) and len(uri) <= LARGEST and kind.fullmatch(uri) is not None
    return Picture(uri) if is_plain else None
