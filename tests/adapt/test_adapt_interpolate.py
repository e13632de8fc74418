"""WiSE-FT, greedy soups and BatchNorm's statistics."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from headstart.adapt.interpolate import greedy_soup, interpolated, mean_of, recalibrate_batchnorm_


def two_states():
    def state(seed):
        draws = torch.Generator().manual_seed(seed)
        return {
            "weight": torch.randn(4, 3, generator=draws),
            "half": torch.randn(5, generator=draws).to(torch.bfloat16),
            "odd": torch.tensor([-0.0, float("inf"), 1e-42, float("nan")]) * (1 + seed),
            "num_batches_tracked": torch.tensor(10 * (seed + 1)),
        }

    return state(0), state(1)


def bits(tensor):
    return tensor.contiguous().flatten().view(torch.uint8) if tensor.dim() else tensor.reshape(1).view(torch.uint8)


def test_the_ends_are_the_bits_of_the_ends_in_tensors_of_their_own():
    a, b = two_states()
    for alpha, end in ((0, a), (0.0, a), (1, b), (1.0, b)):
        mixed = interpolated(a, b, alpha)
        assert list(mixed) == list(end)
        assert all(torch.equal(bits(mixed[name]), bits(end[name])) for name in end)
        assert all(mixed[name].data_ptr() != end[name].data_ptr() for name in end)


@given(alpha=st.floats(0, 1))
def test_between_the_ends_it_is_the_straight_line(alpha):
    a, b = two_states()
    mixed = interpolated(a, b, alpha)
    line = (1 - alpha) * a["weight"].double() + alpha * b["weight"].double()
    assert torch.allclose(mixed["weight"].double(), line, atol=1e-6)
    assert mixed["half"].dtype == torch.bfloat16
    assert int(mixed["num_batches_tracked"]) == (10 if alpha <= 0.5 else 20)


def test_what_does_not_belong_together_is_refused():
    a, b = two_states()
    with pytest.raises(ValueError, match="between 0 and 1"):
        interpolated(a, b, 1.5)
    with pytest.raises(ValueError, match=r"different names.*extra"):
        interpolated(a, {**b, "extra": torch.zeros(1)}, 0.5)
    with pytest.raises(ValueError, match=r"different shapes of 'weight'"):
        interpolated(a, {**b, "weight": torch.zeros(3, 4)}, 0.5)


def test_a_mean_of_copies_is_the_copy_and_of_two_the_middle():
    a, b = two_states()
    del a["odd"], b["odd"]
    assert all(torch.equal(mean_of([a, a, a])[name], a[name]) for name in a)
    assert torch.allclose(mean_of([a, b])["weight"], interpolated(a, b, 0.5)["weight"], atol=1e-6)


def test_a_soup_takes_what_does_not_harm():
    """Weights are numbers here and the score is the nearness of their mean to 0."""
    values = {"best": 1.0, "same side": 1.5, "other side": -1.1, "far": 9.0, "near": 0.5}
    tried = []

    def score(names):
        tried.append(tuple(names))
        return -abs(sum(values[n] for n in names) / len(names))

    assert greedy_soup(list(values), score) == ["best", "other side"]
    assert tried[:3] == [("best",), ("best", "same side"), ("best", "other side")]
    assert greedy_soup([], score) == [] and greedy_soup(["far"], score) == ["far"]
    assert greedy_soup(["a", "b"], lambda names: 1.0) == ["a", "b"]
    assert greedy_soup(["a", "b"], lambda names: 1.0 if len(names) == 1 else math.nan) == ["a"]


def test_statistics_are_the_mean_over_the_batches_and_nothing_else_changes():
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.3))
    network.train()
    network[2].eval()
    batches = [torch.randn(8, 3, generator=torch.Generator().manual_seed(i)) * 3 + 1 for i in range(4)]
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    network(batches[0])  # statistics of something else
    assert recalibrate_batchnorm_(network, batches) == 2
    mean = torch.stack([b.mean(0) for b in batches]).mean(0)
    variance = torch.stack([b.var(0) for b in batches]).mean(0)
    assert torch.allclose(network[0].running_mean, mean, atol=1e-6)
    assert torch.allclose(network[0].running_var, variance, atol=1e-5)
    # Without dropout in between, and with the first layer normalising by its batch.
    inner = [network[2]((b - b.mean(0)) / torch.sqrt(b.var(0, unbiased=False) + 1e-5)) for b in batches]
    assert torch.allclose(network[3].running_mean, torch.stack([z.mean(0) for z in inner]).mean(0), atol=1e-5)
    assert int(network[3].num_batches_tracked) == 4
    assert [m.training for m in network] == [True, True, False, True]
    assert [network[0].momentum, network[3].momentum] == [0.1, 0.3]
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in network.named_parameters())


def test_without_batchnorm_there_is_nothing_to_do_and_without_batches_it_says_so():
    assert recalibrate_batchnorm_(nn.Linear(2, 2), []) == 0
    network = nn.BatchNorm1d(2)
    network.running_mean.fill_(7.0)
    with pytest.raises(ValueError, match="no batches"):
        recalibrate_batchnorm_(network, [])
    assert (network.running_mean == 7).all()
