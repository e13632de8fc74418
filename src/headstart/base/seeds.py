"""One seed, many named streams.

``stream(0, "bootstrap", "accuracy")`` is the same generator in every process and on every machine, whatever else has
drawn numbers before it. Nothing in headstart uses a global random state.
"""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, *names: object) -> np.random.Generator:
    """A generator of its own for (seed, names)."""
    return np.random.Generator(np.random.PCG64(number(seed, *names)))


def number(seed: int, *names: object) -> int:
    """A 63-bit number for libraries that want an integer seed."""
    text = "\x1f".join([str(int(seed)), *(str(n) for n in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
