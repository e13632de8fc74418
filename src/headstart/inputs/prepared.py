"""An example as a network wants it, and how several of them make one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STEP = 8  # lengths are rounded up to a multiple: fewer shapes to prepare for, and nearly no more work


@dataclass(frozen=True, eq=False)
class Prepared:
    """array: one example without its batch axis; all of one shape, or of one axis and any length.

    is_cut: something of the example did not fit into the network's window.
    """

    array: np.ndarray
    is_cut: bool = False


def stacked(arrays: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """(B, …) of equal shapes, or (B, L) of one-axis arrays of any length.

    What is missing at the end is -1 in integers and NaN in floats; networks read that as: nothing here.
    """
    if isinstance(arrays, np.ndarray):
        return arrays
    if len({a.shape for a in arrays}) == 1 and arrays[0].ndim != 1:
        return np.stack(arrays)
    longest = -(-max(len(a) for a in arrays) // STEP) * STEP
    kind = arrays[0].dtype
    batch = np.full((len(arrays), longest), -1 if kind.kind in "iu" else np.nan, kind)
    for row, array in enumerate(arrays):
        batch[row, : len(array)] = array
    return batch


def by_length(arrays: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """(N,) positions in an order in which neighbours are of about one length, the longest first; ties as they are."""
    if isinstance(arrays, np.ndarray):
        return np.arange(len(arrays))
    return np.argsort([-len(a) for a in arrays], kind="stable")
