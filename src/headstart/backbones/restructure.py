"""A network with another shape than it was published with: cut at a stage, pooled otherwise, fed with grey pictures.

The answer is an ordinary Backbone, so that runners, cache, training and saving need to know nothing of it. Stages above
a cut are really gone: they are neither computed nor saved. Where the library itself can build the new shape (another
pooling of most timm networks) the network stays one of that library; else it is saved as one that headstart opens.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from headstart.backbones.around import Around, by_place, listening
from headstart.backbones.backbone import Architecture, Backbone, build_seeded
from headstart.backbones.sources.timm import TimmArchitecture
from headstart.backbones.structure import POOLINGS, Pooling, Structure
from headstart.base.config import from_dict, to_dict
from headstart.base.errors import DataError, PlanError, did_you_mean, shown
from headstart.inputs.spec import ImageSpec, InputSpec

OUTPUT = "headstart_output"  # name of the layer that gives the answers, in networks that headstart alone can open
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's mode 'L'
_LARGEST_WIDTH = 2**20
# What foreign forward passes raise when a part of them is missing or other channels arrive.
_DOES_NOT_RUN = (TypeError, ValueError, LookupError, AttributeError, AssertionError, RuntimeError)


def structured(backbone: Backbone, structure: Structure) -> Backbone:
    """A copy of ``backbone`` with that structure; the same object where nothing is to be changed.

    PlanError PL72 for a stage that the network has not or above which there is nothing, PL73 for a pooling that it has
    no place for, PL74 where its forward pass does not bear the change.
    """
    if structure.is_plain:
        return backbone
    if not isinstance(backbone.card.input, ImageSpec):
        raise PlanError(
            f"PL74 {backbone.card.name} takes no pictures; only networks that do can have another structure. "
            "Leave --cut-at, --pooling and --channels out."
        )
    removed, last = _removed(backbone, structure.cut_at)
    spec = _grey(backbone.spec) if structure.channels == 1 else backbone.spec
    own = _by_the_library(backbone, structure.pooling)
    made, width = None, 0
    if own is not None:
        changes = Changes(removed, "", None, structure.channels, 1)
        made, width = _made(backbone, own, changes, spec, structure, last)
    if made is None:  # the library has no word for this pooling, or does something else to the last map
        changes = Changes(removed, last, structure.pooling or "avg", structure.channels, 1)
        made, width = _made(backbone, backbone.architecture, changes, spec, structure, last)
    if made is None:
        raise PlanError(
            f"PL74 {backbone.card.name} gives no feature vector {', '.join(structure.in_words)}. "
            "Choose another stage or another pooling, or leave the change out."
        )
    architecture, network = made
    facts: dict[str, Any] = {
        "architecture": ", ".join([backbone.card.architecture, *structure.in_words]),
        "feature_dim": width,
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    card = replace(backbone.card, input=spec, gmacs=0.0 if removed else backbone.card.gmacs, **facts)
    record = replace(backbone.record, notes=(*backbone.record.notes, *structure.in_words), **facts)
    # Another pooling and other stages give features that the published classifier was not made for.
    source = backbone.source if structure.cut_at is None and structure.pooling is None else None
    return Backbone(card, network, architecture, record, source=source)


@dataclass(frozen=True)
class Changes:
    """What is done to a network of a library, as it is saved.

    removed: names of modules that are passed over.  tap: the module whose output is pooled by ``pooling``; '' and None
    for the network's own.  channels: of the first layer.  width: D of the features.
    """

    removed: tuple[str, ...]
    tap: str
    pooling: Pooling | None
    channels: int
    width: int

    def apply_(self, network: nn.Module) -> None:
        """Changes ``network``; AttributeError where it has no module of such a name."""
        for name in self.removed:
            network.get_submodule(name)
            network.set_submodule(name, Skipped())
        if self.channels == 1:
            sum_colours_(network)


class Skipped(nn.Module):
    """In the place of a module that was removed: gives back its first argument."""

    def forward(self, x: Tensor, *rest: Any, **named: Any) -> Tensor:
        return x


@dataclass(frozen=True)
class StructuredArchitecture(Around):
    """A library's architecture with changes that the library has no words for."""

    changes: Changes

    def build(self, classes: int) -> nn.Module:
        network = self.inner.build(0)
        self.changes.apply_(network)
        if classes:
            network.add_module(OUTPUT, nn.Linear(self.changes.width, classes))
        return network

    def features(self, network: nn.Module, images: Tensor) -> Tensor:
        if self.changes.channels == 1:
            images = luminance(images)
        if not self.changes.tap:
            return self.inner.features(network, images)
        with listening(network, {self.changes.tap}) as heard:
            self.inner.features(network, images)
        assert self.changes.pooling is not None, "a tap is there to be pooled"
        return pooled(heard[self.changes.tap], self.changes.pooling)

    def config(self, spec: ImageSpec, labels: Sequence[str], feature_dim: int) -> dict[str, Any]:
        return own_config(self.inner, "structure", to_dict(self.changes), spec, labels, feature_dim)


def own_config(
    inner: Architecture,
    kind: str,
    changes: Mapping[str, Any],
    spec: InputSpec,
    labels: Sequence[str],
    feature_dim: int,
) -> dict[str, Any]:
    """config.json of a network that headstart alone opens: that of the library's part, and what was done to it."""
    return {
        "library": "headstart",
        "kind": kind,
        "changes": dict(changes),
        "num_classes": len(labels),
        "num_features": feature_dim,
        "label_names": list(labels),
        "inner_library": inner.opens_with,
        "inner": inner.config(spec, labels, feature_dim),
    }


def architecture_from(inner: Architecture, changes: Any, *, where: str) -> StructuredArchitecture:
    """The architecture with the changes that a config.json states; DataError where they do not fit it."""
    found = from_dict(Changes, changes, where=f"{where}, changes")
    if found.channels not in (1, 3) or not 1 <= found.width <= _LARGEST_WIDTH or bool(found.tap) != bool(found.pooling):
        raise DataError(f"{where}: the structure that it states is not one that headstart makes.")
    architecture = StructuredArchitecture(inner, found)
    try:
        with torch.device("meta"):
            network = architecture.build(0)
        network.get_submodule(found.tap)
    except AttributeError as error:
        raise DataError(f"{where}: a module that the structure names is not in {inner.name}.") from error
    return architecture


# -- pooling -----------------------------------------------------------------------------------------------------------


def pooled(output: Tensor, pooling: Pooling) -> Tensor:
    """(B, C) of a map (B, C, H, W) or (B, H, W, C), or of tokens (B, N, C).

    Of N tokens of a square picture the N − ⌊√N⌋² first ones (class token, registers) are no places.
    """
    if output.dim() == 3:
        if pooling == "token":
            return output[:, 0]
        output = output[:, output.shape[1] - math.isqrt(output.shape[1]) ** 2 :]
    rest, places = by_place(output)
    if pooling == "avg":
        return rest.mean(dim=places)
    if pooling == "max":
        return rest.amax(dim=places)
    return 0.5 * (rest.mean(dim=places) + rest.amax(dim=places))


def _by_the_library(backbone: Backbone, pooling: Pooling | None) -> Architecture | None:
    """The architecture that pools so by itself, with the same weights; None where the library has no word for it."""
    plain = backbone.architecture
    if pooling is None:
        return plain
    if not isinstance(plain, TimmArchitecture):
        return None
    wanted = {name: t.shape for name, t in backbone.network.state_dict().items()}
    # Some transformers of timm normalise after averaging instead of before it unless they are told not to.
    for more in ({}, {"fc_norm": False}):
        arguments = {**dict(plain.arguments), "global_pool": pooling, **more}
        candidate = replace(plain, arguments=tuple(sorted(arguments.items())))
        if _shapes(candidate) == wanted:
            return candidate
    return None


def _shapes(architecture: Architecture) -> dict[str, torch.Size] | None:
    """Name → shape of what the library builds; None where it refuses the arguments."""
    try:
        with torch.device("meta"):
            return {name: t.shape for name, t in architecture.build(0).state_dict().items()}
    except _DOES_NOT_RUN:
        return None


# -- stages ------------------------------------------------------------------------------------------------------------


def _removed(backbone: Backbone, cut_at: str | None) -> tuple[tuple[str, ...], str]:
    """(modules above the cut, the last module below it)."""
    names = [stage.name for stage in backbone.stages]
    modules = {name for name, _ in backbone.network.named_modules()}
    if cut_at is None:
        return (), [p for stage in backbone.stages for p in stage.prefixes if p in modules][-1]
    if cut_at not in names:
        raise PlanError(
            f"PL72 {backbone.card.name} has no stage '{shown(cut_at)}' to be cut at.{did_you_mean(cut_at, names)} "
            f"Its stages: {', '.join(names)}."
        )
    at = names.index(cut_at)
    if at == len(names) - 1:
        raise PlanError(
            f"PL72 '{shown(cut_at)}' is the last stage of {backbone.card.name}: there is nothing above it to remove. "
            f"Name one of {', '.join(names[:-1])}, or leave --cut-at out."
        )
    kept = [p for stage in backbone.stages[: at + 1] for p in stage.prefixes if p in modules]
    if not kept:
        raise PlanError(
            f"PL72 up to '{shown(cut_at)}' {backbone.card.name} has no layer, so nothing would be left. "
            f"Name one of {', '.join(names[at + 1 : -1])}."
        )
    return tuple(p for stage in backbone.stages[at + 1 :] for p in stage.prefixes if p in modules), kept[-1]


# -- channels ----------------------------------------------------------------------------------------------------------


def luminance(images: Tensor) -> Tensor:
    """(B, 1, S, S) of (B, 3, S, S) pictures whose three channels were normalised alike."""
    weights = torch.tensor(LUMINANCE, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True)


def sum_colours_(network: nn.Module) -> None:
    """The first convolution takes one channel: its weights summed over colours, as timm.models.adapt_input_conv does.

    A grey picture then gives what its three equal channels gave before.  AttributeError where there is none of three.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == 3 and module.groups == 1:
            module.weight = nn.Parameter(module.weight.detach().sum(dim=1, keepdim=True))
            module.in_channels = 1
            return
    raise AttributeError("no convolution takes three channels")


def _grey(spec: ImageSpec) -> ImageSpec:
    """All channels normalised alike, so that the luminance of normalised colours is the normalised luminance."""
    mean, std = sum(spec.mean) / 3, sum(spec.std) / 3
    return replace(spec, mean=(mean,) * 3, std=(std,) * 3)


# -- does it run? ------------------------------------------------------------------------------------------------------


def _made(
    backbone: Backbone, library: Architecture, changes: Changes, spec: ImageSpec, structure: Structure, last: str
) -> tuple[tuple[Architecture, nn.Module] | None, int]:
    """((architecture, network with the loaded weights), D), tried on one picture.

    None where that gives no vector, or, of a network that is cut, another one than the pooled output of the module
    ``last``: MobileNetV3 has an activation behind its pooling, VGG flattens its map.
    A network that its library builds by itself stays one of that library.
    """
    if changes.tap:
        _check_places(backbone, library, changes, spec, structure)
    is_plain = not changes.removed and not changes.tap and changes.channels == 3
    backbone.eval()  # as it is; but LeViT forgets now what it remembers of its last pass, which cannot be copied
    network = copy.deepcopy(backbone.network) if library is backbone.architecture else _refilled(backbone, library)
    architecture: Architecture = library if is_plain else StructuredArchitecture(library, changes)
    try:
        changes.apply_(network)
        with torch.no_grad(), listening(network, {last}) as heard:
            features = architecture.features(network.eval(), _picture(spec))
    except _DOES_NOT_RUN as error:
        why = f"{type(error).__name__}: {shown(str(error).strip().partition(chr(10))[0])[:160]}"
        raise PlanError(
            f"PL74 {backbone.card.name} does not run {', '.join(structure.in_words)} ({why}). Choose "
            "another stage or network, or leave the change out."
        ) from error
    if features.dim() != 2 or not torch.isfinite(features).all():
        return None, 0
    if changes.removed and not changes.tap and not _is_pooled(features, heard[last], structure.pooling):
        return None, 0
    width = int(features.shape[1])
    if isinstance(architecture, StructuredArchitecture):
        architecture = replace(architecture, changes=replace(changes, width=width))
    return (architecture, network), width


def _is_pooled(features: Tensor, output: Tensor, pooling: Pooling | None) -> bool:
    """Whether the features are that output, pooled so, or in any of the ways where none was asked for."""
    ways = [p for p in POOLINGS if p == (pooling or p) and (p != "token" or output.dim() == 3)]
    return output.dim() in (3, 4) and any(
        one.shape == features.shape and torch.allclose(one, features, rtol=1e-4, atol=1e-5)
        for one in (pooled(output, cast(Pooling, way)) for way in ways)
    )


def _refilled(backbone: Backbone, library: Architecture) -> nn.Module:
    """What the library builds with its new arguments, with the loaded weights."""
    network = build_seeded(library, 0)
    network.load_state_dict(backbone.network.state_dict())
    return network


def _picture(spec: ImageSpec) -> Tensor:
    return torch.randn(1, 3, spec.size, spec.size, generator=torch.Generator().manual_seed(0))


def _check_places(
    backbone: Backbone, library: Architecture, changes: Changes, spec: ImageSpec, structure: Structure
) -> None:
    """PlanError PL73 unless what is to be pooled has places, and a first token where that is asked for."""
    network = copy.deepcopy(backbone.network)
    try:
        replace(changes, channels=3).apply_(network)
        with torch.no_grad(), listening(network, {changes.tap}) as heard:
            library.features(network.eval(), _picture(spec))
    except _DOES_NOT_RUN:
        return  # said with its reason by who runs it next
    shape = tuple(heard[changes.tap].shape) if heard else ()
    has_places = len(shape) == 3 or (len(shape) == 4 and math.prod(shape[1:]) > max(shape[1:]))
    if not has_places or (changes.pooling == "token" and len(shape) != 3):
        what = "no class token" if has_places else "no places left to pool over"
        raise PlanError(
            f"PL73 pooling '{changes.pooling}': '{changes.tap}' of {backbone.card.name} gives values of shape {shape}, "
            f"which have {what}. Choose another pooling ({', '.join(POOLINGS)}), or an earlier stage with --cut-at."
        )
