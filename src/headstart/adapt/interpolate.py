"""Between weights: WiSE-FT, greedy soups, and the statistics that BatchNorm needs after either."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

State = Mapping[str, Tensor]


def interpolated(a: State, b: State, alpha: float) -> dict[str, Tensor]:
    """(1 − alpha) a + alpha b for every tensor; new tensors. WiSE-FT (Wortsman et al. 2022, arXiv:2109.01903), eq. 1.

    a, b: state dicts with the same names and shapes.  alpha in [0, 1]; 0 and 1 give the bits of a and b.  Integer
    tensors (num_batches_tracked, index tables) come from the nearer end, from a at 0.5.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is a share between 0 and 1, not {alpha}")
    _check_alike(a, b)
    if alpha in (0, 1):
        return {name: tensor.clone() for name, tensor in (b if alpha else a).items()}
    nearer = a if alpha <= 0.5 else b
    return {
        name: torch.lerp(tensor, b[name], alpha) if tensor.is_floating_point() else nearer[name].clone()
        for name, tensor in a.items()
    }


def mean_of(states: Sequence[State]) -> dict[str, Tensor]:
    """The mean of state dicts with the same names and shapes, summed in float64; integer tensors from the first."""
    for other in states[1:]:
        _check_alike(states[0], other)
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor.clone()
        for name, tensor in states[0].items()
    }


def greedy_soup(candidates: Sequence[str], try_: Callable[[Sequence[str]], float]) -> list[str]:
    """The candidates whose mean is kept. Model soups (Wortsman et al. 2022, arXiv:2203.05482), recipe 1.

    candidates: names, best score first.  try_: the score, higher is better, of the mean of the weights of these
    candidates (see ``mean_of``).  A candidate stays when the score of the mean does not fall; the first always does.
    """
    kept: list[str] = list(candidates[:1])
    if not kept:
        return kept
    best = try_(kept)
    for name in candidates[1:]:
        score = try_([*kept, name])
        if score >= best:  # NaN is not
            kept, best = [*kept, name], score
    return kept


def recalibrate_batchnorm_(network: nn.Module, batches: Iterable[Tensor]) -> int:
    """Running statistics anew, as the mean over ``batches``; the number of BatchNorm layers that took them.

    batches: what ``network`` is called with, each of two examples or more; not empty.  Only BatchNorm layers are in
    training mode meanwhile, and no weight changes. Modes and momenta are as before afterwards.
    """
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not layers:
        return 0
    rest = iter(batches)
    first = next(rest, None)
    if first is None:
        raise ValueError("no batches: BatchNorm has no statistics to take")
    before = [(module, module.training) for module in network.modules()]
    momenta = [layer.momentum for layer in layers]
    network.eval()
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # the cumulative mean
            layer.train()
        with torch.no_grad():
            for batch in chain([first], rest):
                network(batch)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, training in before:
            module.training = training
    return len(layers)


def _check_alike(a: State, b: State) -> None:
    if a.keys() != b.keys():
        raise ValueError(f"two state dicts with different names: {sorted(a.keys() ^ b.keys())[:3]}")
    other = [name for name in a if a[name].shape != b[name].shape]
    if other:
        raise ValueError(f"two state dicts with different shapes of '{other[0]}'")
