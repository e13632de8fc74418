import pytest
import torch
from tests.training.toys import bits, differing, fit, toy_model
from torch.optim.optimizer import register_optimizer_step_post_hook

from headstart.adapt.plan import HEAD, Optimizer, Phase, Plan, Schedule
from headstart.training.optimizer import forget_frozen, make_optimizer, set_rates
from headstart.training.phase import enter_phase

KINDS = [
    Optimizer("sgd", weight_decay=0.1),
    Optimizer("sgd", weight_decay=0.1, momentum=0, nesterov=True),
    Optimizer("adam", weight_decay=0.1),
    Optimizer("adamw", weight_decay=0.1),
]


def step(model, optimizer):
    model(torch.rand(4, 32, 32, 3, generator=torch.Generator().manual_seed(0)) * 255).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@pytest.mark.parametrize("name", ["toy/conv", "toy/vit"])
def test_groups_hold_each_parameter_once(name):
    model = toy_model(name)
    groups = make_optimizer(model, Optimizer()).param_groups
    members = [id(p) for group in groups for p in group["params"]]
    assert sorted(members) == sorted(id(p) for p in model.parameters())
    assert len({(g["stage"], g["weight_decay"]) for g in groups}) == len(groups)
    for group in groups:
        stage = {id(p) for _, p in model.parameters_of(group["stage"])}
        assert all(id(p) in stage and (p.ndim >= 2) == (group["weight_decay"] > 0) for p in group["params"])


def test_rates_are_the_plans_times_the_schedule():
    model = toy_model()
    optimizer = make_optimizer(model, Optimizer())
    phase = Phase("p", 10, {"layer4": 3e-4, HEAD: 7e-3}, schedule=Schedule("cosine", warmup=0.3))
    for k in range(10):
        assert set_rates(optimizer, phase, k) == phase.schedule.at(k, 10)
        rates = {(g["stage"], g["lr"]) for g in optimizer.param_groups}
        expected = {(s, phase.lr.get(s, 0.0) * phase.schedule.at(k, 10)) for s in (*model.stage_names, HEAD)}
        assert rates == expected


@pytest.mark.parametrize("spec", KINDS, ids=lambda s: f"{s.kind}-{s.momentum}")
def test_the_frozen_get_no_update_no_decay_and_no_state(spec):
    model = toy_model()
    optimizer = make_optimizer(model, spec)
    phase = Phase("p", 10, {"layer4": 0.01, HEAD: 0.01})
    enter_phase(model, phase)
    before = bits(model)
    for k in range(3):
        set_rates(optimizer, phase, k)
        step(model, optimizer)
    moved = differing(before, bits(model))
    assert moved and all(n.startswith(("backbone.network.layer4.", "head.")) for n in moved)
    learning = {id(p) for s in ("layer4", HEAD) for _, p in model.parameters_of(s)}
    assert {id(p) for p, state in optimizer.state.items() if state} <= learning


@pytest.mark.parametrize("spec", KINDS, ids=lambda s: f"{s.kind}-{s.momentum}")
def test_a_stage_that_freezes_again_is_not_moved_by_its_momentum(spec):
    everything = (*toy_model().stage_names, HEAD)
    first, second = Phase("all", 4, dict.fromkeys(everything, 0.01)), Phase("head", 6, {HEAD: 0.01})
    seen, model, with_state = {}, toy_model(), []

    def observer(event):
        done = getattr(event, "done", None)
        seen.setdefault(done, bits(model))

    def watch(optimizer, *_):
        with_state.append(sum(bool(state) for state in optimizer.state.values()))

    hook = register_optimizer_step_post_hook(watch)
    try:
        fit(model, Plan("mine", (first, second), batch_size=4, optimizer=spec), observer=observer)
    finally:
        hook.remove()
    stateless = spec.kind == "sgd" and not spec.momentum
    assert with_state[3] == (0 if stateless else len(list(model.parameters())))
    assert with_state[4:] == [0 if stateless else 2] * 6  # head.weight and head.bias
    assert all(n.startswith("head.") for n in differing(seen[4], seen[10]))
    assert any(n.startswith("backbone.") for n in differing(seen[3], seen[4]))


def test_state_of_what_freezes_is_dropped_and_starts_anew():
    model = toy_model()
    optimizer = make_optimizer(model, Optimizer())
    enter_phase(model, Phase("p", 1, dict.fromkeys((*model.stage_names, HEAD), 0.1)))
    step(model, optimizer)
    enter_phase(model, Phase("p", 1, {HEAD: 0.1}))
    forget_frozen(optimizer)
    assert {id(p) for p in optimizer.state} == {id(p) for _, p in model.parameters_of(HEAD)}


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_the_first_update_has_the_closed_form(kind):
    spec = Optimizer(kind, weight_decay=0.2)
    model = toy_model(dropout=0)
    optimizer = make_optimizer(model, spec)
    phase = Phase("p", 1, {HEAD: 0.05}, schedule=Schedule("constant", warmup=0))
    enter_phase(model, phase)
    set_rates(optimizer, phase, 0)
    weight, bias = model.head.weight, model.head.bias
    before = weight.detach().double(), bias.detach().double()
    weight.grad, bias.grad = torch.full_like(weight, 0.3), torch.full_like(bias, -0.7)
    optimizer.step()
    for parameter, w, g, decay in ((weight, before[0], 0.3, 0.2), (bias, before[1], -0.7, 0.0)):
        coupled = g + decay * w
        expected = {
            "sgd": w - 0.05 * (1 + spec.momentum) * coupled,  # Nesterov's first step
            "adam": w - 0.05 * coupled / (coupled.abs() + spec.eps) if decay else w - 0.05 * torch.tensor(g).sign(),
            "adamw": w * (1 - 0.05 * decay) - 0.05 * torch.tensor(g).sign(),
        }[kind]
        assert torch.allclose(parameter.double(), expected, atol=1e-6)
