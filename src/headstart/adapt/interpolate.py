"""Between the weights of two networks: WiSE-FT."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

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


def _check_alike(a: State, b: State) -> None:
    if a.keys() != b.keys():
        raise ValueError(f"two state dicts with different names: {sorted(a.keys() ^ b.keys())[:3]}")
    other = [name for name in a if a[name].shape != b[name].shape]
    if other:
        raise ValueError(f"two state dicts with different shapes of '{other[0]}'")
