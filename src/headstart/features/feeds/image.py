"""Pictures: resized and cut to the network's square; all of one shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headstart.inputs.image import prepare
from headstart.inputs.prepared import Prepared
from headstart.inputs.spec import ImageSpec


class ImageFeed:
    window: int | None = None
    timed = 16
    versions: tuple[str, ...] = ("pillow",)

    def __init__(self, spec: ImageSpec) -> None:
        self.spec = spec
        self.at_least: int | None = spec.resized

    def prepare(self, values: Sequence[Any]) -> list[Prepared]:
        return [Prepared(prepare(image, self.spec)) for image in values]

    def nothing(self) -> Prepared:
        return Prepared(np.full((self.spec.size, self.spec.size, 3), 128, np.uint8))
