"""Sounds: samples or log-mel frames of any length, sorted so that a batch holds sounds of about one length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headstart.inputs.audio import prepare
from headstart.inputs.prepared import Prepared
from headstart.inputs.spec import AudioSpec


class AudioFeed:
    window: int | None = 256
    timed = 16
    versions: tuple[str, ...] = ("numpy",)
    at_least: int | None = None

    def __init__(self, spec: AudioSpec) -> None:
        self.spec = spec

    def prepare(self, values: Sequence[Any]) -> list[Prepared]:
        return [prepare(sound.samples, sound.rate_hz, self.spec) for sound in values]

    def nothing(self) -> Prepared:
        """A second of a tone."""
        rate = self.spec.sample_rate_hz
        return prepare(np.sin(2 * np.pi * 440 / rate * np.arange(rate)).astype(np.float32), rate, self.spec)
