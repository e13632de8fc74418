"""The optimiser: groups made once for all phases, rates set at every step.

A frozen parameter has no gradient, and torch's optimisers pass over what has none: no update, no decay, no momentum.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from headstart.adapt.model import AdaptedModel
from headstart.adapt.plan import HEAD, Optimizer, Phase


def make_optimizer(model: AdaptedModel, spec: Optimizer) -> torch.optim.Optimizer:
    """torch's optimiser over all parameters of the model, each in one group; all rates are 0 until set_rates."""
    groups = list(_groups(model, spec.weight_decay))
    if spec.kind == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=spec.momentum, nesterov=spec.nesterov and spec.momentum > 0)
    of = torch.optim.Adam if spec.kind == "adam" else torch.optim.AdamW
    return of(groups, lr=0.0, betas=spec.betas, eps=spec.eps)


def _groups(model: AdaptedModel, weight_decay: float) -> Iterator[dict[str, Any]]:
    """One group per (stage, decayed or not). Tensors with fewer than two axes are not pulled towards 0."""
    for stage in (*model.stage_names, HEAD):
        parameters = [p for _, p in model.parameters_of(stage)]
        for decay, axes in ((weight_decay, True), (0.0, False)):
            members = [p for p in parameters if (p.ndim >= 2) == axes]
            if members:
                yield {"params": members, "stage": stage, "weight_decay": decay}


def set_rates(optimizer: torch.optim.Optimizer, phase: Phase, k: int) -> float:
    """Give every group its rate in step ``k`` of ``phase``: the plan's, times the schedule's share, which is returned.

    Stages that the phase does not name get 0.
    """
    share = phase.schedule.at(k, phase.steps)
    for group in optimizer.param_groups:
        group["lr"] = phase.lr.get(group["stage"], 0.0) * share
    return share


def forget_frozen(optimizer: torch.optim.Optimizer) -> None:
    """Drop the state of parameters that do not learn: it costs memory, and is stale should they thaw again."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if not parameter.requires_grad:
                optimizer.state.pop(parameter, None)
