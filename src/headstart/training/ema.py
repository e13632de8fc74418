"""The running mean of the weights, which validates and predicts better than the last weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema:
    """mean ← mean + (1 − d) (weights − mean) after every step, d = 2^(−1/half_life), half_life in steps.

    tensors: of the model, live: parameters that learn and floating buffers.  A mean starts at the loaded weights, whose
    share in it halves every half-life.  half_life None: no mean; everything below then does nothing.
    """

    def __init__(self, tensors: Mapping[str, Tensor], half_life: float | None) -> None:
        self._live = {name: t.detach() for name, t in tensors.items() if t.is_floating_point() and half_life}
        self.values = {name: t.clone() for name, t in self._live.items()}
        self._average = get_ema_multi_avg_fn(0.5 ** (1 / half_life) if half_life else 0.0)

    def update(self) -> None:
        if self.values:
            self._average(list(self.values.values()), list(self._live.values()), None)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Inside, the model holds the mean; afterwards its own weights again, bit for bit."""
        own = {name: t.clone() for name, t in self._live.items()}
        copy_(self._live, self.values)
        try:
            yield
        finally:
            copy_(self._live, own)


@torch.no_grad()
def copy_(into: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Write ``values`` into the tensors of the same names, which keep their memory layout and device."""
    for name, value in values.items():
        into[name].copy_(value)
