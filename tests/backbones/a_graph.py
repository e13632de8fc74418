"""TensorFlow.js graph models, written by hand as tensorflowjs_converter lays them out."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np

from headstart.base.seeds import stream

PREPROCESSING = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}


class GraphFile:
    """Nodes and arrays as they come; ``write`` puts model.json and its weights into a folder."""

    def __init__(self, size=32, batch=1, channels=3):
        self.nodes = [self._node("pictures", "Placeholder", (), {"shape": _shape([batch, size, size, channels])})]
        self.arrays = {}
        self.random = stream(0, "a graph")

    def add(self, name, op, *inputs, **attributes):
        self.nodes.append(self._node(name, op, inputs, {k: _attribute(v) for k, v in attributes.items()}))
        return name

    def const(self, name, array, kind=np.float32):
        self.arrays[name] = np.asarray(array, kind)
        self.nodes.append(self._node(name, "Const", (), {}))
        return name

    def drawn(self, name, *shape):
        return self.const(name, self.random.normal(size=shape) / np.sqrt(max(np.prod(shape[:-1]), 1)))

    def conv(self, name, x, kernel, into, out, *, stride=1, act="Relu6", padding="SAME"):
        weights = [self.drawn(f"{name}/w", kernel, kernel, into, out), self.drawn(f"{name}/b", out)]
        fused = ["BiasAdd", *([act] if act else [])]
        return self.add(
            *(name, "_FusedConv2D", x, *weights), strides=[1, stride, stride, 1], padding=padding, fused_ops=fused
        )

    def depthwise(self, name, x, kernel, width, *, stride=1):
        weights = self.drawn(f"{name}/w", kernel, kernel, width, 1)
        return self.add(name, "DepthwiseConv2dNative", x, weights, strides=[1, stride, stride, 1], padding="SAME")

    def write(self, folder: Path, *, name="model", preprocessing=PREPROCESSING, shards=1, change=None):
        """change: (content of model.json, bytes of the weights) → bytes of the weights, before both are written."""
        folder.mkdir(parents=True, exist_ok=True)
        entries = [
            {"name": k, "shape": list(a.shape), "dtype": {"f": "float32", "i": "int32"}[a.dtype.kind]}
            for k, a in self.arrays.items()
        ]
        data = b"".join(a.astype("<f4" if a.dtype.kind == "f" else "<i4").tobytes() for a in self.arrays.values())
        paths = [f"{name}{i}.bin" for i in range(shards)]
        content = {
            "format": "graph-model",
            "modelTopology": {"node": self.nodes, "library": {}},
            "weightsManifest": [{"paths": paths, "weights": entries}],
        }
        data = change(content, data) if change else data
        step = -(-len(data) // shards)
        for i, path in enumerate(paths):
            (folder / path).write_bytes(data[i * step : (i + 1) * step])
        (folder / f"{name}.json").write_text(json.dumps(content))
        if preprocessing is not None:
            (folder / f"{name}.preprocessing.json").write_text(json.dumps(preprocessing))
        return folder / f"{name}.json"

    def _node(self, name, op, inputs, attributes):
        return {"name": name, "op": op, "input": list(inputs), "attr": attributes}


def small_graph(size=32, before=None):
    """A network with all that mobile ones have: depthwise layers, a squeeze, a residual, two pyramids and boxes.

    before: (graph, name of a value) → name of the value that goes on in its place, between the third and fourth layer.
    """
    g = GraphFile(size)
    x = g.conv("first", "pictures", 3, 3, 8, stride=2, act="Relu")
    x = g.add("pool", "MaxPool", x, ksize=[1, 3, 3, 1], strides=[1, 2, 2, 1], padding="SAME")
    early = g.conv("wide", x, 1, 8, 24, act="Relu6")
    x = before(g, early) if before else early
    x = g.depthwise("deep", x, 5, 24, stride=2)
    x = _norm(g, "norm", x, 24)
    x = g.add("gated", "Mul", _gate(g, x, 24), x)
    x = g.conv("narrow", x, 1, 24, 16, act=None)
    y = g.conv("inner", x, 3, 16, 16, act="Relu")
    x = g.add("sum", "AddV2", y, x)
    last = g.conv("last", x, 1, 16, 32, act="Relu6")
    half = g.add("half", "Mul", g.const("half/y", 0.5), last)
    up = g.add("up", "ResizeBilinear", g.conv("lateral", half, 1, 32, 12), g.const("up/size", [8, 8], np.int32))
    merged = g.conv("merged", g.add("both", "AddV2", g.conv("rise", up, 1, 12, 24), early), 3, 24, 12)
    flat = g.add("flat", "Reshape", merged, g.const("flat/shape", [-1], np.int32))
    g.add("boxes", "TopKV2", flat, g.const("boxes/k", 5, np.int32))
    return g


def _norm(g, name, x, width):
    stored = [g.drawn(f"{name}/{part}", width) for part in ("scale", "offset", "mean")]
    variance = g.const(f"{name}/variance", np.abs(g.random.normal(size=width)) + 0.5)
    return g.add(name, "FusedBatchNormV3", x, *stored, variance, epsilon=1e-3, is_training=False)


def _gate(g, x, width):
    mean = g.add("squeeze", "Mean", x, g.const("squeeze/axes", [1, 2], np.int32), keep_dims=True)
    return g.add("gate", "Sigmoid", g.conv("excite", mean, 1, width, width, act=None))


def small_graph_in_numpy(g, pictures):
    """(B, 32) features at 'half' of (B, S, S, 3) pictures as they are fed, by loops over pixels."""
    a = g.arrays
    x = np.maximum(convolution(pictures, a["first/w"], 2) + a["first/b"], 0)
    x = _largest(x)
    x = np.clip(convolution(x, a["wide/w"]) + a["wide/b"], 0, 6)
    x = np.stack([convolution(x[..., c : c + 1], a["deep/w"][:, :, c : c + 1], 2)[..., 0] for c in range(24)], -1)
    x = (x - a["norm/mean"]) / np.sqrt(a["norm/variance"] + 1e-3) * a["norm/scale"] + a["norm/offset"]
    gate = convolution(x.mean((1, 2), keepdims=True), a["excite/w"]) + a["excite/b"]
    x = x / (1 + np.exp(-gate))
    x = convolution(x, a["narrow/w"]) + a["narrow/b"]
    x = x + np.maximum(convolution(x, a["inner/w"]) + a["inner/b"], 0)
    x = np.clip(convolution(x, a["last/w"]) + a["last/b"], 0, 6)
    return 0.5 * x.mean((1, 2))


def convolution(x, kernel, stride=1):
    """TensorFlow's 'SAME' in float64; kernel (height, width, in, out)."""
    k = kernel.shape[0]
    rows = -(-x.shape[1] // stride)
    total = max((rows - 1) * stride + k - x.shape[1], 0)
    border = (total // 2, total - total // 2)
    x = np.pad(x.astype(np.float64), ((0, 0), border, border, (0, 0)))
    found = np.zeros((len(x), rows, rows, kernel.shape[-1]))
    for i in range(rows):
        for j in range(rows):
            window = x[:, i * stride : i * stride + k, j * stride : j * stride + k]
            found[:, i, j] = np.tensordot(window, kernel.astype(np.float64), axes=3)
    return found


def _largest(x):
    rows = -(-x.shape[1] // 2)
    total = max((rows - 1) * 2 + 3 - x.shape[1], 0)
    border = (total // 2, total - total // 2)
    x = np.pad(x, ((0, 0), border, border, (0, 0)), constant_values=-np.inf)
    return np.stack(
        [
            np.stack([x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((1, 2)) for j in range(rows)], 1)
            for i in range(rows)
        ],
        1,
    )


def _attribute(value):
    if isinstance(value, bool):
        return {"b": value}
    if isinstance(value, int):
        return {"i": str(value)}
    if isinstance(value, float):
        return {"f": value}
    if isinstance(value, str):
        return {"type": value} if value.startswith("DT_") else {"s": _encoded(value)}
    kinds = {int: "i", float: "f", str: "s"}
    kind = kinds[type(value[0])]
    return {"list": {kind: [_encoded(v) if kind == "s" else str(v) for v in value]}}


def _encoded(text):
    return base64.b64encode(text.encode()).decode()


def _shape(sides):
    return {"shape": {"dim": [{"size": str(n)} for n in sides]}}
