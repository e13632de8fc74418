"""A step that goes wrong leaves the weights as they were, and says what it was."""

import re

import numpy as np
import pytest
import torch
from tests.training.toys import IDS, WholeFeed, bits, differing, fit, labels, pictures, toy_model
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from headstart.adapt.penalties import References, penalties_for
from headstart.adapt.plan import HEAD, Optimizer, Penalty, Phase, Plan, Schedule
from headstart.base.errors import TrainingFault
from headstart.base.progress import Advanced
from headstart.training.checkpoint import Checkpoints
from headstart.training.loop import LoopSettings

STEPS = 4


def plan_of(model, **changes):
    phase = Phase("fine-tune", STEPS, dict.fromkeys((*model.stage_names, HEAD), 1e-3), schedule=Schedule(warmup=0))
    return Plan("mine", (phase,), **({"batch_size": 4} | changes))


# ----------------------------------------------------------------------------------------------- numbers that are none


class Spoiled(nn.Module):
    """The model, with something broken in the forward pass of one step."""

    def __init__(self, model, at, spoil):
        super().__init__()
        self.model, self.at, self.spoil, self.step = model, at, spoil, -1

    def forward(self, inputs):
        self.step += 1
        if self.step == self.at:
            return self.spoil(self.model, inputs)
        return self.model(inputs)


def bad_weight(value):
    def spoil(model, inputs):
        with torch.no_grad():
            model.backbone.network.layer2[0].conv1.weight[0, 0, 0, 0] = value
        return model(inputs)

    return spoil


def bad_gradient(value):
    def spoil(model, inputs):
        model.backbone.network.layer3[0].conv1.weight.register_hook(lambda g: g * value)
        return model(inputs)

    return spoil


def bad_logits(value):
    return lambda model, inputs: model(inputs) * torch.tensor([[1.0], [value], [1.0], [1.0]])


SPOILS = {
    "weight": (bad_weight, "the weight 'model.backbone.network.layer2.0.conv1.weight'"),
    "gradient": (bad_gradient, "the gradient of 'backbone.network.layer3.0.conv1.weight'"),
    "loss": (bad_logits, "the loss of 1 of 4 examples"),
}


@pytest.mark.parametrize(
    ("value", "precision"),
    [(float("nan"), "float32"), (float("inf"), "float32"), (float("-inf"), "float32"), (float("nan"), "bf16")],
)
@pytest.mark.parametrize("at", [0, 2, STEPS - 1])
@pytest.mark.parametrize("kind", SPOILS)
def test_what_is_not_finite_is_caught_in_its_step_before_the_update(kind, at, value, precision):
    make, sentence = SPOILS[kind]
    model = toy_model(dropout=0)
    states = {0: bits(model)}

    def observer(event):
        if isinstance(event, Advanced):
            states[event.done] = bits(model)

    feed = WholeFeed(Spoiled(model, at, make(value)), pictures(), labels())
    with pytest.raises(TrainingFault) as caught:
        settings = LoopSettings(precision=precision)
        fit(model, plan_of(model), feed=feed, observer=observer, settings=settings)
    message = str(caught.value)
    assert message.startswith(f"TR01 step {at} of {STEPS}, phase 'fine-tune': the ") and sentence in message
    assert f"the weights are those after step {at - 1}" in message
    assert len(re.findall(r"photo-\d\d\.png", message)) == (1 if kind == "loss" else 4)
    spoiled = ["backbone.network.layer2.0.conv1.weight"] if kind == "weight" else []
    assert differing(states[at], bits(model)) == spoiled  # statistics of BatchNorm too
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["inputs", "targets"])
def test_an_example_that_is_not_finite_is_named(where, value):
    images, targets = pictures().astype(np.float32), torch.linspace(-1, 1, len(IDS))
    if where == "inputs":
        images[13, 0, 0, 0] = value
    else:
        targets[13] = value
    model = toy_model(dropout=0)
    before = bits(model)
    feed = WholeFeed(model, images, targets, 20)

    def squared(logits, values):
        return (logits[:, 0] - values).square()

    with pytest.raises(TrainingFault, match=rf"TR01 step 0 .*the {where} of 1 of 20 examples\. Examples: photo-13.png"):
        fit(model, plan_of(model, batch_size=20), feed=feed, loss=squared)
    assert not differing(before, bits(model))


def test_micro_batches_name_the_same_example():
    images = pictures().astype(np.float32)
    images[13] = np.nan
    model = toy_model(dropout=0)
    feed = WholeFeed(model, images, labels(), 20)
    with pytest.raises(TrainingFault, match=r"the inputs of 1 of 20 examples\. Examples: photo-13.png\."):
        fit(model, plan_of(model, batch_size=20), feed=feed, settings=LoopSettings(micro_batch=6))


@pytest.mark.parametrize("at", [1, STEPS])
def test_weights_that_an_update_broke_are_not_kept(tmp_path, at):
    """Nothing was wrong with the step, and no further one may come to notice."""
    model, checkpoints = toy_model(), Checkpoints(tmp_path, run_id="test")
    done = []

    def spoil(*_):
        done.append(1)
        if len(done) == at:
            with torch.no_grad():
                model.head[1].bias[0] = float("inf")

    hook = register_optimizer_step_post_hook(spoil)
    try:
        with pytest.raises(
            TrainingFault, match=rf"TR05 the update of step {at - 1} .* 1 of \d+ weights \(head.1.bias\)"
        ):
            fit(model, plan_of(model), checkpoints=checkpoints, settings=LoopSettings(checkpoint_every=1))
    finally:
        hook.remove()
    newest = checkpoints.newest()
    assert (newest.step if newest else 0) == at - 1


# ----------------------------------------------------------------------------------------------------------- memory


CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory")


class Fails:
    """Raises ``error`` at the n-th forward of one module, or the n-th gradient that reaches one."""

    def __init__(self, model, path, *, backward, at, error):
        self.left, self.error, self.fired = at, error, 0
        module = model.backbone.network.get_submodule(path)
        if backward:
            next(module.parameters()).register_hook(self)
        else:
            module.register_forward_hook(self)

    def __call__(self, *_):
        self.left -= 1
        if self.left == -1:
            self.fired += 1
            raise self.error


@pytest.mark.parametrize("error", [CUDA, CPU], ids=["cuda", "cpu"])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("path", ["conv1.0", "layer1.0.bn1", "layer3", "layer4.0.conv2"])
def test_out_of_memory_in_the_first_step_is_as_if_half_had_been_chosen(path, backward, error):
    if backward and path == "layer3":
        path = "layer3.0.conv1"
    hit, chosen = toy_model(), toy_model()
    fails = Fails(hit, path, backward=backward, at=0, error=error)
    after = fit(hit, plan_of(hit), settings=LoopSettings(micro_batch=4)).history
    expected = fit(chosen, plan_of(chosen), settings=LoopSettings(micro_batch=2)).history
    assert fails.fired == 1 and after.micro_batch == expected.micro_batch == 2
    assert [(s.loss, s.norm) for s in after.steps] == [(s.loss, s.norm) for s in expected.steps]
    assert not differing(bits(hit), bits(chosen))


def test_memory_that_fails_twice_is_halved_twice():
    hit, chosen = toy_model("toy/vit"), toy_model("toy/vit")
    for at in (0, 1):
        Fails(hit, "blocks.1", backward=False, at=at, error=CUDA)
    assert fit(hit, plan_of(hit)).history.micro_batch == 1
    fit(chosen, plan_of(chosen), settings=LoopSettings(micro_batch=1))
    assert not differing(bits(hit), bits(chosen))


def test_out_of_memory_in_a_later_step_halves_from_that_step_on():
    """A micro-batch fails in step 2; the steps before stay as they were made."""
    hit, plain = toy_model(), toy_model()
    Fails(hit, "layer2", backward=False, at=2, error=CUDA)
    a, b = fit(hit, plan_of(hit)).history, fit(plain, plan_of(plain)).history
    assert [s.loss for s in a.steps[:2]] == [s.loss for s in b.steps[:2]] and a.steps[2].loss != b.steps[2].loss
    assert (a.micro_batch, b.micro_batch) == (2, 4)


def test_micro_batches_change_only_rounding_where_nothing_depends_on_the_batch():
    whole, parts = toy_model("toy/vit", dropout=0), toy_model("toy/vit", dropout=0)
    sgd = {"optimizer": Optimizer("sgd"), "batch_size": 5}
    a = fit(whole, plan_of(whole, **sgd), settings=LoopSettings()).history
    b = fit(parts, plan_of(parts, **sgd), settings=LoopSettings(micro_batch=2)).history
    assert [s.loss for s in a.steps] == pytest.approx([s.loss for s in b.steps], rel=1e-5)
    for (name, p), (_, q) in zip(whole.named_parameters(), parts.named_parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-6), name


def test_a_penalty_counts_once_however_the_batch_is_divided():
    losses = {}
    for micro_batch in (5, 2):
        model = toy_model("toy/vit", dropout=0)
        phase = Phase("p", 3, {"blocks.5": 0.01, HEAD: 0.01}, penalties=(Penalty("l2-sp", 50.0, 5.0),))
        loaded = References(toy_model("toy/vit").backbone)
        history = fit(
            model,
            Plan("mine", (phase,), batch_size=5, optimizer=Optimizer("sgd")),
            settings=LoopSettings(micro_batch=micro_batch),
            penalties=lambda phase, module, model=model, loaded=loaded: penalties_for(phase, model, module, loaded),
        ).history
        losses[micro_batch] = [row.loss for row in history.steps]
    assert losses[2] == pytest.approx(losses[5], rel=1e-5)


@pytest.mark.parametrize(("name", "few"), [("toy/vit", "a single example"), ("toy/conv", "two examples")])
def test_what_fits_in_no_way_is_said(name, few):
    model = toy_model(name)
    before = bits(model)

    def full(*_):
        raise CUDA

    model.backbone.network.register_forward_hook(full)
    with pytest.raises(TrainingFault, match=f"TR02 step 0 of 4, phase 'fine-tune': memory does not suffice for {few}"):
        fit(model, plan_of(model))
    assert not differing(before, bits(model))


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 cannot be multiplied"), ValueError("no"), KeyError()])
def test_other_errors_are_not_taken_for_lack_of_memory(error):
    model = toy_model()
    Fails(model, "layer3", backward=False, at=1, error=error)
    with pytest.raises(type(error)) as caught:
        fit(model, plan_of(model))
    assert caught.value is error


def test_lack_of_memory_in_the_optimiser_and_in_validation_is_said():
    def full(*_):
        raise CUDA

    model = toy_model()
    hook = register_optimizer_step_pre_hook(full)
    try:
        with pytest.raises(TrainingFault, match=r"TR03 step 0 of 4: .*optimiser.*Freeze more stages"):
            fit(model, plan_of(model))
    finally:
        hook.remove()
    with pytest.raises(TrainingFault, match=r"TR04 after step 1: .*validation.*smaller batches"):
        fit(toy_model(), plan_of(model), validate=full)
