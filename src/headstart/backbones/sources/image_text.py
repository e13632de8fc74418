"""Image-text models (CLIP, SigLIP) from a local transformers folder: two towers that end in one space.

The image tower is a network for pictures like any other: features, heads and saved models are made of it. The text
tower reads the names of classes into the same space, for answers without labels. Remote code is never run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from headstart.backbones.card import BackboneCard, Weights
from headstart.backbones.sources.transformers import DROPPED, check_plain, config_of, quiet
from headstart.base.errors import DataError, shown
from headstart.base.files import read_json
from headstart.inputs.spec import InputSpec, TextSpec
from headstart.inputs.text import digest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from headstart.backbones.backbone import Backbone

Family = Literal["clip", "siglip"]
KINDS: tuple[Family, ...] = ("clip", "siglip")
# What their papers' code does, where a folder has no preprocessor_config.json.
PROCESSORS: Mapping[str, Mapping[str, Any]] = {
    "clip": {
        "do_center_crop": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
    },
    "siglip": {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 3},
}
KIND = "image-tower"
_OURS = ("kind", "family", "labels")


@dataclass(frozen=True)
class ImageTower:
    """The half that sees. settings: of its vision_config, and projection_dim."""

    family: Family
    settings: tuple[tuple[str, Any], ...]

    @property
    def name(self) -> str:
        return f"{self.family}_vision_model"

    @property
    def opens_with(self) -> str:
        return "headstart"  # transformers' own classifiers on these towers leave the projection out

    def build(self, classes: int) -> nn.Module:
        """The tower; with classes, a linear layer called 'classifier' stands beside it and is used by nobody."""
        import transformers

        kind = {"clip": transformers.CLIPVisionModelWithProjection, "siglip": transformers.SiglipVisionModel}
        config = _config(self.name, self.settings)
        return _with_classifier(kind[self.family](config), _width(self.family, config), classes)

    def features(self, network: Any, images: Tensor) -> Tensor:
        """(B, D): the point in the space that pictures and texts share, not yet of length one."""
        found = network(pixel_values=images)
        return found.image_embeds if self.family == "clip" else found.pooler_output

    def config(self, spec: InputSpec, labels: Sequence[str], feature_dim: int) -> dict[str, Any]:
        return {"kind": KIND, "family": self.family, "labels": list(labels), **dict(self.settings)}

    def companions(self, spec: InputSpec) -> dict[str, dict[str, Any] | str]:
        return {}

    def native_names(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return _of_tower(self.build, tensors, "vision_model.", "visual_projection.")


@dataclass(frozen=True)
class TextTower:
    """The half that reads. settings: of its text_config, and projection_dim.  tokenizer: content of tokenizer.json."""

    family: Family
    settings: tuple[tuple[str, Any], ...]
    tokenizer: str = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.family}_text_model"

    @property
    def opens_with(self) -> str:
        return "headstart"

    def build(self, classes: int) -> nn.Module:
        """The tower; with classes, a linear layer called 'classifier' stands beside it and is used by nobody."""
        import transformers

        kind = {"clip": transformers.CLIPTextModelWithProjection, "siglip": transformers.SiglipTextModel}
        config = _config(self.name, self.settings)
        return _with_classifier(kind[self.family](config), _width(self.family, config), classes)

    def features(self, network: Any, tokens: Tensor) -> Tensor:
        """(B, D) from (B, L) token numbers, -1 where a text has ended."""
        import torch

        is_there, config = tokens >= 0, network.config
        if self.family == "clip":
            ids = torch.where(is_there, tokens, torch.full_like(tokens, config.eos_token_id)).long()
            return network(input_ids=ids, attention_mask=is_there.long()).text_embeds
        # SigLIP was trained on texts filled up to one length, and reads its last place whatever stands there.
        ids = torch.where(is_there, tokens, torch.full_like(tokens, config.pad_token_id)).long()
        missing = config.max_position_embeddings - ids.shape[1]
        ids = torch.nn.functional.pad(ids, (0, missing), value=config.pad_token_id)
        return network(input_ids=ids).pooler_output

    def config(self, spec: InputSpec, labels: Sequence[str], feature_dim: int) -> dict[str, Any]:
        return {"kind": "text-tower", "family": self.family, "labels": list(labels), **dict(self.settings)}

    def companions(self, spec: InputSpec) -> dict[str, dict[str, Any] | str]:
        return {"tokenizer.json": self.tokenizer}

    def native_names(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return _of_tower(self.build, tensors, "text_model.", "text_projection.")


def is_image_text(config: Mapping[str, Any]) -> bool:
    return config.get("model_type") in KINDS


def image_tower(config: Mapping[str, Any], *, where: str) -> ImageTower:
    """The image tower that a config.json of both describes. Refused CF20 where it asks for code."""
    return ImageTower(_family(config, where), _settings(config, "vision_config", where))


def architecture_from(config: Mapping[str, Any], *, where: str) -> ImageTower:
    """The image tower of a model that was saved here."""
    check_plain(config, where)
    family = config.get("family")
    if family not in KINDS:
        raise DataError(f"{where}: an image tower of the family '{shown(family)}'; there are: {', '.join(KINDS)}.")
    return ImageTower(family, tuple(sorted((k, v) for k, v in config.items() if k not in _OURS)))


def processor_of(config: Mapping[str, Any], processor: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """What is done to pictures: as the folder says, else as the family was trained."""
    vision = config.get("vision_config")
    size = vision.get("image_size", 224) if isinstance(vision, Mapping) else 224
    family = _family(config, where)
    usual: dict[str, Any] = {**PROCESSORS[family], "size": {"height": size, "width": size}}
    if family == "clip":
        usual |= {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
    return dict(processor) or usual


def text_tower(folder: Path, name: str) -> tuple[Backbone, float]:
    """(the text tower as a network for texts, what cosines were divided by in training).

    DataError where the folder has no tokenizer or its weights no logit_scale.
    """
    from headstart.backbones.loading import with_checkpoint
    from headstart.backbones.sources.local import checkpoint_in
    from headstart.backbones.sources.text_transformers import tokenizer_of

    where = shown(folder / "config.json")
    config = read_json(folder / "config.json")
    tokenizer = tokenizer_of(folder)
    tower = TextTower(_family(config, where), _settings(config, "text_config", where), tokenizer)
    made = _config(tower.name, tower.settings)
    checkpoint = checkpoint_in(folder)
    scale = checkpoint.tensors.get("logit_scale")
    if scale is None or scale.numel() != 1:
        raise DataError(f"CK11 {shown(checkpoint.path)}: no logit_scale, so this is no whole image-text model.")
    card = BackboneCard(
        name=f"{name} (text tower)",
        modality="text",
        architecture=tower.name,
        input=TextSpec(digest(tokenizer), made.max_position_embeddings),
        feature_dim=_width(tower.family, made),
        parameters=0,
        licence="unknown (local folder)",
        trained_on="unknown (local folder)",
        weights=Weights("file", str(folder), here=True),
    )
    backbone = with_checkpoint(card, tower, checkpoint, rename=tower.native_names)
    return backbone, math.exp(-float(scale))


def _family(config: Mapping[str, Any], where: str) -> Family:
    kind = config.get("model_type")
    for family in KINDS:
        if kind == family:
            return family
    raise DataError(
        f"{where}: model_type '{shown(kind)}' is no image-text model that is read here ({', '.join(KINDS)})."
    )


def _settings(config: Mapping[str, Any], part: str, where: str) -> tuple[tuple[str, Any], ...]:
    """Of one tower; what is not said there is the library's default, as for the library itself."""
    check_plain(config, where)
    found = config.get(part) or {}
    if not isinstance(found, Mapping):
        raise DataError(f"{where}: {part} is not a table of settings.")
    settings = {k: v for k, v in found.items() if k not in DROPPED and not k.startswith("_")}
    if "projection_dim" in config:
        settings["projection_dim"] = config["projection_dim"]
    return tuple(sorted(settings.items()))


def _with_classifier(network: Any, width: int, classes: int) -> nn.Module:
    from torch import nn
    from transformers import PreTrainedModel

    for part in network.modules():
        if isinstance(part, PreTrainedModel):
            part.loss_type = "ForSequenceClassification"  # never used; without one, a tracer that looks at it warns
    if classes:
        network.classifier = nn.Linear(width, classes)
    return network


def _config(kind: str, settings: Sequence[tuple[str, Any]]) -> Any:
    with quiet():
        return config_of(kind, settings)


def _width(family: Family, config: Any) -> int:
    """D of the shared space."""
    if family == "clip":
        return int(config.projection_dim)
    return int(getattr(config, "projection_size", None) or config.hidden_size)


def _of_tower(build: Any, tensors: Mapping[str, Tensor], *own: str) -> dict[str, Tensor]:
    """One tower's tensors of a file that holds both, under the names of this version's network.

    A file that holds nothing by these names keeps its own: load_into judges it.
    """
    import torch

    with torch.device("meta"):
        places = build(0).state_dict()
    mine = {n: t for n, t in tensors.items() if n.startswith(own)}
    return {n if n in places else n.removeprefix(own[0]): t for n, t in mine.items()} or dict(tensors)
