"""The operations of which a graph backbone may consist: plain settings, and the torch module that each one means.

Everything that decides how a value is computed is a number or a word of one of these dataclasses, so that a graph can
be written to config.json and read again. Maps are in the layout of the graph they come from, mostly (B, H, W, C).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.base.errors import DataError, shown

Pair = tuple[int, int]
Layout = Literal["NHWC", "NCHW"]
_LARGEST_SIDE = 2**20


class Op(Protocol):
    """What a node computes. Implementations are frozen dataclasses of plain values."""

    def layer(self) -> nn.Module:
        """The module that is called with the values of the node's inputs; its weights are freshly drawn."""
        ...


# -- functions of whole tensors ----------------------------------------------------------------------------------------

FUNCTIONS: Mapping[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "subtract": torch.sub,
    "multiply": torch.mul,
    "divide": torch.div,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "squared difference": lambda x, y: (x - y).square(),
    "sum of all": lambda *values: sum(values[1:], values[0]),
    "as it is": lambda x: x,
    "as float": lambda x: x.float(),
    "relu": F.relu,
    "relu6": F.relu6,
    "elu": F.elu,
    "selu": F.selu,
    "softplus": F.softplus,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softmax": lambda x: x.softmax(dim=-1),
    "exp": torch.exp,
    "log": torch.log,
    "abs": torch.abs,
    "negative": torch.neg,
    "square": torch.square,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "one over": torch.reciprocal,
    "prelu": lambda x, slope: F.relu(x) - slope * F.relu(-x),
}


class Apply(nn.Module):
    """A module without weights around a function."""

    def __init__(self, function: Callable[..., Any], **settings: Any) -> None:
        super().__init__()
        self.function = function
        self.settings = settings

    def forward(self, *values: Tensor) -> Any:
        return self.function(*values, **self.settings)


@dataclass(frozen=True)
class Plain:
    """One of FUNCTIONS, of whole tensors."""

    function: str

    def __post_init__(self) -> None:
        if self.function not in FUNCTIONS:
            raise DataError(f"a graph asks for the function '{shown(self.function)}', which is none of ours.")

    def layer(self) -> nn.Module:
        return Apply(FUNCTIONS[self.function])


@dataclass(frozen=True)
class Leaky:
    slope: float

    def layer(self) -> nn.Module:
        return Apply(F.leaky_relu, negative_slope=self.slope)


@dataclass(frozen=True)
class Number:
    """A constant of the graph that does not learn; no inputs."""

    value: float

    def layer(self) -> nn.Module:
        return Constant(self.value)


class Constant(nn.Module):
    value: Tensor

    def __init__(self, value: float) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(value), persistent=False)

    def forward(self) -> Tensor:
        return self.value


@dataclass(frozen=True)
class Weight:
    """An array that learns, such as the slopes of a PReLU or a scale; no inputs. mean: what a fresh one is full of."""

    shape: tuple[int, ...]
    mean: float

    def layer(self) -> nn.Module:
        return Learnt(self.shape, self.mean)


class Learnt(nn.Module):
    def __init__(self, shape: Sequence[int], mean: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full(_sides(shape), mean))

    def forward(self) -> Tensor:
        return self.weight


# -- layers with weights -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conv:
    """A convolution. spread: standard deviation of freshly drawn weights (graph.with_spreads); biases begin at 0.

    padding: 'same' as TensorFlow does it (the odd row and column after the map), or rows and columns
    (above, below, left, right).
    """

    inputs: int
    outputs: int
    kernel: Pair
    stride: Pair
    dilation: Pair
    groups: int
    padding: Literal["same"] | tuple[int, int, int, int]
    has_bias: bool
    spread: float
    layout: Layout = "NHWC"

    def layer(self) -> nn.Module:
        return Convolution(self)


class Convolution(nn.Module):
    """An ordinary Conv2d, fed in its own layout and padded before: torch pads both sides alike."""

    def __init__(self, op: Conv) -> None:
        super().__init__()
        _sides((op.inputs, op.outputs, *op.kernel))
        self.conv = nn.Conv2d(
            *(op.inputs, op.outputs, op.kernel, op.stride),
            dilation=op.dilation,
            groups=op.groups,
            bias=op.has_bias,
        )
        nn.init.normal_(self.conv.weight, std=op.spread)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)
        self.op = op

    def forward(self, x: Tensor) -> Tensor:
        x = channels_first(x, self.op.layout)
        reach = (_reach(self.op.kernel[0], self.op.dilation[0]), _reach(self.op.kernel[1], self.op.dilation[1]))
        return as_before(self.conv(padded(x, reach, self.op.stride, self.op.padding)), self.op.layout)


@dataclass(frozen=True)
class Dense:
    """A linear layer on the last axis. spread: as of Conv."""

    inputs: int
    outputs: int
    has_bias: bool
    spread: float

    def layer(self) -> nn.Module:
        _sides((self.inputs, self.outputs))
        layer = nn.Linear(self.inputs, self.outputs, bias=self.has_bias)
        nn.init.normal_(layer.weight, std=self.spread)
        if self.has_bias:
            nn.init.zeros_(layer.bias)
        return layer


# -- layers without weights --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pool:
    """Windows of a map. 'avg' counts only what lies on the map, as TensorFlow does."""

    kind: Literal["max", "avg"]
    kernel: Pair
    stride: Pair
    padding: Literal["same"] | tuple[int, int, int, int]
    layout: Layout = "NHWC"

    def layer(self) -> nn.Module:
        return Apply(_pool, op=self)


def _pool(x: Tensor, op: Pool) -> Tensor:
    x = channels_first(x, op.layout)
    if op.kind == "max":
        return as_before(
            F.max_pool2d(padded(x, op.kernel, op.stride, op.padding, -math.inf), op.kernel, op.stride), op.layout
        )
    total = F.avg_pool2d(padded(x, op.kernel, op.stride, op.padding), op.kernel, op.stride)
    share = F.avg_pool2d(padded(torch.ones_like(x[:1, :1]), op.kernel, op.stride, op.padding), op.kernel, op.stride)
    return as_before(total / share, op.layout)


@dataclass(frozen=True)
class Reduce:
    kind: Literal["mean", "sum", "max", "min"]
    axes: tuple[int, ...]
    keep: bool

    def layer(self) -> nn.Module:
        means, sums, highest, lowest = torch.mean, torch.sum, torch.amax, torch.amin
        functions: dict[str, Callable[..., Tensor]] = {"mean": means, "sum": sums, "max": highest, "min": lowest}
        return Apply(functions[self.kind], dim=self.axes, keepdim=self.keep)


@dataclass(frozen=True)
class Reshape:
    """shape: of one example; the batch stays as it is."""

    shape: tuple[int, ...]

    def layer(self) -> nn.Module:
        return Apply(lambda x: x.reshape(x.shape[0], *self.shape))


@dataclass(frozen=True)
class Transpose:
    order: tuple[int, ...]

    def layer(self) -> nn.Module:
        return Apply(lambda x: x.permute(*self.order))


@dataclass(frozen=True)
class Squeeze:
    axes: tuple[int, ...]

    def layer(self) -> nn.Module:
        return Apply(lambda x: x.squeeze(self.axes))


@dataclass(frozen=True)
class Expand:
    axis: int

    def layer(self) -> nn.Module:
        return Apply(torch.unsqueeze, dim=self.axis)


@dataclass(frozen=True)
class Concat:
    axis: int

    def layer(self) -> nn.Module:
        return Apply(lambda *values: torch.cat(values, self.axis))


@dataclass(frozen=True)
class Split:
    """Several outputs: 'name', 'name:1', 'name:2' …"""

    sizes: tuple[int, ...]
    axis: int

    def layer(self) -> nn.Module:
        return Apply(lambda x: torch.split(x, list(self.sizes), self.axis))


@dataclass(frozen=True)
class Pad:
    """before, after: for each axis."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    value: float

    def layer(self) -> nn.Module:
        amounts = [n for pair in zip(self.before[::-1], self.after[::-1], strict=True) for n in pair]
        _sides(amounts)
        return Apply(F.pad, pad=amounts, value=self.value)


@dataclass(frozen=True)
class Resize:
    """To (height, width), bilinear or nearest. places: where output pixels lie on the input.

    'corners': the outermost pixels on each other.  'centres': as torch and OpenCV.  'edges': TensorFlow 1's way, where
    pixel 0 lies on pixel 0 and the last ones are repeated.
    """

    kind: Literal["bilinear", "nearest"]
    size: Pair
    places: Literal["corners", "centres", "edges"]

    def layer(self) -> nn.Module:
        _sides(self.size)
        return Apply(_resize, op=self)


def _resize(x: Tensor, op: Resize) -> Tensor:
    x = x.permute(0, 3, 1, 2)
    if op.kind == "nearest":
        mode = "nearest" if op.places == "edges" else "nearest-exact"
        return F.interpolate(x, size=op.size, mode=mode).permute(0, 2, 3, 1)
    if op.places == "edges":
        return _stretch(_stretch(x, 2, op.size[0]), 3, op.size[1]).permute(0, 2, 3, 1)
    corners = op.places == "corners"
    return F.interpolate(x, size=op.size, mode="bilinear", align_corners=corners).permute(0, 2, 3, 1)


def _stretch(x: Tensor, axis: int, size: int) -> Tensor:
    """Linear along one axis, output pixel i at i · side / size."""
    side = int(x.shape[axis])
    places = torch.arange(size, device=x.device, dtype=x.dtype) * (side / size)
    first = places.floor()
    share = (places - first).view([-1 if a == axis else 1 for a in range(x.dim())])
    low = first.long()
    high = (low + 1).clamp(max=side - 1)
    return x.index_select(axis, low) * (1 - share) + x.index_select(axis, high) * share


@dataclass(frozen=True)
class Flip:
    """The order of channels turned round: red, green, blue to blue, green, red."""

    axis: int

    def layer(self) -> nn.Module:
        return Apply(torch.flip, dims=(self.axis,))


# Word in config.json → what it means.
OPS: Mapping[str, type[Any]] = {
    "function": Plain,
    "leaky": Leaky,
    "number": Number,
    "weight": Weight,
    "conv": Conv,
    "dense": Dense,
    "pool": Pool,
    "reduce": Reduce,
    "reshape": Reshape,
    "transpose": Transpose,
    "squeeze": Squeeze,
    "expand": Expand,
    "concat": Concat,
    "split": Split,
    "pad": Pad,
    "resize": Resize,
    "flip": Flip,
}


# -- helpers of several ------------------------------------------------------------------------------------------------


def channels_first(x: Tensor, layout: Layout) -> Tensor:
    return x.permute(0, 3, 1, 2) if layout == "NHWC" else x


def as_before(x: Tensor, layout: Layout) -> Tensor:
    """From (B, C, H, W) to the layout of the graph."""
    return x.permute(0, 2, 3, 1) if layout == "NHWC" else x


def padded(x: Tensor, reach: Pair, stride: Pair, padding: str | tuple[int, ...], value: float = 0.0) -> Tensor:
    """(B, C, H, W) with the border that windows of ``reach`` need."""
    if isinstance(padding, tuple):
        above, below, left, right = padding
    else:
        above, below = _same(int(x.shape[2]), reach[0], stride[0])
        left, right = _same(int(x.shape[3]), reach[1], stride[1])
    return F.pad(x, [left, right, above, below], value=value) if any((above, below, left, right)) else x


def _same(side: int, reach: int, stride: int) -> Pair:
    """TensorFlow's 'SAME': ⌈side / stride⌉ windows; of an odd number of rows the one more comes after."""
    total = max((-(-side // stride) - 1) * stride + reach - side, 0)
    return total // 2, total - total // 2


def _reach(kernel: int, dilation: int) -> int:
    return (kernel - 1) * dilation + 1


def _sides(sides: Sequence[int]) -> tuple[int, ...]:
    """As they are; ValueError where a file states what no layer has."""
    if any(not 0 <= n <= _LARGEST_SIDE for n in sides):
        raise ValueError(f"sides {tuple(sides)} of an array")
    return tuple(sides)
