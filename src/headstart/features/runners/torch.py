"""torch: any device, float32 or bfloat16, contiguous or channels_last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from headstart.base.memory import keep_while
from headstart.features.runners.runner import Done, padded
from headstart.inputs.prepared import stacked

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone

Precision = Literal["f32", "bf16", "autocast"]


class TorchRunner:
    """Runs at once; ``submit`` returns when the features are there.

    precision: 'f32'; 'bf16' (the whole network, a copy); 'autocast' (float32 weights, bfloat16 products).
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        precision: Precision = "f32",
        nhwc: bool = False,
        device: str = "cpu",
        batch: int = 32,
    ) -> None:
        import copy

        import torch

        self._kind = device.partition(":")[0]
        self.name = "-".join(
            ["torch", precision, *(["nhwc"] if nhwc else []), *([self._kind] if device != "cpu" else [])]
        )
        self.batch = batch
        self._precision, self._device = precision, device
        shares = precision != "bf16" and not nhwc and device == "cpu"
        module = backbone.from_batch()
        if not shares:
            module = copy.deepcopy(module)
        if precision == "bf16":
            module = module.to(torch.bfloat16)
        if nhwc:
            module = module.to(memory_format=torch.channels_last)
        self._module = module.to(device).eval()
        if device == "cpu":
            keep_while(self)

    def submit(self, batch: np.ndarray, done: Done) -> None:
        done(self.run(padded(batch, self.batch))[: len(batch)])

    def run(self, examples: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """(n, D) float32 of n examples, in one batch of just that many."""
        import torch

        with (
            torch.inference_mode(),
            torch.autocast(self._kind, torch.bfloat16, enabled=self._precision == "autocast"),
        ):
            batch = torch.from_numpy(stacked(examples)).to(self._device)
            return np.asarray(self._module(batch).float().cpu().numpy())

    def finish(self) -> None:
        return None
