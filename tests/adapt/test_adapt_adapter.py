"""Adapters: identity at step 0, where they go, and what the branch computes."""

import copy

import pytest
import torch
from networks_of_families import FAMILIES, family, pixels, plan_for, tiny
from torch import fx
from torch.nn import functional as F

from headstart.adapt.model import assemble
from headstart.adapt.plan import Surgery
from headstart.adapt.surgery.adapter import Adapter
from headstart.base.errors import PlanError
from headstart.tasks.classification import Classification

TASK = Classification(("a", "b", "c"))


def with_adapters(backbone, stages=None, **surgery):
    plan = plan_for(backbone, stages, surgery=(Surgery("adapter", **surgery),))
    return assemble(backbone, TASK, plan, probe=None, seed=0)


def shake_(module, seed=1):
    """As if the branches had learnt something."""
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "up." in name or "conv." in name:
                parameter.normal_(0, 0.1, generator=draws)


def blocks_of(model):
    return list(dict.fromkeys(n.removeprefix("backbone.network.").split(".adapter.")[0] for n in sorted(model.added)))


@pytest.mark.parametrize("name", FAMILIES)
def test_at_step_0_nothing_has_changed_and_then_it_learns(name):
    backbone = family(name)
    x = pixels(backbone)
    model = with_adapters(backbone)
    with torch.no_grad():
        assert torch.equal(model.features(x), backbone.from_pixels()(x))
    model(x).square().sum().backward()
    parameters = dict(model.named_parameters())
    assert all(parameters[n].grad.any() for n in model.added if n.endswith("up.weight"))
    shake_(torch.nn.ModuleList(m for m in model.modules() if isinstance(m, Adapter)))
    with torch.no_grad():
        assert not torch.allclose(model.features(x), backbone.from_pixels()(x), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "size", "blocks"),
    [
        ("timm/vit_tiny_patch16_224", None, [f"blocks.{i}" for i in range(12)]),
        (
            "timm/convnext_atto",
            64,
            [f"stages.{s}.blocks.{i}" for s, n in enumerate((2, 2, 6, 2)) for i in range(n)],
        ),
        (
            "timm/mobilenetv3_small_050",
            64,
            "blocks.1.1 blocks.2.1 blocks.2.2 blocks.3.0 blocks.3.1 blocks.4.1 blocks.4.2",
        ),
        ("timm/regnety_002", 64, "s3.b2 s3.b3 s3.b4 s4.b2 s4.b3 s4.b4 s4.b5 s4.b6 s4.b7"),
        ("timm/resnet18", 64, "layer1.0 layer1.1 layer2.1 layer3.1 layer4.1"),
        ("torchvision/efficientnet_b0", 64, None),
    ],
)
def test_every_block_that_keeps_its_shape_gets_one_and_nothing_inside_it(name, size, blocks):
    model = with_adapters(family(name, size))
    if blocks is None:  # stages are lists, blocks are numbered in them, nothing deeper
        assert len(blocks_of(model)) == 9 and all(b.count(".") == 2 for b in blocks_of(model))
    else:
        assert blocks_of(model) == sorted(blocks.split() if isinstance(blocks, str) else blocks)


def test_a_branch_on_tokens_is_the_formula_and_the_class_token_stands_apart():
    branch = Adapter(torch.Size([1, 1 + 9, 6]), 4, scale=0.5, seed=0)
    shake_(branch)
    x = torch.randn(2, 10, 6)

    def by_hand(one):  # (10, 6)
        normal = (one - one.mean(-1, keepdim=True)) / torch.sqrt(one.var(-1, unbiased=False, keepdim=True) + 1e-5)
        inner = F.gelu(normal @ branch.down.weight.T + branch.down.bias)
        weight, rows = branch.conv.weight, []
        rows.append(weight[:, :, 1, 1] @ inner[0] + branch.conv.bias)
        for i in range(3):
            for j in range(3):
                total = branch.conv.bias.clone()
                for di in (-1, 0, 1):
                    for dj in (-1, 0, 1):
                        if 0 <= i + di < 3 and 0 <= j + dj < 3:
                            total = total + weight[:, :, 1 + di, 1 + dj] @ inner[1 + 3 * (i + di) + j + dj]
                rows.append(total)
        return 0.5 * (F.gelu(torch.stack(rows)) @ branch.up.weight.T + branch.up.bias)

    with torch.no_grad():
        assert torch.allclose(branch(x), torch.stack([by_hand(one) for one in x]), atol=1e-5)


def test_maps_give_the_same_whatever_their_order_of_axes():
    """Channels first is depthwise: with the full convolution's diagonal alone both agree."""
    first = Adapter(torch.Size([1, 6, 5, 5]), 4, scale=1.0, seed=0)
    last = Adapter(torch.Size([1, 5, 5, 6]), 4, scale=1.0, seed=0)
    assert first.conv.weight.shape == (4, 1, 3, 3) and last.conv.weight.shape == (4, 4, 3, 3)
    shake_(first)
    last.load_state_dict({**first.state_dict(), "conv.weight": last.conv.weight})
    with torch.no_grad():
        last.conv.weight.zero_()
        for i in range(4):
            last.conv.weight[i, i] = first.conv.weight[i, 0]
        x = torch.randn(2, 6, 5, 5)
        assert torch.allclose(first(x), last(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), atol=1e-6)


@pytest.mark.parametrize(("tokens", "prefix"), [(196, 0), (197, 1), (198, 2), (201, 5), (17, 1)])
def test_what_stands_before_the_square_of_tokens_is_the_prefix(tokens, prefix):
    branch = Adapter(torch.Size([1, tokens, 8]), 2, scale=1.0, seed=0)
    assert branch.prefix == prefix and branch.grid**2 + prefix == tokens


@pytest.mark.parametrize("name", ["toy/conv", "toy/vit"])
def test_a_deep_copy_has_branches_of_its_own_and_tracing_sees_them(name):
    model = with_adapters(tiny(name))
    x = pixels(model.backbone)
    other = copy.deepcopy(model)
    shake_(torch.nn.ModuleList(m for m in other.modules() if isinstance(m, Adapter)))
    with torch.no_grad():
        assert torch.equal(model.features(x), tiny(name).from_pixels()(x))
        assert not torch.allclose(other.features(x), model.features(x), atol=1e-3)
        network = other.backbone.network
        part, inputs = (
            (network.blocks, torch.randn(2, 17, 64)) if name == "toy/vit" else (network, x.permute(0, 3, 1, 2).float())
        )
        assert torch.allclose(fx.symbolic_trace(part)(inputs), part(inputs), atol=1e-5)


def test_a_rank_beyond_the_width_is_capped():
    assert Adapter(torch.Size([1, 6, 5, 5]), 100, scale=1.0, seed=0).down.weight.shape == (6, 6)


def test_only_blocks_of_the_learning_stages_get_one():
    assert blocks_of(with_adapters(tiny("toy/vit"), ["blocks.4", "top"])) == ["blocks.4"]


def test_what_does_not_fit_is_refused_with_a_way_out():
    with pytest.raises(PlanError, match=r"PL24 timm/densenet121.*no block.*LoRA"):
        with_adapters(family("timm/densenet121", 64))
    with pytest.raises(PlanError, match=r"PL24.*no block"):
        with_adapters(tiny("toy/conv"), ["conv1"])
    with pytest.raises(PlanError, match=r"PL24.*where='all'"):
        with_adapters(tiny("toy/vit"), where="attention")
