"""One look at every file: read once, decode once, and whatever else wants the pixels gets them on the way.

``headstart inspect`` surveys without a network; ``features.extract`` rides on the same pass. Threads read, decode and
prepare (Pillow lets go of the interpreter lock); the caller consumes in the order of the rows. At most a few batches
are in flight, so memory does not grow with the number of images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headstart.records.audit import Quarantined


@dataclass(frozen=True, eq=False)
class Survey:
    """What one look at N examples found; columns by row of the dataset.

    keys: (N,) 16-byte content keys; b"" where the file could not even be read.
    usable: (N,) bool.  problems: row → why it is not usable.
    columns: name → (N,) array: width, height int32 (upright); mode, format str; phash, phash_mirrored uint64;
        mean, std float32 (of grey values in [0, 1]); notes str (joined by '; ', e.g. 'rotated by EXIF').
        Zero or '' in rows that are not usable.
    """

    keys: Sequence[bytes]
    usable: np.ndarray
    problems: Mapping[int, Quarantined]
    columns: Mapping[str, np.ndarray]
    tiny: Callable[[np.ndarray], np.ndarray] = field(repr=False)  # rows → (n, 16, 16, 3) uint8 thumbnails

    @property
    def rows(self) -> np.ndarray:
        """Numbers of the usable rows."""
        return np.flatnonzero(self.usable)


Prepare = Callable[[Any], Any]
