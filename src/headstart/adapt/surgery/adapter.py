"""A small convolutional branch parallel to each block (Convpass, Jie & Deng 2022, arXiv:2207.07039).

A block f becomes f(x) + scale · up(GELU(conv3×3(GELU(down(norm(x)))))). ``up`` is zero at first, so the network starts
as it was loaded.  Where we differ: one branch around the whole block instead of one for each half, on x normalised over
its channels without weights (a residual stream has any size); depthwise 3×3 convolutions for maps of CNNs.

The branch is a child 'adapter' of its block and a forward hook adds its output, so that the names of all other
parameters stay as they were, and deep copies and tracing work.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.adapt.plan import Surgery
from headstart.backbones.backbone import Backbone
from headstart.backbones.stages import Stage
from headstart.base.errors import PlanError
from headstart.base.seeds import number

NAME = "adapter"
Layout = Literal["tokens", "channels first", "channels last"]


class Adapter(nn.Module):
    """From the input of a block to what is added to its output, of the same shape; zeros at first.

    shape: of that input.  (B, N, C): tokens of a square picture, and before them N − ⌊√N⌋² others (class token,
    registers), which take the centre of the 3×3 convolution alone, as pictures of one pixel would.  (B, C, H, W) or
    (B, H, W, C): maps.  rank: width inside, capped at C.
    """

    def __init__(self, shape: torch.Size, rank: int, *, scale: float, seed: int) -> None:
        super().__init__()
        self.layout = _layout(shape)
        self.width = shape[1] if self.layout == "channels first" else shape[-1]
        self.grid = math.isqrt(shape[1]) if self.layout == "tokens" else 0
        self.prefix = shape[1] - self.grid**2 if self.layout == "tokens" else 0
        self.scale, self.shape = scale, tuple(shape)
        rank = min(rank, self.width)
        self.down = nn.utils.skip_init(nn.Linear, self.width, rank)
        self.conv = nn.utils.skip_init(
            nn.Conv2d, rank, rank, 3, padding=1, groups=rank if self.layout == "channels first" else 1
        )
        self.up = nn.utils.skip_init(nn.Linear, rank, self.width)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        nn.init.xavier_uniform_(self.down.weight, generator=torch.Generator().manual_seed(seed))
        nn.init.dirac_(self.conv.weight, groups=self.conv.groups)  # the identity, as in Convpass

    def forward(self, x: Tensor) -> Tensor:
        if self.layout == "channels first":
            x = x.permute(0, 2, 3, 1)
        inner = F.gelu(self.down(F.layer_norm(x, (self.width,))))
        mixed = self._mix_tokens(inner) if self.layout == "tokens" else self._mix(inner)
        change = self.up(F.gelu(mixed)) * self.scale
        return change.permute(0, 3, 1, 2) if self.layout == "channels first" else change

    def _mix(self, places: Tensor) -> Tensor:
        """The 3×3 convolution over (B, H, W, r)."""
        mixed: Tensor = self.conv(places.permute(0, 3, 1, 2))
        return mixed.permute(0, 2, 3, 1)

    def _mix_tokens(self, tokens: Tensor) -> Tensor:
        places = self._mix(tokens[:, self.prefix :].unflatten(1, (self.grid, self.grid))).flatten(1, 2)
        if not self.prefix:
            return places
        before = F.linear(tokens[:, : self.prefix], self.conv.weight[:, :, 1, 1], self.conv.bias)
        return torch.cat([before, places], dim=1)


def inject_(backbone: Backbone, stages: Sequence[Stage], surgery: Surgery, seed: int) -> list[str]:
    """Adds an adapter to each block of ``stages``; the names of the new parameters, as in the network.

    A block is one of a row of modules, with layers inside and an output of its input's shape.  surgery.rank is the
    width of the branch, surgery.alpha / surgery.rank its scale.  PlanError PL24 where there is no block.
    """
    if surgery.rank < 1 or not (surgery.alpha > 0 and math.isfinite(surgery.alpha)) or surgery.where != "all":
        raise PlanError(f"PL24 an adapter needs a rank of 1 or more, a positive alpha and where='all', got {surgery}.")
    network = backbone.network
    blocks = {
        name: shape for name, shape in _blocks(backbone).items() if any(stage.holds(f"{name}.x") for stage in stages)
    }
    if not blocks:
        raise PlanError(
            f"PL24 {backbone.card.name} has no block with an output of its input's shape in the learning stages "
            f"({', '.join(stage.name for stage in stages)}), so an adapter has no place. Let other stages learn, or "
            "use LoRA, which fits every network."
        )
    added = []
    for name, shape in blocks.items():
        branch = Branch(name, tuple(shape), surgery.rank, surgery.alpha / surgery.rank)
        made = attach_(network, branch, number(seed, name))
        added += [f"{name}.{NAME}.{parameter}" for parameter, _ in made.named_parameters()]
    return added


@dataclass(frozen=True)
class Branch:
    """Where a branch stands and what it needs to be made again. shape: of its input, for a batch of 1.

    scale: what its output counts, alpha / rank.
    """

    block: str
    shape: tuple[int, ...]
    rank: int
    scale: float


def attach_(network: nn.Module, branch: Branch, seed: int) -> Adapter:
    """Puts an adapter beside a block of ``network``; AttributeError where there is no such block."""
    block = network.get_submodule(branch.block)
    made = Adapter(torch.Size(branch.shape), branch.rank, scale=branch.scale, seed=seed)
    block.add_module(NAME, made.to(next(block.parameters())))
    block.register_forward_hook(_add_branch)
    return made


def branches_of(network: nn.Module) -> tuple[Branch, ...]:
    """The branches in ``network``, in the order of its modules."""
    return tuple(
        Branch(name.rpartition(".")[0], module.shape, module.down.out_features, module.scale)
        for name, module in network.named_modules()
        if isinstance(module, Adapter)
    )


def _add_branch(block: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
    # The block is an argument, not part of a closure: a deep copy of the network calls its own adapter.
    branch: Tensor = block.get_submodule(NAME)(arguments[0])
    return output + branch


def _layout(shape: torch.Size) -> Layout:
    if len(shape) == 3:
        return "tokens"
    # Swin and its like keep channels last. Maps of square pictures are square, so the odd one out is the channels.
    return "channels last" if shape[1] == shape[2] != shape[3] else "channels first"


def _blocks(backbone: Backbone) -> dict[str, torch.Size]:
    """name → shape of its input (batch of 1), for the outermost modules that are blocks, in the network's order."""
    kept = _shapes(backbone)
    modules = {name: m for name, m in backbone.network.named_modules() if name in kept and _matrices(m) > 1}
    fitting = {name: m for name, m in modules.items() if not _is_row(m, name, modules)}
    outermost = {name: m for name, m in fitting.items() if not any(above in fitting for above in _above(name))}
    # Inside a block that changes the shape (the first of a stage) smaller things keep theirs: they are no blocks.
    kinds = {type(m) for m in outermost.values()}
    return {
        name: kept[name]
        for name, m in outermost.items()
        if _is_in_row(backbone.network, name, m)
        and not any(type(backbone.network.get_submodule(above)) in kinds for above in _above(name))
    }


def _is_in_row(network: nn.Module, name: str, module: nn.Module) -> bool:
    """In a list, or beside another of its kind."""
    parent = network.get_submodule(name.rpartition(".")[0])
    beside = sum(type(child) is type(module) for child in parent.children())
    return isinstance(parent, nn.Sequential | nn.ModuleList) or beside > 1


def _shapes(backbone: Backbone) -> dict[str, torch.Size]:
    """name → shape, for modules that are called once in a pass and whose output has the shape of their input."""
    seen: dict[str, list[torch.Size | None]] = {}

    def listen(name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            same = (
                len(arguments) > 0
                and isinstance(arguments[0], Tensor)
                and isinstance(output, Tensor)
                and arguments[0].shape == output.shape
                and output.dim() in (3, 4)
            )
            seen.setdefault(name, []).append(output.shape if same else None)

        return hook

    hooks = [m.register_forward_hook(listen(name)) for name, m in backbone.network.named_modules() if name]
    size, like = backbone.spec.size, next(backbone.network.parameters())
    try:
        with torch.no_grad():
            backbone(torch.zeros(1, 3, size, size, device=like.device, dtype=like.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: shapes[0] for name, shapes in seen.items() if len(shapes) == 1 and shapes[0] is not None}


def _is_row(module: nn.Module, name: str, blocks: Mapping[str, nn.Module]) -> bool:
    """A list of blocks, or a stage that holds one: most of its parameters are in blocks that stand in a list."""
    if isinstance(module, nn.Sequential | nn.ModuleList):
        return True
    lists = [f"{name}.{n}" for n, m in module.named_modules() if n and isinstance(m, nn.Sequential | nn.ModuleList)]
    inside = [m for n, m in blocks.items() if n.rpartition(".")[0] in lists]
    return sum(map(_count, inside)) > _count(module) / 2


def _matrices(module: nn.Module) -> int:
    return sum(p.ndim > 1 for p in module.parameters())


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _above(name: str) -> list[str]:
    """'a.b.c' → ['a', 'a.b']"""
    parts = name.split(".")
    return [".".join(parts[:k]) for k in range(1, len(parts))]
