"""WiSE-FT: weights between those of two networks."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstart.adapt.interpolate import interpolated


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
