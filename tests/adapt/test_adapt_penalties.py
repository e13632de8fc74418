"""Penalties against closed forms, numpy's SVD, finite differences, and the loaded network run by itself."""

from __future__ import annotations

import copy
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from headstart.adapt.model import assemble
from headstart.adapt.penalties import (
    Penalties,
    References,
    SourceClassifier,
    penalties_for,
    relationship,
)
from headstart.adapt.penalties.bss import smallest_energy
from headstart.adapt.penalties.delta import map_distance, spread_out
from headstart.adapt.plan import HEAD, Head, Penalty, Phase, Plan, Surgery
from headstart.backbones.catalogue import catalogue
from headstart.backbones.cut import cut
from headstart.base.errors import PlanError
from headstart.base.seeds import stream
from headstart.tasks.classification import Classification

TASK = Classification(("ant", "bee", "cat"))
LAST = {"toy/conv": "layer4", "toy/vit": "blocks.5"}  # the last block, a stage of its own
networks = pytest.mark.parametrize("name", ["toy/conv", "toy/vit"])


@pytest.fixture(scope="module")
def loaded_of():
    loaded = {name: catalogue.load(name) for name in LAST}
    before = {name: copy.deepcopy(backbone.state_dict()) for name, backbone in loaded.items()}
    yield loaded.__getitem__
    for name, backbone in loaded.items():  # the loaded network is read, never changed
        assert all(torch.equal(before[name][key], tensor) for key, tensor in backbone.state_dict().items())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in backbone.modules())


def phase_of(loaded, *penalties, stages=None):
    stages = [stage.name for stage in loaded.stages][1:] if stages is None else stages
    return Phase("all", 10, {HEAD: 1e-3, **dict.fromkeys(stages, 1e-4)}, penalties=penalties)


def model_of(loaded, phase, surgery=()):
    """With exactly the stages of ``phase`` learning, in eval mode, so that a forward can be repeated."""
    plan = Plan("test", (phase,), head=Head("random"), surgery=surgery)
    model = assemble(loaded, TASK, plan, probe=None, seed=0)
    learning = {name for stage in phase.lr for name, _ in model.parameters_of(stage)}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in learning)
    return model


def moved_(model, scale=0.01, names=None):
    """Every learning parameter (or those of ``names``) a random bit away from where it was."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad if names is None else name in names:
            noise = stream(0, name).normal(0, scale, tuple(parameter.shape))
            parameter.data += torch.as_tensor(noise, dtype=parameter.dtype)
    return model


def batch_of(n=6, size=64):
    pixels = stream(0, "pixels").integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    return torch.as_tensor(pixels), torch.arange(n) % 3


def value_of(phase, model, loaded, inputs, targets, module=None, **references):
    module = model if module is None else module
    with penalties_for(phase, model, module, References(loaded, **references)) as penalties:
        module(inputs)
        return penalties(inputs, targets)


# --- BSS ------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(b=st.integers(1, 12), d=st.integers(1, 12), k=st.integers(1, 14), seed=st.integers(0, 10**6))
def test_the_smallest_energy_is_that_of_the_smallest_singular_values(b, d, k, seed):
    features = stream(seed).normal(size=(b, d))
    singular = np.linalg.svd(features, compute_uv=False)  # min(b, d) of them, falling
    expected = (singular[::-1][:k] ** 2).sum()
    assert smallest_energy(torch.as_tensor(features), k).item() == pytest.approx(expected, rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5), (1, 6), (6, 1)])
@pytest.mark.parametrize("k", [1, 2])
def test_the_gradient_of_the_smallest_energy_agrees_with_finite_differences(shape, k):
    features = torch.as_tensor(stream(3, *shape).normal(size=shape)).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: smallest_energy(f, k), (features,))


def test_equal_singular_values_have_a_finite_gradient():
    features = torch.eye(4, 7).requires_grad_()
    smallest_energy(features).backward()
    assert torch.isfinite(features.grad).all()


def test_the_smallest_energy_depends_neither_on_row_order_nor_on_rotations():
    rng = stream(0, "rotate")
    features = torch.as_tensor(rng.normal(size=(6, 10)))
    rotation = torch.as_tensor(np.linalg.qr(rng.normal(size=(10, 10)))[0])
    value = smallest_energy(features)
    torch.testing.assert_close(smallest_energy(features[torch.as_tensor(rng.permutation(6))]), value)
    torch.testing.assert_close(smallest_energy(features @ rotation), value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_repeated_rows_have_no_smallest_energy_in_any_precision(dtype):
    features = torch.as_tensor(stream(0, "twice").normal(0, 100, (6, 10)), dtype=dtype)
    twice = torch.cat([features, features])
    with torch.autocast("cpu", torch.bfloat16):
        assert abs(smallest_energy(twice).item()) < 1e-9


def test_features_that_are_not_finite_are_left_for_the_loop_to_find():
    for bad in (float("nan"), float("inf")):
        features = torch.ones(3, 5)
        features[1, 2] = bad
        assert not torch.isfinite(smallest_energy(features.requires_grad_()))


@networks
def test_bss_sees_what_goes_into_the_head(name, loaded_of):
    loaded, (inputs, targets) = loaded_of(name), batch_of()
    phase = phase_of(loaded, Penalty("bss", 0.001))
    model = moved_(model_of(loaded, phase))
    features = model.features(inputs).detach().double().numpy()
    expected = 0.001 * np.linalg.svd(features, compute_uv=False)[-1] ** 2
    assert value_of(phase, model, loaded, inputs, targets).item() == pytest.approx(expected, rel=1e-5)


# --- L2-SP ----------------------------------------------------------------------------------------------------------


@networks
def test_l2_sp_is_zero_with_a_gradient_of_exactly_zero_at_the_loaded_weights(name, loaded_of):
    loaded, (inputs, targets) = loaded_of(name), batch_of()
    phase = phase_of(loaded, Penalty("l2-sp", 0.01))
    model = model_of(loaded, phase)
    value = value_of(phase, model, loaded, inputs, targets)
    value.backward()
    assert value == 0
    gradients = {n: p.grad for n, p in model.named_parameters() if n.startswith("backbone.") and p.requires_grad}
    assert gradients and all(g is not None and not g.any() for g in gradients.values())


@networks
def test_l2_sp_is_half_the_weighted_squared_way_from_the_loaded_weights(name, loaded_of):
    loaded, (inputs, targets) = loaded_of(name), batch_of()
    phase = phase_of(loaded, Penalty("l2-sp", 0.03, head_weight=0.5))
    model = moved_(model_of(loaded, phase))
    value = value_of(phase, model, loaded, inputs, targets)
    value.backward()
    start = dict(loaded.named_parameters())
    ways = {
        n: (p - start[n.removeprefix("backbone.")]).detach()
        for n, p in model.named_parameters()
        if n.startswith("backbone.") and p.requires_grad
    }
    head = {n: p.detach() for n, p in model.named_parameters() if n.startswith("head.")}
    assert set(head) == {"head.weight", "head.bias"}
    expected = 0.015 * sum((w.double() ** 2).sum() for w in ways.values())
    expected += 0.25 * sum((w.double() ** 2).sum() for w in head.values())
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    for n, p in model.named_parameters():
        if p.requires_grad:
            torch.testing.assert_close(p.grad, 0.03 * ways[n] if n in ways else 0.5 * head[n])


def test_l2_sp_counts_learning_parameters_only(loaded_of):
    loaded, (inputs, targets) = loaded_of("toy/conv"), batch_of()
    phase = phase_of(loaded, Penalty("l2-sp", 0.01), stages=["layer4"])
    model = model_of(loaded, phase)
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert value_of(phase, moved_(model, names=frozen), loaded, inputs, targets) == 0
    biases = [(n, p) for n, p in model.parameters_of("layer4") if p.ndim == 1]
    for _, p in model.parameters_of("layer4"):
        p.requires_grad_(p.ndim == 1)  # as a phase with only='norm-and-bias'
    moved_(model, names=[n for n, p in model.parameters_of("layer4") if p.ndim > 1])
    assert value_of(phase, model, loaded, inputs, targets) == 0
    moved_(model, names=[n for n, _ in biases])
    assert value_of(phase, model, loaded, inputs, targets) > 0


def test_l2_sp_copies_no_weights(loaded_of):
    loaded = loaded_of("toy/conv")
    phase = phase_of(loaded, Penalty("l2-sp", 0.01))
    with penalties_for(phase, model_of(loaded, phase), nn.Identity(), References(loaded)) as penalties:
        (term,) = penalties._terms
        own = {tensor.data_ptr() for tensor in loaded.state_dict().values()}
        assert term._pairs and all(start.data_ptr() in own for _, start in term._pairs)


@pytest.mark.parametrize("kind", ["lora", "adapter"])
def test_what_surgery_added_has_no_starting_point(kind, loaded_of):
    loaded, (inputs, targets) = loaded_of("toy/vit"), batch_of()
    phase = phase_of(loaded, Penalty("l2-sp", 0.01))
    model = model_of(loaded, phase, surgery=(Surgery(kind, rank=4),))
    assert model.added
    assert value_of(phase, moved_(model, scale=1.0, names=model.added), loaded, inputs, targets) == 0
    moved = moved_(model, names=[n for n, _ in model.parameters_of("blocks.3") if n not in model.added])
    assert value_of(phase, moved, loaded, inputs, targets) > 0


# --- DELTA ----------------------------------------------------------------------------------------------------------


def reference_distance(learnt, loaded, axis):
    """½ of the squared distance of all channels, a mean over examples and positions."""
    squares = (np.asarray(learnt, np.float64) - np.asarray(loaded, np.float64)) ** 2
    return 0.5 * squares.sum(axis=axis).mean()


@pytest.mark.parametrize(
    ("shape", "axis"), [((4, 5), 1), ((4, 7, 5), 2), ((4, 5, 3, 3), 1), ((4, 3, 3, 5), 3), ((4, 3, 3, 3), 1)]
)
def test_the_distance_of_maps_is_that_of_channels_averaged_over_examples_and_positions(shape, axis):
    rng = stream(0, "maps", *shape)
    learnt, loaded = (torch.as_tensor(rng.normal(size=shape)) for _ in range(2))
    value = map_distance(learnt, loaded)
    assert value.item() == pytest.approx(reference_distance(learnt, loaded, axis), rel=1e-12)
    attention = rng.uniform(0, 2, shape[axis])
    by_channel = np.moveaxis((learnt - loaded).numpy() ** 2, axis, -1)
    weighted = map_distance(learnt, loaded, torch.as_tensor(attention))
    assert weighted.item() == pytest.approx(0.5 * (by_channel * attention).sum(axis=-1).mean(), rel=1e-12)


def test_an_attention_of_ones_is_no_attention_and_the_distance_is_quadratic():
    rng = stream(0, "maps")
    learnt, loaded = (torch.as_tensor(rng.normal(size=(2, 5, 3, 3))) for _ in range(2))
    value = map_distance(learnt, loaded)
    torch.testing.assert_close(map_distance(learnt, loaded, torch.ones(5)), value)
    torch.testing.assert_close(map_distance(loaded + 3 * (learnt - loaded), loaded), 9 * value)
    assert map_distance(learnt, learnt) == 0
    learnt.requires_grad_()
    assert torch.autograd.gradcheck(lambda maps: map_distance(maps, loaded), (learnt,))


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 60), most=st.integers(1, 8))
def test_compared_stages_end_equal_stretches(n, most):
    stages = [str(i) for i in range(n)]
    chosen = [int(s) for s in spread_out(stages, most)]
    assert chosen[-1] == n - 1 and len(chosen) == min(n, most)
    lengths = np.diff([-1, *chosen])
    assert lengths.min() >= 1 and lengths.max() - lengths.min() <= 1


def outputs_of(backbone, stages, inputs):
    """Stage → its output in the loaded network, run by itself."""
    found = {}
    with ExitStack() as hooks, torch.no_grad():
        for stage in stages:
            module = backbone.network.get_submodule(stage)
            keep = lambda _, args, output, stage=stage: found.__setitem__(stage, output)  # noqa: E731
            hooks.callback(module.register_forward_hook(keep).remove)
        backbone.from_pixels()(inputs)
    return found


@networks
@pytest.mark.parametrize("surgery", [(), ("lora",), ("adapter",)], ids=["plain", "lora", "adapter"])
def test_delta_is_the_distance_from_the_loaded_network_run_by_itself(name, surgery, loaded_of):
    loaded, (inputs, targets) = loaded_of(name), batch_of()
    phase = phase_of(loaded, Penalty("delta", 0.7), stages=[s.name for s in loaded.stages][1:5])
    model = model_of(loaded, phase, surgery=tuple(Surgery(kind, rank=4) for kind in surgery))
    assert value_of(phase, model, loaded, inputs, targets) == 0
    moved_(model)
    for statistic in model.backbone.buffers():  # they move in training as weights do
        if statistic.is_floating_point():
            statistic.mul_(1.1)
    stages = [s.name for s in loaded.stages][1:5]
    learnt, before = outputs_of(model.backbone, stages, inputs), outputs_of(loaded, stages, inputs)
    axis = 1 if name == "toy/conv" else 2
    expected = 0.7 * sum(reference_distance(learnt[s], before[s], axis) for s in stages)
    value = value_of(phase, model, loaded, inputs, targets)
    assert value.item() == pytest.approx(expected, rel=1e-4)
    value.backward()
    assert all(p.grad.any() for n, p in model.parameters_of(stages[1]) if "weight" in n)


@networks
def test_delta_follows_a_phase_behind_its_frozen_border(name, loaded_of):
    loaded, (inputs, targets) = loaded_of(name), batch_of()
    stages = [s.name for s in loaded.stages]
    border = stages[3]
    phase = phase_of(loaded, Penalty("delta", 1.0), Penalty("bss", 0.1), Penalty("l2-sp", 0.1), stages=stages[3:])
    model = moved_(model_of(loaded, phase))
    whole = value_of(phase, model, loaded, inputs, targets)
    parts = cut(model.backbone, border)
    tail = nn.Sequential(parts.tail, model.head)
    with torch.no_grad():
        activations = parts.prefix(inputs)
    behind = value_of(phase, model, loaded, activations, targets, module=tail)
    assert whole > 0
    torch.testing.assert_close(behind, whole, rtol=1e-4, atol=1e-7)


def test_delta_leaves_modes_statistics_and_tensors_where_they_were(loaded_of):
    loaded, (inputs, targets) = loaded_of("toy/conv"), batch_of()
    phase = phase_of(loaded, Penalty("delta", 1.0))
    model = moved_(model_of(loaded, phase)).train()
    model.backbone.network.conv1.eval()
    with penalties_for(phase, model, model, References(loaded)) as penalties:
        model(inputs)
        tensors = {n: (id(t), t.detach().clone()) for n, t in model.state_dict(keep_vars=True).items()}
        modes = [m.training for m in model.modules()]
        penalties(inputs, targets)
        assert modes == [m.training for m in model.modules()]
        for n, t in model.state_dict(keep_vars=True).items():
            assert id(t) == tensors[n][0] and torch.equal(t, tensors[n][1])


@networks
def test_delta_computes_in_the_precision_of_the_training_forward(name, loaded_of):
    """The loop asks outside autocast; against float32 the rounding of bf16 alone would be a distance."""
    loaded, (inputs, targets) = loaded_of(name), batch_of()
    phase = phase_of(loaded, Penalty("delta", 1.0))
    model = model_of(loaded, phase)
    with penalties_for(phase, model, model, References(loaded)) as penalties:
        with torch.autocast("cpu", torch.bfloat16):
            model(inputs)
        assert penalties(inputs, targets) == 0


def test_attention_weighs_the_channels_of_its_stage(loaded_of):
    loaded, (inputs, targets) = loaded_of("toy/conv"), batch_of()
    phase = phase_of(loaded, Penalty("delta", 1.0), stages=["layer4"])
    model = moved_(model_of(loaded, phase))
    learnt, before = (outputs_of(b, ["layer4"], inputs)["layer4"] for b in (model.backbone, loaded))
    attention = stream(0, "attention").uniform(0, 2, learnt.shape[1])
    by_channel = ((learnt - before).numpy() ** 2).mean(axis=(0, 2, 3))
    value = value_of(phase, model, loaded, inputs, targets, attention={"layer4": attention})
    assert value.item() == pytest.approx(0.5 * (attention * by_channel).sum(), rel=1e-4)


# --- co-tuning ------------------------------------------------------------------------------------------------------


def source_of(width, sources=5, seed=0):
    rng = stream(seed, "source")
    p = rng.dirichlet(np.ones(sources), 30)
    return SourceClassifier(
        rng.normal(0, 0.1, (sources, width)), rng.normal(size=sources), relationship(p, np.arange(30) % 3, 3)
    )


def test_the_relationship_is_the_mean_of_each_class():
    rng = stream(0, "relationship")
    p, y = rng.dirichlet(np.ones(7), 20), rng.integers(0, 3, 20)
    y[:3] = [0, 1, 2]
    R = relationship(p, y, 3)
    np.testing.assert_allclose(R, [p[y == k].mean(axis=0) for k in range(3)], rtol=1e-12)
    np.testing.assert_allclose(R.sum(axis=1), 1, rtol=1e-12)
    order = rng.permutation(20)
    np.testing.assert_allclose(relationship(p[order], y[order], 3), R, rtol=1e-12)
    np.testing.assert_allclose(relationship(p.astype(np.float16), y, 3).sum(axis=1), 1, rtol=1e-12)


def test_a_class_without_rows_goes_with_what_all_rows_go_with():
    p = stream(0).dirichlet(np.ones(4), 6)
    R = relationship(p, np.array([0, 0, 0, 2, 2, 2]), 3)
    np.testing.assert_allclose(R[1], p.mean(axis=0))


def test_co_tuning_is_the_cross_entropy_of_the_source_classifier_against_the_relationship(loaded_of):
    loaded, (inputs, targets) = loaded_of("toy/conv"), batch_of()
    phase, source = phase_of(loaded, Penalty("co-tuning", 2.3)), source_of(loaded.card.feature_dim)
    model = moved_(model_of(loaded, phase))
    z = model.features(inputs).detach().double().numpy() @ source.weight.T + source.bias
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    expected = -2.3 * (source.relationship[targets] * log_p).sum(axis=1).mean()
    value = value_of(phase, model, loaded, inputs, targets, source=source)
    assert value.item() == pytest.approx(expected, rel=1e-5)
    value.backward()
    assert all(p.grad.any() for n, p in model.parameters_of("layer4") if p.ndim > 1)


def test_co_tuning_is_least_where_the_source_classifier_answers_the_relationship(loaded_of):
    loaded, (inputs, _) = loaded_of("toy/conv"), batch_of()
    phase, width = phase_of(loaded, Penalty("co-tuning", 1.0)), loaded.card.feature_dim
    R = source_of(width).relationship
    model, entropy = model_of(loaded, phase), -(R * np.log(R)).sum(axis=1)
    for k in range(3):
        exact = SourceClassifier(np.zeros((5, width)), np.log(R[k]), R)
        other = SourceClassifier(np.zeros((5, width)), np.log(R[k]) + 0.1 * np.eye(5)[0], R)
        targets = torch.full((6,), k)
        least = value_of(phase, model, loaded, inputs, targets, source=exact).item()
        assert least == pytest.approx(entropy[k], rel=1e-5)
        assert value_of(phase, model, loaded, inputs, targets, source=other) > least


def test_co_tuning_of_mixed_targets_is_the_mixture(loaded_of):
    loaded, (inputs, targets) = loaded_of("toy/conv"), batch_of()
    phase, source = phase_of(loaded, Penalty("co-tuning", 1.0)), source_of(loaded.card.feature_dim)
    model = model_of(loaded, phase)
    mixed = 0.3 * F.one_hot(targets, 3) + 0.7 * F.one_hot(targets.flip(0), 3)
    first, second, both = (
        value_of(phase, model, loaded, inputs, t, source=source) for t in (targets, targets.flip(0), mixed)
    )
    torch.testing.assert_close(both, 0.3 * first + 0.7 * second)


def test_co_tuning_without_the_source_classifier_says_what_is_missing(loaded_of):
    loaded = loaded_of("toy/conv")
    phase = phase_of(loaded, Penalty("co-tuning", 1.0))
    with pytest.raises(PlanError, match=r"PL52 phase 'all', penalty 'co-tuning' needs the classifier that toy/conv"):
        penalties_for(phase, model_of(loaded, phase), nn.Identity(), References(loaded))


# --- how terms live with the loop -----------------------------------------------------------------------------------

ALL = (Penalty("l2-sp", 0.1, 0.2), Penalty("bss", 0.1), Penalty("delta", 0.1), Penalty("co-tuning", 0.1))


def test_a_phase_without_penalties_adds_nothing(loaded_of):
    loaded, (inputs, targets) = loaded_of("toy/conv"), batch_of()
    phase = phase_of(loaded)
    model = model_of(loaded, phase)
    with penalties_for(phase, model, model, References(loaded)) as penalties:
        assert len(penalties) == 0 and penalties(inputs, targets) == 0
    assert Penalties((), ExitStack())(inputs, targets) == 0


def test_a_phase_of_the_head_alone_has_nothing_to_hold_back(loaded_of):
    loaded, (inputs, targets) = loaded_of("toy/conv"), batch_of()
    phase = phase_of(loaded, Penalty("delta", 1.0), Penalty("l2-sp", 1.0, head_weight=0.5), stages=[])
    model = model_of(loaded, phase)
    features = model.features(inputs).detach()
    value = value_of(phase, model, loaded, features, targets, module=model.head)
    assert value.item() == pytest.approx(0.25 * sum((p**2).sum().item() for p in model.head.parameters()), rel=1e-5)


def test_the_network_runs_once_for_the_loss_and_all_terms_and_once_more_for_delta(loaded_of):
    loaded, (inputs, targets) = loaded_of("toy/conv"), batch_of()
    source = source_of(loaded.card.feature_dim)
    for kinds, runs in ((ALL, 2), ((ALL[0], ALL[1], ALL[3]), 1)):
        phase = phase_of(loaded, *kinds)
        model, seen = model_of(loaded, phase), []
        model.backbone.network.conv1.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        value_of(phase, model, loaded, inputs, targets, source=source)
        assert len(seen) == runs


def test_penalties_change_no_logits_and_leave_no_hooks(loaded_of):
    loaded, (inputs, targets) = loaded_of("toy/conv"), batch_of()
    phase = phase_of(loaded, *ALL)
    model = model_of(loaded, phase)
    plain = model(inputs)
    references = References(loaded, source_of(loaded.card.feature_dim))
    with penalties_for(phase, model, model, references) as penalties:
        assert torch.equal(model(inputs), plain)
        penalties(inputs, targets)
        assert torch.equal(model(inputs), plain)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_validation_between_a_forward_and_its_penalties_leaves_no_trace(loaded_of):
    loaded, (inputs, targets) = loaded_of("toy/conv"), batch_of()
    phase = phase_of(loaded, *ALL)
    model = moved_(model_of(loaded, phase))
    references = References(loaded, source_of(loaded.card.feature_dim))
    with penalties_for(phase, model, model, references) as penalties:
        model(inputs)
        plain = penalties(inputs, targets)
        model(inputs)
        with torch.no_grad():
            model(inputs.flip(1) // 2)
        assert torch.equal(penalties(inputs, targets), plain)


def test_a_forward_that_fails_half_way_is_forgotten_by_the_next(loaded_of):
    loaded, (inputs, targets) = loaded_of("toy/conv"), batch_of()
    phase = phase_of(loaded, Penalty("delta", 1.0))
    model = moved_(model_of(loaded, phase))

    def fail(*_):
        raise RuntimeError("out of memory")

    with penalties_for(phase, model, model, References(loaded)) as penalties:
        handle = model.backbone.network.layer4.register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            model(inputs)
        handle.remove()
        kept = []  # what is still held while the next forward runs
        (term,) = penalties._terms
        first = model.backbone.network.conv1.register_forward_pre_hook(lambda *_: kept.append(len(term._outputs._seen)))
        model(inputs[:2])
        first.remove()
        assert kept == [0]
        penalties(inputs[:2], targets[:2])


def test_a_term_asked_twice_after_one_forward_is_a_mistake(loaded_of):
    loaded, (inputs, targets) = loaded_of("toy/conv"), batch_of()
    phase = phase_of(loaded, Penalty("bss", 1.0))
    model = model_of(loaded, phase)
    with penalties_for(phase, model, model, References(loaded)) as penalties:
        model(inputs)
        penalties(inputs, targets)
        with pytest.raises(AssertionError, match="twice after one"):
            penalties(inputs, targets)


def test_micro_batches_weighed_by_their_share_give_the_penalties_of_the_batch(loaded_of):
    loaded, (inputs, targets) = loaded_of("toy/conv"), batch_of()
    phase = phase_of(loaded, ALL[0], ALL[2], ALL[3])
    model = moved_(model_of(loaded, phase))
    references = References(loaded, source_of(loaded.card.feature_dim))
    with penalties_for(phase, model, model, references) as penalties:
        model(inputs)
        whole = penalties(inputs, targets)
        parts = []
        for rows in (slice(0, 4), slice(4, 6)):
            model(inputs[rows])
            parts.append(penalties(inputs[rows], targets[rows]) * len(inputs[rows]) / 6)
        torch.testing.assert_close(sum(parts), whole, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("penalty", [Penalty("bss", -1.0), Penalty("l2-sp", 0.1, float("nan"))])
def test_weights_that_are_none_are_refused(penalty, loaded_of):
    loaded = loaded_of("toy/conv")
    phase = phase_of(loaded, penalty)
    with pytest.raises(PlanError, match=r"PL52 .*weights must be numbers of 0 or more"):
        penalties_for(phase, model_of(loaded, phase), nn.Identity(), References(loaded))


@pytest.mark.parametrize(("kind", "strong"), [("l2-sp", 1.0), ("delta", 1.0), ("bss", 100.0)])
def test_more_weight_holds_back_more(kind, strong, loaded_of):
    loaded, (inputs, targets) = loaded_of("toy/conv"), batch_of()
    left = []
    for weight in (0.0, strong):
        phase = phase_of(loaded, Penalty(kind, weight))
        model = moved_(model_of(loaded, phase), scale=0.02)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.02)
        measure = phase_of(loaded, Penalty(kind, 1.0))
        with penalties_for(phase, model, model, References(loaded)) as penalties:
            for _ in range(10):
                optimizer.zero_grad()
                (F.cross_entropy(model(inputs), targets) + penalties(inputs, targets)).backward()
                optimizer.step()
        left.append(value_of(measure, model, loaded, inputs, targets).item())
    assert left[1] < 0.9 * left[0]
