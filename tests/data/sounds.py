"""Sounds as bytes of files, made by the tests themselves."""

import io
import struct

import numpy as np

FULL = 32767


def tone(hz=440.0, seconds=0.5, rate=16_000, loudness=0.5, seed=0):
    """(n,) float32: a tone with a little noise."""
    t = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.01, len(t))
    return (loudness * np.sin(2 * np.pi * hz * t) + noise).astype(np.float32)


def wav(samples, rate=16_000, *, claims=None):
    """A WAV of 16 bits; claims: bytes of samples that the header speaks of."""
    samples = np.asarray(samples)
    samples = samples[:, None] if samples.ndim == 1 else samples
    data = (samples * FULL).clip(-32768, FULL).astype("<i2").tobytes()
    channels = samples.shape[1]
    head = struct.pack("<HHIIHH", 1, channels, rate, min(rate * channels * 2, 2**32 - 1), (channels * 2) % 2**16, 16)
    parts = b"WAVEfmt " + struct.pack("<I", len(head)) + head
    parts += b"data" + struct.pack("<I", len(data) if claims is None else claims) + data
    return b"RIFF" + struct.pack("<I", len(parts)) + parts


def encoded(samples, rate=16_000, kind="WAV", subtype="PCM_16"):
    """As libsndfile writes it."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()
