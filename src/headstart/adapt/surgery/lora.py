"""LoRA (Hu et al. 2022, arXiv:2106.09685): the weight W of a layer becomes W + (alpha / rank) · B A.

B is zero at first, so the network starts as it was loaded.  No branch is put beside a layer; its attribute ``weight``
becomes the sum (torch.nn.utils.parametrize), because networks read it: BEiT calls F.linear with ``self.qkv.weight``,
weight-standardised convolutions normalise it, torch's MultiheadAttention hands it to a kernel.  A wrapper would be
passed by in silence there.  Here every reader sees the sum, and deep copies and torch.fx work.  It costs the gradient
of the whole weight: on one core a step of DeiT-S takes 1.2 times that of a branch, one of ConvNeXt-Atto 0.8 times.

In the state dict W is called ``parametrizations.weight.original`` and the products ``parametrizations.weight.0.a``;
after ``merge_`` or ``eject_`` all names are again those of the plain network.  ``peft`` is not used for transformers
networks: the same lines serve all libraries.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from headstart.adapt.plan import Surgery
from headstart.backbones.backbone import Backbone
from headstart.backbones.stages import Stage
from headstart.base.errors import PlanError
from headstart.base.seeds import number

Layer = nn.Linear | nn.Conv2d
Rows = tuple[int, int]  # first, and the one after the last

# Attention that gives queries, keys and values as the first, second and third part of one layer 'qkv'. Others (MaxViT)
# interleave them by head, so that rows do not tell what they are for.
FUSED = frozenset(
    [
        "timm.layers.attention.Attention",
        "timm.layers.attention.AttentionRope",
        "timm.models.beit.Attention",
        "timm.models.eva.EvaAttention",
        "timm.models.swin_transformer.WindowAttention",
        "timm.models.swin_transformer_v2.WindowAttention",
    ]
)
_QUERY_OR_VALUE = frozenset(["q", "query", "q_proj", "v", "value", "v_proj"])


class LowRank(nn.Module):
    """weight → weight + scale · b a, in some of its rows.

    a: (r, fan-in) Kaiming-uniform, b: (rows, r) zero; a convolution's weight (out, in / groups, k, k) counts as the
    matrix (out, in / groups · k · k).  r is ``rank``, capped at what the matrix can have.
    """

    def __init__(self, weight: Tensor, rows: Rows, *, rank: int, scale: float, seed: int) -> None:
        super().__init__()
        self.first, self.end = rows
        self.scale = scale
        height, fan_in = self.end - self.first, weight[0].numel()
        rank = min(rank, height, fan_in)
        a = torch.empty(rank, fan_in)
        nn.init.kaiming_uniform_(a, a=math.sqrt(5), generator=torch.Generator().manual_seed(seed))
        self.a = nn.Parameter(a.to(weight))
        self.b = nn.Parameter(weight.new_zeros(height, rank))
        self.outside = (0, 0, self.first, len(weight) - self.end)  # rows of zeros to put around the change, for F.pad
        self.shape = weight.shape

    def forward(self, weight: Tensor) -> Tensor:
        change = self.b @ self.a * self.scale
        return weight + F.pad(change, self.outside).view(self.shape)


def inject_(backbone: Backbone, stages: Sequence[Stage], surgery: Surgery, seed: int) -> list[str]:
    """Adds low-rank products to the layers of ``stages``; the names of the new parameters, as in the network.

    where 'all': every Linear and Conv2d (any groups).  where 'attention': query and value where they are layers or
    known parts of one layer, else all layers of the attention.  A layer whose matrix has a smaller rank than asked
    gets its full rank; the scale is surgery.alpha / surgery.rank everywhere.  PlanError PL23 where nothing fits.
    """
    if surgery.rank < 1 or not (surgery.alpha > 0 and math.isfinite(surgery.alpha)):
        raise PlanError(f"PL23 LoRA needs a rank of 1 or more and a positive alpha, got {surgery}.")
    network = backbone.network
    layers = dict(_layers(network, stages))
    everything = {name: _whole(layer) for name, layer in layers.items()}
    targets = _attention(network, layers) if surgery.where == "attention" else everything
    if not targets:
        what = "attention layers" if surgery.where == "attention" else "linear or convolution layers"
        raise PlanError(
            f"PL23 LoRA found no {what} in the learning stages of {backbone.card.name} "
            f"({', '.join(s.name for s in stages)}). Let other stages learn, or use where='all'."
        )
    return [name for layer, parts in targets.items() for name in _add_(layers[layer], layer, parts, surgery, seed)]


def merge_(network: nn.Module) -> list[str]:
    """Writes W + (alpha / rank) · B A as the plain weights; the names of the layers changed."""
    changed = []
    for name, layer in _adapted(network):
        with torch.no_grad():
            _own_weight(layer).copy_(layer.weight)
        _restore_(layer)
        changed.append(name)
    return changed


def eject_(network: nn.Module) -> list[str]:
    """Takes the products away, and every W has its own bits again; the names of the layers changed."""
    adapted = _adapted(network)
    for _, layer in adapted:
        _restore_(layer)
    return [name for name, _ in adapted]


def _layers(network: nn.Module, stages: Sequence[Stage]) -> Iterator[tuple[str, Layer]]:
    """Linear and Conv2d layers of the stages by name; without those whose weight is shared or made from others."""
    times = Counter(id(p) for module in network.modules() for p in module.parameters(recurse=False))
    for name, layer in network.named_modules():
        if not isinstance(layer, Layer) or not any(stage.holds(name) for stage in stages):
            continue
        if _is_adapted(layer) if _steps(layer) else times[id(layer.weight)] == 1:
            yield name, layer


def _attention(network: nn.Module, layers: Mapping[str, Layer]) -> dict[str, list[Rows]]:
    """layer → its rows that learn: queries and values where they are known, else all layers of the attention."""
    owners: dict[str, dict[str, Layer]] = {}
    for name, layer in layers.items():
        above = [owner for owner in _above(name) if _is_attention(network, owner)]
        if above:
            owners.setdefault(above[-1], {})[name] = layer
    found: dict[str, list[Rows]] = {}
    for owner, inside in owners.items():
        # What is called attention around another (with the output layer, or a whole block of MaxViT) is not it.
        if not any(other.startswith(owner + ".") for other in owners):
            told = _query_and_value(network.get_submodule(owner), inside)
            found |= told or {name: _whole(layer) for name, layer in inside.items()}
    return found


def _is_attention(network: nn.Module, name: str) -> bool:
    kind = type(network.get_submodule(name)).__name__.lower()
    return "attention" in kind or name.rpartition(".")[2] in ("attn", "attention", "self_attn", "self_attention")


def _query_and_value(owner: nn.Module, layers: Mapping[str, Layer]) -> dict[str, list[Rows]]:
    """Empty where they cannot be told apart."""
    fused = f"{type(owner).__module__}.{type(owner).__qualname__}" in FUSED
    found: dict[str, list[Rows]] = {}
    for name, layer in layers.items():
        last, height = name.rpartition(".")[2], len(layer.weight)
        if last in _QUERY_OR_VALUE:
            found[name] = _whole(layer)
        elif last == "qkv" and fused:
            found[name] = [(0, height // 3), (2 * height // 3, height)]
    return found


def _whole(layer: Layer) -> list[Rows]:
    return [(0, len(layer.weight))]


def _above(name: str) -> list[str]:
    """'a.b.c' → ['a', 'a.b']"""
    parts = name.split(".")
    return [".".join(parts[:k]) for k in range(1, len(parts))]


def _add_(layer: Layer, name: str, parts: Sequence[Rows], surgery: Surgery, seed: int) -> list[str]:
    """The names of the new parameters; ``name`` is that of the layer."""
    added = []
    for rows in parts:
        own, scale = number(seed, name, *rows), surgery.alpha / surgery.rank
        step = LowRank(layer.weight, rows, rank=surgery.rank, scale=scale, seed=own)
        parametrize.register_parametrization(layer, "weight", step)
        place = f"{name}.parametrizations.weight.{len(_steps(layer)) - 1}"
        added += [f"{place}.a", f"{place}.b"]
    return added


def _steps(layer: nn.Module) -> list[nn.Module]:
    """What a layer's weight goes through before it is used."""
    if not parametrize.is_parametrized(layer, "weight"):
        return []
    return list(layer.get_submodule("parametrizations.weight").children())


def _is_adapted(layer: nn.Module) -> bool:
    steps = _steps(layer)
    return bool(steps) and all(isinstance(step, LowRank) for step in steps)


def _adapted(network: nn.Module) -> list[tuple[str, Layer]]:
    return [(name, m) for name, m in network.named_modules() if isinstance(m, Layer) and _is_adapted(m)]


def _own_weight(layer: Layer) -> nn.Parameter:
    return layer.get_parameter("parametrizations.weight.original")


def _restore_(layer: Layer) -> None:
    """The layer as it was before, with its own W.

    torch's remove_parametrizations would delete the property from a class that deep copies share, and so break them.
    """
    weight = _own_weight(layer)
    rest = {name: getattr(layer, name) for name in layer._parameters}
    del layer.parametrizations
    layer.__class__ = type(layer).__bases__[0]
    for name in rest:
        delattr(layer, name)
    # The weight in front of the bias, where it was: the order of names is part of a network's hash.
    for name, parameter in {"weight": weight, **rest}.items():
        layer.register_parameter(name, parameter)
