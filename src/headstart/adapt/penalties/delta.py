"""DELTA: stages go on giving what they gave as they were loaded (Li et al. 2019, arXiv:1901.09229)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from headstart.adapt.penalties.watch import Watch

DELTA_STAGES = 4  # how many outputs DELTA compares at most; its authors compare the four stages of a ResNet


class Delta:
    """weight · the distance of some stages' outputs from those of the loaded network, for the same inputs.

    The loaded network is ``module`` itself, run with the loaded tensors in place of its own and all that surgery added
    at zero, in eval mode and without gradients: whatever a phase calls on its batches, the comparison follows it.
    """

    def __init__(
        self,
        weight: float,
        module: nn.Module,
        loaded: Mapping[str, Tensor],
        outputs: Watch,
        attention: Mapping[str, np.ndarray],
    ) -> None:
        self._weight = weight
        self._module = module
        self._loaded = dict(loaded)
        self._outputs = outputs
        self._attention = {s: torch.as_tensor(np.asarray(a), dtype=torch.float32) for s, a in attention.items()}

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        learnt, precision = self._outputs.taken(), self._outputs.precision
        # In the precision of the training forward, or rounding alone would be a distance.
        autocast = torch.autocast(inputs.device.type, precision, enabled=precision is not None)
        with torch.no_grad(), autocast, _as_loaded(self._module), self._outputs.without_gradients():
            functional_call(self._module, self._loaded, (inputs,))
        loaded = self._outputs.taken()
        total = torch.zeros((), device=inputs.device)
        for stage, output in learnt.items():
            total = total + map_distance(output, loaded[stage], self._attention.get(stage))
        return self._weight * total


def map_distance(learnt: Tensor, loaded: Tensor, attention: Tensor | None = None) -> Tensor:
    """½ Σ_c a_c ‖FM_c − FM⁰_c‖² per position, averaged over the batch, in float32 or wider.

    learnt, loaded: stage outputs of one shape, (b, C), (b, T, C), (b, C, H, W) or (b, H, W, C).  attention: (C,), 1
    without it. The authors' code sums over the batch where we average, so that micro-batches add up and the batch size
    is free: their 0.01 at 48 to 64 examples is our 0.5 to 0.6.
    """
    difference = _channels_last(learnt - loaded.to(learnt.dtype))
    squares = (difference if difference.dtype == torch.float64 else difference.float()).square()
    if attention is not None:
        squares = squares * attention.to(squares)
    return 0.5 * squares.sum(dim=-1).mean()


def spread_out(stages: Sequence[str], most: int) -> list[str]:
    """The last stage of each of ``most`` stretches of nearly one length."""
    n, parts = len(stages), min(most, len(stages))
    return [stages[-(-(i + 1) * n // parts) - 1] for i in range(parts)]


@contextmanager
def _as_loaded(module: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards each part is in the mode it had.

    train() before and after makes networks that remember something of their weights in eval mode (LeViT) forget it.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.train()
    module.eval()
    try:
        yield
    finally:
        module.train()
        for part, mode in modes:
            part.training = mode


def _channels_last(maps: Tensor) -> Tensor:
    """(..., C). Of four axes the channels are the second, unless only the last one differs from a square's sides."""
    if maps.ndim != 4 or (maps.shape[1] == maps.shape[2] != maps.shape[3]):
        return maps
    return maps.movedim(1, -1)
