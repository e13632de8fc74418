import copy

import pytest
import timm
import torch
from tests.training.toys import toy_model
from torch import nn

from headstart.adapt.model import AdaptedModel
from headstart.adapt.plan import HEAD, Phase, Plan, Surgery
from headstart.base.errors import PlanError
from headstart.training.phase import check_phases, enter_phase, learners, moving_statistics, refresh

EVERYTHING = ("conv1", "layer1", "layer2", "layer3", "layer4", HEAD)


def phase(*stages, **options):
    return Phase("p", 10, dict.fromkeys(stages, 1e-3), **options)


def who(model):
    """What enter_phase decides, in full."""
    return (
        {name: p.requires_grad for name, p in model.named_parameters()},
        {name: m.training for name, m in model.named_modules()},
    )


def test_learning_stages_learn_and_all_else_is_frozen_and_in_eval_mode():
    model = toy_model()
    enter_phase(model, phase("layer4", HEAD))
    learning, training = who(model)
    assert {n for n, on in learning.items() if on} == {
        n for n in learning if n.startswith(("backbone.network.layer4.", "head."))
    }
    behind = ("backbone.network.global_pool", "backbone.network.fc")  # no parameters, so part of the stage before
    modules = {n for n in training if n.startswith(("backbone.network.layer4", "head", *behind))}
    assert {n for n, on in training.items() if on} == modules


@pytest.mark.parametrize("before", [(HEAD,), EVERYTHING, ("conv1",)])
@pytest.mark.parametrize("options", [{}, {"only": "norm-and-bias"}, {"statistics": "fixed"}])
def test_entering_does_not_depend_on_what_was_before(before, options):
    there = phase("layer3", "layer4", HEAD, **options)
    fresh, used = toy_model(), toy_model()
    enter_phase(used, phase(*before))
    used.train()
    enter_phase(fresh, there)
    enter_phase(used, there)
    assert who(fresh) == who(used)
    enter_phase(used, there)
    assert who(fresh) == who(used)


def test_a_stage_that_freezes_leaves_no_gradient_behind():
    model = toy_model()
    enter_phase(model, phase(*EVERYTHING))
    model(torch.zeros(2, 32, 32, 3)).sum().backward()
    enter_phase(model, phase(HEAD))
    assert {n for n, p in model.named_parameters() if p.grad is not None} == {"head.1.weight", "head.1.bias"}


def test_fixed_statistics_keep_batch_norm_in_eval_mode_and_let_it_learn():
    model = toy_model()
    there = phase(*EVERYTHING, statistics="fixed")
    enter_phase(model, there)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and not any(m.training for m in norms) and all(m.weight.requires_grad for m in norms)
    assert model.head.training and moving_statistics(model, there) == []
    enter_phase(model, phase("layer4"))
    assert {m.training for m in model.modules_of("layer4")} == {True}
    assert 2 * sum(m.training for m in norms) == len(moving_statistics(model, phase("layer4")))


def test_norm_and_bias_are_tensors_with_one_axis_and_the_whole_head():
    model = toy_model("toy/vit", dropout=0)
    names = {n for n, _ in learners(model, phase(*model.stage_names, HEAD, only="norm-and-bias"))}
    expected = {
        n
        for n, p in model.named_parameters()
        if p.ndim == 1 or n.endswith(".bias") or n in ("head.weight", "head.bias")
    }
    assert names == expected and "head.weight" in names


def test_added_are_the_parameters_of_surgery_and_the_whole_head():
    plain = toy_model(dropout=0)
    name = "backbone.network.layer4.0.conv1.weight"
    model = AdaptedModel(plain.backbone, plain.head, frozenset([name, "backbone.network.conv1.0.weight"]))
    names = [n for n, _ in learners(model, phase("layer4", HEAD, only="added"))]
    assert names == [name, "head.weight", "head.bias"]


def test_a_phase_without_a_parameter_to_learn_is_refused():
    plan = Plan("mine", (phase(HEAD), phase("layer4", only="added")), surgery=(Surgery("lora"),))
    with pytest.raises(PlanError, match=r"PL40 phase 'p' trains nothing: its stages layer4 .* 'added'.*Name the head"):
        check_phases(toy_model(), plan)


def test_single_examples_are_refused_where_batch_norm_would_need_more():
    moving, fixed = phase("layer4", HEAD), phase("layer4", HEAD, statistics="fixed")
    with pytest.raises(PlanError, match=r"PL41 .*statistics of single examples.*batch size of 2"):
        check_phases(toy_model(), Plan("mine", (moving,), batch_size=1))
    check_phases(toy_model(), Plan("mine", (fixed,), batch_size=1))
    check_phases(toy_model("toy/vit"), Plan("mine", (phase("blocks.0", HEAD),), batch_size=1))


def test_refresh_forgets_what_a_network_remembered_of_other_weights():
    """LeViT keeps its attention biases in eval mode; they would outlive the weights they were made of."""
    torch.manual_seed(0)
    network = timm.create_model("levit_128s", num_classes=0).eval()
    other = copy.deepcopy(network)
    with torch.no_grad():
        for name, p in other.named_parameters():
            if name.endswith("attention_biases"):
                p.normal_()
        x = torch.randn(1, 3, 224, 224)
        network(x)
        network.load_state_dict(other.state_dict())
        stale = network(x)
        refresh(network)
        assert torch.equal(network(x), other(x)) and not torch.equal(stale, other(x))
