import numpy as np
import pytest

from headstart.base.seeds import stream
from headstart.records.predictions import Predictions


def ids_of(n):
    return np.asarray([f"photo {i}.jpg" for i in range(n)], dtype=object)


def make_classes(n=300, classes=4, skill=1.5, seed=0, groups=None):
    rng = stream(seed, "predictions", n, classes)
    y = rng.integers(0, classes, n)
    z = rng.standard_normal((n, classes))
    z[np.arange(n), y] += skill
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return Predictions(ids_of(n), p, y, tuple(f"class {k}" for k in range(classes)), "classification", z, groups)


def make_labels(n=300, labels=4, seed=0):
    rng = stream(seed, "labels", n)
    z = rng.standard_normal((n, labels)) - 0.5
    p = 1 / (1 + np.exp(-2 * z))
    y = (rng.random(p.shape) < p).astype(np.int8)
    return Predictions(ids_of(n), p, y, tuple("abcdefgh"[:labels]), "multilabel", 2 * z)


def make_values(n=300, outputs=2, seed=0):
    rng = stream(seed, "values", n)
    y = rng.standard_normal((n, outputs)) * [1, 10][:outputs] + 100
    return Predictions(ids_of(n), y + rng.standard_normal(y.shape), y, ("u", "v")[:outputs], "regression")


@pytest.fixture
def classes_of():
    return make_classes


@pytest.fixture
def labels_of():
    return make_labels


@pytest.fixture
def values_of():
    return make_values
