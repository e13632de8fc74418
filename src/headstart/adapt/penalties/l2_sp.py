"""L2-SP: the learning stages stay near the loaded weights, the head near 0 (Li et al. 2018, arXiv:1802.01483)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.adapt.model import AdaptedModel
from headstart.adapt.penalties.loaded import loaded_value
from headstart.backbones.backbone import Backbone


class StartingPoint:
    """L2-SP: ½ · weight · ‖w − w⁰‖² over the learning parameters that were loaded.

    pairs: (parameter, its loaded value).  What surgery added was not loaded and has no pair.
    """

    def __init__(self, weight: float, pairs: Sequence[tuple[nn.Parameter, Tensor]]) -> None:
        self._weight = weight
        self._pairs = tuple(pairs)

    @classmethod
    def of(cls, weight: float, model: AdaptedModel, stages: Sequence[str], loaded: Backbone) -> StartingPoint:
        named = [item for stage in stages for item in model.parameters_of(stage)]
        starts = loaded.state_dict(keep_vars=True)
        return cls(weight, [(p, loaded_value(name, p, starts)) for name, p in named if name not in model.added])

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        total = torch.zeros((), device=inputs.device)
        for parameter, start in self._pairs:
            if parameter.requires_grad:
                total = total + F.mse_loss(parameter, start, reduction="sum")
        return 0.5 * self._weight * total


class HeadDecay:
    """½ · weight · ‖head‖², biases included: the second term of L2-SP."""

    def __init__(self, weight: float, parameters: Sequence[nn.Parameter]) -> None:
        self._weight = weight
        self._parameters = tuple(parameters)

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        total = torch.zeros((), device=inputs.device)
        for parameter in self._parameters:
            if parameter.requires_grad:
                total = total + parameter.square().sum()
        return 0.5 * self._weight * total
