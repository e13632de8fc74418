"""A saved model as one file of torch's own, for places without headstart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from headstart.base.errors import DataError
from headstart.bundle.predictor import Predictor
from headstart.inputs.spec import ImageSpec

if TYPE_CHECKING:
    from torch import nn


def network_of(model: Predictor) -> nn.Module:
    """(n, S, S, 3) uint8 prepared pictures → (n, K) calibrated logits, or values for regression; in eval mode.

    In float32 throughout, so scores differ from the predictor's by what its runner and float16 features round.
    """
    import torch
    from torch import nn

    last = nn.utils.skip_init(nn.Linear, model.head.weight.shape[1], model.head.weight.shape[0])
    with torch.no_grad():
        last.weight.copy_(torch.from_numpy(model.head.weight))
        last.bias.copy_(torch.from_numpy(model.head.bias))
    return nn.Sequential(model.backbone.from_pixels(), last).eval()


def export_pt2(model: Predictor, path: Path | str) -> Path:
    """Write ``network_of(model)`` as a torch.export file, for any number of pictures; open it with

    ``torch.export.load(path).module()``.  DataError for a name that does not end in .pt2.
    """
    import torch

    path = Path(path)
    if path.suffix != ".pt2":
        raise DataError(f"an exported network is a file whose name ends in .pt2; got '{path.name}'.")
    if not isinstance(model.manifest.input, ImageSpec):
        raise DataError("only networks for pictures are exported; a model for other data opens as its README says.")
    size = model.manifest.input.size
    pixels = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    batch = {0: torch.export.Dim.AUTO}
    exported = torch.export.export(network_of(model), (pixels,), dynamic_shapes=({**batch},))
    torch.export.save(exported, path)
    return path
