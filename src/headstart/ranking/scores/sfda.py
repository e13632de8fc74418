"""SFDA: discriminant analysis that is made to doubt its easy rows, then asked again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headstart.ranking.scores.checks import Targets, targets_of
from headstart.ranking.scores.score import About
from headstart.ranking.scores.spectrum import spectrum


@dataclass(frozen=True)
class SFDA:
    """Mean probability of the true class after each row has been mixed with the other classes' means.

    As published (METHODS A.2i), with its quirks: the covariance within classes is shrunk by λ = max(exp(−5 σ), 1e-10),
    σ its largest eigenvalue, which depends on the scale of the features; the probabilities that weigh the mixture go
    through softmax twice; the score is a mean probability, no log. Their generalised eigenproblem keeps all vectors and
    so is the inverse of the covariance within classes, which is what is computed here, on the axes of the features.
    """

    about: ClassVar[About] = About(
        name="sfda",
        in_words="probability of the true class under self-challenging discriminant analysis",
        low=0.0,
        high=1.0,
        cost="n·D·min(n, D) + min(n, D)³ + n·min(n, D)·C",
        source="Shao et al. 2022, arXiv:2207.03036, section 4",
    )

    def __call__(self, X: np.ndarray, y: np.ndarray, /) -> float:
        targets = targets_of(X, y, self.about)
        parts = spectrum(X)
        Z = np.concatenate([z for _, z in parts.blocks()])
        # where their power iteration starts: the row sums of the covariance, on the same axes
        start = parts.sums((X - parts.mean).sum(axis=1, keepdims=True))[:, 0] / parts.values
        within = _within(Z, targets)
        penalty = max(float(np.exp(-5 * _largest(within, start))), 1e-10)
        odds = np.exp(_posterior(Z, targets, penalty, X.shape[1]))
        doubt = (odds / odds.sum(axis=1, keepdims=True))[np.arange(len(y)), targets.codes][:, None]
        means = _means(Z, targets)
        others = (means.sum(axis=0) - means) / (len(means) - 1)
        mixed = doubt * Z + (1 - doubt) * others[targets.codes]
        return float(_posterior(mixed, targets, penalty, X.shape[1])[np.arange(len(y)), targets.codes].mean())


def _means(Z: np.ndarray, targets: Targets) -> np.ndarray:
    return targets.columns.T @ Z / targets.counts[:, None]


def _within(Z: np.ndarray, targets: Targets) -> np.ndarray:
    away = Z - _means(Z, targets)[targets.codes]
    return away.T @ away / len(Z)


def _largest(within: np.ndarray, start: np.ndarray) -> float:
    """Largest eigenvalue by three double steps of the power method, as published."""
    x = within @ start
    y = x
    for _ in range(3):
        y = within @ x
        y /= np.linalg.norm(y)
        x = within @ y
        x /= np.linalg.norm(x)
    return float(x @ within @ y)


def _posterior(Z: np.ndarray, targets: Targets, penalty: float, width: int) -> np.ndarray:
    """(n, C) probabilities by discriminant analysis with the shrunk covariance within classes."""
    means = _means(Z, targets)
    within = _within(Z, targets)
    level = np.trace(within) / width
    within *= 1 - penalty
    within.flat[:: len(within) + 1] += penalty * level
    weights = np.linalg.solve(within, means.T)  # (k, C)
    logits = Z @ weights - (means * weights.T).sum(axis=1) / 2 + np.log(targets.counts)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)
