"""What the loop needs to know of the machines it runs on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Engine(Protocol):
    """One of ``world_size`` processes that learn the same weights, each from its share of every batch.

    The methods are called by all processes at the same points, in the same order.
    """

    @property
    def rank(self) -> int:
        """0 for the process that validates and saves."""
        ...

    @property
    def world_size(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def total(self, values: Sequence[float]) -> list[float]:
        """The sum of each value over all processes."""
        ...

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replace float tensors by their mean over all processes."""
        ...

    def same_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by those of rank 0."""
        ...
