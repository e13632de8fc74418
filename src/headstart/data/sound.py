"""Bytes and arrays become sounds of one channel, or a BadExample that says why not.

Sounds keep their own sample rate here; what a network wants is made of them by ``inputs.audio``. libsndfile decodes
through the package soundfile (WAV, FLAC, OGG, MP3 …) and the raw GSM frames that telephone systems keep. A header is
not believed: what it promises is compared with what was found. Pure and safe to call from many threads.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from headstart.base.errors import shown
from headstart.base.files import content_hash, human_bytes
from headstart.base.optional import require
from headstart.data.decode import BadExample

SOUND_EXTENSIONS = (".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".gsm")
SILENT = 1e-4  # deviation of the samples (full scale is 1) below which nothing can be heard
FULL_SCALE = 0.999
CLIPPED = 0.01  # share of samples at full scale that is worth a word
BANDS, SLICES = 16, 16  # of the small picture of a sound
LOWEST_HZ, HIGHEST_HZ = 100.0, 3500.0  # between which it is looked at; telephones carry no more
_GSM_FRAME, _GSM_SAMPLES, _GSM_RATE = 33, 160, 8000


@dataclass(frozen=True, eq=False)
class Waveform:
    """samples: (n,) or (n, channels) numbers, full scale 1 (integers: that of their type).  rate_hz: of samples."""

    samples: np.ndarray
    rate_hz: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate_hz

    @cached_property
    def key(self) -> bytes:
        """16 bytes of SHA-256 over the content."""
        head = f"sound\0{self.rate_hz}\0{self.samples.dtype.str}\0{self.samples.shape}\0".encode()
        return content_hash(head + np.ascontiguousarray(self.samples).tobytes(), 16)


@dataclass(frozen=True)
class SoundLimits:
    """What is still read."""

    shortest_s: float = 0.05
    longest_s: float = 600.0
    lowest_rate_hz: int = 4_000
    highest_rate_hz: int = 384_000
    max_channels: int = 32
    max_samples: int = 2**26  # of all channels together: 256 MiB in memory
    max_bytes: int = 256 * 2**20


@dataclass(frozen=True)
class SoundFacts:
    """What one look at a sound tells.

    format: as stored ('WAV PCM_16', 'array').  loudness: root of the mean square, full scale 1.
    hash: 64 bits that are alike for sounds that are.  notes: what was done to it, or is odd about it.
    tiny: BANDS × SLICES bytes, the energy by band and time.
    """

    seconds: float
    rate: int
    channels: int
    loudness: float
    hash: int
    format: str
    notes: tuple[str, ...]
    tiny: bytes


def is_sound(head: bytes) -> bool:
    """Whether bytes begin like a sound: WAV, AIFF, AU, FLAC, OGG, MP3, or raw frames of GSM."""
    if head[:4] in (b"fLaC", b"OggS", b".snd") or head[:3] == b"ID3":
        return True
    if head[:4] in (b"RIFF", b"RF64", b"FORM"):
        return head[8:12] in (b"WAVE", b"AIFF", b"AIFC")
    if _is_gsm(head):
        return True
    # A frame of MPEG audio: eleven ones, then a version, a layer, a bit rate and a sample rate that exist.
    return (
        len(head) > 3
        and head[0] == 0xFF
        and head[1] & 0xE0 == 0xE0
        and head[1] & 0x18 != 0x08
        and head[1] & 0x06 == 0x02
        and head[2] & 0xF0 not in (0x00, 0xF0)
        and head[2] & 0x0C != 0x0C
    )


def as_waveform(value: Any) -> Waveform | None:
    """A Waveform from what libraries give: (samples, rate) of soundfile, (rate, samples) of SciPy, or Hugging Face's
    {'array', 'sampling_rate'}; None for anything else.
    """
    if isinstance(value, Waveform):
        return value
    if isinstance(value, Mapping) and {"array", "sampling_rate"} <= value.keys():
        value = (value["array"], value["sampling_rate"])
    if not isinstance(value, tuple | list) or len(value) != 2:
        return None
    samples, rate = value if _is_rate(value[1]) else value[::-1]
    if isinstance(samples, list) and samples and all(isinstance(x, int | float) for x in samples):
        samples = np.array(samples)
    if not _is_rate(rate) or not isinstance(samples, np.ndarray) or samples.ndim not in (1, 2):
        return None
    return Waveform(samples, int(rate))


def _is_rate(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and float(value).is_integer()


def decode_sound(
    value: bytes | Waveform, *, name: str, limits: SoundLimits = SoundLimits()
) -> tuple[Waveform, SoundFacts]:
    """(the sound with one channel as float32, its facts). Raises BadExample."""
    given, kind = (value, "array") if isinstance(value, Waveform) else _decoded(value, name, limits)
    samples = _as_floats(given.samples)
    if samples.ndim != 2 or samples.dtype.kind != "f":
        raise BadExample("AU62", name, f"holds {given.samples.dtype} of shape {given.samples.shape}, not samples")
    _check(len(samples), given.rate_hz, samples.shape[1], name, limits)
    if not np.isfinite(samples).all():
        raise BadExample("AU65", name, f"{int((~np.isfinite(samples)).sum()):,} samples are NaN or infinite")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    mono = np.ascontiguousarray(mono, np.float32)
    if float(np.std(mono, dtype=np.float64)) < SILENT:
        raise BadExample("AU65", name, f"is silent: nothing in its {given.seconds:.2f} s is louder than -80 dB")
    return Waveform(mono, given.rate_hz), _facts(mono, given.rate_hz, samples, kind)


def _check(frames: int, rate_hz: int, channels: int, name: str, limits: SoundLimits) -> None:
    if not limits.lowest_rate_hz <= rate_hz <= limits.highest_rate_hz:
        raise BadExample(
            "AU64",
            name,
            f"has {rate_hz:,} samples a second; {limits.lowest_rate_hz:,} to {limits.highest_rate_hz:,} are read",
        )
    if not 1 <= channels <= limits.max_channels:
        raise BadExample("AU64", name, f"has {channels:,} channels; at most {limits.max_channels} are read")
    seconds = frames / rate_hz
    if seconds < limits.shortest_s:
        raise BadExample("AU62", name, f"{seconds:.2f} s; at least {limits.shortest_s:g} s are needed")
    if seconds > limits.longest_s:
        raise BadExample("AU62", name, f"{seconds:,.0f} s; at most {limits.longest_s:g} s are read: cut it into pieces")
    if frames * channels > limits.max_samples:
        raise BadExample(
            "AU64", name, f"{frames * channels:,} samples in all channels; at most {limits.max_samples:,} are read"
        )


def _as_floats(samples: np.ndarray) -> np.ndarray:
    """(n, channels) with full scale 1. Arrays of few long rows are taken for channels × samples (torchaudio's way)."""
    samples = samples[:, None] if samples.ndim == 1 else samples
    if samples.ndim == 2 and samples.shape[0] < samples.shape[1] and samples.shape[0] <= 8:
        samples = samples.T
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    return samples


# ---------------------------------------------------------------------------------------------------------- from bytes


def _decoded(data: bytes, name: str, limits: SoundLimits) -> tuple[Waveform, str]:
    if not data:
        raise BadExample("AU62", name, "the file is empty")
    if len(data) > limits.max_bytes:
        raise BadExample(
            "AU64", name, f"{human_bytes(len(data))} are above the limit of {human_bytes(limits.max_bytes)}"
        )
    if not is_sound(data[: 64 * _GSM_FRAME]):
        raise BadExample("AU60", name, "is no sound that is read here (WAV, FLAC, OGG, MP3, AIFF, AU, GSM)")
    _check_whole(data, name)
    soundfile = require("soundfile", extra="audio")
    raw = {"format": "RAW", "subtype": "GSM610", "channels": 1, "samplerate": _GSM_RATE} if _is_gsm(data) else {}
    try:
        with soundfile.SoundFile(io.BytesIO(data), **raw) as file:
            _check_header(file, name, limits)
            promised, rate_hz, kind = file.frames, file.samplerate, f"{file.format} {file.subtype}"
            most = int(limits.longest_s * rate_hz) + 1
            samples = file.read(min(promised, most) if promised > 0 else most, dtype="float32", always_2d=True)
    except BadExample:
        raise
    except (soundfile.SoundFileError, RuntimeError, ValueError, OSError, MemoryError) as error:
        raise BadExample("AU60", name, f"cannot be decoded: {shown(error)[:120]}") from error
    if raw:
        kind, promised = "GSM", len(data) // _GSM_FRAME * _GSM_SAMPLES
    if len(samples) < min(promised, most) * 0.98 - 1152:  # decoders of MP3 and GSM may keep back a frame or two
        raise _truncated(promised / rate_hz, len(samples) / rate_hz, name)
    return Waveform(samples, rate_hz), kind


def _check_header(file: Any, name: str, limits: SoundLimits) -> None:
    """Before anything is decoded: a header can ask for more memory than there is."""
    frames = max(file.frames, int(limits.shortest_s * file.samplerate) + 1) if file.frames < 0 else file.frames
    _check(frames, file.samplerate, file.channels, name, limits)


def _check_whole(data: bytes, name: str) -> None:
    """AU63 for a WAV whose part of samples ends before the header says; libsndfile would just give fewer."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return
    at, bytes_a_second = 12, 0
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind == b"fmt ":
            bytes_a_second = int.from_bytes(data[at + 16 : at + 20], "little")
        if kind == b"data":
            there = len(data) - at - 8
            if there < size < 0xFFFFFF00 and bytes_a_second:  # streams that never learnt their length say the largest
                raise _truncated(size / bytes_a_second, there / bytes_a_second, name)
            return
        at += 8 + size + (size & 1)


def _truncated(promised_s: float, found_s: float, name: str) -> BadExample:
    return BadExample("AU63", name, f"header says {promised_s:.1f} s, found {found_s:.1f} s: the file ends early")


def _is_gsm(data: bytes) -> bool:
    """Raw GSM 06.10: frames of 33 bytes, each beginning with the bits 1101."""
    marks = data[0 : 64 * _GSM_FRAME : _GSM_FRAME]
    return len(data) >= 2 * _GSM_FRAME and all(mark >> 4 == 0xD for mark in marks)


# --------------------------------------------------------------------------------------------------------------- facts


def _facts(mono: np.ndarray, rate_hz: int, samples: np.ndarray, kind: str) -> SoundFacts:
    notes = []
    if samples.shape[1] > 1:
        notes.append(f"{samples.shape[1]} channels mixed to one")
    if float((np.abs(samples) >= FULL_SCALE).mean()) > CLIPPED:
        notes.append("clipped at full scale")
    energy = _energies(mono, rate_hz)
    return SoundFacts(
        seconds=len(mono) / rate_hz,
        rate=rate_hz,
        channels=samples.shape[1],
        loudness=float(np.sqrt(np.mean(np.square(mono, dtype=np.float64)))),
        hash=_hash(energy),
        format=kind,
        notes=tuple(notes),
        tiny=(255 * (energy + 80) / 80).clip(0, 255).astype(np.uint8).tobytes(),
    )


def _energies(mono: np.ndarray, rate_hz: int) -> np.ndarray:
    """(BANDS, SLICES) decibels below the strongest, at least -80."""
    edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS + 1)
    found = np.zeros((BANDS, SLICES))
    for at, part in enumerate(np.array_split(mono, SLICES)):
        power = np.abs(np.fft.rfft(part, max(len(part), 512))) ** 2
        starts = (edges * 2 * (len(power) - 1) / rate_hz).astype(int).clip(0, len(power))
        sums = np.concatenate([[0.0], np.cumsum(power)])
        found[:, at] = sums[starts[1:]] - sums[starts[:-1]]
    return np.maximum(10 * np.log10(found / max(found.max(), 1e-30) + 1e-12), -80.0)


def _hash(energy: np.ndarray) -> int:
    """64 bits: in each of 8 pairs of bands and 8 of slices, whether the energy is above that of the middle one."""
    coarse = energy.reshape(8, BANDS // 8, 8, SLICES // 8).mean(axis=(1, 3))
    return int.from_bytes(np.packbits(coarse > np.median(coarse)).tobytes(), "big")
