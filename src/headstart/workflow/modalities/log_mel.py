"""What the spectrum alone is worth: statistics of a log-mel spectrogram, with the same kind of head and no network.

For who speaks, through which telephone, in which tongue, this is a rival that beats networks at times.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from headstart.data.sound import Waveform
from headstart.inputs.audio import log_mel, resampled

MELS, RATE_HZ, LONGEST_S = 80, 16_000, 30
WIDTH = 4 * MELS


def statistics(sounds: Iterable[Waveform]) -> np.ndarray:
    """(n, WIDTH) float32: of each band the mean, the deviation, and both of the change from frame to frame."""
    return np.array([_of(sound) for sound in sounds], np.float32).reshape(-1, WIDTH)


def _of(sound: Waveform) -> np.ndarray:
    some = sound.samples[: (LONGEST_S + 1) * sound.rate_hz]
    frames = log_mel(resampled(some, sound.rate_hz, RATE_HZ)[: LONGEST_S * RATE_HZ], MELS)
    change = np.diff(frames, axis=0)
    return np.concatenate([frames.mean(0), frames.std(0), change.mean(0), change.std(0)])
