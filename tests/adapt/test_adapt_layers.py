"""Weights of layers: the loss against fits that leave rows out, what they find, and when a mixture is kept."""

import numpy as np
import pytest

from headstart.adapt.heads.layers import _loss, learnt_weights, mixture, weigh
from headstart.base.seeds import stream
from headstart.tasks.classification import Classification
from headstart.tasks.regression import Regression

TASK = Classification(("a", "b", "c"))


def heard(n=90, width=8, telling=(), seed=0):
    """(n, 4, width) layers of very different scale; those in ``telling`` know the class, each by a noisy copy."""
    rng = stream(seed, "layers", n)
    y = np.arange(n) % 3
    layers = rng.normal(size=(n, 4, width))
    for layer in telling:
        layers[:, layer, :3] += 2.5 * np.eye(3)[y]
    return (layers * np.array([30.0, 5.0, 0.1, 1.0])[:, None] + 7).astype(np.float32), y


def test_the_loss_is_that_of_heads_fitted_without_the_rows():
    rng = stream(1)
    Z, Y, at = rng.normal(size=(3, 20, 6)), rng.normal(size=(20, 2)), rng.normal(size=4)
    held = [np.arange(7), np.arange(7, 12), np.arange(12, 18)]
    weights = np.exp(at[:3]) / np.exp(at[:3]).sum()
    F, slow = np.tensordot(weights, Z, 1), 0.0
    for rest in held:
        train = np.setdiff1d(np.arange(20), rest)
        B = np.linalg.solve(F[train].T @ F[train] + np.exp(at[3]) * np.eye(6), F[train].T @ Y[train])
        slow += 0.5 * np.square(Y[rest] - F[rest] @ B).sum()
    loss, gradient = _loss(at, Z, Y, held)
    assert loss == pytest.approx(slow / Y.size)
    steps = [(_loss(at + e, Z, Y, held)[0] - _loss(at - e, Z, Y, held)[0]) / 2e-5 for e in 1e-5 * np.eye(4)]
    assert gradient == pytest.approx(steps, abs=1e-7)


@pytest.mark.parametrize("layer", range(4))
def test_the_layer_that_knows_gets_the_weight_whatever_its_scale(layer):
    layers, y = heard(telling=[layer])
    weights = np.array(learnt_weights(layers, y, task=TASK, groups=np.arange(len(y))))
    assert (weights >= 0).all() and weights.sum() == pytest.approx(1, abs=1e-3)
    shares = weights * layers.std(axis=(0, 2))
    assert shares[layer] / shares.sum() > 0.8


def test_a_mixture_is_kept_where_inner_layers_know_more():
    layers, y = heard(telling=[0, 1])
    found = weigh(layers, y, task=TASK, groups=np.arange(len(y)))
    assert found.is_better and found.gain.low > 0.2 and "a mixture of the 4 layers is kept" in found.in_words


def test_the_last_layer_is_kept_where_the_others_know_nothing_or_the_same():
    for telling in ([3], [], [0, 3]):
        layers, y = heard(telling=telling)
        layers[:, 0] = layers[:, 3] if telling == [0, 3] else layers[:, 0]
        found = weigh(layers, y, task=TASK, groups=np.arange(len(y)))
        assert not found.is_better and "the last layer is kept" in found.in_words


def test_what_only_tells_groups_apart_is_not_learnt_from():
    """Layer 0 names the speaker, and each speaker says one word; layer 3 hears the word."""
    layers, y = heard(n=120, telling=[3], seed=3)
    speaker = np.arange(120) % 12  # speaker s always says word s % 3
    layers[:, 0] += 300 * stream(2).normal(size=(12, 8))[speaker]
    open_, closed = (
        np.array(learnt_weights(layers, y, task=TASK, groups=groups)) for groups in (np.arange(120), speaker)
    )
    assert closed[0] / closed[3] < 0.3 * open_[0] / open_[3]


def test_a_lower_error_is_better_for_numbers():
    layers, _ = heard()
    y = layers[:, 1, 0].astype(float)
    found = weigh(layers, y[:, None], task=Regression(("value",)), groups=np.arange(len(y)), metric="rmse")
    assert found.is_better and found.gain.high < 0


def test_a_mixture_is_the_weighted_sum_in_float32():
    layers, _ = heard()
    assert mixture(layers, (0, 0, 0, 1)).dtype == np.float32
    assert (mixture(layers, (0, 0, 0, 1)) == layers[:, 3]).all()
    assert np.allclose(mixture(layers, (0.5, 0, 0, 0.5)), layers[:, [0, 3]].mean(axis=1))
