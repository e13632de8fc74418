"""Makes ``catalogue.json``: sizes and costs of networks, measured without weights.

python -m headstart.backbones.sources.measure > src/headstart/backbones/sources/catalogue.json
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode

from headstart.backbones.backbone import Architecture
from headstart.backbones.loading import head_names
from headstart.backbones.sources.listing import Listed, signature
from headstart.base.config import to_dict
from headstart.base.files import to_json
from headstart.inputs.spec import ImageSpec


def measured(
    architecture: Architecture,
    *,
    name: str,
    spec: ImageSpec,
    licence: str,
    trained_on: str,
    where: str,
) -> Listed:
    """Width, parameters and multiply-adds of a network, counted on torch's meta device."""
    with torch.device("meta"):
        network = architecture.build(0).eval().requires_grad_(False)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            picture = torch.zeros(1, 3, spec.size, spec.size, device=next(network.parameters()).device)
            width = architecture.features(network, picture).shape[1]
    heads = head_names(architecture, network)
    shapes = {n: tuple(t.shape) for n, t in network.state_dict().items()}
    parameters = sum(p.numel() for p in network.parameters())
    return Listed(
        name=name,
        architecture=architecture.name,
        input=spec,
        feature_dim=int(width),
        parameters=parameters,
        gmacs=round(counter.get_total_flops() / 2e9, 3),
        licence=licence,
        trained_on=trained_on,
        where=where,
        bytes=4 * (parameters + 1000 * int(width)),
        heads=heads,
        signature=signature(shapes, heads),
    )


def table(timm_names: Sequence[str], torchvision_names: Sequence[str]) -> dict[str, list[dict]]:
    from headstart.backbones.sources import timm, torchvision

    return {
        "timm": [to_dict(timm.describe(name)) for name in timm_names],
        "torchvision": [to_dict(torchvision.describe(name)) for name in torchvision_names],
    }


TIMM = (
    "resnet18.a1_in1k",
    "resnet34.a1_in1k",
    "resnet50.a1_in1k",
    "resnet101.a1h_in1k",
    "resnetv2_50x1_bit.goog_in21k",
    "resnext50_32x4d.a1h_in1k",
    "vgg16.tv_in1k",
    "inception_v3.tv_in1k",
    "densenet121.ra_in1k",
    "mobilenetv2_100.ra_in1k",
    "mobilenetv3_small_100.lamb_in1k",
    "mobilenetv3_large_100.ra_in1k",
    "mobilenetv4_conv_small.e2400_r224_in1k",
    "efficientnet_b0.ra_in1k",
    "tf_efficientnet_lite0.in1k",
    "tf_efficientnetv2_s.in21k_ft_in1k",
    "tf_efficientnetv2_b0.in1k",
    "regnety_016.tv2_in1k",
    "regnety_032.ra_in1k",
    "convnext_nano.in12k_ft_in1k",
    "convnext_tiny.fb_in22k",
    "convnext_small.fb_in22k_ft_in1k",
    "convnextv2_tiny.fcmae_ft_in22k_in1k",
    "vit_tiny_patch16_224.augreg_in21k",
    "vit_small_patch16_224.augreg_in21k",
    "vit_small_patch16_224.dino",
    "vit_base_patch16_224.augreg2_in21k_ft_in1k",
    "vit_base_patch16_224.mae",
    "vit_small_patch14_dinov2.lvd142m",
    "vit_base_patch14_dinov2.lvd142m",
    "vit_small_patch14_reg4_dinov2.lvd142m",
    "vit_small_patch16_dinov3.lvd1689m",
    "vit_base_patch16_clip_224.openai",
    "vit_base_patch16_clip_224.laion2b",
    "vit_base_patch16_siglip_224.webli",
    "deit_small_patch16_224.fb_in1k",
    "deit3_small_patch16_224.fb_in22k_ft_in1k",
    "beitv2_base_patch16_224.in1k_ft_in22k",
    "swin_tiny_patch4_window7_224.ms_in1k",
    "swin_small_patch4_window7_224.ms_in22k",
    "eva02_small_patch14_224.mim_in22k",
    "repvit_m1.dist_in1k",
)
TORCHVISION = (
    "vgg16",
    "resnet18",
    "resnet50",
    "resnet101",
    "inception_v3",
    "googlenet",
    "densenet121",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "convnext_tiny",
    "regnet_y_1_6gf",
    "swin_t",
    "vit_b_16",
)

if __name__ == "__main__":
    sys.stdout.write(to_json(table(TIMM, TORCHVISION), indent=1) + "\n")
