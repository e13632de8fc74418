"""The loaded values of a model that learns, read from the network as it was loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from headstart.adapt.model import AdaptedModel
from headstart.backbones.backbone import Backbone

_BACKBONE = "backbone."  # how names of the network start in AdaptedModel


def loaded_tensors(module: nn.Module, model: AdaptedModel, loaded: Backbone) -> dict[str, Tensor]:
    """Name in ``module`` → the loaded value, for all its parameters and buffers that are the network's."""
    starts = loaded.state_dict(keep_vars=True)
    values: dict[int, Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if name in model.added:
            values[id(tensor)] = torch.zeros_like(tensor)
        elif name.startswith(_BACKBONE):
            values[id(tensor)] = loaded_value(name, tensor, starts)
    own = [*module.named_parameters(), *module.named_buffers()]
    return {name: values[id(tensor)] for name, tensor in own if id(tensor) in values}


def loaded_value(name: str, tensor: Tensor, starts: Mapping[str, Tensor]) -> Tensor:
    """The loaded value of a tensor of the model, on its device; not copied where it is there already."""
    # A layer with LoRA keeps its own weight as weight's parametrization.
    plain = re.sub(r"parametrizations\.(\w+)\.original$", r"\1", name.removeprefix(_BACKBONE))
    assert plain in starts and starts[plain].shape == tensor.shape, f"'{name}' was neither loaded nor added"
    return starts[plain].detach().to(tensor.device, tensor.dtype)
