"""A draw of rows for scores that compare every row with every other."""

from __future__ import annotations

import numpy as np

from headstart.base.seeds import stream


def drawn(codes: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most about ``most`` positions, rising, every class in proportion and with two rows at least.

    codes: (n,) classes; zeros where there are none. The draw does not look at the features: all networks that are
    compared must see the same rows.
    """
    n = len(codes)
    if n <= most:
        return np.arange(n)
    shuffled = stream(seed, "ranking", "subsample", n).permutation(n)
    order = shuffled[np.argsort(codes[shuffled], kind="stable")]
    counts = np.bincount(codes)
    place = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)  # within its class
    wanted = np.maximum(2, np.round(counts * most / n)).astype(np.int64)
    return np.sort(order[place < np.repeat(wanted, counts)])
