"""Several processes started by torchrun, with gloo on CPUs and NCCL on GPUs.

The gradients of a step are averaged once, after the last micro-batch, instead of inside the backward pass as
DistributedDataParallel does it. So nothing has to be wrapped, and nothing can be wrapped wrongly: DDP does not notice
a stage that thaws later, and its processes then drift apart in silence. And no process waits inside a collective for
one that has run out of memory: all learn of it after the forward and backward pass, and repeat the step together.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType

import torch
import torch.distributed as dist
from torch import Tensor

from headstart.base.errors import EnvironmentFault

PATIENCE = timedelta(minutes=30)  # how long processes wait for rank 0 to validate and save


class TorchrunEngine:
    """Joins the group that torchrun describes in the environment, while the ``with`` block is open.

    device: 'cuda' takes the GPU of LOCAL_RANK.  EnvironmentFault outside torchrun.
    """

    def __init__(self, device: str = "cpu") -> None:
        missing = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise EnvironmentFault(
                f"EN80 this process was not started by torchrun ({', '.join(missing)} not set). "
                "Start it with: torchrun --nproc-per-node=N …"
            )
        self.rank, self.world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.device = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" else device)

    def __enter__(self) -> TorchrunEngine:
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo", timeout=PATIENCE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        dist.destroy_process_group()

    def total(self, values: Sequence[float]) -> list[float]:
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        return [float(value) for value in sums.tolist()]

    def average_(self, tensors: Sequence[Tensor]) -> None:
        if not tensors:
            return
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.world_size
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.detach().copy_(mean.view(tensor.shape))

    def same_(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            whole = tensor.detach().contiguous()
            dist.broadcast(whole, src=0)
            tensor.detach().copy_(whole)
