"""torchvision: its classification networks; weights from its own addresses (lazily) or from a local file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart.backbones.card import BackboneCard, Weights
from headstart.backbones.sources.listing import Listed, listing, torch_cache
from headstart.backbones.sources.source import Request, not_in_catalogue
from headstart.base.errors import CheckpointMismatch, DataError, shown
from headstart.base.seeds import number
from headstart.inputs.spec import ImageSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from headstart.backbones.backbone import Backbone

# Networks with extra classifiers for training. transform_input: as with torchvision's own weights, the network itself
# turns ImageNet's normalisation into the one it was trained with.
_WITH_AUX = ("inception_v3", "googlenet")
_AUX_ARGUMENTS = {"aux_logits": False, "transform_input": True, "init_weights": False}


@dataclass(frozen=True)
class TorchvisionArchitecture:
    """A network of torchvision.models by its name. Its last linear layer is the classifier."""

    name: str

    @property
    def opens_with(self) -> str:
        return "torchvision"

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(_AUX_ARGUMENTS) if self.name in _WITH_AUX else {}

    def build(self, classes: int) -> nn.Module:
        import torch
        from torch import nn
        from torchvision import models

        # RegNet computes its widths with tensors, so it cannot be built on the meta device even when asked.
        with torch.device("cpu") if self.name.startswith("regnet") else nullcontext():
            network = models.get_model(self.name, weights=None, num_classes=classes or 1000, **self.arguments)
        if classes == 0:
            network.set_submodule(last_linear(network, self.name), nn.Identity())
        return network

    def features(self, network: nn.Module, images: Tensor) -> Tensor:
        return network(images)

    def config(self, spec: ImageSpec, labels: Sequence[str], feature_dim: int) -> dict[str, Any]:
        """Opens with ``torchvision.models.get_model(architecture, num_classes=…, **model_args).load_state_dict``."""
        return {
            "library": "torchvision",
            "architecture": self.name,
            "num_classes": len(labels),
            "num_features": feature_dim,
            "label_names": list(labels),
            "model_args": self.arguments,
            "preprocessing": {
                "size": spec.size,
                "mean": list(spec.mean),
                "std": list(spec.std),
                "crop": spec.crop,
                "fit": spec.fit,
                "interpolation": spec.interpolation,
            },
        }

    def companions(self, spec: ImageSpec) -> dict[str, dict[str, Any]]:
        return {}


def architecture_from(config: Mapping[str, Any], *, where: str) -> TorchvisionArchitecture:
    """The architecture that a headstart folder's config.json names; its arguments follow from the name."""
    from torchvision import models

    name = config.get("architecture")
    if name not in models.list_models(module=models):
        raise DataError(f"{where}: '{shown(name)}' is not a classification network of torchvision.")
    return TorchvisionArchitecture(str(name))


def last_linear(network: nn.Module, name: str) -> str:
    """Path of the layer that gives the class scores; CheckpointMismatch where it is not a linear one."""
    from torch import nn

    layers = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    path, layer = layers[-1]
    if not isinstance(layer, nn.Linear):
        raise CheckpointMismatch(
            f"torchvision/{shown(name)} ends in a convolution ('{path}') and has no linear classifier; its pooled "
            "features cannot carry a new head. Choose another backbone: headstart models"
        )
    return path


class TorchvisionSource:
    """``torchvision/NAME``, for every classification network of torchvision.models."""

    name = "torchvision"

    def cards(self) -> Sequence[BackboneCard]:
        return [_card_of(entry) for entry in listing("torchvision")]

    def card(self, name: str, *, offline: bool = False) -> BackboneCard:
        from torchvision import models

        wanted = name.removeprefix("torchvision/")
        known = models.list_models(module=models)
        if wanted not in known:
            raise not_in_catalogue(name, [f"torchvision/{n}" for n in known])
        return _card_of(describe(wanted))

    def load(self, card: BackboneCard, request: Request) -> Backbone:
        from headstart.backbones.loading import load_file, load_random
        from headstart.backbones.sources.fetch import from_url

        architecture = TorchvisionArchitecture(card.architecture)
        if not request.pretrained:
            return load_random(card, architecture, number(0, "random", card.name))
        if request.weights is not None:
            return load_file(card, architecture, request.weights)
        path = from_url(card.name, card.weights.where, offline=request.offline)
        return load_file(card, architecture, path, own=True)


def describe(name: str) -> Listed:
    """The facts about a torchvision network with its default weights, measured on the meta device."""
    from torchvision import models

    from headstart.backbones.sources.measure import measured

    weights = models.get_model_weights(name).DEFAULT
    transform = weights.transforms()
    size, resized = transform.crop_size[0], transform.resize_size[0]
    spec = ImageSpec(
        size=size,
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        # The half pixel keeps floor(size / crop) at torchvision's number whatever the rounding of the division.
        crop=size / (resized + 0.5) if resized > size else 1.0,
        interpolation="bicubic" if transform.interpolation.value == "bicubic" else "bilinear",
    )
    return measured(
        TorchvisionArchitecture(name),
        name=name,
        spec=spec,
        licence="bsd-3-clause",
        trained_on="ImageNet-1k",
        where=weights.url,
    )


def _card_of(entry: Listed) -> BackboneCard:
    here = (torch_cache() / entry.where.rsplit("/", 1)[-1]).is_file()
    return BackboneCard(
        name=f"torchvision/{entry.name}",
        modality="image",
        architecture=entry.architecture,
        input=entry.input,
        feature_dim=entry.feature_dim,
        parameters=entry.parameters,
        licence=entry.licence,
        trained_on=entry.trained_on,
        weights=Weights(
            "hub", entry.where, here, size=entry.bytes, how_to_get=f"headstart fetches {entry.where} when asked"
        ),
        gmacs=entry.gmacs,
        reference="https://docs.pytorch.org/vision/stable/models.html",
    )
