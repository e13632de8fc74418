"""Memory that tensors gave back, kept for the next ones.

A step of a network on a processor makes and frees gigabytes of activations. glibc takes every block above 32 MB from
the kernel and gives it back at once, so that each step touches, and the kernel clears, the same pages anew: half a
million page faults in one step of EfficientNet-Lite0 on 32 pictures, which took as long as its arithmetic. Asked not
to, it made that step 1.9 times as fast as the same loop by hand, that of ResNet-50 1.3 times, and in bfloat16 1.2 and
1.1 times (benchmarks/README.md, the loop); the frozen network in torch went through 2,000 pictures in 15 s instead of
36. A step of ViT-S gains nothing that can be told. OpenVINO reuses its memory by itself.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock

# Parameters of mallopt(3). Whoever sets one of them ends glibc's own adjustment of the thresholds, so that leaving
# restores what that ends at in a process that has freed large blocks, and not what it starts from.
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
INSIDE = {TRIM_THRESHOLD: 2**31 - 1, MMAP_MAX: 0}
OUTSIDE = {MMAP_THRESHOLD: 32 * 2**20, TRIM_THRESHOLD: 64 * 2**20, MMAP_MAX: 65536}


class _Users:
    """Counts those who want memory kept: the first one sets it, the last one takes it back."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = Lock()

    def come(self) -> None:
        with self._lock:
            self.count += 1
            if self.count == 1:
                _set(INSIDE)

    def go(self) -> None:
        with self._lock:
            self.count -= 1
            if self.count == 0 and (libc := _glibc()) is not None:
                _set(OUTSIDE)
                libc.malloc_trim(0)


_users = _Users()


@contextmanager
def kept() -> Iterator[None]:
    """Inside, this process keeps what it frees; at the end of the outermost it gives all of it back.

    Of use where large tensors come and go on the CPU. Changes nothing without glibc (macOS, Windows, Alpine).
    """
    _users.come()
    try:
        yield
    finally:
        _users.go()


def keep_while(owner: object) -> None:
    """As ``kept`` for as long as ``owner`` lives."""
    _users.come()
    weakref.finalize(owner, _users.go).atexit = False


def _set(values: dict[int, int]) -> None:
    if (libc := _glibc()) is not None:
        for parameter, value in values.items():
            libc.mallopt(parameter, value)


@cache
def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "malloc_trim") else None
