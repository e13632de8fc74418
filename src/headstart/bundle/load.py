"""Open a model folder safely.

Nothing of the folder is opened before its hashes have been compared; nothing in it can name code, a path outside, or
another loader. The network is built by name from its own library and filled with tensors, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.adapt.heads.head import LinearHead
from headstart.backbones.card import BackboneCard, Weights
from headstart.base.errors import BundleError, DataError, Refused, did_you_mean, listed, shown
from headstart.bundle.manifest import (
    CONFIG,
    LABELS,
    MANIFEST,
    TOKENIZER,
    WEIGHTS,
    Manifest,
    open_plain_file,
    read_json_file,
    read_manifest,
)
from headstart.bundle.predictor import FLOAT32, Predictor
from headstart.bundle.save import moved_aside
from headstart.inputs.spec import AudioSpec, TextSpec, modality_of

if TYPE_CHECKING:
    from torch import Tensor

    from headstart.backbones.backbone import Architecture, Backbone
    from headstart.bundle.mixed_predictor import MixedPredictor


def load(
    folder: Path | str, *, device: str = "auto", precision: str | None = None, verify: bool = True
) -> Predictor | MixedPredictor:
    """The saved model of a run folder ('runs/first') or a model folder ('runs/first/model').

    precision: None runs the network as it was run for the evaluation, where this machine can, else in float32;
    'float32' always does the latter; the name of a runner ('openvino-bf16') asks for that one.
    verify: compare the SHA-256 of every file first. Without it the predictor says ``verified = False``.
    Raises DataError (no model there), BundleError (not what was saved), CheckpointMismatch.
    """
    if precision is not None and not precision.startswith(("float32", "torch-", "openvino-")):
        raise DataError(
            f"no precision '{shown(precision)}'. Give 'float32', the name of a runner such as 'openvino-bf16' or "
            "'torch-f32-nhwc', or None to run the network as it was run for the evaluation."
        )
    folder = find_model(Path(folder))
    manifest = read_manifest(folder, verify=verify)
    if manifest.blocks:
        from headstart.bundle.mixed import load_mixed

        return load_mixed(folder, manifest, device=device, precision=precision, verify=verify)
    _check_agreement(folder, manifest)
    state = _tensors(folder)
    head = _take_head(folder, manifest, state)
    backbone = _network(folder, manifest, state)
    return Predictor(
        manifest,
        backbone,
        head,
        verified=verify,
        device=device,
        runner=FLOAT32 if precision == "float32" else precision,
    )


def find_model(path: Path) -> Path:
    """The folder with bundle.json that ``path`` means; DataError with the nearest one otherwise."""
    for candidate in (path, path / "model", moved_aside(path), moved_aside(path / "model")):
        if (candidate / MANIFEST).is_file():
            return candidate
    if not path.exists():
        near = did_you_mean(path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else [])
        raise DataError(f"no such folder: {shown(path)}.{near} Give the folder of a run, or its 'model' folder.")
    if path.is_file():
        raise DataError(f"{shown(path)} is a file; give the folder that holds {MANIFEST}.")
    below = sorted(str(p.parent) for p in _manifests_below(path))
    hint = f" There is one in {listed(below)}." if below else ""
    raise DataError(
        f"{shown(path)} holds no saved model (no {MANIFEST} in it or in its 'model' folder).{hint} "
        "A model is written by: headstart fit DATA --out FOLDER"
    )


def _manifests_below(path: Path) -> Iterator[Path]:
    for pattern in (f"*/{MANIFEST}", f"*/model/{MANIFEST}"):
        yield from path.glob(pattern)


def _check_agreement(folder: Path, manifest: Manifest) -> None:
    """labels.json and config.json must tell the same story as the manifest: other programs believe them."""
    labels, config = read_json_file(folder, LABELS), read_json_file(folder, CONFIG)
    if labels != list(manifest.labels):
        raise BundleError(f"CK25 {shown(folder / LABELS)} and {MANIFEST} name different labels. Refused.")
    if not isinstance(config, dict):
        raise BundleError(f"CK25 {shown(folder / CONFIG)}: expected a table of keys.")


def _tensors(folder: Path) -> dict[str, Tensor]:
    from headstart.backbones.formats import safetensors_file

    try:
        return safetensors_file.read(folder / WEIGHTS)
    except Refused as error:
        raise BundleError(f"{error} ({shown(folder)})") from error


def _take_head(folder: Path, manifest: Manifest, state: dict[str, Tensor]) -> LinearHead:
    """The classifier's tensors, taken out of ``state``."""
    where, outputs, width = shown(folder / WEIGHTS), len(manifest.labels), manifest.backbone.feature_dim
    names = (manifest.head.weight, manifest.head.bias)
    missing = [name for name in names if name not in state]
    if missing:
        raise BundleError(f"CK11 {where} has no tensor {listed(missing)}, which {MANIFEST} names as the head.")
    weight, bias = (state.pop(name).double().numpy() for name in names)
    if weight.size != outputs * width or bias.size != outputs:
        raise BundleError(
            f"CK11 {where}: the head has weights {weight.shape} and bias {bias.shape}; "
            f"{outputs} labels on {width} features need ({outputs}, {width}) and ({outputs},)."
        )
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise BundleError(f"CK10 {where}: the head holds NaN or infinity. Refused.")
    return LinearHead(weight.reshape(outputs, width), bias.reshape(outputs))


def _network(folder: Path, manifest: Manifest, state: dict[str, Tensor]) -> Backbone:
    import torch

    from headstart.backbones.backbone import Backbone, build_seeded

    architecture = _architecture(folder, manifest)
    with torch.device("meta"):  # names and shapes first: a network that does not fit is never allocated
        _check_fits(architecture.build(0).state_dict(), state, where=shown(folder / WEIGHTS))
    network = build_seeded(architecture, 0)
    network.load_state_dict(state)
    facts = manifest.backbone
    card = BackboneCard(
        name=facts.name,
        modality=modality_of(manifest.input),
        architecture=facts.architecture,
        input=manifest.input,
        feature_dim=facts.feature_dim,
        parameters=facts.parameters,
        licence=facts.licence,
        trained_on=facts.trained_on,
        weights=Weights("file", WEIGHTS, here=True, sha256=manifest.files[WEIGHTS].sha256),
    )
    return Backbone(card, network, architecture, facts)


def _check_fits(places: Mapping[str, Tensor], state: Mapping[str, Tensor], *, where: str) -> None:
    odd = sorted(places.keys() ^ state.keys())
    odd += sorted(name for name in places.keys() & state.keys() if places[name].shape != state[name].shape)
    if odd:
        raise BundleError(
            f"CK11 {where} does not fit the network that its config names: {len(odd)} of {len(places)} tensors are "
            f"missing, unknown or of another shape ({listed(odd)})."
        )


def _architecture(folder: Path, manifest: Manifest) -> Architecture:
    """How the library named by ``opens_with`` builds the network; from plain settings of config.json only."""
    where = shown(folder / CONFIG)
    try:
        if isinstance(manifest.input, TextSpec):
            return _reads_texts(folder, manifest, manifest.input, where)
        if isinstance(manifest.input, AudioSpec):
            return _hears(folder, manifest, manifest.input, where)
        return _built_by(manifest.opens_with, read_json_file(folder, CONFIG), where)
    except Refused as error:
        raise BundleError(str(error)) from error
    except DataError as error:
        raise BundleError(f"CK25 {error}") from error


def _reads_texts(folder: Path, manifest: Manifest, spec: TextSpec, where: str) -> Architecture:
    from headstart.backbones.sources import text_transformers, words
    from headstart.inputs.text import digest

    with open_plain_file(folder, TOKENIZER) as file:
        tokenizer = file.read().decode("utf-8", "replace")
    if digest(tokenizer) != spec.tokenizer:
        raise DataError(f"{shown(folder / TOKENIZER)} is not the tokenizer that the model was made with.")
    config = read_json_file(folder, CONFIG)
    if manifest.opens_with == "headstart" and isinstance(config, Mapping) and config.get("kind") == "words":
        return words.architecture_from(config, tokenizer, where=where)
    if manifest.opens_with != "transformers" or not isinstance(config, Mapping):
        raise DataError(f"{where}: networks of '{manifest.opens_with}' for texts cannot be built by this headstart.")
    return text_transformers.architecture_from(config, tokenizer, where=where)


def _hears(folder: Path, manifest: Manifest, spec: AudioSpec, where: str) -> Architecture:
    from headstart.backbones import layers
    from headstart.backbones.sources import audio_transformers, voice

    config = read_json_file(folder, CONFIG)
    kind = config.get("kind") if isinstance(config, Mapping) and manifest.opens_with == "headstart" else None
    if kind == voice.KIND:
        return voice.architecture_for(spec, where=where)
    plain = config.get("inner") if isinstance(config, Mapping) and kind == layers.KIND else config
    if not (kind == layers.KIND or manifest.opens_with == "transformers") or not isinstance(plain, Mapping):
        raise DataError(f"{where}: networks of '{manifest.opens_with}' for sounds cannot be built by this headstart.")
    architecture = audio_transformers.architecture_from(plain, where=where)
    if (architecture.name == "whisper") != (spec.form == "log-mel"):
        raise DataError(f"{where}: a network of the kind '{architecture.name}' is not fed with '{spec.form}'.")
    return layers.architecture_from(architecture, config.get("changes"), where=where) if kind else architecture


def _built_by(library: object, config: Any, where: str) -> Architecture:
    """By a library, or by one of them with changes of ours on top, which may lie on each other."""
    from headstart.adapt import grown
    from headstart.backbones import columns, graph, restructure
    from headstart.backbones.sources import image_text, timm, torchvision, transformers

    if not isinstance(config, Mapping):
        raise DataError(f"{where}: expected a table of keys.")
    libraries: dict[str, Callable[..., Architecture]] = {
        "timm": timm.architecture_from,
        "torchvision": torchvision.architecture_from,
        "transformers": transformers.architecture_from,
    }
    ours: dict[str, Callable[..., Architecture]] = {
        "structure": restructure.architecture_from,
        "grown": grown.architecture_from,
    }
    if library in libraries:
        return libraries[str(library)](config, where=where)
    whole: dict[str, Callable[..., Architecture]] = {
        "columns": columns.architecture_from,
        image_text.KIND: image_text.architecture_from,
        "graph": graph.architecture_from,
    }
    if library != "headstart" or config.get("kind") not in (*ours, *whole):
        what = library if library != "headstart" else f"headstart, {config.get('kind')}"
        raise DataError(f"{where}: networks of '{shown(what)}' cannot be built by this headstart.")
    if config["kind"] in whole:
        return whole[config["kind"]](config, where=where)
    inner = _built_by(config.get("inner_library"), config.get("inner"), where)
    return ours[str(config["kind"])](inner, config.get("changes"), where=where)
