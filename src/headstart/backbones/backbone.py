"""A frozen or learning network without its source head: pictures in, one feature vector each out.

``Backbone`` is final. What differs between timm, torchvision and transformers is an ``Architecture``, a value that can
build the network again (with any number of classes, without weights) and say how another program would.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from headstart.backbones.card import BackboneCard, Weights
from headstart.backbones.stages import check_stages, stages_of
from headstart.base.errors import CheckpointMismatch, listed
from headstart.base.seeds import number
from headstart.inputs.spec import ImageSpec
from headstart.records.run import BackboneRecord


class Architecture(Protocol):
    """How one library builds a network. Implementations are frozen dataclasses in ``sources``."""

    @property
    def name(self) -> str:
        """'resnet50', 'vit': what the library calls it."""
        ...

    @property
    def opens_with(self) -> str:
        """'timm', 'torchvision' or 'transformers': what opens the saved model without headstart."""
        ...

    def build(self, classes: int) -> nn.Module:
        """Freshly initialised by the library's own rules; ``classes`` 0: no classifier, the output is the features."""
        ...

    def features(self, network: nn.Module, images: Tensor) -> Tensor:
        """(B, D) from (B, 3, S, S) or what else the network takes, with a network that was built for 0 classes."""
        ...

    def config(self, spec: Any, labels: Sequence[str], feature_dim: int) -> dict[str, Any]:
        """config.json beside the weights, for ``opens_with``."""
        ...

    def companions(self, spec: Any) -> Mapping[str, dict[str, Any] | str]:
        """Further files that ``opens_with`` reads, by name: JSON, or text as it is (tokenizer.json)."""
        ...


@dataclass(frozen=True, eq=False)
class SourceHead:
    """The linear classifier that the weights came with. weight: (S, D), bias: (S,) float32, for S source classes."""

    weight: np.ndarray
    bias: np.ndarray


class Backbone(nn.Module):
    """A network with its card, its stages and the record of what was loaded.

    card: facts, card.input is the preprocessing.  network: built for 0 classes.  It is in eval mode when made.
    source: the classifier that was left out, where the file held one; co-tuning asks for it.
    """

    def __init__(
        self,
        card: BackboneCard,
        network: nn.Module,
        architecture: Architecture,
        record: BackboneRecord,
        *,
        source: SourceHead | None = None,
    ) -> None:
        super().__init__()
        self.card = card
        self.network = network
        self.architecture = architecture
        self.record = record
        self.source = source
        self.stages = stages_of(network)
        check_stages(network, self.stages)
        self.eval()

    @property
    def opens_with(self) -> str:
        return self.architecture.opens_with

    @property
    def spec(self) -> ImageSpec:
        """The preprocessing of a network that takes pictures; ``card.input`` is that of any."""
        assert isinstance(self.card.input, ImageSpec), f"{self.card.name} does not take images"
        return self.card.input

    @property
    def tunable(self) -> tuple[str, ...]:
        """Names of the stages that a strategy may let learn, input side first.

        Of a network for texts all but the one that holds the table of its vocabulary: a few thousand texts hold a few
        thousand of its words, and of e5-small it is 384 of 470 MB, three times that with the moments of Adam.
        Of a network for sounds those without convolutions: what they hear is the same in every task, few sounds would
        spoil it (METHODS B.4), and they are half of the work.
        """
        names = tuple(stage.name for stage in self.stages)
        if self.card.modality == "audio":
            convolutions = [name for name, m in self.network.named_modules() if isinstance(m, nn.Conv1d)]
            return tuple(s.name for s in self.stages if not any(s.holds(f"{name}.weight") for name in convolutions))
        if self.card.modality != "text":
            return names
        tables = {name: m.num_embeddings for name, m in self.network.named_modules() if isinstance(m, nn.Embedding)}
        table = max(tables, key=tables.__getitem__, default="")
        return tuple(stage.name for stage in self.stages if not stage.holds(f"{table}.weight"))

    def forward(self, images: Tensor) -> Tensor:
        """(B, D) features of (B, 3, S, S) normalised images."""
        return self.architecture.features(self.network, images)

    def from_batch(self) -> nn.Module:
        """A module from a batch of prepared examples (inputs.prepared.stacked) to (B, D); shares the weights."""
        return FromPixels(self) if isinstance(self.card.input, ImageSpec) else AsPrepared(self)

    def from_pixels(self) -> FromPixels:
        """A module from (B, S, S, 3) uint8 to (B, D), normalisation inside; shares this network's weights."""
        return FromPixels(self)

    def with_input(self, spec: ImageSpec) -> Backbone:
        """The same network (shared weights) fed with another preprocessing."""
        card = replace(self.card, input=spec)
        return Backbone(card, self.network, self.architecture, self.record, source=self.source)

    def random_copy(self, seed: int) -> Backbone:
        """The same architecture, freshly initialised; the control for 'did the pretrained weights help?'."""
        network = build_seeded(self.architecture, number(seed, "random-copy", self.card.name))
        card = replace(self.card, weights=Weights("none", "random", here=True), trained_on="nothing (random weights)")
        return Backbone(card, network, self.architecture, record_of(card, network, loader="random"))

    def classifier_state(self, weight: np.ndarray, bias: np.ndarray, labels: Sequence[str]) -> dict[str, Tensor]:
        """The state dict of the whole classifier: this network with the linear head where its library has one.

        weight: (K, D), bias: (K,).  Loads strictly into ``opens_with``'s network with K classes, whose output is
        then features @ weight.T + bias.  CheckpointMismatch where the architecture has no linear classifier.
        """
        classes = len(labels)
        assert weight.shape == (classes, self.card.feature_dim) and bias.shape == (classes,), "weight (K, D), bias (K,)"
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        with torch.device("meta"):
            full = self.architecture.build(classes).state_dict()
        values = {"weight": torch.as_tensor(weight).float(), "bias": torch.as_tensor(bias).float()}
        for name in full.keys() - state.keys():
            state[name] = _as_head(values.get(name.rsplit(".", 1)[-1]), full[name], name, self.card.name)
        unknown = state.keys() - full.keys()
        if unknown:
            raise CheckpointMismatch(f"{self.card.name}: {listed(sorted(unknown))} have no place in its classifier.")
        return state

    def classifier_config(self, labels: Sequence[str]) -> dict[str, Any]:
        """The config.json with which ``opens_with`` opens a folder that holds classifier_state as model.safetensors."""
        return self.architecture.config(self.card.input, labels, self.card.feature_dim)

    def companion_files(self) -> Mapping[str, dict[str, Any] | str]:
        """Further files for that folder, by name: JSON, or text as it is; empty for timm and torchvision."""
        return self.architecture.companions(self.card.input)


class FromPixels(nn.Module):
    """Backbone with its normalisation: (B, S, S, 3) uint8 in, (B, D) out. Can be traced and exported."""

    scale: Tensor
    shift: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.network = backbone.network
        self.architecture = backbone.architecture
        mean, std = torch.tensor(backbone.spec.mean), torch.tensor(backbone.spec.std)
        self.register_buffer("scale", (1 / (255 * std)).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", (-mean / std).view(1, 3, 1, 1), persistent=False)
        self.train(backbone.training)

    def forward(self, pixels: Tensor) -> Tensor:
        # In float32 whatever the network's precision; its own precision comes once the pixels are around 0.
        images = pixels.permute(0, 3, 1, 2).float() * self.scale.float() + self.shift.float()
        return self.architecture.features(self.network, images.to(self.scale.dtype))


class AsPrepared(nn.Module):
    """A network that takes its batches as they were prepared, such as token numbers: (B, …) in, (B, D) out."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.network = backbone.network
        self.architecture = backbone.architecture
        self.train(backbone.training)

    def forward(self, batch: Tensor) -> Tensor:
        return self.architecture.features(self.network, batch)


def build_seeded(architecture: Architecture, seed: int, classes: int = 0) -> nn.Module:
    """A freshly initialised network that depends on ``seed`` alone; torch's global generator stays where it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return architecture.build(classes).eval()


def record_of(
    card: BackboneCard,
    network: nn.Module,
    *,
    loader: str,
    file: str = "",
    sha256: str = "",
    size: int = 0,
    matched: int = 0,
    notes: tuple[str, ...] = (),
) -> BackboneRecord:
    """The record of what was loaded; without a file the hash is that of the tensors."""
    return BackboneRecord(
        name=card.name,
        architecture=card.architecture,
        parameters=card.parameters,
        feature_dim=card.feature_dim,
        licence=card.licence,
        trained_on=card.trained_on,
        weights_file=file or card.weights.where,
        weights_sha256=sha256 or tensors_sha256(network),
        weights_size=size,
        loader=loader,
        matched=matched,
        expected=len(network.state_dict()),
        notes=notes,
    )


def tensors_sha256(network: nn.Module) -> str:
    """One hash for all names, shapes and values of a network."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _as_head(value: Tensor | None, place: Tensor, name: str, backbone: str) -> Tensor:
    if value is None or value.numel() != place.numel():
        raise CheckpointMismatch(
            f"{backbone} has no plain linear classifier ('{name}' of shape {tuple(place.shape)} is not one), so its "
            "library cannot open the saved model. Choose another backbone: headstart models"
        )
    return value.reshape(place.shape).contiguous()  # 1×1 convolutions are linear heads too
