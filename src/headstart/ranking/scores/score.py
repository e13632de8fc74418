"""What a transferability score is, and what each says of itself.

ridge = RidgeLoo()
ridge(X, y)             0.91
ridge.about.cost        'n·D·min(n, D) + 15·n·min(n, D)·C'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np

Reads = Literal["features", "source probabilities", "features here and at the source"]
Kind = Literal["classes", "labels", "values"]


@dataclass(frozen=True)
class About:
    """The facts about a score.

    low, high: the range, infinite where it is open.  reads: what the first array holds.
    targets: the kinds of targets it can judge; empty where the second array holds no targets.
    cost: multiplications in n examples, D features, C classes (Z source classes, m source examples), up to a constant.
    source: where it was published, and how we differ.
    """

    name: str
    in_words: str
    low: float
    high: float
    cost: str
    source: str
    higher_is_better: bool = True
    reads: Reads = "features"
    targets: tuple[Kind, ...] = ("classes",)


class Score(Protocol):
    about: ClassVar[About]

    def __call__(self, X: np.ndarray, y: np.ndarray, /) -> float:
        """X: (n, D) as ``about.reads`` says.  y: (n,) classes, (n, K) 0/1 labels, (n,) or (n, K) float values.

        DataError when they are swapped, malformed, or carry nothing to judge.
        """
        ...
