"""NLEEP: LEEP for networks without a source head; clusters of the features stand for its classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headstart.ranking.scores.checks import targets_of
from headstart.ranking.scores.leep import explained
from headstart.ranking.scores.score import About
from headstart.ranking.scores.spectrum import spectrum
from headstart.ranking.scores.subsample import drawn

FLOOR = 1e-6  # of a variance, in units of the mean variance


@dataclass(frozen=True)
class NLEEP:
    """LEEP with the posteriors of a Gaussian mixture on the principal axes that hold ``energy`` of the variance.

    per_class: components for each class.  log: mean log probability; off, the log of the mean probability, which
    orders networks as SFDA's code does, whose NLEEP has no log.
    The mixture is diagonal and starts from a deterministic split (Su & Dy 2007: the cluster with the largest spread is
    cut at its mean along its widest axis) and five rounds of k-means; so there is no luck in the score.
    most: above so many rows a stratified draw, the same for every network.
    """

    energy: float = 0.8
    per_class: int = 5
    log: bool = True
    rounds: int = 20
    most: int = 5000
    seed: int = 0

    about: ClassVar[About] = About(
        name="nleep",
        in_words="log likelihood of the classes given clusters of the features",
        low=float("-inf"),
        high=0.0,
        cost="n·D·min(n, D) + min(n, D)³ + 200·min(n, 5000)·d·C, d axes kept",
        source="Li et al. 2021, arXiv:2011.11200, section 3.3; diagonal mixture from a deterministic start",
    )

    def __call__(self, X: np.ndarray, y: np.ndarray, /) -> float:
        targets = targets_of(X, y, self.about)
        parts = spectrum(X)
        held = np.cumsum(parts.values) / parts.values.sum()
        dims = int(np.searchsorted(held, self.energy - 1e-12)) + 1
        features = np.concatenate([z[:, :dims] for _, z in parts.blocks()])
        rows = drawn(targets.codes, self.most, self.seed)
        count = min(self.per_class * len(targets.counts), len(rows) // 2)
        theta = mixture_posterior(features[rows], max(count, 1), self.rounds)
        likely = explained(theta, targets.columns[rows], targets.codes[rows])
        return float(np.log(likely).mean()) if self.log else float(np.log(likely.mean()))


def mixture_posterior(features: np.ndarray, count: int, rounds: int) -> np.ndarray:
    """(n, count) responsibilities of a diagonal Gaussian mixture after k-means and EM."""
    labels = _nearest_centre(features, _split(features, count))
    theta = np.zeros((len(features), count))
    theta[np.arange(len(features)), labels] = 1.0
    floor = FLOOR * float(features.var(axis=0).mean())
    before = -np.inf
    for _ in range(rounds):
        weight, mean, variance = _maximise(features, theta, floor)
        theta, likelihood = _expect(features, weight, mean, variance)
        if likelihood - before < 1e-3 * abs(likelihood):
            break
        before = likelihood
    return theta


def _split(features: np.ndarray, count: int) -> np.ndarray:
    """(n,) cluster of each row, by cutting the one with the largest sum of squares until there are ``count``."""
    labels = np.zeros(len(features), np.int64)
    spread = [_spread(features)]
    while len(spread) < count:
        widest = int(np.argmax([s.sum() for s in spread]))
        rows = np.flatnonzero(labels == widest)
        axis = int(spread[widest].argmax())
        upper = features[rows, axis] > features[rows, axis].mean()
        if not upper.any():  # all rows alike: no cluster can be cut
            break
        labels[rows[upper]] = len(spread)
        spread[widest] = _spread(features[rows[~upper]])
        spread.append(_spread(features[rows[upper]]))
    return labels


def _spread(features: np.ndarray) -> np.ndarray:
    return len(features) * features.var(axis=0)


def _nearest_centre(features: np.ndarray, labels: np.ndarray, rounds: int = 5) -> np.ndarray:
    for _ in range(rounds):
        member = np.zeros((len(features), labels.max() + 1))
        member[np.arange(len(features)), labels] = 1.0
        counts = member.sum(axis=0)
        centres = (member.T @ features)[counts > 0] / counts[counts > 0][:, None]
        labels = (features @ centres.T - (centres**2).sum(axis=1) / 2).argmax(axis=1)
    return labels


def _maximise(features: np.ndarray, theta: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = theta.sum(axis=0) + 10 * np.finfo(np.float64).eps
    mean = theta.T @ features / count[:, None]
    variance = theta.T @ features**2 / count[:, None] - mean**2
    return count / count.sum(), mean, np.maximum(variance, 0) + floor


def _expect(
    features: np.ndarray, weight: np.ndarray, mean: np.ndarray, variance: np.ndarray
) -> tuple[np.ndarray, float]:
    """(responsibilities, mean log likelihood)."""
    precision = 1 / variance
    square = features**2 @ precision.T - 2 * features @ (mean * precision).T + (mean**2 * precision).sum(axis=1)
    log = np.log(weight) - (square + np.log(2 * np.pi * variance).sum(axis=1)) / 2
    top = log.max(axis=1, keepdims=True)
    odds = np.exp(log - top)
    total = odds.sum(axis=1, keepdims=True)
    return odds / total, float((np.log(total) + top).mean())
