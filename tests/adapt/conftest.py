import numpy as np
import pytest

from headstart.adapt.heads.folds import Folds
from headstart.base.seeds import stream
from headstart.tasks.classification import Classification
from headstart.tasks.multilabel import MultiLabel
from headstart.tasks.regression import Regression


def make_folds(n, k=5, seed=0, repeats=1):
    pairs = []
    for r in range(repeats):
        for held in np.array_split(stream(seed, "folds", r).permutation(n), k):
            pairs.append((np.setdiff1d(np.arange(n), held), np.sort(held)))
    return Folds.checked(n, pairs)


def make_classes(n=120, width=20, classes=3, gap=1.5, seed=0, shares=None):
    """Gaussian clouds with uneven spectrum and a mean far from 0. Every class has a row."""
    rng = stream(seed, "clouds", n, width, classes)
    y = rng.choice(classes, n, p=shares).astype(np.int64)
    y[:classes] = np.arange(classes)
    spread = np.logspace(0, -1, width)
    means = rng.standard_normal((classes, width)) * gap / np.sqrt(width)
    X = rng.standard_normal((n, width)) * spread + means[y] + 3.0
    return X.astype(np.float32), y, Classification(tuple(f"class {k}" for k in range(classes)))


def make_labels(n=150, width=12, labels=4, seed=0):
    rng = stream(seed, "labels", n)
    X = rng.standard_normal((n, width)).astype(np.float32)
    W = rng.standard_normal((width, labels))
    y = ((X @ W + rng.standard_normal((n, labels)) - 0.5) > 0).astype(np.int8)
    return X, y, MultiLabel(tuple("abcdefgh"[:labels]))


def make_values(n=150, width=12, outputs=2, seed=0):
    rng = stream(seed, "values", n)
    X = rng.standard_normal((n, width)).astype(np.float32)
    y = X @ rng.standard_normal((width, outputs)) + 0.3 * rng.standard_normal((n, outputs)) + 7.0
    return X, y, Regression(tuple("uvw"[:outputs]))


@pytest.fixture
def folds_of():
    return make_folds


@pytest.fixture
def classes_of():
    return make_classes


@pytest.fixture
def labels_of():
    return make_labels


@pytest.fixture
def values_of():
    return make_values
