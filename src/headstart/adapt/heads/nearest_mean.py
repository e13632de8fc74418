"""Nearest class mean on centred, normalised features (CL2N): the head with nothing to tune.

Wang et al. 2019, SimpleShot (arXiv:1911.04623), with class means normalised too. Among unit vectors the nearest is the
one with the largest cosine, and dividing an example by its own norm changes none of its comparisons. So the decision
is that of per-example normalisation, and yet a linear layer: all examples are divided by one shared norm instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstart.adapt.heads.folds import Folds
from headstart.adapt.heads.head import LinearHead, OutOfFold, Setting
from headstart.adapt.heads.rotated import Rotated
from headstart.tasks.task import Task

SHARPNESS = 10.0  # cosines become logits of ordinary size, which the temperature then calibrates


@dataclass(frozen=True)
class NearestMean:
    name: str = "nearest-mean"
    rank: int = 0
    linear: bool = True

    def fits(self, task: Task) -> bool:
        return task.name == "classification"

    def cross_validate(self, rotated: Rotated, y: np.ndarray, task: Task, folds: Folds) -> OutOfFold:
        parts = []
        for train, val in folds.pairs:
            coefficients, bias = _directions(rotated, train, y, task.outputs)
            parts.append(rotated.at(val, coefficients) + bias)
        return OutOfFold(folds.average(parts), {})

    def fit(self, rotated: Rotated, y: np.ndarray, task: Task, setting: Setting) -> LinearHead:
        coefficients, bias = _directions(rotated, np.arange(len(y)), y, task.outputs)
        weight = rotated.back(coefficients)
        return LinearHead(weight, bias - weight @ rotated.mean)


def _directions(rotated: Rotated, train: np.ndarray, y: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (r, K) on Z and bias (K,): logit = SHARPNESS · (z − centre) · direction / mean norm.

    Row weights do not enter: a class mean is the same whatever the size of its class.
    """
    member = np.zeros((len(y), classes))
    member[train, y[train]] = 1.0
    n = member.sum(axis=0)
    centre = rotated.sums(member).sum(axis=1) / n.sum()
    norms = _norms(rotated, centre)
    member /= norms[:, None]
    # Σ (z − centre)/|z − centre| by class
    sums = rotated.sums(member) - np.outer(centre, member.sum(axis=0))
    length = np.linalg.norm(sums, axis=0)
    directions = sums / np.where(length > 0, length, 1.0)
    coefficients = directions * (SHARPNESS / norms[train].mean())
    # A class without training rows has no direction; the lowest cosine keeps it from being a guess.
    return coefficients, np.where(n > 0, 0.0, -SHARPNESS) - centre @ coefficients


def _norms(rotated: Rotated, centre: np.ndarray) -> np.ndarray:
    """(n,) distance of each row to the centre, kept above 0 for a row that lies on it."""
    squares = np.empty(len(rotated.Z))
    for rows, z in rotated.blocks():
        squares[rows] = (z**2).sum(axis=1) - 2 * (z @ centre)
    squares += centre @ centre
    return np.sqrt(np.maximum(squares, 1e-12 * max(squares.mean(), np.finfo(np.float32).tiny)))
