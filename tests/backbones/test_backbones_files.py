"""Weights from local files into networks of timm and torchvision, as publishers save them."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from headstart.backbones.catalogue import catalogue
from headstart.backbones.loading import head_names
from headstart.base.seeds import number

SLOW = pytest.mark.slow
TORCHVISION = [
    "resnet50",
    "inception_v3",
    "mobilenet_v2",
    "shufflenet_v2_x0_5",
    *(
        pytest.param(name, marks=SLOW)
        for name in [
            "googlenet",
            "efficientnet_b0",
            "densenet121",
            "swin_t",
            "convnext_tiny",
            "regnet_y_400mf",
            "mnasnet0_5",
            "maxvit_t",
        ]
    ),
]
TIMM = ("resnet50", "inception_v3", "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "mobilenetv3_small_050",
        "convnext_atto", "tf_efficientnet_lite0", "regnety_002")  # fmt: skip


def publishers_torchvision(name):
    from torchvision import models

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number(0, name) % 2**31)
        extra = {"transform_input": True, "init_weights": False} if name in ("inception_v3", "googlenet") else {}
        return models.get_model(name, weights=None, **extra).eval()


def publishers_timm(name):
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number(0, name) % 2**31)
        return timm.create_model(name, num_classes=1000).eval()


def save(network, path, kind=torch.float32):
    state = {k: v.to(kind) if v.is_floating_point() else v.clone() for k, v in network.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file({k: v.contiguous() for k, v in state.items()}, path)
    else:
        torch.save(state, path)


def scores_through(backbone, network, images):
    """The publisher's class scores from our features and the publisher's last layer."""
    head = network.get_submodule(head_names(backbone.architecture, backbone.network)[0])
    return head(backbone(images))


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_files_give_the_publishers_scores(tmp_path, name):
    network, suffix = publishers_torchvision(name), ".pth" if len(name) % 2 else ".safetensors"
    save(network, tmp_path / f"w{suffix}")
    backbone = catalogue.load(f"torchvision/{name}", weights=tmp_path / f"w{suffix}", offline=True)
    size = backbone.spec.size
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(images)
        assert torch.allclose(scores_through(backbone, network, images), expected, atol=1e-5 * expected.abs().max())
    assert backbone.record.matched == len(backbone.network.state_dict())


@pytest.mark.parametrize("name", TIMM)
def test_timm_files_give_the_publishers_scores(tmp_path, name):
    network, suffix = publishers_timm(name), ".safetensors" if len(name) % 2 else ".pth"
    save(network, tmp_path / f"w{suffix}")
    backbone = catalogue.load(f"timm/{name}", weights=tmp_path / f"w{suffix}", offline=True)
    size = backbone.spec.size
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network.forward_head(network.forward_features(images), pre_logits=True)
        if isinstance(expected, tuple):
            expected = sum(expected) / 2
        assert torch.allclose(backbone(images), expected, atol=1e-5 * expected.abs().max())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["torchvision/vgg16", "timm/vgg16", "torchvision/vit_b_16", "timm/vit_base_patch16_224"]
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_large_files_in_half_precision_load(tmp_path, name, suffix):
    library, short = name.split("/")
    network = (publishers_torchvision if library == "torchvision" else publishers_timm)(short)
    save(network, tmp_path / f"w{suffix}", torch.float16)
    backbone = catalogue.load(name, weights=tmp_path / f"w{suffix}", offline=True)
    network = network.half().float()
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        expected = network(images)
        assert torch.allclose(scores_through(backbone, network, images), expected, atol=1e-4 * expected.abs().max())


def test_timm_input_specs_are_timms_own():
    import timm
    from timm.data import resolve_data_config

    for card in catalogue.cards():
        if card.name.startswith("timm/"):
            cfg = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(card.name.removeprefix("timm/")).to_dict())
            spec = card.input
            assert (3, spec.size, spec.size) == cfg["input_size"] and spec.crop == cfg["crop_pct"], card.name
            assert (spec.mean, spec.std, spec.interpolation) == (cfg["mean"], cfg["std"], cfg["interpolation"]), (
                card.name
            )


@pytest.mark.parametrize("name", ["vgg16", "resnet50", "inception_v3", "vit_b_16", "efficientnet_b0", "swin_t"])
def test_torchvision_preprocessing_is_torchvisions_own(name):
    import numpy as np
    from PIL import Image
    from torchvision import models
    from torchvision.transforms import functional as F

    from headstart.base.seeds import stream
    from headstart.inputs.image import normalise, prepare

    spec, preset = catalogue.card(f"torchvision/{name}").input, models.get_model_weights(name).DEFAULT.transforms()
    preset.antialias = True
    for width, height in [(500, 375), (333, 500), (231, 640)]:
        image = Image.fromarray(stream(0, width).integers(0, 256, (height, width, 3), dtype=np.uint8))
        assert np.abs(normalise(prepare(image, spec)[None], spec)[0] - preset(image).numpy()).max() < 1e-5
    assert F.get_image_size(image) == [width, height]
