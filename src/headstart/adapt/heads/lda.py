"""Linear discriminant analysis with a shrunken covariance: best when classes are clouds of one shape.

METHODS C. Σ = (1 − s) S + s tr(S)/D I with S the pooled within-class covariance and s = D / (N − 1 + D), after
Kubokawa & Srivastava 2008, made for more dimensions than examples. Equal to scikit-learn's
``LinearDiscriminantAnalysis(solver='lsqr', shrinkage=s)`` with priors n_c/N. There is nothing to tune.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstart.adapt.heads.folds import Folds
from headstart.adapt.heads.head import LinearHead, OutOfFold, Setting
from headstart.adapt.heads.rotated import Moments, Rotated, fold_moments, fold_parts
from headstart.tasks.task import Task


@dataclass(frozen=True)
class ShrunkLDA:
    name: str = "lda"
    rank: int = 2
    linear: bool = True

    def fits(self, task: Task) -> bool:
        return task.name == "classification"

    def cross_validate(self, rotated: Rotated, y: np.ndarray, task: Task, folds: Folds) -> OutOfFold:
        parts = []
        for moments, train, val in fold_parts(rotated, folds):
            coefficients, bias = _discriminant(rotated, moments, train, y, task.outputs)
            parts.append(rotated.at(val, coefficients) + bias)
        return OutOfFold(folds.average(parts), {"shrinkage": shrinkage(rotated.width, rotated.total)})

    def fit(self, rotated: Rotated, y: np.ndarray, task: Task, setting: Setting) -> LinearHead:
        rows = np.arange(len(y))
        coefficients, bias = _discriminant(rotated, fold_moments(rotated, rows), rows, y, task.outputs)
        weight = rotated.back(coefficients)
        return LinearHead(weight, bias - weight @ rotated.mean)


def shrinkage(width: int, total: float) -> float:
    """s for D features and N examples: near 1 for few examples, near 0 for many."""
    return width / (total - 1 + width)


def _discriminant(
    rotated: Rotated, moments: Moments, train: np.ndarray, y: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (r, K) on Z and bias (K,).

    A class without training rows sits at the overall mean with half an example's prior, so it is never a guess.
    """
    member = np.zeros((len(y), classes))
    member[train, y[train]] = rotated.weights[train]
    share = member.sum(axis=0)
    there = share > 0
    # Class means around the mean of the training rows: what is common to all classes says nothing about them.
    centre = moments.mean[:, None]
    means = np.where(there, rotated.sums(member) / np.where(there, share, 1.0) - centre, 0.0)  # (r, K)
    between = means * np.sqrt(share)
    within = moments.gram
    within -= between @ between.T
    s = shrinkage(rotated.width, moments.total)
    # Everything times N: the scatter instead of the covariance.
    trace = max(float(np.trace(within)), 1e-9 * moments.spread)
    within *= 1 - s
    within.flat[:: len(within) + 1] += s * trace / rotated.width
    coefficients = np.linalg.solve(within, means) * moments.total
    prior = np.log(np.where(there, share, 0.5) / moments.total)
    return coefficients, prior - 0.5 * (means * coefficients).sum(axis=0) - moments.mean @ coefficients
