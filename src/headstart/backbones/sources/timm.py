"""timm: any of its image networks; weights from the hub (lazily) or from a local file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart.backbones.card import BackboneCard, Weights
from headstart.backbones.sources.listing import Listed, cached_on_hub, listing
from headstart.backbones.sources.source import Request, checked_spec, not_in_catalogue
from headstart.base.errors import DataError, EnvironmentFault, Refused, shown
from headstart.base.seeds import number
from headstart.inputs.spec import Fit, ImageSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from headstart.backbones.backbone import Backbone

_CROP_MODES: Mapping[Fit, str] = {"crop": "center", "squish": "squash", "pad": "border"}
_TRAINED_ON = (  # patterns of the tag of the weights; the first that fits
    ("lvd142m", "LVD-142M, without labels (DINOv2)"),
    ("lvd1689m", "LVD-1689M, without labels (DINOv3)"),
    ("^dino$", "ImageNet-1k, without labels (DINO)"),
    ("^mae$", "ImageNet-1k, without labels (MAE)"),
    ("laion2b", "LAION-2B, image-text pairs"),
    ("webli", "WebLI, image-text pairs"),
    ("openai", "400 M image-text pairs (CLIP)"),
    ("in22k_ft_in1k", "ImageNet-22k, then ImageNet-1k"),
    ("in21k_ft_in1k", "ImageNet-21k, then ImageNet-1k"),
    ("in12k_ft_in1k", "ImageNet-12k, then ImageNet-1k"),
    ("in22k_in1k", "ImageNet-22k, then ImageNet-1k"),
    ("in22k", "ImageNet-22k"),
    ("in21k", "ImageNet-21k"),
    ("in12k", "ImageNet-12k"),
    ("in1k", "ImageNet-1k"),
)
# Arguments of timm.create_model that reach for files, the network or other code; a folder's config may not set them.
_NOT_FROM_FILES = frozenset(
    [
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "pretrained_strict",
        "pretrained_model_args",
        "checkpoint_path",
        "cache_dir",
        "scriptable",
        "exportable",
        "no_jit",
        "features_only",
        "device",
        "dtype",
    ]
)


@dataclass(frozen=True)
class TimmArchitecture:
    """A timm network: its name without tag, and arguments of its constructor that differ from the defaults."""

    name: str
    arguments: tuple[tuple[str, Any], ...] = ()

    @property
    def opens_with(self) -> str:
        return "timm"

    def build(self, classes: int) -> nn.Module:
        import timm

        return timm.create_model(self.name, pretrained=False, num_classes=classes, **dict(self.arguments))

    def features(self, network: nn.Module, images: Tensor) -> Tensor:
        return network(images)

    def config(self, spec: ImageSpec, labels: Sequence[str], feature_dim: int) -> dict[str, Any]:
        """As timm's save_config_for_hf writes it; read by ``timm.create_model('local-dir:…')``."""
        preprocessing = {
            "input_size": [3, spec.size, spec.size],
            "mean": list(spec.mean),
            "std": list(spec.std),
            "interpolation": spec.interpolation,
            "crop_pct": spec.crop if spec.fit == "crop" else 1.0,
            "crop_mode": _CROP_MODES[spec.fit],
        }
        return {
            "architecture": self.name,
            "num_classes": len(labels),
            "num_features": feature_dim,
            "label_names": list(labels),
            "model_args": dict(self.arguments),
            "pretrained_cfg": {**preprocessing, "num_classes": len(labels), "custom_load": False},
        }

    def companions(self, spec: ImageSpec) -> dict[str, dict[str, Any]]:
        return {}


def architecture_from(config: Mapping[str, Any], *, where: str) -> TimmArchitecture:
    """The architecture that a timm folder's config.json names. Refused CF20 for anything but a name and numbers."""
    import timm

    name, arguments = config.get("architecture"), config.get("model_args") or {}
    if not isinstance(name, str) or not timm.is_model(name):
        raise DataError(f"{where}: '{shown(name)}' is not an architecture of timm {timm.__version__}.")
    if not isinstance(arguments, Mapping):
        raise DataError(f"{where}: model_args is not a table.")
    arguments = {k: v for k, v in arguments.items() if k != "num_classes"}  # of the head, which is left out
    for key, value in arguments.items():
        if key in _NOT_FROM_FILES or not _is_plain(value):
            raise Refused(f"CF20 {where}: model_args may not set '{shown(key)}'. Refused.")
    return TimmArchitecture(name, tuple(sorted(arguments.items())))


def spec_from(cfg: Mapping[str, Any], *, where: str) -> ImageSpec:
    """Preprocessing as timm.data.resolve_data_config reads it from a pretrained_cfg; DataError where it cannot be."""
    size = cfg.get("input_size") or (3, 224, 224)
    if not isinstance(size, list | tuple) or len(size) != 3 or size[0] != 3 or size[1] != size[2]:
        raise DataError(f"{where}: takes inputs of {shown(size)}; only square RGB pictures are read.")
    fits: dict[str, Fit] = {mode: fit for fit, mode in _CROP_MODES.items()}
    fit = fits.get(str(cfg.get("crop_mode") or "center"), "crop")
    crop = cfg.get("crop_pct") or 0.875
    return checked_spec(
        size=size[1],
        mean=cfg.get("mean") or (0.485, 0.456, 0.406),
        std=cfg.get("std") or (0.229, 0.224, 0.225),
        crop=crop if fit == "crop" else 1.0,
        fit=fit,
        interpolation=cfg.get("interpolation") or "bicubic",
        where=where,
    )


class TimmSource:
    """``timm/NAME``, for every name that timm knows; the common ones are listed."""

    name = "timm"

    def cards(self) -> Sequence[BackboneCard]:
        return [_card_of(entry) for entry in listing("timm")]

    def card(self, name: str, *, offline: bool = False) -> BackboneCard:
        import timm

        wanted = name.removeprefix("timm/")
        architecture, _, tag = wanted.partition(".")
        known = timm.list_models(pretrained=True)
        if not timm.is_model(architecture) or (tag and wanted not in known):
            raise not_in_catalogue(name, [f"timm/{n}" for n in (*known, *timm.list_models())])
        return _card_of(describe(wanted))

    def load(self, card: BackboneCard, request: Request) -> Backbone:
        from headstart.backbones.loading import load_file, load_random
        from headstart.backbones.sources.fetch import from_hub

        architecture = TimmArchitecture(card.architecture)
        if not request.pretrained:
            return load_random(card, architecture, number(0, "random", card.name))
        if request.weights is not None:
            return load_file(card, architecture, request.weights)
        if not card.weights.where:
            raise EnvironmentFault(
                f"EN75 timm offers no weights for {shown(card.architecture)}. Give a file with --weights."
            )
        path = from_hub(card.name, card.weights.where, offline=request.offline)
        return load_file(card, architecture, path, own=True)


def describe(name: str) -> Listed:
    """The facts about a timm network, measured on the meta device (no memory, no weights)."""
    import timm

    from headstart.backbones.sources.measure import measured

    cfg = timm.get_pretrained_cfg(name)
    architecture = name.partition(".")[0]
    facts = cfg.to_dict() if cfg is not None else {}
    spec = spec_from(facts, where=f"timm/{name}")
    tag = str(facts.get("tag") or name.partition(".")[2])
    trained_on = next((text for part, text in _TRAINED_ON if re.search(part, tag)), tag or "unknown")
    full = f"{architecture}.{tag}" if tag else architecture
    return measured(
        TimmArchitecture(architecture),
        name=full,
        spec=spec,
        licence=str(facts.get("license") or "unknown"),
        trained_on=trained_on,
        where=str(facts.get("hf_hub_id") or ""),
    )


def _card_of(entry: Listed) -> BackboneCard:
    here = bool(entry.where) and cached_on_hub(entry.where)
    how = f"headstart fetches it from https://huggingface.co/{entry.where} when asked" if entry.where else ""
    return BackboneCard(
        name=f"timm/{entry.name}",
        modality="image",
        architecture=entry.architecture,
        input=entry.input,
        feature_dim=entry.feature_dim,
        parameters=entry.parameters,
        licence=entry.licence,
        trained_on=entry.trained_on,
        weights=Weights("hub", entry.where, here, size=entry.bytes, how_to_get=how),
        gmacs=entry.gmacs,
        reference=f"https://huggingface.co/{entry.where}" if entry.where else "",
    )


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return len(value) < 100 and all(_is_plain(v) for v in value)
    if isinstance(value, str):  # names in timm's own registries ('silu', 'same', 'avg'); never a path
        return re.fullmatch(r"[A-Za-z0-9_]{0,40}", value) is not None
    return value is None or isinstance(value, bool | int | float)
