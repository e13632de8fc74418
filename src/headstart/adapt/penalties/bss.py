"""Batch spectral shrinkage: features that transfer badly stay small (Chen et al. 2019, NeurIPS)."""

from __future__ import annotations

import torch
from torch import Tensor

from headstart.adapt.penalties.watch import Watch
from headstart.adapt.plan import HEAD


class SpectralShrinkage:
    """BSS: weight · the smallest squared singular value of the batch's features."""

    def __init__(self, weight: float, features: Watch) -> None:
        self._weight = weight
        self._features = features

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return self._weight * smallest_energy(self._features.taken()[HEAD])


def smallest_energy(features: Tensor, k: int = 1) -> Tensor:
    """The sum of the k smallest of the min(b, D) squared singular values of (b, D) features, in float64.

    They are the eigenvalues of the smaller Gram matrix: cheaper than an SVD, and their gradient stays finite where
    singular values meet. In float64, which autocast leaves alone, for the Gram matrix squares the condition number.
    Features that are not finite give a number that is not either, for the loop to find and name the examples.
    """
    f = features.double()
    gram = f @ f.T if f.shape[0] <= f.shape[1] else f.T @ f
    return torch.linalg.eigvalsh(gram)[:k].sum() if torch.isfinite(gram).all() else gram.sum()
