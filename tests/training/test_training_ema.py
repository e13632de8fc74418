import pytest
import torch
from tests.training.toys import bits, differing, fit, toy_model, validation_of

from headstart.adapt.plan import HEAD, Phase, Plan
from headstart.base.progress import Advanced
from headstart.training.ema import Ema


def test_the_mean_has_the_closed_form_and_its_half_life():
    weight = torch.tensor([1.0, -2.0], dtype=torch.float64)
    ema = Ema({"w": weight, "count": torch.tensor(3)}, half_life=5.0)
    values = [weight.clone()]
    for k in range(10):
        weight.copy_(torch.tensor([k + 0.5, k * k], dtype=torch.float64))
        values.append(weight.clone())
        ema.update()
    d = 0.5 ** (1 / 5)
    expected = d**10 * values[0] + sum((1 - d) * d ** (10 - k) * v for k, v in enumerate(values) if k)
    assert d**5 == pytest.approx(0.5) and list(ema.values) == ["w"]
    assert torch.allclose(ema.values["w"], expected, rtol=1e-12)


def test_what_does_not_move_keeps_its_bits():
    weight = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    ema = Ema({"w": weight}, half_life=3.0)
    for _ in range(50):
        ema.update()
    assert torch.equal(ema.values["w"], weight)


def test_swapping_in_gives_the_mean_and_gives_the_weights_back():
    weight = torch.rand(10)
    ema = Ema({"w": weight}, half_life=1.0)
    weight += 1
    ema.update()
    own = weight.clone()
    with pytest.raises(KeyError), ema.swapped_in():
        assert torch.equal(weight, ema.values["w"]) and not torch.equal(weight, own)
        raise KeyError
    assert torch.equal(weight, own)


def test_without_a_half_life_nothing_happens():
    weight = torch.rand(3)
    ema = Ema({"w": weight}, half_life=None)
    ema.update()
    with ema.swapped_in():
        assert not ema.values


def test_validation_sees_the_mean_and_training_goes_on_from_the_weights():
    everything = (*toy_model().stage_names, HEAD)
    plan = Plan("mine", (Phase("all", 6, dict.fromkeys(everything, 0.01)),), batch_size=4, ema=0.5, validations=3)
    watched, plain, unwatched = toy_model(), toy_model(), toy_model()
    seen = []

    def validate():
        seen.append(bits(watched))
        assert not any(m.training for m in watched.modules())
        return validation_of(watched)()

    fit(watched, plan, validate=validate)
    fit(unwatched, plan)  # ends with the mean of the last step, as nothing tells which is better
    fit(plain, Plan("mine", plan.phases, batch_size=4))
    assert not differing(seen[-1], bits(unwatched))
    assert len(differing(bits(plain), bits(unwatched))) > 10


def test_the_loop_moves_the_mean_once_a_step():
    model, weights = toy_model(), [toy_model().head[1].weight.detach().double()]

    def observer(event):
        if isinstance(event, Advanced):
            weights.append(model.head[1].weight.detach().double())

    plan = Plan("mine", (Phase("head", 8, {HEAD: 0.1}),), batch_size=4, ema=0.25)
    fit(model, plan, observer=observer)
    d, mean = 0.5 ** (1 / 2), weights[0]
    for weight in weights[1:]:
        mean = d * mean + (1 - d) * weight
    assert torch.allclose(model.head[1].weight.double(), mean, atol=1e-6)
    assert not torch.allclose(weights[-1], mean, atol=1e-3)
