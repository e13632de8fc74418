"""LoRA: identity at step 0, merged = unmerged, ejected = loaded, and who reads the weight."""

import copy
import math

import pytest
import torch
from networks_of_families import FAMILIES, family, pixels, plan_for, tiny
from torch import fx, nn

from headstart.adapt.model import assemble
from headstart.adapt.plan import Surgery
from headstart.adapt.surgery import lora
from headstart.adapt.surgery.lora import FUSED, LowRank
from headstart.backbones.backbone import tensors_sha256
from headstart.base.errors import PlanError
from headstart.tasks.classification import Classification

TASK = Classification(("a", "b", "c"))


def with_lora(backbone, stages=None, **surgery):
    plan = plan_for(backbone, stages, surgery=(Surgery("lora", **surgery),))
    return assemble(backbone, TASK, plan, probe=None, seed=0)


def shake_(model, seed=1):
    """As if the products had learnt something."""
    draws = torch.Generator().manual_seed(seed)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name in sorted(model.added):
            parameters[name].normal_(0, 0.05, generator=draws)


@pytest.mark.parametrize("name", FAMILIES)
def test_at_step_0_nothing_has_changed(name):
    backbone = family(name)
    x = pixels(backbone)
    with torch.no_grad():
        expected = backbone.from_pixels()(x)
        model = with_lora(backbone)
        assert torch.equal(model.features(x), expected)
        shake_(model)
        assert not torch.allclose(model.features(x), expected, atol=1e-3)


@pytest.mark.parametrize("name", FAMILIES)
def test_merged_is_unmerged_and_ejected_is_loaded(name):
    backbone = family(name)
    loaded = tensors_sha256(backbone.network)
    model = with_lora(backbone)
    shake_(model)
    x = pixels(backbone)
    with torch.no_grad():
        expected = model.features(x)
        merged = copy.deepcopy(model.backbone)
        assert len(lora.merge_(merged.network)) * 2 == len(model.added)
        assert torch.allclose(merged.from_pixels()(x), expected, atol=1e-5 * float(expected.abs().max()))
        assert torch.equal(model.features(x), expected), "merging a copy changed the original"
    assert list(merged.network.state_dict()) == list(backbone.network.state_dict())
    assert [type(m) for m in merged.network.modules()] == [type(m) for m in backbone.network.modules()]
    lora.eject_(model.backbone.network)
    assert tensors_sha256(model.backbone.network) == loaded
    assert [type(m) for m in model.backbone.network.modules()] == [type(m) for m in backbone.network.modules()]


@pytest.mark.parametrize(
    ("layer", "matrix"),
    [
        (nn.Linear(6, 5), (5, 6)),
        (nn.Conv2d(4, 6, 3, padding=1), (6, 36)),
        (nn.Conv2d(4, 6, 3, padding=1, groups=2), (6, 18)),
        (nn.Conv2d(6, 6, 5, padding=2, groups=6), (6, 25)),
    ],
    ids=["linear", "conv", "grouped", "depthwise"],
)
def test_the_weight_is_the_formula(layer, matrix):
    step = LowRank(layer.weight, (0, matrix[0]), rank=3, scale=4.0, seed=0)
    assert step.a.shape == (3, matrix[1]) and step.b.shape == (matrix[0], 3) and not step.b.any()
    assert float(step.a.detach().abs().max()) <= 1 / math.sqrt(
        matrix[1]
    )  # torch's own bound for a layer of this fan-in
    with torch.no_grad():
        step.b.normal_(generator=torch.Generator().manual_seed(0))
    expected = layer.weight.detach().clone().reshape(matrix).double()
    for i in range(matrix[0]):
        for j in range(matrix[1]):
            expected[i, j] += 4.0 * sum(step.b[i, r].item() * step.a[r, j].item() for r in range(3))
    assert torch.allclose(step(layer.weight).double().reshape(matrix), expected, atol=1e-5)


def test_full_rank_with_a_the_identity_learns_as_the_weight_itself():
    layer = nn.Linear(5, 5)
    x, y = torch.randn(7, 5), torch.randn(7, 5)
    nn.functional.mse_loss(layer(x), y).backward()
    step = LowRank(layer.weight, (0, 5), rank=5, scale=1.0, seed=0)
    with torch.no_grad():
        step.a.copy_(torch.eye(5))
    nn.functional.mse_loss(nn.functional.linear(x, step(layer.weight.detach()), layer.bias.detach()), y).backward()
    assert torch.allclose(step.b.grad, layer.weight.grad, atol=1e-7)


def test_a_rank_larger_than_a_layer_is_capped_and_keeps_its_scale():
    step = LowRank(torch.zeros(64, 1, 3, 3), (0, 64), rank=16, scale=0.5, seed=0)
    assert step.a.shape == (9, 9) and step.b.shape == (64, 9) and step.scale == 0.5
    model = with_lora(tiny("toy/conv"), rank=10_000, alpha=20_000.0)
    parameters = dict(model.named_parameters())
    ranks = {parameters[n].shape[0] for n in model.added if n.endswith(".a")}
    assert max(ranks) < 10_000 and model.backbone.network.conv1[0].parametrizations.weight[0].scale == 2.0


def test_attention_means_queries_and_values_where_they_are_known():
    model = with_lora(tiny("toy/vit"), where="attention", rank=2)
    layers = {name.removeprefix("backbone.network.").split(".parametrizations.")[0] for name in model.added}
    assert layers == {f"blocks.{i}.attn.qkv" for i in range(6)}
    shake_(model)
    qkv = model.backbone.network.blocks[0].attn.qkv
    loaded = tiny("toy/vit").network.blocks[0].attn.qkv.weight
    q, k, v = (qkv.weight - loaded).detach().chunk(3)
    assert torch.linalg.matrix_rank(q) == 2 and not k.any() and torch.linalg.matrix_rank(v) == 2


def test_attention_of_unknown_kinds_learns_whole():
    model = with_lora(family("timm/maxvit_rmlp_pico_rw_256", 64), where="attention", rank=2)
    layers = {name.removeprefix("backbone.network.").split(".parametrizations.")[0] for name in model.added}
    assert {name.rsplit(".", 1)[1] for name in layers} >= {"qkv", "proj"}
    assert all(".attn." in name for name in layers)


@pytest.mark.parametrize("kind", sorted(FUSED))
def test_known_attention_has_queries_keys_and_values_in_this_order(kind):
    """Values enter linearly; what is added to all keys does not matter, what is added to all queries does."""
    import importlib

    module, name = kind.rsplit(".", 1)
    more = {"WindowAttention": {"window_size": (4, 4)}, "EvaAttention": {"scale_norm": False}}.get(name, {})
    attention = getattr(importlib.import_module(module), name)(32, num_heads=2, **more).eval()
    x = torch.cat([torch.randn(1, 16, 31), torch.ones(1, 16, 1)], dim=-1)
    offset = torch.randn(32)

    def changed(third, change):
        other = copy.deepcopy(attention)
        change(other.qkv.weight[32 * third : 32 * (third + 1)])
        return other(x)

    with torch.no_grad():
        for bias in (attention.qkv.bias, getattr(attention, "v_bias", None), attention.proj.bias):
            if bias is not None:
                bias.zero_()
        before = attention(x)
        assert torch.allclose(changed(2, lambda rows: rows.mul_(2)), 2 * before, atol=1e-5)
        if "swin_transformer_v2" not in kind:  # its attention compares directions
            assert torch.allclose(changed(1, lambda rows: rows[:, -1].add_(offset)), before, atol=1e-5)
            assert not torch.allclose(changed(0, lambda rows: rows[:, -1].add_(offset)), before, atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        ("beit_base_patch16_224", {"embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": 32}),
        ("vit_tiny_r_s16_p8_224", {"img_size": 32}),  # weight-standardised convolutions
    ],
)
def test_layers_whose_weight_is_read_from_outside_learn_too(architecture, arguments):
    """A wrapper around the layer would be passed by."""
    model = with_lora(tiny(architecture, **arguments))
    model.features(pixels(model.backbone)).square().sum().backward()
    parameters = dict(model.named_parameters())
    assert all(parameters[n].grad is not None and parameters[n].grad.any() for n in model.added if n.endswith(".b"))


@pytest.mark.parametrize("name", ["toy/conv", "beit_base_patch16_224"])
def test_a_traced_network_still_learns_through_the_products(name):
    backbone = tiny(name) if name.startswith("toy/") else tiny(name, embed_dim=32, depth=1, num_heads=2, img_size=32)
    model = with_lora(backbone)
    shake_(model)
    traced = fx.symbolic_trace(model.backbone.network)
    x = torch.randn(2, 3, 32, 32)
    out = traced(x)
    assert torch.allclose(out, model.backbone.network(x), atol=1e-6)
    out.square().sum().backward()
    parameters = dict(model.named_parameters())
    assert all(parameters[n].grad is not None for n in model.added)


def test_only_the_learning_stages_are_changed_and_all_other_names_stay():
    backbone = tiny("toy/vit")
    model = with_lora(backbone, ["blocks.4", "blocks.5"])
    assert {n.split(".")[3] for n in model.added} == {"4", "5"}
    names = {n.removeprefix("backbone.network.") for n, _ in model.named_parameters() if n not in model.added}
    plain = {n.replace("parametrizations.weight.original", "weight") for n in names if not n.startswith("head.")}
    assert plain == set(backbone.network.state_dict())


def test_the_same_seed_gives_the_same_products_and_another_others():
    def start(seed):
        plan = plan_for(tiny("toy/conv"), surgery=(Surgery("lora"),))
        return tensors_sha256(assemble(tiny("toy/conv"), TASK, plan, probe=None, seed=seed))

    assert start(0) == start(0) != start(1)


def test_what_does_not_fit_is_refused_with_a_way_out():
    with pytest.raises(PlanError, match=r"PL23.*no attention layers.*where='all'"):
        with_lora(tiny("toy/conv"), where="attention")
    with pytest.raises(PlanError, match=r"PL23.*rank of 1"):
        with_lora(tiny("toy/conv"), rank=0)
