from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from headstart.backbones.stages import Stage, check_stages, stages_of
from headstart.testing.sources import check_random_copy

EXPECTED = {
    "resnet50": "stem layer1 layer2 layer3 layer4",
    "test_resnet": "conv1 layer1 layer2 layer3 layer4",
    "tf_efficientnet_lite0": "stem blocks.0 blocks.1 blocks.2 blocks.3 blocks.4 blocks.5 blocks.6 top",
    "vit_tiny_patch16_224": "stem " + " ".join(f"blocks.{i}" for i in range(12)) + " top",
    "convnext_atto": "stem stages.0 stages.1 stages.2 stages.3 top",
    "swin_tiny_patch4_window7_224": "stem layers.0 layers.1 layers.2 layers.3 top",
}
DIVERSE = ("densenet121", "inception_v3", "vgg11_bn", "xcit_nano_12_p8_224", "efficientvit_b0",
           "convmixer_768_32", "levit_128s", "maxvit_tiny_tf_224", "hrnet_w18_small", "dla34", "repvgg_a0")  # fmt: skip


def empty(name):
    with torch.device("meta"):
        return timm.create_model(name, num_classes=0)


@pytest.mark.parametrize("name", EXPECTED)
def test_stages_are_the_blocks_people_speak_of(name):
    assert " ".join(s.name for s in stages_of(empty(name))) == EXPECTED[name]


@pytest.mark.parametrize("name", DIVERSE)
def test_every_parameter_is_in_exactly_one_stage(name):
    network = empty(name)
    check_stages(network, stages_of(network))


def test_a_plain_network_has_stages_too():
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    assert [s.name for s in stages_of(network)] == ["0", "2", "4"]
    check_stages(network, stages_of(network))


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ((Stage("a", ("0",)),), "in 0 stages"),
        ((Stage("a", ("0", "1")), Stage("b", ("1",))), "in 2 stages"),
        ((Stage("a", ("0",)), Stage("a", ("1",))), "not unique"),
        ((Stage("a", ("0", "1")), Stage("b", ("7",))), "without parameters"),
    ],
)
def test_wrong_stages_are_found(stages, message):
    with pytest.raises(ValueError, match=message):
        check_stages(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), stages)


def test_prefixes_end_at_dots():
    assert Stage("a", ("blocks.1",)).holds("blocks.1.weight")
    assert not Stage("a", ("blocks.1",)).holds("blocks.10.weight")


def test_random_copy_keeps_the_contract(toy):
    check_random_copy(toy)
