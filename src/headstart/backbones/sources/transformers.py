"""transformers: image classifiers of well-known kinds, from a local folder. Remote code is never run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart.backbones.sources.source import checked_spec
from headstart.base.errors import DataError, Refused, listed, shown
from headstart.inputs.spec import Fit, ImageSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

# Kinds whose classifier is one linear layer on the pooled features; others would need a look first.
KINDS = tuple(
    [
        "vit",
        "deit",
        "beit",
        "dinov2",
        "dinov2_with_registers",
        "swin",
        "swinv2",
        "convnext",
        "convnextv2",
        "resnet",
        "regnet",
    ]
)
_RESAMPLE = {2: "bilinear", 3: "bicubic"}
DROPPED = frozenset(  # written by every save, of no use for building
    [
        "architectures",
        "id2label",
        "label2id",
        "num_labels",
        "transformers_version",
        "torch_dtype",
        "dtype",
        "problem_type",
        "model_type",
    ]
)
_LARGEST_SETTING = 2**16
_LARGEST_VOCABULARY = 2**20
_ASKS_FOR_CODE = re.compile(r"auto_map|_target_|trust_remote_code|_attn_implementation.*|quantization_config")


@dataclass(frozen=True)
class TransformersArchitecture:
    """A network of transformers: its kind (model_type) and the settings that differ from the defaults."""

    name: str
    settings: tuple[tuple[str, Any], ...]

    @property
    def opens_with(self) -> str:
        return "transformers"

    def build(self, classes: int) -> nn.Module:
        from transformers import AutoModelForImageClassification

        return AutoModelForImageClassification.from_config(self._config(classes), trust_remote_code=False)

    def features(self, network: nn.Module, images: Tensor) -> Tensor:
        return network(pixel_values=images).logits  # built for 0 classes, its "logits" are what the classifier is fed

    def config(self, spec: ImageSpec, labels: Sequence[str], feature_dim: int) -> dict[str, Any]:
        """config.json of a transformers model folder."""
        names = {str(i): label for i, label in enumerate(labels)}
        return {
            **dict(self.settings),
            "model_type": self.name,
            "architectures": [self._class_name()],
            "id2label": names,
            "label2id": {label: int(i) for i, label in names.items()},
        }

    def companions(self, spec: ImageSpec) -> dict[str, dict[str, Any]]:
        """preprocessor_config.json, as ViTImageProcessor and its kin read it; 'pad' has no name there: squish."""
        resized = int(spec.size / spec.crop)
        whole: dict[str, Any] = {"size": {"height": spec.size, "width": spec.size}, "do_center_crop": False}
        cropped: dict[str, Any] = {
            "size": {"shortest_edge": resized},
            "do_center_crop": True,
            "crop_size": {"height": spec.size, "width": spec.size},
        }
        return {
            "preprocessor_config.json": {
                "image_processor_type": "BitImageProcessor" if spec.fit == "crop" else "ViTImageProcessor",
                "do_resize": True,
                "do_rescale": True,
                "rescale_factor": 1 / 255,
                "do_normalize": True,
                "image_mean": list(spec.mean),
                "image_std": list(spec.std),
                "resample": 3 if spec.interpolation == "bicubic" else 2,
                **(cropped if spec.fit == "crop" else whole),
            }
        }

    def native_names(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``tensors`` under the names of this version's network; transformers 5 renamed layers that files still use.

        What the network lacks keeps its name, what the file lacks is left out: load_into judges both.
        """
        with quiet():
            kind: Any = type(self.build(0))
            network, report = kind.from_pretrained(
                None, config=self._config(0), state_dict=dict(tensors), output_loading_info=True
            )
        absent = set(report["missing_keys"]) | {key[0] for key in report["mismatched_keys"]}
        filled = {name: t for name, t in network.state_dict().items() if name not in absent}
        return filled | {n: tensors[n] for n in report["unexpected_keys"] if n in tensors}

    def _class_name(self) -> str:
        import torch

        with torch.device("meta"):
            return type(self.build(0)).__name__

    def _config(self, classes: int) -> Any:
        from transformers import AutoModelForImageClassification

        config = config_of(self.name, self.settings)
        config.num_labels = classes
        mapped: Any = AutoModelForImageClassification._model_mapping[type(config)]
        config.architectures = [(mapped[0] if isinstance(mapped, tuple) else mapped).__name__]
        return config


def config_of(kind: str, settings: Iterable[tuple[str, Any]]) -> Any:
    """transformers' configuration of that model_type; ValueError where it takes no such settings."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        return AutoConfig.for_model(kind, **dict(settings))
    except StrictDataclassError as error:  # is no ValueError, though it says which value is wrong
        raise ValueError(str(error)) from error


@contextmanager
def quiet() -> Iterator[None]:
    """transformers prints a table of what it loaded; load_into reports that, once, in our words."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def architecture_from(config: Mapping[str, Any], *, where: str) -> TransformersArchitecture:
    """The architecture that a config.json describes. Refused CF20 where it asks for code; DataError for other kinds."""
    kind = config.get("model_type")
    check_plain(config, where)
    if kind not in KINDS:
        raise DataError(f"{where}: model_type '{shown(kind)}' is not one that is read here ({listed(KINDS, 99)}).")
    settings = {k: v for k, v in config.items() if k not in DROPPED and not k.startswith("_")}
    return TransformersArchitecture(str(kind), tuple(sorted(settings.items())))


def spec_from(config: Mapping[str, Any], processor: Mapping[str, Any], *, where: str) -> ImageSpec:
    """Preprocessing as preprocessor_config.json states it; the network's own size where it is silent."""
    size = processor.get("size", config.get("image_size", 224))
    crop_size = processor.get("crop_size") if processor.get("do_center_crop") else None
    short = size.get("shortest_edge") if isinstance(size, Mapping) else None
    fit: Fit = "crop"
    if crop_size is not None:
        final = _side(crop_size, where)
        # half a pixel, so that floor(size / crop) is the stated size again
        crop = min(1.0, final / ((short if isinstance(short, int) else _side(size, where)) + 0.5))
    elif short is not None:  # ConvNext's own rule below 384: resize to short / crop_pct, then cut
        final, crop = short, processor.get("crop_pct") or 0.875
    else:
        final, crop, fit = _side(size, where), 1.0, "squish"
    return checked_spec(
        size=final,
        mean=processor.get("image_mean") or (0.5, 0.5, 0.5),
        std=processor.get("image_std") or (0.5, 0.5, 0.5),
        crop=crop,
        fit=fit,
        interpolation=_RESAMPLE.get(processor.get("resample", 2), "another filter"),
        where=where,
    )


def _side(size: Any, where: str) -> int:
    if isinstance(size, Mapping):
        height, width = size.get("height"), size.get("width")
        if height != width or not isinstance(height, int):
            raise DataError(f"{where}: pictures of {shown(size)} are not square; only square ones are read.")
        return height
    if isinstance(size, list | tuple) and len(size) == 2 and size[0] == size[1]:
        size = size[0]
    if not isinstance(size, int):
        raise DataError(f"{where}: '{shown(size)}' is no size of a picture.")
    return size


def check_plain(value: Any, where: str, key: str = "") -> None:
    """Nothing in a config may name code or reach outside: no auto_map, no _target_, no trust flags, no paths."""
    if _ASKS_FOR_CODE.fullmatch(key):
        raise Refused(f"CF20 {where}: key '{shown(key)}' asks to import code. Refused.")
    if isinstance(value, Mapping):
        for name, inner in value.items():
            check_plain(inner, where, str(name))
    elif isinstance(value, list):
        for inner in value:
            check_plain(inner, where)
    elif isinstance(value, int) and abs(value) > (_LARGEST_VOCABULARY if key == "vocab_size" else _LARGEST_SETTING):
        raise Refused(f"CF20 {where}: '{shown(key)}' is {shown(value)[:40]}; no network has that size. Refused.")
