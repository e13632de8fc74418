"""Networks in two parts: the same features, the same objects, the same behaviour while they learn."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torchvision.models import VisionTransformer

from headstart.backbones.backbone import Backbone, build_seeded, record_of
from headstart.backbones.card import BackboneCard, Weights
from headstart.backbones.catalogue import catalogue
from headstart.backbones.cut import HEAD, Cut, Uncut, cut, cut_for, cuts, evaluating, macs_by_stage, step_ratio, try_cut
from headstart.backbones.sources.timm import TimmArchitecture
from headstart.backbones.sources.torchvision import TorchvisionArchitecture
from headstart.backbones.sources.transformers import TransformersArchitecture
from headstart.base.errors import DataError
from headstart.inputs.spec import ImageSpec

TINY_VIT = {"img_size": 32, "patch_size": 8, "depth": 3, "embed_dim": 32, "num_heads": 2}
# timm's name, side of the pictures, arguments that make it small. All of these can be cut before every stage but the
# first.
TIMM = [
    ("vgg11_bn", 32, {"mlp_ratio": 0.02}),
    ("resnet10t", 32, {}),
    ("resnet50", 32, {}),
    ("resnetv2_50", 32, {"layers": (1, 1, 1, 1)}),
    ("regnety_002", 32, {}),
    ("densenet121", 32, {"block_config": (2, 2, 2, 2)}),
    ("dla34", 32, {}),
    ("inception_v3", 75, {}),
    ("mobilenetv2_035", 32, {}),
    ("mobilenetv3_small_050", 32, {}),
    ("mobilenetv4_conv_small_050", 32, {}),
    ("tf_efficientnet_lite0", 32, {}),
    ("efficientnet_b0", 32, {}),
    ("tf_efficientnetv2_b0", 32, {}),
    ("ghostnet_050", 32, {}),
    ("repvgg_a0", 32, {}),
    ("repvit_m0_9", 32, {}),
    ("convnext_atto", 32, {}),
    ("convnextv2_atto", 32, {}),
    ("mambaout_femto", 32, {}),
    ("nfnet_l0", 32, {}),
    ("poolformer_s12", 32, {}),
    ("edgenext_xx_small", 64, {}),
    ("mobilevit_xxs", 64, {}),
    ("efficientvit_b0", 64, {}),
    ("pvt_v2_b0", 64, {}),
    ("fastvit_t8", 64, {}),
    ("focalnet_tiny_srf", 64, {}),
    ("swin_tiny_patch4_window7_224", 64, {"img_size": 64, "window_size": 2, "depths": (1, 1, 1, 1)}),
    ("levit_128s", 224, {}),
    ("mixer_s32_224", 64, {"img_size": 64}),
    ("vit_tiny_patch16_224", 32, TINY_VIT),
    ("vit_base_patch16_clip_224", 32, TINY_VIT),
    ("vit_small_patch14_reg4_dinov2", 32, TINY_VIT),
    ("deit3_small_patch16_224", 32, TINY_VIT),
    ("beitv2_base_patch16_224", 32, TINY_VIT),
    ("vit_small_patch16_dinov3", 32, TINY_VIT),
    ("eva02_tiny_patch14_224", 32, TINY_VIT),
    ("xcit_nano_12_p8_224", 32, {"img_size": 32}),
]
TORCHVISION = [
    ("resnet18", 32),
    ("googlenet", 32),
    ("mobilenet_v2", 32),
    ("mobilenet_v3_small", 32),
    ("efficientnet_b0", 32),
    ("shufflenet_v2_x0_5", 32),
    ("regnet_y_400mf", 32),
    ("swin_t", 32),
]
TINY_HUGGING = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
TRANSFORMERS = [
    ("vit", {**TINY_HUGGING, "image_size": 32, "patch_size": 8}),
    ("deit", {**TINY_HUGGING, "image_size": 32, "patch_size": 8}),
    ("beit", {**TINY_HUGGING, "image_size": 32, "patch_size": 8}),
    ("dinov2", {**TINY_HUGGING, "image_size": 32, "patch_size": 8}),
    ("convnext", {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32], "image_size": 32}),
    ("resnet", {"depths": [1, 1, 1, 1], "hidden_sizes": [32, 32, 48, 64], "embedding_size": 16}),
]


def small(architecture, size):
    """A backbone with random weights for pictures of ``size``."""
    spec = ImageSpec(size, (0.5,) * 3, (0.5,) * 3, 1.0, "crop", "bilinear")
    network = build_seeded(architecture, 0)
    with torch.no_grad():
        width = architecture.features(network, torch.zeros(1, 3, size, size)).shape[1]
    count = sum(p.numel() for p in network.parameters())
    card = BackboneCard(architecture.name, "image", architecture.name, spec, width, count, "none", "nothing",
                        Weights("none", "seeded", here=True))  # fmt: skip
    return Backbone(card, network, architecture, record_of(card, network, loader="random", sha256="random"))


def timm_backbone(name, size, **arguments):
    return small(TimmArchitecture(name, tuple(sorted(arguments.items()))), size)


def pixels(backbone, n=3, seed=0):
    size = backbone.spec.size
    return torch.randint(0, 256, (n, size, size, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def assert_same(a, b):
    """Equal but for rounding: pixels give maps whose channels lie last in memory, activations that crossed do not."""
    assert a.shape == b.shape
    assert float((a - b).abs().max()) <= 2e-5 * float(b.abs().max())


@pytest.fixture(scope="module")
def lite():
    return timm_backbone("tf_efficientnet_lite0", 32)


@pytest.fixture(scope="module")
def vit():
    return timm_backbone("vit_tiny_patch16_224", 32, **TINY_VIT)


def check_cuts_everywhere(backbone):
    """Cut before every stage but the first, and behind the last; each gives the features of the whole, bit for bit."""
    found = cuts(backbone)
    names = [s.name for s in backbone.stages]
    assert list(found) == [*names, HEAD]
    assert isinstance(found[names[0]], Uncut)
    whole = {id(p): name for name, p in backbone.network.named_parameters()}
    x = pixels(backbone)
    with torch.no_grad():
        expected = backbone.from_pixels()(x)
        for number, name in enumerate(names[1:], 1):
            part = found[name]
            assert isinstance(part, Cut), f"{name}: {part}"
            assert part.apart == 0
            crossing = part.prefix(x)
            assert crossing.shape == (3, *part.shape)
            assert_same(part.tail(crossing), expected)
            learning = {whole[id(p)] for p in part.tail.parameters()}
            frozen = {whole[id(p)] for p in part.prefix.parameters()}
            assert all(any(s.holds(p) for s in backbone.stages[number:]) for p in learning)
            assert all(any(s.holds(p) for s in backbone.stages[:number]) for p in frozen)
        assert torch.equal(found[HEAD].tail(found[HEAD].prefix(x)), expected)


@pytest.mark.parametrize(("name", "size", "arguments"), TIMM, ids=[name for name, *_ in TIMM])
def test_timm_networks_are_cut_before_every_stage(name, size, arguments):
    check_cuts_everywhere(timm_backbone(name, size, **arguments))


@pytest.mark.parametrize(("name", "size"), TORCHVISION)
def test_torchvision_networks_are_cut_before_every_stage(name, size):
    check_cuts_everywhere(small(TorchvisionArchitecture(name), size))


@pytest.mark.parametrize(("name", "settings"), TRANSFORMERS)
def test_transformers_networks_are_cut_before_every_stage(name, settings):
    check_cuts_everywhere(
        small(TransformersArchitecture(name, tuple(settings.items())), settings.get("image_size", 32))
    )


def test_large_torchvision_networks_are_cut_where_little_is_left():
    vgg = small(TorchvisionArchitecture("vgg11"), 32)
    assert cut(vgg, "classifier.0").shape == (25088,)
    assert cut(vgg, "classifier.3").apart == 0
    # Dropout between the two layers is in no stage: it is left to the tail, where its own flag decides.
    assert any(m is vgg.network.classifier[2] for m in cut(vgg, "classifier.3").tail.modules())


def test_the_vision_transformer_of_torchvision_is_cut_before_every_stage():
    network = VisionTransformer(32, 8, num_layers=3, num_heads=2, hidden_dim=32, mlp_dim=64)
    network.heads = nn.Identity()
    check_cuts_everywhere(plain(network, 32, width=32))


def test_real_networks_cross_where_the_issue_says(lite):
    assert cut(catalogue.load("timm/resnet50", pretrained=False), "layer4").shape == (1024, 14, 14)
    assert cut(lite, "blocks.5").shape == (112, 2, 2)


def test_the_tail_has_all_parameters_of_its_stages(lite):
    names = {id(p): name for name, p in lite.network.named_parameters()}
    for number, stage in enumerate(lite.stages[1:], 1):
        part = cut(lite, stage.name)
        later = {n for n in names.values() if any(s.holds(n) for s in lite.stages[number:])}
        assert {names[id(p)] for p in part.tail.parameters()} == later
        assert {names[id(p)] for p in part.prefix.parameters()} == set(names.values()) - later


def test_the_parts_are_the_modules_of_the_network(lite):
    part = cut(lite, "blocks.5")
    inside = {id(m) for m in lite.network.modules()}
    assert id(lite.network.blocks[5]) in {id(m) for m in part.tail.modules()}
    assert all(id(m) in inside for m in part.tail.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d))


def test_float_pixels_give_what_bytes_give(lite):
    part, x = cut(lite, "blocks.3"), pixels(lite)
    with torch.no_grad():
        assert torch.equal(part.prefix(x), part.prefix(x.float()))


def test_any_batch_size_passes(vit):
    part = cut(vit, "blocks.1")
    for n in (1, 2, 5):
        x = pixels(vit, n)
        with torch.no_grad():
            assert_same(part.tail(part.prefix(x)), vit.from_pixels()(x))


def test_a_tail_in_training_moves_its_own_statistics_and_no_others(lite):
    part = cut(lite, "blocks.5")
    before = {k: v.clone() for k, v in lite.network.state_dict().items() if "running" in k}
    with torch.no_grad():
        crossing = part.prefix(pixels(lite))
    with evaluating(lite):
        part.tail.train()
        part.tail(crossing)
    after = lite.network.state_dict()
    moved = {k for k, v in before.items() if not torch.equal(v, after[k])}
    assert moved == {k for k in before if k.startswith(("blocks.5", "blocks.6", "bn2"))}
    lite.network.load_state_dict({**after, **before})


def test_dropout_of_the_tail_obeys_its_flag():
    backbone = timm_backbone("vit_tiny_patch16_224", 32, **TINY_VIT, attn_drop_rate=0.5, proj_drop_rate=0.5)
    part = cut(backbone, "blocks.1")
    with torch.no_grad():
        crossing = part.prefix(pixels(backbone))
        assert torch.equal(part.tail(crossing), part.tail(crossing))
        backbone.network.blocks[1].attn.train()  # fused attention reads its own flag when it runs
        assert not torch.equal(part.tail(crossing), part.tail(crossing))


def test_one_step_of_the_tail_is_one_step_of_the_network(lite, vit):
    for backbone, stage in ((lite, "blocks.5"), (vit, "blocks.1")):
        part, x = cut(backbone, stage), pixels(backbone, 4)
        with torch.no_grad():
            crossing = part.prefix(x)
        learning = list(part.tail.parameters())
        by_tail = torch.autograd.grad(part.tail(crossing).square().sum(), learning)
        by_whole = torch.autograd.grad(backbone.from_pixels()(x).square().sum(), learning)
        for a, b in zip(by_tail, by_whole, strict=True):
            assert_same(a, b)


def test_cutting_leaves_modes_statistics_and_the_generator_alone():
    backbone = timm_backbone("resnet10t", 32)
    backbone.network.layer3.train()
    modes = [m.training for m in backbone.modules()]
    state = {k: v.clone() for k, v in backbone.network.state_dict().items()}
    generator = torch.get_rng_state()
    cuts(backbone)
    assert [m.training for m in backbone.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(v, state[k]) for k, v in backbone.network.state_dict().items())


def test_what_surgery_brought_in_stays_in_the_tail(vit):
    class LowRank(nn.Module):
        def __init__(self, weight):
            super().__init__()
            self.down = nn.Parameter(torch.randn(2, weight.shape[1]))
            self.up = nn.Parameter(torch.randn(weight.shape[0], 2))

        def forward(self, weight):
            return weight + self.up @ self.down

    backbone = timm_backbone("vit_tiny_patch16_224", 32, **TINY_VIT)
    block = backbone.network.blocks[2]
    parametrize.register_parametrization(block.attn.qkv, "weight", LowRank(block.attn.qkv.weight))
    block.adapter = nn.Linear(32, 32)
    block.register_forward_hook(lambda module, inputs, output: output + module.adapter(inputs[0]))
    part, x = cut(backbone, "blocks.2"), pixels(backbone)
    with torch.no_grad():
        assert_same(part.tail(part.prefix(x)), backbone.from_pixels()(x))
    names = {id(p): name for name, p in backbone.network.named_parameters()}
    held = {names[id(p)] for p in part.tail.parameters()}
    assert "blocks.2.adapter.weight" in held
    assert any("parametrizations.weight.0.up" in name for name in held)


def test_a_parameter_that_joins_late_is_no_parameter_of_the_tail():
    backbone = timm_backbone("xcit_nano_12_p8_224", 32, img_size=32)
    part = cut(backbone, "blocks.1")  # the class token belongs to the stem and joins behind the last block
    assert id(backbone.network.cls_token) not in {id(p) for p in part.tail.parameters()}
    with torch.no_grad():
        backbone.network.cls_token.add_(1.0)
        x = pixels(backbone)
        assert_same(part.tail(part.prefix(x)), backbone.from_pixels()(x))


def test_attention_biases_that_a_network_remembers_are_forgotten():
    backbone = timm_backbone("levit_128s", 224)
    part = cut(backbone, "stages.1")
    bias = next(p for n, p in part.tail.named_parameters() if "attention_biases" in n)
    x = pixels(backbone, 2)
    with torch.no_grad():
        bias.add_(3.0)
        with evaluating(part.tail):
            expected = part.tail(part.prefix(x))
        whole = backbone.architecture.build(0)
        whole.load_state_dict(backbone.network.state_dict())
        fresh = Backbone(backbone.card, whole, backbone.architecture, backbone.record)
        assert_same(expected, fresh.from_pixels()(x))


# ------------------------------------------------------------------------------------------ networks that stay whole


def plain(network, size=8, width=4):
    class Plain:
        name, opens_with = "plain", "headstart"

        def features(self, network, images):
            return network(images)

    spec = ImageSpec(size, (0.5,) * 3, (0.5,) * 3, 1.0, "crop", "bilinear")
    card = BackboneCard(
        "plain", "image", "plain", spec, width, 0, "none", "nothing", Weights("none", "seeded", here=True)
    )
    return Backbone(card, network.eval(), Plain(), record_of(card, network, loader="random"))


class Chain(nn.Module):
    """Three convolutions and a mean; ``between`` says what happens before the second."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.c(self.between(self.a(x), x)).mean((2, 3))

    def between(self, a, x):
        return self.b(a)


class Skips(Chain):
    def between(self, a, x):
        return self.b(a) + x[:, :1]


class LooksInside(Chain):
    def between(self, a, x):
        return self.b(a) if a.mean() > 0 else a


class DropsByItself(Chain):
    def between(self, a, x):
        return F.dropout(self.b(a), 0.5, self.b.training)


class ReturnsEarlyStages(Chain):
    def between(self, a, x):
        return self.a(self.b(a)[:, :3])


class CountsTheBatch(Chain):
    def between(self, a, x):
        return self.b(a) * (1.0 if a.shape[0] == 2 else 0.5)


class UsesSizes(Chain):
    def between(self, a, x):
        batch, _, height, width = x.shape
        if height != width:
            raise ValueError("square pictures only")
        return self.b(a).reshape(batch, 4, height * width, 1)


class ShortCut(Chain):
    """What the border gives is used twice behind it."""

    def between(self, a, x):
        return self.b(a).relu() + a.relu()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Skips, "more than one tensor crosses that border in plain"),
        (LooksInside, "cannot be followed .TraceError: it decides by what is in the picture"),
        (DropsByItself, "computes differently in training outside the modules of its stages"),
        (ReturnsEarlyStages, "plain uses 'a' of an earlier stage behind that border"),
        (CountsTheBatch, r"gives other features in two parts than in one \(off by"),
    ],
)
def test_a_network_that_cannot_be_cut_says_why(kind, reason):
    backbone = plain(kind())
    found = try_cut(backbone, "b")
    assert isinstance(found, Uncut)
    assert found.stage == "b"
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(found.reason)
    assert cut(backbone, "b") is None


@pytest.mark.parametrize("kind", [UsesSizes, ShortCut])
def test_sizes_and_short_cuts_within_the_tail_are_no_hindrance(kind):
    backbone = plain(kind())
    part = cut(backbone, "b")
    assert part.shape == (4, 8, 8)
    for n in (1, 2, 5):
        x = pixels(backbone, n)
        with torch.no_grad():
            assert_same(part.tail(part.prefix(x)), backbone.from_pixels()(x))


def test_where_the_first_learning_stage_is_no_border_an_earlier_one_is_taken():
    backbone = timm_backbone("hrnet_w18_small", 64)
    assert cut(backbone, "stage3") is None
    found = cut_for(backbone, {"stage3", "final_layer", HEAD})
    names = [s.name for s in backbone.stages]
    assert isinstance(found, Cut)
    assert 0 < names.index(found.stage) < names.index("stage3")


def test_the_border_of_a_phase_is_before_its_first_learning_stage(lite):
    assert cut_for(lite, {"top", "blocks.5", HEAD}).stage == "blocks.5"
    assert cut_for(lite, {HEAD}).stage == HEAD
    assert cut_for(lite, {"stem"}) == Uncut("stem", f"'stem' is the first stage of {lite.card.name}: "
                                            "nothing is frozen before it")  # fmt: skip


def test_a_stage_that_is_not_there_is_named(lite):
    with pytest.raises(DataError, match=r"no stage 'block\.5'\. Did you mean 'blocks\.5'"):
        cut(lite, "block.5")


# ------------------------------------------------------------------------------------------------------ operations


def test_operations_of_three_convolutions_by_hand():
    places = 8 * 8
    assert macs_by_stage(plain(Chain())) == {"a": places * 3 * 4, "b": places * 4 * 4, "c": places * 4 * 4}


@pytest.mark.parametrize("name", ["timm/resnet50.a1_in1k", "timm/vit_small_patch16_224.dino", "torchvision/vit_b_16"])
def test_operations_add_up_to_those_on_the_card(name):
    backbone = catalogue.load(name, pretrained=False)
    macs = macs_by_stage(backbone)
    assert list(macs) == [s.name for s in backbone.stages]
    assert sum(macs.values()) / 1e9 == pytest.approx(backbone.card.gmacs, abs=0.002)


def test_blocks_of_a_transformer_cost_the_same(vit):
    macs = macs_by_stage(vit)
    tokens, width = 17, 32
    products = 12 * tokens * width**2 + 2 * tokens**2 * width
    assert {macs[f"blocks.{i}"] for i in range(3)} == {products}


def test_the_gain_by_operations():
    macs = {"stem": 1, "blocks": 6, "top": 3}
    assert step_ratio(macs, "stem") == 1
    assert step_ratio(macs, "top") == pytest.approx((10 + 2 * 3) / (3 * 3))
    assert step_ratio(macs, HEAD) == math.inf
