"""Hidden layers as a head: what they can join, and that they are the same wherever they stand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from headstart.adapt.heads.choose import choose
from headstart.adapt.heads.folds import Folds
from headstart.adapt.heads.head import LinearHead
from headstart.adapt.heads.perceptron import WAYS, Perceptron
from headstart.adapt.heads.rotated import rotate
from headstart.base.seeds import stream
from headstart.tasks.classification import Classification
from headstart.tasks.multilabel import MultiLabel
from headstart.tasks.regression import Regression

N = 240
TASKS = (Classification(("a", "b", "c")), MultiLabel(("a", "b")), Regression(("u", "v")), Regression(link="log"))


def made(task):
    rng = stream(0, task.name, task.outputs)
    X = rng.standard_normal((N, 5)).astype(np.float32) * 3 + 7
    if task.name == "classification":
        return X, (X[:, 0] > 7).astype(np.int64) + (X[:, 1] > 8)
    if task.name == "multilabel":
        return X, (X[:, :2] > 7).astype(np.int8)
    y = np.stack([X[:, 0] * 50 + 1e4, X[:, 1]], axis=1)[:, : task.outputs]
    return X, y.astype(np.float64)


def parts(k=3):
    order = stream(1).permutation(N)
    return Folds.checked(N, [(np.setdiff1d(order, v), np.sort(v)) for v in np.array_split(order, k)])


@pytest.mark.parametrize("task", TASKS, ids=lambda t: f"{t.name}-{t.outputs}")
def test_it_learns_and_equal_seeds_give_equal_heads(task):
    X, y = made(task)
    rotated = rotate(X)
    found = Perceptron(3).cross_validate(rotated, y, task, parts())
    said = task.decode(found.logits)
    truth = y if task.name == "regression" else task.regress_on(y) > 0
    assert np.square(said - truth).mean() < 0.5 * truth.astype(float).var(axis=0).mean()
    assert dict(found.setting) in [dict(way) for way in WAYS]
    one, two, other = (Perceptron(seed).fit(rotated, y, task, found.setting) for seed in (3, 3, 4))
    assert one.logits(X).tobytes() == two.logits(X).tobytes() != other.logits(X).tobytes()


def test_held_out_targets_are_not_seen_by_the_network_of_their_fold():
    task, folds = TASKS[0], Folds(N, (parts().pairs[0],))
    X, y = made(task)
    other = y.copy()
    val = folds.pairs[0][1]
    other[val] = (y[val] + 1) % 3
    a, b = (Perceptron().cross_validate(rotate(X), targets, task, folds) for targets in (y, other))
    if a.setting == b.setting:
        assert a.logits[val].tobytes() == b.logits[val].tobytes()


def test_logits_are_those_of_the_same_layers_in_torch():
    rng = stream(2)
    hidden = tuple((rng.standard_normal((b, a)), rng.standard_normal(b)) for a, b in ((5, 7), (7, 4)))
    head = LinearHead(rng.standard_normal((3, 4)), rng.standard_normal(3), hidden)
    X = rng.standard_normal((6, 5))
    layers = []
    for weight, bias in (*hidden, (head.weight, head.bias)):
        layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        layer.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
        layers += [layer, nn.GELU()]
    with torch.no_grad():
        expected = nn.Sequential(*layers[:-1])(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(head.logits(X), expected, rtol=1e-12)
    np.testing.assert_allclose(head.scaled(2.0).logits(X), expected / 2, rtol=1e-12)
    np.testing.assert_allclose(head.shifted(np.ones(3)).logits(X), expected + 1, rtol=1e-12)


def test_it_is_kept_beside_other_heads_only_where_it_is_shown_to_be_better():
    rng = stream(5)
    X = rng.standard_normal((400, 4)).astype(np.float32)
    order = rng.permutation(400)
    folds = [(np.setdiff1d(order, part), np.sort(part)) for part in np.array_split(order, 4)]
    joined, straight = X[:, :1] * X[:, 1:2], X[:, :1] + 0.5 * rng.standard_normal((400, 1))
    kept = [
        choose(X, y.astype(np.float64), task=Regression(), folds=folds, families=("ridge",), extra=Perceptron()).family
        for y in (joined, straight)
    ]
    assert kept == ["mlp", "ridge"]


def test_global_random_state_is_left_alone():
    before = torch.random.get_rng_state()
    X, y = made(TASKS[0])
    Perceptron().fit(rotate(X), y, TASKS[0], WAYS[0])
    assert torch.equal(before, torch.random.get_rng_state())
