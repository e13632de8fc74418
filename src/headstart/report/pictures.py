"""Thumbnails from pictures.json, checked: only small base64 images may enter the page."""

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
_IMAGE = re.compile(r"data:image/(?:jpeg|png|webp|gif);base64,[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True)
class Pictures:
    """Thumbnails by example id, and the ids that stand for each class. Any of them may be missing."""

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
        """name, shown, seen; None for a picture that is missing or is not an image."""
        entry = self.pictures.get(id)
        entry = entry if isinstance(entry, dict) else {}
        return {"name": id, "shown": _checked(entry.get("shown")), "seen": _checked(entry.get("seen"))}

    def has(self, id: str) -> bool:
        return id in self.pictures

    def ids_of(self, name: str) -> list[str]:
        ids = self.samples.get(name, [])
        return [i for i in ids if isinstance(i, str)] if isinstance(ids, list) else []


def _checked(uri: Any) -> Picture | None:
    is_image = isinstance(uri, str) and len(uri) <= LARGEST and _IMAGE.fullmatch(uri) is not None
    return Picture(uri) if is_image else None
