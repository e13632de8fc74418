"""NCE: what is left to know of the target class once the source head has named its class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headstart.ranking.scores.checks import check_probabilities, targets_of
from headstart.ranking.scores.score import About


@dataclass(frozen=True)
class NCE:
    """−H(y|z) in nats, z the source class with the largest probability. θ: (n, Z) softmax of the source head.

    0 when each source class holds one target class; −H(y) when z says nothing.
    """

    about: ClassVar[About] = About(
        name="nce",
        in_words="minus the entropy of the class given the source head's choice",
        low=float("-inf"),
        high=0.0,
        reads="source probabilities",
        cost="n·Z",
        source="Tran, Nguyen & Hassner 2019, arXiv:1908.08142, eq. 4",
    )

    def __call__(self, X: np.ndarray, y: np.ndarray, /) -> float:
        targets = targets_of(X, y, self.about)
        check_probabilities(X, self.about)
        joint = np.zeros((len(targets.counts), X.shape[1]))
        np.add.at(joint, (targets.codes, X.argmax(axis=1)), 1.0)
        given = joint / np.maximum(joint.sum(axis=0), 1)
        return float((joint * np.log(given, out=np.zeros_like(given), where=given > 0)).sum() / len(y))
