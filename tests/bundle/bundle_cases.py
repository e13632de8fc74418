"""What the bundle tests share: heads, tasks, pictures."""

from __future__ import annotations

import numpy as np

from headstart.adapt.heads.head import LinearHead
from headstart.base.seeds import stream
from headstart.bundle.save import ModelFacts
from headstart.tasks.classification import Classification
from headstart.tasks.multilabel import MultiLabel
from headstart.tasks.regression import Regression

FACTS = ModelFacts(
    head_family="ridge",
    head_setting={"lambda": 12.3},
    rounded=False,
    counts={"bird": 40, "cat": 31, "dog": 29},
    trained_on_n=100,
    created="2026-11-21T12:00:00Z",
)
TASKS = {
    "classification": Classification(("bird", "cat", "dog")),
    "multilabel": MultiLabel(("red", "round", "small")),
    "regression": Regression(("height", "width", "weight")),
}


def random_head(outputs: int, width: int, seed: int = 0) -> LinearHead:
    random = stream(seed, "test head")
    return LinearHead(random.normal(size=(outputs, width)) / np.sqrt(width) * 8, random.normal(size=outputs))


def noise(count: int, size: int = 64, seed: int = 0) -> np.ndarray:
    """(count, size, size, 3) uint8 smooth coloured blotches, all different."""
    from PIL import Image

    random = stream(seed, "test pictures")
    small = random.integers(0, 256, (count, 5, 5, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(s).resize((size, size), Image.Resampling.BICUBIC)) for s in small])
