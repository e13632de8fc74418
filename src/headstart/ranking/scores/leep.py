"""LEEP: how well the source head's classes, read as words, explain the target classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headstart.ranking.scores.checks import check_probabilities, targets_of
from headstart.ranking.scores.score import About


@dataclass(frozen=True)
class LEEP:
    """Mean log likelihood of the targets under P(y|x) = Σ_z P(y|z) θ_z(x), P(y|z) counted on the same rows.

    θ: (n, Z) softmax of the source head. Uniform θ gives −H(y); a source class for each target class gives 0.
    """

    about: ClassVar[About] = About(
        name="leep",
        in_words="log likelihood of the classes given the source head's classes",
        low=float("-inf"),
        high=0.0,
        reads="source probabilities",
        cost="n·Z·C",
        source="Nguyen et al. 2020, arXiv:2002.12462, eq. 1 and 2",
    )

    def __call__(self, X: np.ndarray, y: np.ndarray, /) -> float:
        targets = targets_of(X, y, self.about)
        check_probabilities(X, self.about)
        return float(np.log(explained(X.astype(np.float64), targets.columns, targets.codes)).mean())


def explained(theta: np.ndarray, columns: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(n,) P(y_i|x_i). theta: (n, Z).  columns: (n, C) one-hot.  codes: (n,)."""
    joint = columns.T @ theta  # (C, Z), times n
    marginal = joint.sum(axis=0)
    used = marginal > 0  # a source class without any probability explains nothing and is explained by nothing
    given = joint[:, used] / marginal[used]
    return np.minimum((theta[:, used] * given[codes]).sum(axis=1), 1.0)
