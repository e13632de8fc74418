"""Sounds: statistics of the spectrum beside the network; pictures of sounds, and the worst mistakes to be heard."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from typing import Any

import numpy as np

from headstart.base.optional import require
from headstart.data.dataset import Dataset
from headstart.data.decode import BadExample
from headstart.data.looks import Look
from headstart.data.sound import Waveform
from headstart.data.survey import Survey
from headstart.inputs.audio import log_mel, resampled
from headstart.inputs.spec import InputSpec
from headstart.records.predictions import Predictions
from headstart.workflow.judge import Contest, Plain
from headstart.workflow.modalities.evidence import Shown

HEARD = 12  # worst mistakes with a play button
HEARD_S = 6.0  # of each
HEARD_HZ = 8000  # enough to know a voice by, and a quarter of the bytes
WIDE, WAVE, MEL = 240, 48, 56  # pixels of the picture: the wave above, the log-mel below
DRAWN_S = 30.0
_PAPER, _INK = (250, 250, 250), (38, 84, 124)
_DARK, _MIDDLE, _LIGHT = np.array([24, 20, 60]), np.array([190, 60, 90]), np.array([252, 230, 150])


class AudioEvidence:
    def plain(self, dataset: Dataset, survey: Survey, rows: np.ndarray, look: Look) -> Plain:
        def judge(contest: Contest) -> Predictions:
            from headstart.workflow.modalities.log_mel import statistics

            return contest.judge(
                statistics(look.value(dataset.content(int(r))[1], name=dataset.ids[int(r)]) for r in rows)
            )

        return Plain("log-mel", "the same kind of head on statistics of the log-mel spectrum, no network", judge)

    def shown(self, dataset: Dataset, shown: Shown, *, spec: InputSpec, look: Look) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        heard = {name for name, _ in list(shown.mistakes)[:HEARD]}
        for name, sound in _sounds(dataset, [*shown.wanted, *shown.seen], look):
            found[name] = {"shown": picture(sound), "sound": to_hear(sound) if name in heard else None}
        return found


def _sounds(dataset: Dataset, names: Iterable[str], look: Look) -> Iterable[tuple[str, Waveform]]:
    row_of = {name: row for row, name in enumerate(dataset.ids)}
    for name in dict.fromkeys(names):
        if name in row_of:
            try:
                yield name, look.value(dataset.content(row_of[name])[1], name=name)
            except (BadExample, OSError):
                continue


def to_hear(sound: Waveform) -> str:
    """A data URI of the first seconds, as a WAV of 8,000 samples a second and 8 bits in μ-law: 8 kB a second."""
    soundfile = require("soundfile", extra="audio")
    wave = resampled(sound.samples[: int(HEARD_S * sound.rate_hz)], sound.rate_hz, HEARD_HZ)
    buffer = io.BytesIO()
    soundfile.write(buffer, wave / max(1.0, float(np.abs(wave).max())), HEARD_HZ, format="WAV", subtype="ULAW")
    return "data:audio/wav;base64," + base64.b64encode(buffer.getvalue()).decode()


def picture(sound: Waveform) -> str:
    """A data URI of the wave over time and, below it, the log-mel spectrogram, high tones above."""
    from PIL import Image

    some = Waveform(sound.samples[: int(DRAWN_S * sound.rate_hz)], sound.rate_hz)
    pixels = np.concatenate([_wave(some.samples), _mel(some)])
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _wave(samples: np.ndarray) -> np.ndarray:
    """(WAVE, WIDE, 3): in each column what lies between the lowest and the highest sample."""
    columns = np.array_split(samples, WIDE) if len(samples) >= WIDE else [samples] * WIDE
    loudest = max(float(np.abs(samples).max()), 1e-6)
    low = np.array([c.min() for c in columns]) / loudest
    high = np.array([c.max() for c in columns]) / loudest
    heights = 1 - 2 * (np.arange(WAVE)[:, None] + 0.5) / WAVE
    is_ink = (heights <= high + 1 / WAVE) & (heights >= low - 1 / WAVE)
    return np.where(is_ink[:, :, None], _INK, _PAPER)


def _mel(sound: Waveform) -> np.ndarray:
    """(MEL, WIDE, 3) from dark to light."""
    frames = log_mel(np.pad(resampled(sound.samples, sound.rate_hz, 16_000), (0, 400)), MEL)
    at = (np.arange(WIDE) * len(frames)) // WIDE
    levels = frames[at].T[::-1]
    levels = (levels - levels.min()) / max(float(np.ptp(levels)), 1e-6)
    below, above = (2 * levels).clip(0, 1)[:, :, None], (2 * levels - 1).clip(0, 1)[:, :, None]
    return _DARK + below * (_MIDDLE - _DARK) + above * (_LIGHT - _MIDDLE)
