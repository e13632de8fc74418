"""A network run in two parts: what stays frozen gives one activation per picture, the tail learns from it.

The network's own forward pass is followed with torch.fx, but no further than down to its stages: whatever belongs to
one stage is called as the module that it is. So the tail shares modules and parameters with the network, its dropout
and normalisation obey their own training flags, hooks on them are heard, and what surgery put inside a stage stays
there. Only containers of several stages are entered, and followed as they are in eval mode; the training loop leaves
them in it (training.phase).
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError
from torch.utils.flop_counter import FlopCounterMode

from headstart.backbones.backbone import Architecture, Backbone
from headstart.backbones.stages import Stage
from headstart.base.errors import DataError, did_you_mean, shown
from headstart.inputs.spec import ImageSpec

HEAD = "head"  # the border behind the last stage, where the features cross; adapt.plan calls it so too
_BATCHES = (2, 1)  # a network is followed on the first size, and must do the same on the second
_CLOSE = 1e-5  # largest difference of the features, as a share of their largest value, that may be rounding
# What foreign forward passes raise when sizes or activations are not the numbers that they expect.
_NOT_FOLLOWED = (TypeError, ValueError, LookupError, AttributeError, AssertionError, RuntimeError)


@dataclass(frozen=True, eq=False)
class Cut:
    """A network in two parts at the input of ``stage``.

    prefix: (B, S, S, 3) pixels, uint8 or float32 on the same scale, to (B, *shape); made for eval mode (see
    ``evaluating``).  frozen: the same as a Backbone whose features are the flattened activations (B, prod(shape)), so
    that runners need to know nothing of cuts.
    tail: (B, *shape) to (B, D) features; its parameters are those of ``stage`` and the stages after it, the network's
    own objects.  A tail stays on the device on which the network was when it was cut.
    apart: largest difference between tail(prefix(x)) and the whole network that was seen on random pixels, as a share
    of the largest feature; 0.0 is bit for bit.
    """

    stage: str
    shape: tuple[int, ...]
    frozen: Backbone
    prefix: nn.Module
    tail: nn.Module
    apart: float = 0.0


@dataclass(frozen=True)
class Uncut:
    """Why a network stays in one piece before ``stage``, as a clause for the user."""

    stage: str
    reason: str


def cut(backbone: Backbone, stage: str) -> Cut | None:
    """The network cut before ``stage`` (or before 'head': behind the last one), or None where that cannot be."""
    found = try_cut(backbone, stage)
    return found if isinstance(found, Cut) else None


def try_cut(backbone: Backbone, stage: str) -> Cut | Uncut:
    """``cut``, with the reason where there is none. DataError for a stage that the network has not."""
    return cuts(backbone, [stage])[stage]


def cut_for(backbone: Backbone, learning: Collection[str]) -> Cut | Uncut:
    """The latest cut before which nothing of ``learning`` (names of stages, 'head' or not) stands.

    Where the network cannot be cut right before the first stage that learns, an earlier border is taken, and the tail
    begins with stages that stay frozen.
    """
    names = [s.name for s in backbone.stages]
    first = next((i for i, name in enumerate(names) if name in learning), len(names))
    wanted = [*names, HEAD][: first + 1]
    answers = _cuts(backbone, reversed(wanted))
    latest = next(answers)
    return latest if isinstance(latest, Cut) else next((a for a in answers if isinstance(a, Cut)), latest)


def cuts(backbone: Backbone, stages: Iterable[str] | None = None) -> Mapping[str, Cut | Uncut]:
    """Stage → the cut before it, for all stages and 'head', or for those given; the network is followed once.

    Each cut has been compared with the whole network on random pixels. Modes of modules and the global generator are
    left as they were.
    """
    wanted = list(stages) if stages is not None else [*(s.name for s in backbone.stages), HEAD]
    return dict(zip(wanted, _cuts(backbone, wanted), strict=True))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Everything inside in eval mode; afterwards each module has the mode it had.

    By way of train(), where some networks (LeViT) forget what they remember in eval mode of weights that may change.
    """
    modes = [(m, m.training) for m in module.modules()]
    module.train()
    module.eval()
    try:
        yield
    finally:
        module.train()
        for m, mode in modes:
            m.training = mode


@dataclass(frozen=True)
class BorderArchitecture:
    """The first stages of another architecture; not built or saved alone."""

    inner: Architecture
    stage: str

    @property
    def name(self) -> str:
        return f"{self.inner.name} up to {self.stage}"

    @property
    def opens_with(self) -> str:
        return "headstart"

    def build(self, classes: int) -> nn.Module:
        raise DataError(f"'{self.name}' is a part of a network and is not built alone.")

    def features(self, network: nn.Module, images: Tensor) -> Tensor:
        return network(images).flatten(1)

    def config(self, spec: ImageSpec, labels: Sequence[str], feature_dim: int) -> dict[str, Any]:
        raise DataError(f"'{self.name}' is a part of a network and is not saved alone.")

    def companions(self, spec: ImageSpec) -> dict[str, dict[str, Any]]:
        return {}


# ------------------------------------------------------------------------------------------ following a forward pass


class _Whole(nn.Module):
    """What is followed: (B, 3, S, S) normalised images to (B, D)."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.network = backbone.network
        self.architecture = backbone.architecture

    def forward(self, images: Tensor) -> Tensor:
        return self.architecture.features(self.network, images)


@dataclass(frozen=True, eq=False)
class _Followed:
    """The forward pass as a graph, and what was seen on its edges.

    root: where the graph finds modules and tensors.  owners: node → numbers of the stages whose parameters it holds.
    seen: for each of _BATCHES, node → its value, a tensor as its shape.  images, whole: for the last of _BATCHES.
    """

    backbone: Backbone
    root: nn.Module
    graph: fx.Graph
    owners: Mapping[fx.Node, frozenset[int]]
    seen: Sequence[Mapping[fx.Node, Any]]
    images: Tensor
    whole: Tensor


@dataclass(frozen=True)
class _Shape:
    """What is kept of a tensor that was seen."""

    sizes: tuple[int, ...]


def _follow(backbone: Backbone) -> _Followed | str:
    """The graph of a network in eval mode, or why it cannot be followed."""
    containers = _containers(backbone.stages)
    images = [_random_images(backbone, batch) for batch in _BATCHES]
    try:
        root, graph, answers = _traced(backbone, containers, images[0])
        if not _is_same_in_training(backbone, containers, root, graph, answers):
            return f"{backbone.card.name} computes differently in training outside the modules of its stages"
        seen = [{node: _noted(value) for node, value in _run(root, graph, batch).items()} for batch in images]
        with torch.no_grad():
            whole = backbone(images[-1])
    except _NOT_FOLLOWED as error:
        first = shown(str(error).strip().partition("\n")[0])[:160]
        return f"the forward pass of {backbone.card.name} cannot be followed ({type(error).__name__}: {first})"
    return _Followed(backbone, root, graph, _owners(backbone, root, graph), seen, images[-1], whole)


def _containers(stages: Sequence[Stage]) -> frozenset[str]:
    """Names of the modules above the stages: only these are entered."""
    paths = [f"network.{prefix}".split(".") for stage in stages for prefix in stage.prefixes]
    return frozenset(".".join(path[:i]) for path in paths for i in range(len(path)))


class _Question(Exception):
    """No error: the forward pass decides something by a value, which only running the graph so far can tell."""

    def __init__(self, node: fx.Node) -> None:
        super().__init__(node.name)
        self.node = node


class _Tracer(fx.Tracer):
    """Enters containers only. ``answers``: the values by which the forward pass decides, in order, as far as known."""

    def __init__(self, containers: frozenset[str], answers: Sequence[Any]) -> None:
        super().__init__()
        self.containers = containers
        self.answers = iter(answers)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self.containers

    def to_bool(self, obj: fx.Proxy) -> bool:
        answer = self._answer(obj)
        if isinstance(answer, Tensor):
            raise TraceError("it decides by what is in the picture")
        return bool(answer)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        answer = self._answer(obj)
        if not isinstance(answer, tuple | list):
            raise TraceError("it walks over the rows of a tensor")
        return iter([self.create_proxy("call_function", operator.getitem, (obj, i), {}) for i in range(len(answer))])

    def _answer(self, obj: fx.Proxy) -> Any:
        for answer in self.answers:
            return answer
        raise _Question(obj.node)


def _traced(
    backbone: Backbone, containers: frozenset[str], images: Tensor
) -> tuple[nn.Module, fx.Graph, Sequence[Any]]:
    """(root, graph, answers) of the forward pass, decisions by sizes taken as for ``images``.

    While fx follows, calling a module means recording it. So a question ends the attempt, is answered outside, and the
    next attempt knows one answer more; an attempt takes milliseconds.
    """
    answers: list[Any] = []
    while True:
        root = _Whole(backbone).eval()  # a fresh one for each attempt: fx leaves the tensors that it met there
        try:
            return root, _attempt(root, containers, answers), answers
        except _Question as question:
            answers.append(_run(root, question.node.graph, images, last=question.node)[question.node])


def _attempt(root: nn.Module, containers: frozenset[str], answers: Sequence[Any]) -> fx.Graph:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's advice is not for users
        return _Tracer(containers, answers).trace(root)


def _is_same_in_training(
    backbone: Backbone, containers: frozenset[str], root: nn.Module, graph: fx.Graph, answers: Sequence[Any]
) -> bool:
    """Whether the graph stays what it is when the stages learn; what their modules do inside is their own affair."""
    other = _Whole(backbone).train()
    for name in containers:
        other.get_submodule(name).training = False
    try:
        learning = _attempt(other, containers, answers)
    except _Question:
        return False
    finally:
        other.eval()
    tensors = [[v for k, v in r.__dict__.items() if k.startswith("_tensor_constant")] for r in (root, other)]
    return str(graph) == str(learning) and all(torch.equal(a, b) for a, b in zip(*tensors, strict=True))


def _run(root: nn.Module, graph: fx.Graph, images: Tensor, *, last: fx.Node | None = None) -> dict[fx.Node, Any]:
    """Node → its value, for all nodes but the output, or for those that ``last`` needs."""
    needed = [n for n in graph.nodes if n.op != "output"] if last is None else _in_order(graph, _needed(last))
    telling = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in needed:
        copies[node] = telling.node_copy(node, copies.__getitem__)
    telling.output(tuple(copies.values()))
    with torch.no_grad():
        return dict(zip(needed, _module(root, telling)(images), strict=True))


def _module(root: nn.Module, graph: fx.Graph) -> nn.Module:
    return fx.GraphModule(root, graph).eval()


def _noted(value: Any) -> Any:
    return _Shape(tuple(value.shape)) if isinstance(value, Tensor) else value


def _random_images(backbone: Backbone, batch: int) -> Tensor:
    """As normalised pictures are; of the network's own device and precision."""
    size = backbone.spec.size
    values = torch.randn((batch, 3, size, size), generator=torch.Generator().manual_seed(batch))
    like = _place(backbone)
    return values.to(like.device, like.dtype)


def _place(backbone: Backbone) -> Tensor:
    """A tensor on the network's device and in its precision."""
    return next(p for p in backbone.network.parameters() if p.is_floating_point())


def _owners(backbone: Backbone, root: nn.Module, graph: fx.Graph) -> dict[fx.Node, frozenset[int]]:
    """Node → numbers of the stages of its parameters."""
    stage_of = {
        id(p): i
        for name, p in backbone.network.named_parameters()
        for i, stage in enumerate(backbone.stages)
        if stage.holds(name)
    }
    owners = {}
    for node in graph.nodes:
        held: Iterable[Any] = ()
        if node.op == "call_module":
            held = root.get_submodule(str(node.target)).parameters()
        elif node.op == "get_attr":
            held = [_attribute(root, node)]
        owners[node] = frozenset(stage_of[id(p)] for p in held if id(p) in stage_of)
    return owners


def _attribute(root: nn.Module, node: fx.Node) -> Any:
    owner, _, name = str(node.target).rpartition(".")
    return getattr(root.get_submodule(owner), name)


# ------------------------------------------------------------------------------------------------ finding the border


@dataclass(frozen=True, eq=False)
class _Border:
    """node: the one whose value crosses.  number: of the first stage behind it.

    before, after: what gives it, and what is made of it, in order.
    constants: node → what stands for its value in the tail: sizes, in which _BATCH is that of the batch.
    """

    node: fx.Node
    number: int
    before: Sequence[fx.Node]
    after: Sequence[fx.Node]
    constants: Mapping[fx.Node, Any]


class _Batch:
    """Stands for the number of pictures in a batch."""


_BATCH = _Batch()


def _border(followed: _Followed, number: int) -> _Border | str:
    """The last tensor that alone decides the features, earlier stages' parameters before it, all others behind it.

    Dropout that stands before the border in no stage is left to the tail, where its own flag decides.
    """
    graph, owners = followed.graph, followed.owners
    for node in reversed(graph.nodes):
        if not _is_per_picture(followed, node) or _ends_in_dropout(followed, node):
            continue
        before = _needed(node)
        if any(owner >= number for n in before for owner in owners[n]):
            continue
        behind = _behind(followed, node)
        if behind is None:
            continue
        after, constants = behind
        late = [n for n in _in_order(graph, after) if n.op == "call_module" and min(owners[n], default=number) < number]
        if late:
            where = str(late[0].target).removeprefix("network.")
            return f"{followed.backbone.card.name} uses '{where}' of an earlier stage behind that border"
        return _Border(node, number, _in_order(graph, before), _in_order(graph, after), constants)
    return f"more than one tensor crosses that border in {followed.backbone.card.name}"


def _is_per_picture(followed: _Followed, node: fx.Node) -> bool:
    """Whether the node makes a tensor with a row for each picture."""
    if node.op in ("output", "placeholder", "get_attr"):
        return False
    notes = [values[node] for values in followed.seen]
    return all(isinstance(n, _Shape) and n.sizes[:1] == (b,) for n, b in zip(notes, _BATCHES, strict=True))


def _needed(node: fx.Node) -> set[fx.Node]:
    """The node and everything that it is made of."""
    found, waiting = set(), [node]
    while waiting:
        here = waiting.pop()
        if here not in found:
            found.add(here)
            waiting.extend(here.all_input_nodes)
    return found


def _in_order(graph: fx.Graph, nodes: set[fx.Node]) -> list[fx.Node]:
    return [n for n in graph.nodes if n in nodes]


def _behind(followed: _Followed, border: fx.Node) -> tuple[set[fx.Node], dict[fx.Node, Any]] | None:
    """(what makes the features of the border, constants for sizes); None where that needs the pictures too."""
    output = next(n for n in followed.graph.nodes if n.op == "output")
    follows = {border}
    for node in followed.graph.nodes:
        if follows.intersection(node.all_input_nodes):
            follows.add(node)
    if output not in follows:
        return None
    found: set[fx.Node] = set()
    constants: dict[fx.Node, Any] = {}
    waiting = [output]
    while waiting:
        node = waiting.pop()
        if node in found or node is border or node in constants:
            continue
        constant = None if node in follows else _constant([values[node] for values in followed.seen])
        if constant is not None:
            constants[node] = constant[0]
            continue
        if node.op == "placeholder":
            return None
        found.add(node)
        waiting.extend(node.all_input_nodes)
    return found, constants


def _constant(values: Sequence[Any]) -> tuple[Any] | None:
    """(what stands for a value that was seen with both batch sizes,), or None where nothing can."""
    first = values[0]
    if first is None or isinstance(first, bool | int | float | str | torch.dtype | torch.device):
        if all(type(v) is type(first) and v == first for v in values):
            return (first,)
        return (_BATCH,) if tuple(values) == _BATCHES else None
    if isinstance(first, tuple | list) and all(isinstance(v, tuple | list) and len(v) == len(first) for v in values):
        parts = [_constant(part) for part in zip(*values, strict=True)]
        return (tuple(p[0] for p in parts if p),) if all(parts) else None
    return None


def _ends_in_dropout(followed: _Followed, node: fx.Node) -> bool:
    """Whether dropout of no stage stands between the last parameters before ``node`` and it."""
    while not followed.owners[node] and node.all_input_nodes:
        if node.op == "call_module":
            inside = followed.root.get_submodule(str(node.target)).modules()
            if any(isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in inside):
                return True
        node = node.all_input_nodes[0]
    return False


# ------------------------------------------------------------------------------------------------- making the parts


def _cuts(backbone: Backbone, stages: Iterable[str]) -> Iterator[Cut | Uncut]:
    """One answer for each of ``stages``."""
    names = [s.name for s in backbone.stages]
    followed: _Followed | str | None = None
    for stage in stages:
        if stage == HEAD:
            yield _at_the_end(backbone)
            continue
        if stage not in names:
            raise DataError(
                f"{backbone.card.name} has no stage '{shown(stage)}'.{did_you_mean(stage, [*names, HEAD])} "
                f"There are: {', '.join([*names, HEAD])}."
            )
        if stage == names[0]:
            yield Uncut(stage, f"'{stage}' is the first stage of {backbone.card.name}: nothing is frozen before it")
            continue
        # A network may draw numbers while it is followed; the caller's generator stays where it was.
        with evaluating(backbone), torch.random.fork_rng(devices=[]):
            followed = _follow(backbone) if followed is None else followed
            answer = Uncut(stage, followed) if isinstance(followed, str) else _cut_at(followed, stage)
        yield answer


def _at_the_end(backbone: Backbone) -> Cut:
    """Behind the last stage: the features cross, and nothing of the network is left to run."""
    with evaluating(backbone):
        prefix = backbone.from_pixels().eval().to(_place(backbone).device)
    return Cut(HEAD, (backbone.card.feature_dim,), backbone, prefix, nn.Identity())


def _cut_at(followed: _Followed, stage: str) -> Cut | Uncut:
    border = _border(followed, [s.name for s in followed.backbone.stages].index(stage))
    if isinstance(border, str):
        return Uncut(stage, border)
    found = _parts(followed, stage, border)
    with torch.no_grad():
        features = found.tail(found.frozen.network(followed.images))
    apart = float((features - followed.whole).abs().max() / followed.whole.abs().max().clamp_min(1e-30))
    if not apart <= _CLOSE:
        name = followed.backbone.card.name
        return Uncut(stage, f"{name} gives other features in two parts than in one (off by {apart:.1e})")
    return replace(found, apart=apart)


def _parts(followed: _Followed, stage: str, border: _Border) -> Cut:
    backbone = followed.backbone
    shape = tuple(followed.seen[0][border.node].sizes[1:])
    network = _module(followed.root, _prefix_graph(border))
    card = replace(
        backbone.card,
        name=f"{backbone.card.name} up to {stage}",
        architecture=f"{backbone.card.architecture} up to {stage}",
        feature_dim=math.prod(shape),
        parameters=sum(p.numel() for p in network.parameters()),
    )
    record = replace(backbone.record, notes=(*backbone.record.notes, f"up to {stage}"))
    frozen = Backbone(card, network, BorderArchitecture(backbone.architecture, stage), record)
    prefix = nn.Sequential(frozen.from_pixels(), nn.Unflatten(1, shape)).eval().to(_place(backbone).device)
    return Cut(stage, shape, frozen, prefix, _module(followed.root, _tail_graph(followed, border)))


def _prefix_graph(border: _Border) -> fx.Graph:
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in border.before:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[border.node])
    return graph


def _tail_graph(followed: _Followed, border: _Border) -> fx.Graph:
    """The graph of the tail.

    A bare parameter of a frozen stage that is needed late (a class token that joins there) is read as a buffer that
    shares its memory, so that the tail's parameters are those that may learn.
    """
    graph = fx.Graph()
    activation = graph.placeholder("activation")
    batch = graph.call_method("size", (activation, 0))
    copies: dict[fx.Node, Any] = {border.node: activation}
    for node, constant in border.constants.items():
        copies[node] = fx.node.map_aggregate(constant, lambda part: batch if part is _BATCH else part)
    for node in border.after:
        if node.op == "output":
            graph.output(copies[node.all_input_nodes[0]])
        elif node.op == "get_attr" and min(followed.owners[node], default=border.number) < border.number:
            name = f"frozen_{node.name}"
            followed.root.register_buffer(name, _attribute(followed.root, node).detach(), persistent=False)
            copies[node] = graph.get_attr(name)
        else:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    if not batch.users:
        graph.erase_node(batch)
    return graph


# ---------------------------------------------------------------------------------------------- what a cut can save


def macs_by_stage(backbone: Backbone) -> dict[str, int]:
    """Stage → multiply-adds of one picture's forward pass: convolutions and matrix products, attention's too.

    What runs between stages counts with the one before it.  The sum is the card's ``gmacs``.
    """
    counts = dict.fromkeys((s.name for s in backbone.stages), 0)
    counter = FlopCounterMode(display=False)
    meter = _Meter(counter, counts)
    modules = dict(backbone.network.named_modules())
    places = [(s.name, modules[prefix]) for s in backbone.stages for prefix in s.prefixes if prefix in modules]
    hooks = [module.register_forward_pre_hook(meter.entering(stage)) for stage, module in places]
    try:
        # The mode of no gradients would take nn.MultiheadAttention on a path whose operations are not counted.
        with evaluating(backbone), torch.enable_grad(), counter:
            backbone(_random_images(backbone, 1).requires_grad_())
            meter.credit()
    finally:
        for hook in hooks:
            hook.remove()
    return {stage: flops // 2 for stage, flops in counts.items()}


class _Meter:
    """Credits operations to the stage that was entered last."""

    def __init__(self, counter: FlopCounterMode, counts: dict[str, int]) -> None:
        self.counter, self.counts = counter, counts
        self.stage = next(iter(counts))
        self.credited = 0

    def entering(self, stage: str) -> Any:
        def hook(module: nn.Module, arguments: Any) -> None:
            self.credit()
            self.stage = stage

        return hook

    def credit(self) -> None:
        total = self.counter.get_total_flops()
        self.counts[self.stage] += total - self.credited
        self.credited = total


def step_ratio(macs: Mapping[str, int], stage: str) -> float:
    """How many times fewer operations a training step takes from activations at ``stage`` than from pixels.

    A step from pixels runs everything forward and the tail backward, which costs twice its forward. The first layer
    that learns needs no gradient of its input, which is not counted here. Infinite for 'head'.
    """
    names = list(macs)
    tail = sum(macs[name] for name in names[names.index(stage) :]) if stage != HEAD else 0
    return (sum(macs.values()) + 2 * tail) / (3 * tail) if tail else math.inf
