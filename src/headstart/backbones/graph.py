"""Networks that were stored as a graph of operations, made into modules that learn, freeze and convert like any other.

A ``Graph`` is plain values (see ``graph_ops``), so a saved model states it in config.json and needs nothing of the
program that the network came from. Its stages are cut where one single value crosses and the map has become smaller.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from headstart.backbones import graph_ops
from headstart.backbones.graph_ops import OPS, Layout, Number, Op, Weight
from headstart.base.config import from_dict, to_dict
from headstart.base.errors import DataError, shown
from headstart.inputs.spec import ImageSpec

OUTPUT = "headstart_output"  # as restructure calls it: the layer that gives the answers
FEWEST_STAGES, MOST_STAGES = 4, 6
_LIGHT = 1000  # a first stage has at least so small a part of all weights
_MOST_NODES = 20_000
# What torch raises where sizes do not fit each other.
_DOES_NOT_FIT = (RuntimeError, ValueError, TypeError, IndexError, LookupError)
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """inputs: names of nodes before it; 'name:1' is the second output of a Split."""

    name: str
    op: Op
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """Pictures to features.

    name: of the file it came from.  input: what nodes call the pictures, in ``layout``.  nodes: each after its inputs.
    output: whose value gives the features; the mean over ``pooled`` axes of it, which are none for a vector.
    borders: positions in ``nodes`` at which a new stage begins.
    """

    name: str
    input: str
    layout: Layout
    nodes: tuple[Node, ...]
    output: str
    pooled: tuple[int, ...]
    borders: tuple[int, ...]

    def parts(self) -> list[tuple[Node, ...]]:
        return [self.nodes[a:b] for a, b in pairwise((0, *self.borders, len(self.nodes)))]


# -- the network -------------------------------------------------------------------------------------------------------


class GraphStage(nn.Module):
    """Neighbouring nodes of a graph: what crosses into them to what crosses out of them.

    One tensor is passed as it is, several as a tuple, the latest first.
    """

    def __init__(self, nodes: Sequence[Node], first: int, takes: Sequence[str], gives: Sequence[str]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({layer_name(first + i): node.op.layer() for i, node in enumerate(nodes)})
        self.nodes = tuple(nodes)
        self.takes = tuple(takes)
        self.gives = tuple(gives)
        self.dead = _last_uses(self.nodes, self.gives)

    def forward(self, given: Any) -> Any:
        values = dict(zip(self.takes, given if isinstance(given, tuple) else (given,), strict=True))
        for node, layer, dead in zip(self.nodes, self.layers.values(), self.dead, strict=True):
            _note(values, node.name, layer(*(values[i] for i in node.inputs)))
            for name in dead:  # a map of 512 × 512 pixels is not kept for the rest of the pass
                values.pop(name, None)
        found = tuple(values[name] for name in self.gives)
        return found[0] if len(found) == 1 else found


class GraphNetwork(nn.Module):
    """(B, 3, S, S) pictures to (B, D) features, or with ``classes`` to (B, classes)."""

    def __init__(self, graph: Graph, width: int, classes: int) -> None:
        super().__init__()
        parts, crossing = graph.parts(), crossings(graph)
        firsts = (0, *graph.borders)
        self.stages = nn.ModuleList(
            GraphStage(part, first, crossing[i], crossing[i + 1])
            for i, (part, first) in enumerate(zip(parts, firsts, strict=True))
        )
        self.channels_last = graph.layout == "NHWC"
        self.pooled = graph.pooled
        if classes:
            self.add_module(OUTPUT, nn.Linear(width, classes))
        self.classes = classes

    def forward(self, images: Tensor) -> Tensor:
        value: Any = images.permute(0, 2, 3, 1) if self.channels_last else images
        for stage in self.stages:
            value = stage(value)
        features: Tensor = value.mean(dim=self.pooled) if self.pooled else value
        return self.get_submodule(OUTPUT)(features) if self.classes else features


@dataclass(frozen=True)
class GraphArchitecture:
    """A graph as one of our architectures. width: D, of its features."""

    graph: Graph
    width: int

    @property
    def name(self) -> str:
        return f"{self.graph.name} up to {self.graph.output}"

    @property
    def opens_with(self) -> str:
        return "headstart"

    def build(self, classes: int) -> nn.Module:
        return GraphNetwork(self.graph, self.width, classes)

    def features(self, network: nn.Module, images: Tensor) -> Tensor:
        found: Tensor = network(images)
        return found

    def config(self, spec: ImageSpec, labels: Sequence[str], feature_dim: int) -> dict[str, Any]:
        return {
            "library": "headstart",
            "kind": "graph",
            "num_classes": len(labels),
            "num_features": feature_dim,
            "label_names": list(labels),
            "width": self.width,
            "graph": plain(self.graph),
        }

    def companions(self, spec: ImageSpec) -> dict[str, dict[str, Any]]:
        return {}


# -- as plain values ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plain:
    """A node as config.json states it."""

    name: str
    op: str
    inputs: tuple[str, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class _PlainGraph:
    name: str
    input: str
    layout: Literal["NHWC", "NCHW"]
    nodes: tuple[_Plain, ...]
    output: str
    pooled: tuple[int, ...]
    borders: tuple[int, ...]


def plain(graph: Graph) -> dict[str, Any]:
    words = {kind: word for word, kind in OPS.items()}
    nodes = [
        {"name": n.name, "op": words[type(n.op)], "inputs": list(n.inputs), "settings": to_dict(n.op)}
        for n in graph.nodes
    ]
    return {**to_dict(replace(graph, nodes=())), "nodes": nodes}


def architecture_from(config: Mapping[str, Any], *, where: str) -> GraphArchitecture:
    """What ``config`` wrote; DataError where it states no graph that can be run."""
    found = from_dict(_PlainGraph, config.get("graph"), where=f"{where}, graph")
    width = config.get("width")
    if type(width) is not int or not 0 < width <= 2**20 or len(found.nodes) > _MOST_NODES:
        raise DataError(f"{where}: no graph of a network of {shown(width)} features.")
    nodes = tuple(Node(n.name, _op(n, where), n.inputs) for n in found.nodes)
    graph = Graph(found.name, found.input, found.layout, nodes, found.output, found.pooled, found.borders)
    _check_order(graph, where)
    architecture = GraphArchitecture(graph, width)
    try:
        with torch.device("meta"):
            architecture.build(0)
    except _DOES_NOT_FIT as error:
        raise DataError(f"{where}: its graph cannot be built ({shown(error)[:120]}).") from error
    return architecture


def _op(node: _Plain, where: str) -> Op:
    if node.op not in OPS:
        raise DataError(f"{where}: node '{shown(node.name)}' asks for '{shown(node.op)}', which is none of ours.")
    op: Op = from_dict(OPS[node.op], node.settings, where=f"{where}, node '{shown(node.name)}'")
    return op


def _check_order(graph: Graph, where: str) -> None:
    """DataError unless each node comes once and after its inputs, and borders are positions in order."""
    known = {graph.input}
    for node in graph.nodes:
        strange = [i for i in node.inputs if base(i) not in known]
        if strange or node.name in known:
            what = f"has an input '{shown(strange[0])}' that is not before it" if strange else "is there twice"
            raise DataError(f"{where}: node '{shown(node.name)}' {what}.")
        known.add(node.name)
    inside = all(a < b for a, b in pairwise((0, *graph.borders, len(graph.nodes))))
    if base(graph.output) not in known or graph.output == graph.input or not inside:
        raise DataError(f"{where}: its graph has no output '{shown(graph.output)}', or stages without nodes.")


# -- what a graph computes ---------------------------------------------------------------------------------------------


def base(value: str) -> str:
    """The node of a value: 'split' of 'split:1'."""
    name, colon, number = value.rpartition(":")
    return name if colon and number.isdigit() else value


def layer_name(position: int) -> str:
    return f"{position:03d}"


def crossings(graph: Graph) -> list[list[str]]:
    """For the beginning, each border and the end: the values that are made before and used behind, the latest first."""
    made = {graph.input: -1} | {name: i for i, node in enumerate(graph.nodes) for name in outputs_of(node)}
    last: dict[str, int] = {graph.output: len(graph.nodes)}
    for i, node in enumerate(graph.nodes):
        for name in node.inputs:
            last[name] = max(i, last.get(name, -1))
    places = (0, *graph.borders, len(graph.nodes))
    return [sorted((n for n, i in last.items() if made[n] < p <= i), key=lambda n: -made[n]) for p in places]


def outputs_of(node: Node) -> list[str]:
    more = len(node.op.sizes) if isinstance(node.op, graph_ops.Split) else 1
    return [node.name, *(f"{node.name}:{i}" for i in range(1, more))]


def pruned(nodes: Mapping[str, Node], outputs: Sequence[str]) -> tuple[Node, ...]:
    """The nodes that ``outputs`` need, each after its inputs and as late as the one that first asks for it allows."""
    order: list[Node] = []
    seen: set[str] = set()
    waiting = [(base(name), False) for name in reversed(outputs)]
    while waiting:
        name, is_ready = waiting.pop()
        if name not in nodes or (name in seen and not is_ready):
            continue
        if is_ready:
            order.append(nodes[name])
            continue
        seen.add(name)
        waiting.append((name, True))
        inputs = [base(i) for i in reversed(nodes[name].inputs)]
        # Constants right before who reads them: as early as the pictures they would cross from stage to stage.
        inputs.sort(key=lambda i: i not in nodes or bool(nodes[i].inputs))
        waiting.extend((i, False) for i in inputs)
    return tuple(order)


def shapes_of(nodes: Sequence[Node], input_: str, shape: Shape) -> dict[str, Shape]:
    """Value → its shape for two pictures of that shape; without those that depend on what cannot be computed.

    shape: of one picture in the layout of the graph.  On torch's meta device, so that no number is computed.
    """
    with torch.device("meta"), torch.no_grad():
        values: dict[str, Tensor] = {input_: torch.zeros(2, *shape)}
        for node in nodes:
            if all(i in values for i in node.inputs):
                try:
                    _note(values, node.name, node.op.layer()(*(values[i] for i in node.inputs)))
                except _DOES_NOT_FIT:
                    continue  # boxes and lists of a detector, for one picture only; they are not looked for
    return {name: tuple(value.shape) for name, value in values.items()}


def _note(values: dict[str, Any], name: str, found: Any) -> None:
    if isinstance(found, tuple):
        values.update({f"{name}:{i}" if i else name: value for i, value in enumerate(found)})
    else:
        values[name] = found


def _last_uses(nodes: Sequence[Node], gives: Sequence[str]) -> list[list[str]]:
    """For each node the values that nobody asks for after it."""
    last = {name: i for i, node in enumerate(nodes) for name in (*outputs_of(node), *node.inputs)}
    dead: list[list[str]] = [[] for _ in nodes]
    for name, i in last.items():
        if name not in gives:
            dead[i].append(name)
    return dead


# -- which map gives the features --------------------------------------------------------------------------------------


def has_channels_last(shape: Shape, layout: Layout) -> bool:
    """Of a map (B, …): graphs may turn their maps round between layers, but those of square pictures are square."""
    _, a, b, c = shape
    return layout == "NHWC" if (a == b) == (b == c) else a == b


def sides_of(shape: Shape, layout: Layout) -> tuple[int, int] | None:
    """(places, channels) of a map; None for what is none, or a map of one place."""
    if len(shape) != 4:
        return None
    *places, channels = shape[1:] if has_channels_last(shape, layout) else (*shape[2:], shape[1])
    return (math.prod(places), channels) if math.prod(places) > 1 else None


def axes_of(shape: Shape, layout: Layout) -> tuple[int, ...] | None:
    """The axes of a map that are averaged over, () for a vector for each picture; None for anything else."""
    if len(shape) == 4:
        return (1, 2) if has_channels_last(shape, layout) else (2, 3)
    return () if len(shape) == 2 else None


def deepest_map(nodes: Mapping[str, Node], shapes: Mapping[str, Shape], input_: str, layout: Layout) -> str | None:
    """The map whose mean is the features: the last wide one at the lowest resolution that all behind it goes through.

    nodes: also those that are not understood, for what they read.  A detector's pyramid goes up again from there, a
    classifier averages it; what is half as wide as the widest such map, or less, begins a head.
    """
    sides = {name: found for name in nodes if (found := sides_of(shapes.get(name, ()), layout))}
    before = _ancestors(nodes)
    sides = {name: found for name, found in sides.items() if input_ in before[name]}
    if not sides:
        return None
    fewest = min(places for places, _ in sides.values())
    low = {name for name, (places, _) in sides.items() if places == fewest}
    readers: dict[str, set[str]] = {name: set() for name in nodes}
    for node in nodes.values():
        for name in {base(i) for i in node.inputs} & readers.keys():
            readers[name].add(node.name)
    narrow = [
        name
        for name in nodes
        if name in low and all(readers[u] <= before[name] | {name} for u in low & before[name] if u != name)
    ]
    widest = max((sides[name][1] for name in narrow), default=0)
    return next((name for name in reversed(narrow) if 2 * sides[name][1] >= widest), None)


def _ancestors(nodes: Mapping[str, Node]) -> dict[str, set[str]]:
    """Name → all that it is made of. nodes: each after its inputs, but for loops, which have no maps of ours."""
    before: dict[str, set[str]] = {}
    for node in nodes.values():
        names = {base(i) for i in node.inputs}
        before[node.name] = names.union(*(before.get(n, set()) for n in names))
    return before


# -- stages ------------------------------------------------------------------------------------------------------------


def with_stages(graph: Graph, shapes: Mapping[str, Shape]) -> Graph:
    """The graph with four to six stages that begin where the map becomes smaller and one single value crosses.

    Where there are fewer such places the stage with most weights is halved; where there are more, the one with fewest
    joins its neighbour. A graph that offers no other place keeps fewer stages.
    """
    free = _single_crossings(graph)
    weights = _weights_before(graph)
    borders: list[int] = []
    fewest = math.inf
    for i, node in enumerate(graph.nodes):
        found = sides_of(shapes.get(node.name, ()), graph.layout)
        if found is not None and found[0] < fewest:
            fewest = found[0]
            borders.extend(b for b in [max((p for p in free if p <= i), default=0)] if b not in borders)
    borders = [b for b in sorted(borders) if weights[-1] < _LIGHT * weights[b] < _LIGHT * weights[-1]]
    borders = [b for a, b in pairwise([0, *borders]) if weights[b] > weights[a]]
    while len(borders) + 1 < FEWEST_STAGES and (more := _halving(free, borders, weights)) is not None:
        borders = sorted([*borders, more])
    while len(borders) + 1 > MOST_STAGES:
        borders.remove(_lightest(borders, weights))
    return replace(graph, borders=tuple(borders))


def _single_crossings(graph: Graph) -> list[int]:
    """Positions at which exactly one value crosses, in order."""
    everywhere = replace(graph, borders=tuple(range(1, len(graph.nodes))))
    found = crossings(everywhere)
    constants = {n.name for n in graph.nodes if isinstance(n.op, Number | Weight)}
    return [i for i, names in enumerate(found[:-1]) if len(names) == 1 and names[0] not in constants]


def _weights_before(graph: Graph) -> list[int]:
    """For each position the number of weights in front of it, and at the end that of all."""
    total = [0]
    with torch.device("meta"):
        for node in graph.nodes:
            total.append(total[-1] + sum(p.numel() for p in node.op.layer().parameters()))
    return total


def _halving(free: Sequence[int], borders: Sequence[int], weights: Sequence[int]) -> int | None:
    """The free position that leaves the least in the larger part of any stage; None where none divides one."""
    gains = []
    for a, b in pairwise((0, *borders, len(weights) - 1)):
        inside = [p for p in free if a < p < b and weights[a] < weights[p] < weights[b]]
        for p in inside:
            gains.append((min(weights[p] - weights[a], weights[b] - weights[p]), -p))
    return -max(gains)[1] if gains else None


def _lightest(borders: Sequence[int], weights: Sequence[int]) -> int:
    """The border whose fall joins the two neighbours with the fewest weights together."""
    ends = (0, *borders, len(weights) - 1)
    return min((weights[ends[i + 1]] - weights[ends[i - 1]], b) for i, b in enumerate(borders, start=1))[1]


# -- fresh weights -----------------------------------------------------------------------------------------------------


def with_spreads(graph: Graph, spec: ImageSpec) -> Graph:
    """The graph with such spreads of fresh weights that each layer gives values of standard deviation 1.

    Normalisations are folded into the weights of these graphs, so nothing else keeps the values of fifty fresh layers
    from vanishing or overflowing. LSUV, Mishkin and Matas 2016 (arXiv:1511.06422), without its orthogonal start;
    on pictures of random colours, the same on every machine.
    """
    nodes = []
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        colours = nn.functional.interpolate(torch.rand(4, 3, 8, 8), size=(spec.size, spec.size), mode="bilinear")
        images = (colours - torch.tensor(spec.mean).view(3, 1, 1)) / torch.tensor(spec.std).view(3, 1, 1)
        values: dict[str, Tensor] = {graph.input: images.permute(0, 2, 3, 1) if graph.layout == "NHWC" else images}
        for node, dead in zip(graph.nodes, _last_uses(graph.nodes, [graph.output]), strict=True):
            found = node.op.layer()(*(values[i] for i in node.inputs))
            op = node.op
            if isinstance(op, graph_ops.Conv | graph_ops.Dense):
                times = 1 / max(float(found.std()), 1e-12)
                op, found = replace(op, spread=float(f"{op.spread * times:.3g}")), found * times
            _note(values, node.name, found)
            nodes.append(replace(node, op=op))
            for name in dead:
                values.pop(name, None)
    return replace(graph, nodes=tuple(nodes))


def parameters_of(graph: Graph) -> Iterator[tuple[str, str]]:
    """(node, prefix of its tensors in the network's state dict)."""
    for stage, (part, first) in enumerate(zip(graph.parts(), (0, *graph.borders), strict=True)):
        for i, node in enumerate(part):
            yield node.name, f"stages.{stage}.layers.{layer_name(first + i)}."
