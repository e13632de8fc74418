"""When BLAS should use one thread.

Threads that wait for each other spin. For small products, and for decompositions that wait for memory anyway, one
thread is faster even on an idle machine (two cores, eigh of 1,280 × 1,280: 0.46 s against 1.39 s), and far faster on
a busy one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

LARGE = 1e8  # multiplications in one product from which a second thread pays


@contextmanager
def blas_for(multiplications: float) -> Iterator[None]:
    """One BLAS thread inside, unless products of this size gain from more."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(None if multiplications >= LARGE else 1, "blas"):
        yield
