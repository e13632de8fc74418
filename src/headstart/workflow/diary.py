"""What a climb has finished, page by page, so that an interrupted one goes on with the next training.

A page is written whole or not at all, carries its own hash and the name of the climb that wrote it, and is never
changed. What is damaged or belongs to another climb is passed over: its training is made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.base.errors import EnvironmentFault, shown
from headstart.base.files import key_of, make_folder, write_bytes
from headstart.base.progress import QUIET, Observer, Said

if TYPE_CHECKING:
    from torch import Tensor

_HASH = 64  # bytes of the sha256 in hexadecimal with which a page begins


@dataclass(frozen=True, eq=False)
class Page:
    """values: plain, as JSON holds them.  tensors: on the CPU.  spent: seconds of the climb when it was written."""

    values: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    spent: float = 0.0


class NoDiary:
    """The null object: remembers nothing."""

    farewell = "Nothing is saved, because this training keeps no checkpoints."
    spent = 0.0

    def read(self, name: str) -> Page | None:
        return None

    def write(self, name: str, page: Page) -> None:
        return None

    def about(self, name: str, of: Any) -> NoDiary:
        return self


class Diary:
    """The pages in ``folder`` of the climb that ``of`` describes (plain values).

    spent: seconds that the climb had taken when its last page was written, 0 where there is none.
    """

    farewell = "What the ladder had finished is saved; go on with the same command and --resume."

    def __init__(self, folder: Path, of: Any, observer: Observer = QUIET) -> None:
        self._folder, self._of, self._observer = folder, key_of([of]), observer
        pages = [self._read(path) for path in sorted(folder.glob("*.page"))]
        self.spent = max((page.spent for page in pages if page is not None), default=0.0)

    def read(self, name: str) -> Page | None:
        """The page of that name; None where it is not there, or not what was written."""
        path = self._path(name)
        return self._read(path) if path.exists() else None

    def write(self, name: str, page: Page) -> None:
        """A disk that is full costs the page and not the climb, which the observer is told."""
        from safetensors.torch import save

        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in page.tensors.items()}
        # Not base.files.to_json: the order of a mapping (rates, stage by stage) must come back, and a score may be NaN.
        said = json.dumps({"of": self._of, "name": name, "spent": page.spent, "values": page.values})
        content = save(tensors, {"page": said})
        try:
            make_folder(self._folder)
            write_bytes(self._path(name), hashlib.sha256(content).hexdigest().encode() + content)
        except EnvironmentFault as fault:
            self._observer(Said(f"'{name}' would have to be trained again after an interruption: {fault}", "warning"))

    def about(self, name: str, of: Any) -> Diary:
        """The diary of another climb in the same run."""
        return Diary(self._folder / name, of, self._observer)

    def _path(self, name: str) -> Path:
        return self._folder / f"{key_of([self._of, name])[:32]}.page"

    def _read(self, path: Path) -> Page | None:
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            content = path.read_bytes()
            if hashlib.sha256(content[_HASH:]).hexdigest().encode() != content[:_HASH]:
                self._observer(Said(f"{shown(path)} is damaged; what it held is made again.", "warning"))
                return None
            tensors = load(content[_HASH:])
            values = json.loads(_metadata(content[_HASH:]))
        except (OSError, SafetensorError):
            return None
        if values["of"] != self._of:
            return None
        return Page(values["values"], tensors, values["spent"])


def _metadata(content: bytes) -> str:
    """The text beside the tensors: a safetensors file begins with the length of its JSON head."""
    size = int.from_bytes(content[:8], "little")
    head = json.loads(content[8 : 8 + size])
    return str(head["__metadata__"]["page"])
