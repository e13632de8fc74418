"""Networks for columns of a table, made from the training rows themselves: nothing pretrained, and no targets.

    columns/plain    the encoded columns as they are
    columns/curves   and of each number a row of ramps: heads can then bend its effect (a piecewise linear function,
                     which is level at the far ends)
    columns/kernel   and Nyström features of a Gaussian kernel over all columns: they can also join in their effects
    columns/mlp      columns/curves with hidden layers behind it, which do learn from the targets (adapt.grown)

Each holds the one before it. All are small, and heads on them stay linear and in closed form. Nyström features:
Williams & Seeger 2001; the landmarks are means of a few training rows each, so that no row of the user's table lies in
a saved model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headstart.backbones.backbone import Backbone, record_of
from headstart.backbones.card import BackboneCard, Weights
from headstart.base.config import from_dict, to_dict
from headstart.base.errors import DataError, NotInCatalogue, did_you_mean, shown
from headstart.base.seeds import stream
from headstart.data.cells import DATES
from headstart.inputs.columns import VALUE, Column, places_of, width_of
from headstart.inputs.spec import VectorSpec

NAMES = ("columns/plain", "columns/curves", "columns/kernel")  # the simplest first
LEARNT = "columns/mlp"  # the richest
OUTPUT = "headstart_output"
FAR = 3.0  # beyond so many standard deviations a straight line is not followed, except by columns/plain
RAMPS = 16  # of a number, between its quantiles
LANDMARKS = 800
ROWS_OF_LANDMARK = 3  # at least so many rows are averaged into one
SCALE = 1.4  # length scale of the kernel, in root mean squared distances of rows from their mean
FLOOR = 1e-6  # eigenvalues of the landmarks' kernel below this share of the largest count as this
_LARGEST = 2**16


@dataclass(frozen=True)
class Shape:
    """width: encoded columns, E.  ramps, landmarks: their numbers; 0 where there are none."""

    width: int
    ramps: int = 0
    landmarks: int = 0

    @property
    def features(self) -> int:
        return self.width + self.ramps + self.landmarks


class ColumnsNetwork(nn.Module):
    """(B, E) encoded columns, anything beyond E passed over, to (B, D) float32. Computed in float64."""

    starts: Tensor
    ends: Tensor
    of: Tensor
    ramp_mean: Tensor
    ramp_scale: Tensor
    landmarks: Tensor
    whitening: Tensor
    sharpness: Tensor
    kernel_mean: Tensor
    kernel_scale: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape

        def hold(name: str, *sides: int, kind: torch.dtype = torch.float64) -> None:
            self.register_buffer(name, torch.zeros(sides, dtype=kind))

        if shape.ramps:
            hold("of", shape.ramps, kind=torch.int64)
            for name in ("starts", "ends", "ramp_mean", "ramp_scale"):
                hold(name, shape.ramps)
        if shape.landmarks:
            hold("landmarks", shape.landmarks, shape.width)
            hold("whitening", shape.landmarks, shape.landmarks)
            for name in ("sharpness", "kernel_scale"):
                hold(name, 1)
            hold("kernel_mean", shape.landmarks)

    def forward(self, batch: Tensor) -> Tensor:
        x = batch[:, : self.shape.width].double()
        parts = [x.clamp(-FAR, FAR) if self.shape.ramps or self.shape.landmarks else x]
        if self.shape.ramps:
            parts.append((self.ramps(x) - self.ramp_mean) / self.ramp_scale)
        if self.shape.landmarks:
            parts.append((self.kernel(x) - self.kernel_mean) / self.kernel_scale)
        return torch.cat(parts, dim=1).float()

    def ramps(self, x: Tensor) -> Tensor:
        """(B, R): 0 before a ramp, 1 behind it."""
        return ((x[:, self.of] - self.starts) / (self.ends - self.starts)).clamp(0, 1)

    def kernel(self, x: Tensor) -> Tensor:
        """(B, M): products of two rows of it are the Gaussian kernel of the two, as the landmarks see them."""
        return gaussian(x, self.landmarks, self.sharpness) @ self.whitening


def gaussian(a: Tensor, b: Tensor, sharpness: Tensor | float) -> Tensor:
    """exp(−sharpness · |a_i − b_j|²), (n, m)."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return torch.exp(-sharpness * squares.clamp(min=0))


@dataclass(frozen=True)
class ColumnsArchitecture:
    shape: Shape

    @property
    def name(self) -> str:
        words = ["columns"]
        words += [f"{self.shape.ramps} ramps"] if self.shape.ramps else []
        words += [f"{self.shape.landmarks} landmarks"] if self.shape.landmarks else []
        return ", ".join(words)

    @property
    def opens_with(self) -> str:
        return "headstart"

    def build(self, classes: int) -> nn.Module:
        network = ColumnsNetwork(self.shape)
        if classes:
            network.add_module(OUTPUT, nn.Linear(self.shape.features, classes, dtype=torch.float64))
        return network

    def features(self, network: nn.Module, images: Tensor) -> Tensor:
        found: Tensor = network(images)
        return found

    def config(self, spec: Any, labels: Sequence[str], feature_dim: int) -> dict[str, Any]:
        return {"kind": "columns", "shape": to_dict(self.shape), "labels": list(labels)}

    def companions(self, spec: Any) -> dict[str, dict[str, Any] | str]:
        return {}


def architecture_from(config: Any, *, where: str) -> ColumnsArchitecture:
    """The architecture that a config.json states; DataError where it is none of ours."""
    shape = from_dict(Shape, config.get("shape"), where=f"{where}, shape")
    if not all(0 <= side <= _LARGEST for side in (shape.width, shape.ramps, shape.landmarks)):
        raise DataError(f"{where}: a shape of {shape.width}, {shape.ramps} and {shape.landmarks} is out of range.")
    return ColumnsArchitecture(shape)


# ------------------------------------------------------------------------------------------------------------- making


def check_name(name: str) -> str:
    """``name`` if it is one of NAMES or LEARNT; NotInCatalogue otherwise."""
    every = (*NAMES, LEARNT)
    if name not in every:
        raise NotInCatalogue(
            f"no backbone '{shown(name)}' for columns of a table.{did_you_mean(name, every)} There are: "
            f"{', '.join(every)}; auto chooses by cross-validation."
        )
    return name


def columns_backbone(name: str, columns: Sequence[Column], X: np.ndarray, *, seed: int, target: str = "") -> Backbone:
    """The network called ``name`` for these columns. X: (n, E) encoded training rows; no others may be in it.

    target: the name of the column that is predicted, to be remembered.
    """
    depth = NAMES.index(check_name(name))
    X = X.astype(np.float64)
    state: dict[str, np.ndarray] = {}
    if depth >= 1:
        state |= _ramps(columns, X)
    if depth >= 2:
        state |= _kernel(X, seed)
    shape = Shape(X.shape[1], len(state.get("of", ())), len(state.get("landmarks", ())))
    architecture = ColumnsArchitecture(shape)
    network = architecture.build(0)
    network.load_state_dict({key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in state.items()})
    assert shape.width == width_of(columns), "X is encoded with these columns"
    card = BackboneCard(
        name=name,
        modality="vector",
        architecture=architecture.name,
        input=VectorSpec(tuple(columns), target),
        feature_dim=shape.features,
        parameters=sum(value.size for value in state.values()),
        licence="",
        trained_on="the training rows, without their targets",
        weights=Weights("none", "made here", here=True),
    )
    return Backbone(card, network, architecture, record_of(card, network, loader="columns"))


def _ramps(columns: Sequence[Column], X: np.ndarray) -> dict[str, np.ndarray]:
    """Between neighbouring quantiles of each number and date; all ramps of a column have variance 1 together."""
    of: list[int] = []
    starts: list[float] = []
    ends: list[float] = []
    means: list[float] = []
    scales: list[float] = []
    places = places_of(columns)
    for column in columns:
        if VALUE not in column.parts or column.kind not in ("number", *DATES):
            continue
        at = places[column.name].start + column.parts.index(VALUE)
        knots = np.unique(np.quantile(X[:, at], np.linspace(0, 1, RAMPS + 1)))
        if len(knots) < 3:
            continue
        ramps = np.clip((X[:, at, None] - knots[:-1]) / np.diff(knots), 0, 1)
        of += [at] * (len(knots) - 1)
        starts += knots[:-1].tolist()
        ends += knots[1:].tolist()
        means += ramps.mean(axis=0).tolist()
        scales += [float(np.sqrt(ramps.var(axis=0).sum()))] * (len(knots) - 1)
    if not of:
        return {}
    return {
        "of": np.array(of, np.int64),
        "starts": np.array(starts),
        "ends": np.array(ends),
        "ramp_mean": np.array(means),
        "ramp_scale": np.array(scales),
    }


def _kernel(X: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Landmarks, and what turns kernels with them into features; these have the variance that the columns have."""
    landmarks = _landmarks(X, seed)
    if not len(landmarks):
        return {}
    spread = max(float(np.square(X).sum(axis=1).mean()), 1e-30)
    sharpness = 1 / (2 * spread * SCALE**2)
    marks = torch.from_numpy(landmarks)
    values, vectors = torch.linalg.eigh(gaussian(marks, marks, sharpness))
    whitening = vectors / values.clamp(min=FLOOR * float(values.max())).sqrt()
    features = (gaussian(torch.from_numpy(X), marks, sharpness) @ whitening).numpy()
    mean = features.mean(axis=0)
    scale = np.sqrt(np.square(features - mean).sum(axis=1).mean() / spread)
    return {
        "landmarks": landmarks,
        "whitening": whitening.numpy(),
        "sharpness": np.array([sharpness]),
        "kernel_mean": mean,
        "kernel_scale": np.array([max(float(scale), 1e-12)]),
    }


def _landmarks(X: np.ndarray, seed: int) -> np.ndarray:
    """(M, E) means of at least three rows that lie together, drawn evenly from all rows."""
    different = np.unique(X, axis=0)
    count = min(LANDMARKS, len(different) // ROWS_OF_LANDMARK)
    if count < 2:
        return np.zeros((0, X.shape[1]))
    order = stream(seed, "landmarks").permutation(len(different))
    rows = torch.from_numpy(different)
    centres = rows[order[:count]]
    nearest = torch.cdist(centres, rows).topk(ROWS_OF_LANDMARK, largest=False).indices
    return rows[nearest].mean(dim=1).numpy()
