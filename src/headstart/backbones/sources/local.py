"""``file:PATH``: a model folder on this machine, as timm, transformers or headstart write them, or a graph model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.backbones.card import BackboneCard, Weights
from headstart.backbones.sources import tfjs
from headstart.backbones.sources.source import Request
from headstart.base.config import from_dict
from headstart.base.errors import DataError, HeadstartError, NotInCatalogue, Refused, shown
from headstart.base.files import read_json
from headstart.base.seeds import number
from headstart.inputs.spec import AudioSpec, ImageSpec, TextSpec, modality_of

if TYPE_CHECKING:
    from headstart.backbones.backbone import Architecture, Backbone
    from headstart.backbones.checkpoint import Checkpoint

SINGLE = ("model.safetensors", "pytorch_model.bin", "model.pth")
WEIGHTS = (SINGLE[0], f"{SINGLE[0]}.index.json", SINGLE[1], f"{SINGLE[1]}.index.json", SINGLE[2])
_LARGEST_CONFIG = 2**20
# What the libraries' constructors raise when settings make no network.
_NO_NETWORK = (TypeError, ValueError, LookupError, AttributeError, AssertionError, ArithmeticError, RuntimeError)


class LocalSource:
    """Folders with a config.json and a weights file."""

    name = "file"

    def cards(self) -> Sequence[BackboneCard]:
        return ()

    def card(self, name: str, *, offline: bool = False) -> BackboneCard:
        written = name.removeprefix("file:")
        folder = Path(written)
        if tfjs.is_graph(written):
            return tfjs.card_of(name, written)
        if not folder.is_dir():
            raise NotInCatalogue(
                f"'{shown(name)}': there is no folder {shown(folder)}. file:PATH takes a folder with config.json and "
                "model.safetensors, or the .json of a TensorFlow.js graph model; for a single weights file name its "
                "network and give the file with --weights."
            )
        encoder = _encoder_in(folder)
        if encoder is not None:
            return _encoder_card(name, folder, *encoder)
        architecture, spec = _opened(folder)
        return _card(name, folder, architecture, spec)

    def load(self, card: BackboneCard, request: Request) -> Backbone:
        from headstart.backbones.loading import load_random, with_checkpoint
        from headstart.backbones.sources.audio_transformers import AudioArchitecture
        from headstart.backbones.sources.image_text import ImageTower
        from headstart.backbones.sources.text_transformers import TextArchitecture
        from headstart.backbones.sources.transformers import TransformersArchitecture

        if tfjs.is_graph(card.weights.where):
            return tfjs.load_local(card, request)
        folder = Path(card.weights.where)
        architecture: Any = (_encoder_in(folder) or _opened(folder))[0]
        if not request.pretrained:
            return load_random(card, architecture, number(0, "random", card.name))
        checkpoint = checkpoint_in(folder, request.weights)
        if card.parameters > 2 * checkpoint.size:  # before the network is built in real memory
            raise Refused(
                f"CK18 {shown(folder)}: config.json describes {card.parameters:,} parameters, but the weights file has "
                f"only {checkpoint.size:,} bytes. Refused."
            )
        named = isinstance(architecture, TransformersArchitecture | TextArchitecture | AudioArchitecture | ImageTower)
        rename = architecture.native_names if named else None
        return with_checkpoint(card, architecture, checkpoint, rename=rename)


def _encoder_in(folder: Path) -> tuple[Any, TextSpec | AudioSpec] | None:
    """The encoder of texts or sounds that the folder describes, and how it is fed; None where it is of pictures."""
    from headstart.backbones.sources import audio_transformers, text_transformers

    path = folder / "config.json"
    config = read_json(path, largest=_LARGEST_CONFIG) if path.is_file() else {}
    if isinstance(config, Mapping) and text_transformers.is_text(config):
        return text_transformers.opened(folder)
    if isinstance(config, Mapping) and audio_transformers.is_audio(config):
        return audio_transformers.opened(folder)
    return None


def _encoder_card(name: str, folder: Path, architecture: Any, spec: TextSpec | AudioSpec) -> BackboneCard:
    import torch

    try:
        with torch.device("meta"):
            network: Any = architecture.build(0)
            width = int(network.config.hidden_size)
    except HeadstartError:
        raise
    except _NO_NETWORK as error:
        raise _no_network(folder, architecture, error) from error
    unknown = "unknown (local folder)"
    return BackboneCard(
        name=name,
        modality=modality_of(spec),
        architecture=architecture.name,
        input=spec,
        feature_dim=width,
        parameters=sum(p.numel() for p in network.parameters()),
        licence=unknown,
        trained_on=unknown,
        weights=Weights("file", str(folder), here=True),
    )


def _no_network(folder: Path, architecture: Architecture, error: Exception) -> DataError:
    return DataError(
        f"{shown(folder / 'config.json')}: {architecture.opens_with} cannot build '{architecture.name}' from these "
        f"settings ({type(error).__name__}: {shown(error)[:160]})."
    )


def _opened(folder: Path) -> tuple[Architecture, ImageSpec]:
    from headstart.backbones.sources import image_text, timm, torchvision, transformers

    path = folder / "config.json"
    where = shown(path)
    if not path.is_file():
        raise DataError(f"{shown(folder)}: no config.json there, so its network is unknown.")
    config = read_json(path, largest=_LARGEST_CONFIG)
    if not isinstance(config, Mapping):
        raise DataError(f"{where}: not a table of settings.")
    if config.get("library") == "torchvision":
        architecture = torchvision.architecture_from(config, where=where)
        return architecture, from_dict(ImageSpec, config.get("preprocessing", {}), where=where)
    if "architecture" in config:
        cfg = config.get("pretrained_cfg") or config
        if not isinstance(cfg, Mapping):
            raise DataError(f"{where}: pretrained_cfg is not a table.")
        return timm.architecture_from(config, where=where), timm.spec_from(cfg, where=where)
    if image_text.is_image_text(config):
        done = image_text.processor_of(config, _processor(folder), where=where)
        return image_text.image_tower(config, where=where), transformers.spec_from({}, done, where=where)
    if "model_type" in config or "auto_map" in config:
        return transformers.architecture_from(config, where=where), transformers.spec_from(
            config, _processor(folder), where=where
        )
    raise DataError(f"{where}: names neither a timm 'architecture' nor a transformers 'model_type'.")


def _processor(folder: Path) -> Mapping[str, Any]:
    path = folder / "preprocessor_config.json"
    processor = read_json(path, largest=_LARGEST_CONFIG) if path.is_file() else {}
    both = folder / "processor_config.json"  # transformers 5 writes pictures and texts into one file
    if not processor and both.is_file():
        whole = read_json(both, largest=_LARGEST_CONFIG)
        processor = whole.get("image_processor", {}) if isinstance(whole, Mapping) else whole
    if not isinstance(processor, Mapping):
        raise DataError(f"{shown(path)}: not a table of settings.")
    return processor


def checkpoint_in(folder: Path, instead: Path | None = None) -> Checkpoint:
    """The weights of a model folder, in one file or in several; or those of another file."""
    from headstart.backbones.checkpoint import read_checkpoint
    from headstart.backbones.sharded import read_sharded

    file = instead or _weights_in(folder)
    return read_sharded(file) if file.name.endswith(".index.json") else read_checkpoint(file)


def _weights_in(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{shown(folder)}: none of {', '.join(SINGLE)} is there.")


def _card(name: str, folder: Path, architecture: Architecture, spec: ImageSpec) -> BackboneCard:
    from headstart.backbones.sources.measure import measured

    unknown = "unknown (local folder)"
    try:
        facts = measured(architecture, name=name, spec=spec, licence=unknown, trained_on=unknown, where=str(folder))
    except HeadstartError:
        raise
    except _NO_NETWORK as error:
        raise _no_network(folder, architecture, error) from error
    return BackboneCard(
        name=name,
        modality="image",
        architecture=facts.architecture,
        input=spec,
        feature_dim=facts.feature_dim,
        parameters=facts.parameters,
        licence=facts.licence,
        trained_on=facts.trained_on,
        weights=Weights("file", str(folder), here=True),
        gmacs=facts.gmacs,
    )
