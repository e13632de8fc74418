"""Sounds as a network wants them: at its sample rate, cut to its window, as samples or as a mel spectrogram.

numpy only, so that a sound is the same in every precision of the network that comes after.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from headstart.inputs.prepared import Prepared
from headstart.inputs.spec import AudioSpec

HOP, WINDOW = 160, 400  # samples of a log-mel frame's step and width, at 16 kHz: 10 and 25 ms
STRIDE = 2 * HOP  # samples behind one position of a Whisper encoder
SILENCE = 50 * STRIDE  # samples, a second
SHORTEST = WINDOW  # samples; shorter sounds are filled up with silence
PART, PART_STEP = 160, 77  # frames that an encoder of voices hears at once (1.6 s), and of its step: 1.3 parts a second
_COVERED = 0.75  # of a last part that the sound must reach, or the part is left out
_QUIETEST = 10 ** (-30 / 20)  # root mean square for encoders of voices: -30 dB of full scale
_ROLL_OFF = 0.08  # of the band, over which the resampler's filter falls to zero


def prepare(samples: np.ndarray, rate_hz: int, spec: AudioSpec) -> Prepared:
    """(L,) float32 for one sound. samples: (n,) float32 of one channel.

    'wave': the samples.  'log-mel': frame after frame of ``spec.mels`` values, for stacking with others of any length;
    a second of silence follows the sound, because Whisper has hardly heard one that just ends.  'mel': frames, too.
    """
    longest = int(spec.longest_s * spec.sample_rate_hz)
    most = int((spec.longest_s + 0.1) * rate_hz)  # a little more, so that the cut does not ring
    is_cut = len(samples) > spec.longest_s * rate_hz
    wave = resampled(samples[:most], rate_hz, spec.sample_rate_hz)[:longest]
    if len(wave) < SHORTEST:
        wave = np.pad(wave, (0, SHORTEST - len(wave)))
    if spec.form == "log-mel":
        return Prepared(log_mel(np.pad(wave, (0, SILENCE)), spec.mels).ravel(), is_cut)
    if spec.form == "mel":
        return Prepared(mel_of_parts(raised(wave), spec.mels).ravel(), is_cut)
    return Prepared(normalised(wave) if spec.normalised else wave, is_cut)


def resampled(samples: np.ndarray, rate_hz: int, wanted_hz: int) -> np.ndarray:
    """(n,) float32 samples at another rate, n rounded up.

    Band-limited by way of the spectrum of the whole sound: exact up to 92 % of the lower of both bands, then a cosine
    down to nothing at its edge, so that nothing is mirrored into the result (below -120 dB, a test measures it).
    Silence is put around it first: the ends of a sound do not meet. Any two rates will do.
    """
    if rate_hz == wanted_hz:
        return np.ascontiguousarray(samples, np.float32)
    divisor = int(np.gcd(rate_hz, wanted_hz))
    step_in, step_out = rate_hz // divisor, wanted_hz // divisor
    around = -(-max(256, rate_hz // 50) // step_in)  # steps of silence on each side
    steps = 2 * around + -(-len(samples) // step_in)
    padded = np.zeros(steps * step_in)
    padded[around * step_in : around * step_in + len(samples)] = samples
    spectrum = np.fft.rfft(padded)
    size_out = steps * step_out
    bins = min(len(spectrum), size_out // 2 + 1)
    edge = np.clip((np.arange(bins) / (bins - 1) - (1 - _ROLL_OFF)) / _ROLL_OFF, 0, 1)
    kept = np.zeros(size_out // 2 + 1, complex)
    kept[:bins] = spectrum[:bins] * (0.5 + 0.5 * np.cos(np.pi * edge))
    wave = np.fft.irfft(kept, size_out) * (step_out / step_in)
    length = -(-len(samples) * wanted_hz // rate_hz)
    return wave[around * step_out : around * step_out + length].astype(np.float32)


def normalised(wave: np.ndarray) -> np.ndarray:
    """With mean 0 and variance 1, as Wav2Vec2FeatureExtractor does it."""
    found = (wave - wave.mean(dtype=np.float64)) / np.sqrt(wave.var(dtype=np.float64) + 1e-7)
    return np.asarray(found, np.float32)


def log_mel(wave: np.ndarray, mels: int) -> np.ndarray:
    """(T, mels) float32 of samples at 16 kHz, T even: what WhisperFeatureExtractor gives without padding to 30 s.

    Silence fills the sound up to a whole position of the encoder (20 ms). Radford et al. 2022 (arXiv:2212.04356) 2.2:
    decades of energy, cut 8 below the loudest, moved to about -1 … 1.
    """
    wave = np.pad(wave, (0, -len(wave) % STRIDE))
    energies = _mel(np.pad(wave, WINDOW // 2, mode="reflect"), len(wave) // HOP, mels)
    decades = np.log10(np.maximum(energies, 1e-10))
    return np.asarray((np.maximum(decades, decades.max() - 8) + 4) / 4, np.float32)


def raised(wave: np.ndarray) -> np.ndarray:
    """Made as loud as -30 dB of full scale where it is quieter, as resemblyzer's normalize_volume(increase_only)."""
    loudness = max(float(np.sqrt(np.square(wave, dtype=np.float64).mean())), 1e-9)
    return wave * np.float32(max(1.0, _QUIETEST / loudness))


def mel_of_parts(wave: np.ndarray, mels: int) -> np.ndarray:
    """(T, mels) float32 energies of samples at 16 kHz, no logarithm; T fills parts of PART frames, PART_STEP apart.

    What VoiceEncoder.embed_utterance of resemblyzer 0.1.4 makes of a sound: silence fills up the last part where the
    sound reaches three quarters of it, or where it is the only one; else what it held alone is cut off.
    """
    starts = range(0, max(1, -(-(len(wave) + 1) // HOP) - PART + PART_STEP + 1), PART_STEP)
    if len(starts) > 1 and len(wave) - starts[-1] * HOP < _COVERED * PART * HOP:
        starts = starts[:-1]
    frames = starts[-1] + PART
    beyond = max(0, frames * HOP - len(wave))
    return _mel(np.pad(wave, (WINDOW // 2, WINDOW // 2 + beyond)), frames, mels).astype(np.float32)


def _mel(padded: np.ndarray, frames: int, mels: int) -> np.ndarray:
    """(frames, mels) energies in the bands; padded: half a window stands around the sound."""
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][:frames]
    return np.abs(np.fft.rfft(windows * _hann(), axis=1)) ** 2 @ mel_filters(mels)


@lru_cache(maxsize=1)
def _hann() -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)


@lru_cache(maxsize=4)
def mel_filters(mels: int) -> np.ndarray:
    """(WINDOW / 2 + 1, mels): triangles on Slaney's scale from 0 to 8 kHz, each of area 1."""
    corners = _hz_of(np.linspace(0, _mels_of(8000.0), mels + 2))
    at = np.linspace(0, 8000, WINDOW // 2 + 1)[:, None]
    rising = (at - corners[:-2]) / np.diff(corners)[:-1]
    falling = (corners[2:] - at) / np.diff(corners)[1:]
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (corners[2:] - corners[:-2])


# Slaney's scale: straight up to 1 kHz (mel 15), logarithmic above.
def _mels_of(hz: float) -> float:
    return 15 + 27 / np.log(6.4) * np.log(hz / 1000) if hz >= 1000 else 3 * hz / 200


def _hz_of(mels: np.ndarray) -> np.ndarray:
    return np.where(mels < 15, 200 * mels / 3, 1000 * np.exp(np.log(6.4) / 27 * (mels - 15)))
