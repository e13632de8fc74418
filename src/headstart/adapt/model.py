"""The model that learns: a copy of a backbone's network, after surgery, and a head on its features.

The loaded backbone is never changed; ``finished`` gives an ordinary backbone back, which plain timm, torchvision or
transformers can open unless adapters or hidden layers were asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from headstart.adapt.grown import Growth, grown
from headstart.adapt.heads.head import LinearHead
from headstart.adapt.plan import HEAD, Head, Plan
from headstart.adapt.surgery import adapter, lora
from headstart.backbones.backbone import Backbone, tensors_sha256
from headstart.backbones.stages import Stage
from headstart.base.errors import PlanError
from headstart.base.seeds import number
from headstart.inputs.spec import ImageSpec
from headstart.tasks.task import Task

FINE_TUNED = "fine-tuned by headstart"  # the note of a record whose network is no longer the loaded one
_NETWORK = "backbone.network."  # how names of the network start in AdaptedModel.named_parameters


class AdaptedModel(nn.Module):
    """Pixels (or tokens, as they were prepared) in, logits out; every parameter in one stage or in the head.

    head: (B, D) → (B, K).  added: names, as in ``named_parameters``, of what surgery brought in.
    stage_names: input side first, without the head.  In eval mode when made.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, backbone: Backbone, head: nn.Module, added: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.added = added
        self.stage_names = tuple(stage.name for stage in backbone.stages)
        self.takes_pixels = isinstance(backbone.card.input, ImageSpec)
        if self.takes_pixels:
            # The numbers of FromPixels, which cannot be a child: its network would stand twice in the state dict.
            pixels = backbone.from_pixels()
            self.register_buffer("scale", pixels.scale, persistent=False)
            self.register_buffer("shift", pixels.shift, persistent=False)
        self.eval()

    @property
    def last_layer(self) -> nn.Linear:
        """The layer of the head that gives the logits; the whole head unless there are hidden layers or dropout."""
        last = self.head if isinstance(self.head, nn.Linear) else list(self.head.children())[-1]
        assert isinstance(last, nn.Linear), f"a head ends in a linear layer, not in {type(last).__name__}"
        return last

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, K) logits of (B, S, S, 3) pixels, uint8 or float32 on the scale 0..255, or of (B, L) tokens."""
        logits: Tensor = self.head(self.features(inputs))
        return logits

    def features(self, inputs: Tensor) -> Tensor:
        """(B, D) of the same inputs, as Backbone.from_batch gives them."""
        features: Tensor = self.backbone(self._normalised(inputs) if self.takes_pixels else inputs)
        return features

    def _normalised(self, pixels: Tensor) -> Tensor:
        images = pixels.permute(0, 3, 1, 2).float() * self.scale.float() + self.shift.float()
        return images.to(self.scale.dtype)

    def parameters_of(self, stage: str) -> list[tuple[str, nn.Parameter]]:
        """(name as in ``named_parameters``, parameter) of one stage or HEAD; KeyError for another name."""
        if stage == HEAD:
            return [(f"{HEAD}.{name}", p) for name, p in self.head.named_parameters()]
        found = self._stage(stage)
        return [(_NETWORK + name, p) for name, p in self.backbone.network.named_parameters() if found.holds(name)]

    def modules_of(self, stage: str) -> list[nn.Module]:
        """Every module that belongs to the stage (or HEAD), for train() and eval() one by one.

        A module belongs to the stage that holds all its parameters. One without parameters (a dropout between blocks)
        belongs to the stage before it, and containers of several stages to none.
        """
        if stage == HEAD:
            return list(self.head.modules())
        found = self._stage(stage)
        return [module for module, owner in _owners(self.backbone.network, self.backbone.stages) if owner is found]

    def _stage(self, name: str) -> Stage:
        return {stage.name: stage for stage in self.backbone.stages}[name]


def assemble(backbone: Backbone, task: Task, plan: Plan, *, probe: LinearHead | None, seed: int) -> AdaptedModel:
    """The model that ``plan`` starts from: a deep copy of the network, the plan's head, and its surgery.

    probe: (K, D) head on this backbone's features, its temperature already in its weights; needed where
    plan.head.start is 'probe' and there are no hidden layers.  seed: of all that starts at random; torch's global
    generators stay where they were.  PlanError where the plan does not fit the network.
    """
    plan.check([stage.name for stage in backbone.stages])
    backbone.eval()  # as it is; but LeViT forgets now what it remembers of its last pass, which cannot be copied
    network = copy.deepcopy(backbone.network)
    own = Backbone(backbone.card, network, backbone.architecture, backbone.record)
    head = _head(plan.head, task.outputs, backbone.card.feature_dim, probe, seed)
    learning = _learning(plan, own.stages)
    added: list[str] = []
    # LoRA first, whatever the order in the plan: the layers of an adapter learn whole.
    for kind, inject_ in (("lora", lora.inject_), ("adapter", adapter.inject_)):
        for i, surgery in enumerate(s for s in plan.surgery if s.kind == kind):
            added += inject_(own, learning, surgery, number(seed, "surgery", kind, i))
    return AdaptedModel(own, head, frozenset(_NETWORK + name for name in added))


def finished(model: AdaptedModel, loaded: Backbone | None = None) -> tuple[Backbone, LinearHead]:
    """The learnt network as an ordinary backbone, LoRA merged into its weights, and its head.

    ``model`` is put into eval mode and not changed otherwise.  The card is kept; the record has the hash of the new
    tensors and a note, unless they are those of ``loaded``, because only the head learnt.
    Adapters and hidden layers stay in the network, which headstart alone can then open (adapt/grown.py); the head is
    the last layer in any case.  Without them the network is as plain as it was.
    """
    model.eval()  # LeViT forgets what it remembers of weights that have changed since
    network = copy.deepcopy(model.backbone.network)
    merged = lora.merge_(network)
    *hidden, last = (m for m in model.head.modules() if isinstance(m, nn.Linear))
    width = model.backbone.card.feature_dim
    growth = Growth(adapter.branches_of(network), width, tuple(layer.out_features for layer in hidden))
    backbone = grown(model.backbone, network, growth, hidden)
    network.requires_grad_(True)
    now = tensors_sha256(network)
    if loaded is None or now != tensors_sha256(loaded.network):
        notes = [FINE_TUNED, *([f"LoRA merged into {len(merged)} layers"] if merged else []), *growth.in_words]
        record = replace(backbone.record, weights_sha256=now, notes=(*backbone.record.notes, *notes))
        backbone = Backbone(backbone.card, network, backbone.architecture, record)
    return backbone, LinearHead(_array(last.weight), _array(last.bias))


def _head(plan: Head, outputs: int, width: int, probe: LinearHead | None, seed: int) -> nn.Module:
    """Linear; with hidden layers: (Linear, GELU, dropout) each, then Linear; dropout alone stands before Linear."""
    if plan.start == "probe" and not plan.hidden and probe is None:
        raise PlanError(
            "PL21 the plan starts from the head chosen on frozen features, but there is none. "
            "Fit the probe first, or set the head's start to 'random'."
        )
    widths = [width, *plan.hidden]
    layers: list[nn.Module] = []
    # torch.manual_seed would reseed the generators of other devices too, which fork_rng(devices=[]) does not restore.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(number(seed, "head"))
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.GELU(), nn.Dropout(plan.dropout)]
        last = nn.Linear(widths[-1], outputs)
    if plan.start == "probe" and not plan.hidden and probe is not None:
        assert probe.weight.shape == (outputs, width), f"a head of ({outputs}, {width}), not {probe.weight.shape}"
        with torch.no_grad():
            last.weight.copy_(torch.from_numpy(np.ascontiguousarray(probe.weight)))
            last.bias.copy_(torch.from_numpy(np.ascontiguousarray(probe.bias)))
    if not layers and plan.dropout:
        layers = [nn.Dropout(plan.dropout)]
    return nn.Sequential(*layers, last) if layers else last


def _learning(plan: Plan, stages: Sequence[Stage]) -> list[Stage]:
    """The stages that some phase names."""
    named = {name for phase in plan.phases for name in phase.lr}
    learning = [stage for stage in stages if stage.name in named]
    if plan.surgery and not learning:
        raise PlanError(
            f"PL22 strategy '{plan.strategy}' changes the network ({plan.surgery[0].kind}), but every phase trains "
            "only the head. Name at least one stage in a phase."
        )
    return learning


def _owners(network: nn.Module, stages: Sequence[Stage]) -> Iterator[tuple[nn.Module, Stage | None]]:
    """(module, the stage it belongs to) in the order of registration; None for containers of several stages."""
    before = stages[0]
    for path, module in network.named_modules():
        names = [f"{path}.{name}".lstrip(".") for name, _ in module.named_parameters()]
        owners = [stage for stage in stages if any(stage.holds(name) for name in names)]
        if len(owners) == 1:
            before = owners[0]
        yield module, before if len(owners) < 2 else None


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()
