"""What the operations of TensorFlow mean in ours: one small function each, and a table of them.

An operation that is not in the table, or whose settings are computed instead of stated, becomes ``NotUnderstood``: that
is no error as long as nothing that is wanted depends on it, as in the boxes that a detector makes of its maps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from headstart.backbones.formats.tfjs import TfjsFile, TfNode
from headstart.backbones.graph import Node
from headstart.backbones.graph_ops import (
    Concat,
    Conv,
    Dense,
    Expand,
    Leaky,
    Number,
    Op,
    Pad,
    Plain,
    Pool,
    Reduce,
    Reshape,
    Resize,
    Split,
    Squeeze,
    Transpose,
    Weight,
)

if TYPE_CHECKING:
    from torch import nn


class _Puzzled(Exception):
    """Why a node is not understood, as a clause."""


@dataclass(frozen=True)
class NotUnderstood:
    """Stands for an operation that is not translated. op: TensorFlow's name.  why: a clause."""

    op: str
    why: str

    def layer(self) -> nn.Module:
        raise LookupError(self.why)


@dataclass(frozen=True, eq=False)
class Translated:
    """nodes: name → our node, for every node of the file but constants and inputs, each after its inputs.

    tensors: name of a node → its weights by their names in its layer.
    """

    nodes: Mapping[str, Node]
    tensors: Mapping[str, Mapping[str, np.ndarray]]


@dataclass(eq=False)
class _Work:
    """A node under translation. file: where it came from; made, tensors: what becomes of it."""

    node: TfNode
    file: TfjsFile
    made: list[Node] = field(default_factory=list)
    tensors: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def add(self, op: Op, inputs: Sequence[str], name: str = "", **tensors: np.ndarray) -> str:
        """A node of ours; its name, that of TensorFlow's node unless another one is given."""
        name = name or self.node.name
        self.made.append(Node(name, op, tuple(inputs)))
        if tensors:
            self.tensors[name] = tensors
        return name

    def value(self, index: int, *, fresh: float | None = None) -> str:
        """The name of an input; of a constant that is a number or a weight a node of its own.

        fresh: what a weight begins with where it is not loaded; None: its mean.
        """
        name = self.input(index)
        array = self.file.arrays.get(name)
        if array is None:
            return name
        if array.ndim == 0 and np.isfinite(array):  # one for each reader, so that none crosses from stage to stage
            return self.add(Number(float(array)), (), f"{self.node.name}/{index}")
        if array.dtype != np.float32 or array.ndim == 0:
            raise _Puzzled("computes with whole or infinite numbers")
        return self.weight(name, array, _short(array.mean()) if fresh is None else fresh)

    def weight(self, name: str, array: np.ndarray, fresh: float) -> str:
        return self.add(Weight(array.shape, fresh), (), name, weight=array)

    def array(self, index: int) -> np.ndarray:
        """A constant input; what is computed is not understood."""
        found = self.file.arrays.get(self.input(index))
        if found is None:
            raise _Puzzled("computes what others state")
        return found

    def ints(self, index: int) -> tuple[int, ...]:
        return tuple(int(n) for n in self.array(index).reshape(-1))

    def input(self, index: int) -> str:
        if not -len(self.node.inputs) <= index < len(self.node.inputs):
            raise _Puzzled("lacks an input")
        return self.node.inputs[index]

    def attribute(self, name: str, default: Any = None) -> Any:
        found = self.node.attributes.get(name)
        return default if found is None else found


def translate(file: TfjsFile) -> Translated:
    """All operations of a file in ours, as far as they are understood."""
    nodes: dict[str, Node] = {}
    tensors: dict[str, Mapping[str, np.ndarray]] = {}
    for node in file.nodes.values():
        if node.op in ("Const", "Placeholder"):
            continue
        work = _Work(node, file)
        try:
            _TABLE.get(node.op, _unknown)(work)
        except _Puzzled as puzzle:
            work = _Work(node, file)
            work.add(NotUnderstood(node.op, str(puzzle)), [i for i in node.inputs if i not in file.arrays])
        nodes |= {made.name: made for made in work.made}
        tensors |= work.tensors
    return Translated(nodes, tensors)


def _unknown(work: _Work) -> NoReturn:
    raise _Puzzled("is not an operation that is read here")


# -- layers with weights -----------------------------------------------------------------------------------------------


def _conv(work: _Work) -> None:
    kernel = _kernel(work)
    high, wide, into, out = kernel.shape
    _add_conv(work, kernel.transpose(3, 2, 0, 1), (into, out), (high, wide), groups=1)


def _depthwise(work: _Work) -> None:
    kernel = _kernel(work)
    high, wide, into, times = kernel.shape
    weight = kernel.transpose(2, 3, 0, 1).reshape(into * times, 1, high, wide)
    _add_conv(work, weight, (into, into * times), (high, wide), groups=into)


def _kernel(work: _Work) -> np.ndarray:
    kernel = work.array(1)
    if kernel.ndim != 4 or kernel.dtype != np.float32 or not kernel.size:
        raise _Puzzled("has weights that are those of no convolution")
    return kernel


def _add_conv(work: _Work, weight: np.ndarray, widths: tuple[int, int], kernel: tuple[int, int], groups: int) -> None:
    layout = _layout(work)
    stride, dilation = _sides(work, "strides", layout), _sides(work, "dilations", layout)
    bias, rest = _bias(work, widths[1])
    conv = Conv(
        *(*widths, kernel, stride, dilation, groups),
        padding=_padding(work, layout),
        has_bias=bias is not None,
        spread=1.0,
        layout=layout,
    )
    tensors = {"conv.weight": weight} | ({} if bias is None else {"conv.bias": bias})
    _add_fused(work, conv, tensors, rest)


def _dense(work: _Work) -> None:
    matrix = work.array(1)
    if matrix.ndim != 2 or matrix.dtype != np.float32 or work.attribute("transpose_a", False):
        raise _Puzzled("multiplies two values")
    weight = matrix if work.attribute("transpose_b", False) else matrix.T
    out, into = weight.shape
    bias, rest = _bias(work, out)
    tensors = {"weight": weight} | ({} if bias is None else {"bias": bias})
    _add_fused(work, Dense(into, out, bias is not None, spread=1.0), tensors, rest)


def _bias(work: _Work, width: int) -> tuple[np.ndarray | None, list[tuple[str, int]]]:
    """(the bias that is fused in, what else is fused in and where its own input stands)."""
    words = list(work.attribute("fused_ops", []))
    if not words or words[0] != "BiasAdd":
        return None, [(word, 2 + i) for i, word in enumerate(words)]
    bias = work.array(2)
    if bias.dtype != np.float32 or bias.size != width:
        raise _Puzzled("has a bias of another width")
    return bias.reshape(-1), [(word, 3 + i) for i, word in enumerate(words[1:])]


def _add_fused(work: _Work, op: Op, tensors: Mapping[str, np.ndarray], rest: Sequence[tuple[str, int]]) -> None:
    """The layer and, behind it, its activation. Without one the layer has the name of TensorFlow's node."""
    if len(rest) > 1 or any(word not in _FUSED for word, _ in rest):
        raise _Puzzled(f"is fused with {' and '.join(word for word, _ in rest)}")
    name = work.add(op, [work.input(0)], f"{work.node.name}/before" if rest else "", **tensors)
    for word, index in rest:
        if word == "Prelu":
            work.add(Plain("prelu"), [name, work.value(index)])
        elif word == "LeakyRelu":
            work.add(Leaky(float(work.attribute("leakyrelu_alpha", 0.2))), [name])
        else:
            work.add(Plain(_FUNCTIONS[word]), [name])


def _norm(work: _Work) -> None:
    """A normalisation with fixed statistics is a scale and a shift; both learn, the statistics are in them."""
    if work.attribute("is_training", False) or _layout(work) != "NHWC":
        raise _Puzzled("normalises by the batch, or in another layout")
    scale, offset, mean, variance = (work.array(i) for i in (1, 2, 3, 4))
    factor = scale / np.sqrt(variance + np.float32(work.attribute("epsilon", 1e-4)))
    name = work.node.name
    scale_by = work.weight(f"{name}/factor", factor.astype(np.float32), 1.0)
    scaled = work.add(Plain("multiply"), [work.input(0), scale_by], f"{name}/scaled")
    shift_by = work.weight(f"{name}/shift", (offset - mean * factor).astype(np.float32), 0.0)
    work.add(Plain("add"), [scaled, shift_by])


# -- layers without weights --------------------------------------------------------------------------------------------


def _function(work: _Work) -> None:
    word = _FUNCTIONS[work.node.op]
    fresh = 0.0 if word in ("add", "subtract", "sum of all") else None  # biases begin at 0, slopes as they are
    work.add(Plain(word), [work.value(i, fresh=fresh) for i in range(len(work.node.inputs))])


def _bias_add(work: _Work) -> None:
    if _layout(work) != "NHWC":
        raise _Puzzled("adds to the first axis of maps")
    _function(work)


def _leaky(work: _Work) -> None:
    work.add(Leaky(float(work.attribute("alpha", 0.2))), [work.input(0)])


def _cast(work: _Work) -> None:
    if work.attribute("DstT") != "DT_FLOAT":
        raise _Puzzled("rounds to whole numbers")
    work.add(Plain("as float"), [work.input(0)])


def _pool(work: _Work) -> None:
    layout = _layout(work)
    kind: Any = "max" if work.node.op == "MaxPool" else "avg"
    sides = _sides(work, "ksize", layout), _sides(work, "strides", layout)
    work.add(Pool(kind, *sides, _padding(work, layout), layout), [work.input(0)])


def _reduce(work: _Work) -> None:
    kinds: Mapping[str, Any] = {"Mean": "mean", "Sum": "sum", "Max": "max", "Min": "min"}
    axes = work.ints(1)
    if not axes or 0 in axes:
        raise _Puzzled("mixes the pictures of a batch")
    work.add(Reduce(kinds[work.node.op], axes, bool(work.attribute("keep_dims", False))), [work.input(0)])


def _reshape(work: _Work) -> None:
    first, *rest = work.ints(1) or (0,)
    if first not in (1, -1) or not rest:
        raise _Puzzled("mixes the pictures of a batch")
    work.add(Reshape(tuple(rest)), [work.input(0)])


def _transpose(work: _Work) -> None:
    order = work.ints(1)
    if order[:1] != (0,):
        raise _Puzzled("mixes the pictures of a batch")
    work.add(Transpose(order), [work.input(0)])


def _squeeze(work: _Work) -> None:
    axes = tuple(work.attribute("squeeze_dims") or work.attribute("axis") or ())
    if not axes or 0 in axes:
        raise _Puzzled("takes the axis of the batch away")
    work.add(Squeeze(axes), [work.input(0)])


def _expand(work: _Work) -> None:
    (axis,) = work.ints(1) or (0,)
    if axis == 0:
        raise _Puzzled("puts an axis before that of the batch")
    work.add(Expand(axis), [work.input(0)])


def _concat(work: _Work) -> None:
    (axis,) = work.ints(-1)
    work.add(Concat(axis), [work.value(i) for i in range(len(work.node.inputs) - 1)])


def _split(work: _Work) -> None:
    (axis,) = work.ints(2)
    work.add(Split(work.ints(1), axis), [work.input(0)])


def _pad(work: _Work) -> None:
    amounts = work.array(1).reshape(-1, 2)
    value = float(np.nan_to_num(work.array(2))) if work.node.op == "PadV2" else 0.0  # JSON has no infinity
    before, after = (tuple(int(n) for n in column) for column in amounts.T)
    work.add(Pad(before, after, value), [work.input(0)])


def _resize(work: _Work) -> None:
    high, wide = work.ints(1)
    corners, centres = work.attribute("align_corners", False), work.attribute("half_pixel_centers", False)
    kind: Any = "bilinear" if work.node.op == "ResizeBilinear" else "nearest"
    if kind == "nearest" and corners:
        raise _Puzzled("resizes in a way that is not done here")
    places: Any = "corners" if corners else "centres" if centres else "edges"
    work.add(Resize(kind, (high, wide), places), [work.input(0)])


# -- attributes --------------------------------------------------------------------------------------------------------


def _layout(work: _Work) -> Any:
    layout = work.attribute("data_format", "NHWC")
    if layout not in ("NHWC", "NCHW"):
        raise _Puzzled(f"has the layout {layout}")
    return layout


def _sides(work: _Work, name: str, layout: str) -> tuple[int, int]:
    """(rows, columns) of an attribute with a number for each axis."""
    found = work.attribute(name, [1, 1, 1, 1])
    if not isinstance(found, list) or len(found) != 4 or not all(type(n) is int and 0 < n < 2**16 for n in found):
        raise _Puzzled(f"has {name} that make no sense")
    return (found[1], found[2]) if layout == "NHWC" else (found[2], found[3])


def _padding(work: _Work, layout: str) -> Any:
    word = work.attribute("padding")
    if word == "SAME":
        return "same"
    if word == "VALID":
        return (0, 0, 0, 0)
    amounts = work.attribute("explicit_paddings", [])
    if word != "EXPLICIT" or len(amounts) != 8:
        raise _Puzzled("pads in a way that is not known")
    return tuple(amounts[2:6] if layout == "NHWC" else amounts[4:8])


def _short(value: Any) -> float:
    """Six digits are enough for what fresh weights are drawn by."""
    return float(f"{float(value):.6g}")


_FUSED = ("Relu", "Relu6", "Elu", "Sigmoid", "Prelu", "LeakyRelu")
_FUNCTIONS = {
    "Add": "add",
    "AddV2": "add",
    "BiasAdd": "add",
    "AddN": "sum of all",
    "Sub": "subtract",
    "Mul": "multiply",
    "RealDiv": "divide",
    "Div": "divide",
    "Maximum": "maximum",
    "Minimum": "minimum",
    "SquaredDifference": "squared difference",
    "Identity": "as it is",
    "StopGradient": "as it is",
    "Relu": "relu",
    "Relu6": "relu6",
    "Elu": "elu",
    "Selu": "selu",
    "Softplus": "softplus",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Softmax": "softmax",
    "Exp": "exp",
    "Log": "log",
    "Abs": "abs",
    "Neg": "negative",
    "Square": "square",
    "Sqrt": "sqrt",
    "Rsqrt": "rsqrt",
    "Reciprocal": "one over",
    "Prelu": "prelu",
}
_TABLE: Mapping[str, Callable[[_Work], None]] = {
    **dict.fromkeys(_FUNCTIONS, _function),
    "BiasAdd": _bias_add,
    "Conv2D": _conv,
    "_FusedConv2D": _conv,
    "DepthwiseConv2dNative": _depthwise,
    "FusedDepthwiseConv2dNative": _depthwise,
    "MatMul": _dense,
    "_FusedMatMul": _dense,
    "FusedBatchNorm": _norm,
    "FusedBatchNormV2": _norm,
    "FusedBatchNormV3": _norm,
    "LeakyRelu": _leaky,
    "Cast": _cast,
    "MaxPool": _pool,
    "AvgPool": _pool,
    "Mean": _reduce,
    "Sum": _reduce,
    "Max": _reduce,
    "Min": _reduce,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "ExpandDims": _expand,
    "ConcatV2": _concat,
    "SplitV": _split,
    "Pad": _pad,
    "PadV2": _pad,
    "ResizeBilinear": _resize,
    "ResizeNearestNeighbor": _resize,
}
LAYERS = ("Conv2D", "_FusedConv2D", "DepthwiseConv2dNative", "FusedDepthwiseConv2dNative", "MatMul", "_FusedMatMul")
