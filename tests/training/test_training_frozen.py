"""Frozen is frozen: parameters, statistics, dropout and stochastic depth, bit for bit, over many kinds of network."""

import pytest
import torch
from tests.training.toys import CLASSES, WholeFeed, bits, differing, fit, labels, pictures
from torch import nn

from headstart.adapt.model import AdaptedModel
from headstart.adapt.plan import HEAD, Optimizer, Phase, Plan, Schedule
from headstart.backbones.backbone import Backbone, build_seeded, record_of
from headstart.backbones.card import BackboneCard, Weights
from headstart.backbones.sources.timm import TimmArchitecture
from headstart.inputs.spec import ImageSpec
from headstart.training import loop
from headstart.training.phase import learners

# name → (side of its pictures, steps); sides as small as the architecture allows, 100 steps where they are quick
ARCHITECTURES = {
    "mobilenetv3_small_050": (32, 100),
    "lcnet_035": (32, 100),
    "deit_tiny_patch16_224": (32, 100),
    "convnext_atto": (32, 100),
    "efficientnet_lite0": (32, 100),
    "mobilenetv2_035": (32, 100),
    "resnet10t": (32, 100),
    "vit_tiny_patch16_224": (32, 100),
    "eva02_tiny_patch14_224": (28, 100),
    "swin_tiny_patch4_window7_224": (56, 3),
    "regnetx_002": (32, 100),
    "densenet121": (32, 5),
    "ese_vovnet19b_slim": (32, 100),
    "inception_v3": (96, 5),
    "mixer_s32_224": (32, 5),
    "ghostnet_050": (32, 5),
    "levit_128s": (64, 100),
    "edgenext_xx_small": (64, 100),
    "xcit_nano_12_p16_224": (32, 5),
    "poolformer_s12": (32, 5),
    "mobilevit_xxs": (64, 100),
    "repvgg_a0": (32, 100),
    "hardcorenas_a": (32, 100),
    "coat_lite_tiny": (32, 5),
    "pit_ti_224": (64, 100),
    "tinynet_e": (32, 100),
    "fbnetc_100": (32, 100),
    "dla46_c": (32, 100),
    "hrnet_w18_small": (32, 5),
    "rexnet_100": (32, 5),
    "nf_resnet26": (32, 5),
    "maxvit_pico_rw_256": (64, 3),
    "cait_xxs24_224": (32, 5),
    "fastvit_t8": (64, 5),
    "pvt_v2_b0": (64, 100),
}
WITH_BATCH_NORM = ["resnet10t", "levit_128s", "densenet121"]


def model_of(name):
    side, _ = ARCHITECTURES[name]
    sizes = ("vit", "deit", "eva", "swin", "mixer", "levit", "xcit", "coat", "pit", "cait", "maxvit")
    options = {"img_size": side} if name.startswith(sizes) else {}
    if name.startswith(("resnet", "efficientnet", "convnext", "vit", "deit", "swin", "regnet", "poolformer")):
        options["drop_path_rate"] = 0.2
    architecture = TimmArchitecture(name, tuple(options.items()))
    network = build_seeded(architecture, 0)
    spec = ImageSpec(size=side, mean=(0.5,) * 3, std=(0.5,) * 3, crop=1.0, fit="crop", interpolation="bilinear")
    with torch.no_grad():
        width = network(torch.zeros(1, 3, side, side)).shape[1]
    weights = Weights("none", "random", here=True)
    card = BackboneCard(f"timm/{name}", "image", name, spec, width, 0, "", "nothing", weights)
    backbone = Backbone(card, network, architecture, record_of(card, network, loader="random"))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return AdaptedModel(backbone, nn.Sequential(nn.Dropout(0.2), nn.Linear(width, CLASSES)))


def what_moves(name, seen_training=None, most=100):
    """(names of what may move, names of what did) after training the last third of the stages."""
    side, steps = ARCHITECTURES[name]
    model = model_of(name)
    learning = model.stage_names[-max(1, len(model.stage_names) // 3) :]
    phase = Phase("top", min(steps, most), dict.fromkeys((*learning, HEAD), 1e-4), schedule=Schedule(warmup=0))
    frozen = [m for stage in model.stage_names if stage not in learning for m in model.modules_of(stage)]
    if seen_training is not None:
        for module in frozen:
            module.register_forward_pre_hook(lambda m, _: seen_training.append(m) if m.training else None)
    before = bits(model)
    plan = Plan("mine", (phase,), batch_size=2, optimizer=Optimizer("adamw", weight_decay=0.1))
    fit(model, plan, feed=WholeFeed(model, pictures(8, side), labels(8), 2))
    allowed = {n for n, _ in learners(model, phase)}
    places = {id(m) for stage in (*learning, HEAD) for m in model.modules_of(stage)}
    allowed |= {f"{path}.{b}" for path, m in model.named_modules() if id(m) in places for b in dict(m.named_buffers())}
    state = model.state_dict()
    memory = {state[n].data_ptr() for n in allowed & state.keys()}
    allowed |= {n for n, t in state.items() if t.data_ptr() in memory}  # CoaT shares layers: one tensor, many names
    return allowed, differing(before, bits(model))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_frozen_stages_keep_every_bit(name):
    seen_training = []
    allowed, moved = what_moves(name, seen_training)
    assert not set(moved) - allowed
    assert len(moved) >= 0.5 * len(allowed)  # or the comparison would prove nothing
    assert not seen_training


def test_twenty_families_and_more_are_trained_for_a_hundred_steps():
    assert sum(steps == 100 for _, steps in ARCHITECTURES.values()) >= 20


@pytest.mark.parametrize("name", WITH_BATCH_NORM)
def test_without_eval_mode_the_comparison_sees_batch_norm_drift(name, monkeypatch):
    """The mutant: frozen by requires_grad alone, as many loops do it."""

    def only_requires_grad(model, phase):
        learning = {n for n, _ in learners(model, phase)}
        for n, p in model.named_parameters():
            p.requires_grad_(n in learning)
        model.train()

    monkeypatch.setattr(loop, "enter_phase", only_requires_grad)
    seen_training = []
    allowed, moved = what_moves(name, seen_training, most=5)
    drifted = set(moved) - allowed
    assert drifted and all(n.endswith(("running_mean", "running_var", "num_batches_tracked")) for n in drifted)
    assert seen_training


def test_a_frozen_stage_forgets_what_validation_made_it_remember():
    """LeViT keeps attention biases in eval mode; those of the weights' running mean must not reach training."""
    model = model_of("levit_128s")
    phase = Phase("top", 1, {model.stage_names[-1]: 0.1, HEAD: 0.1})
    loop.enter_phase(model, phase)
    with torch.no_grad():
        model.eval()(torch.zeros(1, 64, 64, 3))
    caches = [m.attention_bias_cache for m in model.modules() if type(m).__name__ == "Attention"]
    assert caches and all(caches)
    loop.enter_phase(model, phase)
    assert not any(m.attention_bias_cache for m in model.modules() if type(m).__name__ == "Attention")
