"""Networks of several families with random weights and small pictures, for tests of what is done to networks."""

from dataclasses import replace

import numpy as np
import torch

from headstart.adapt.plan import HEAD, Head, Phase, Plan
from headstart.backbones.card import BackboneCard, Weights
from headstart.backbones.catalogue import catalogue
from headstart.backbones.loading import load_random
from headstart.backbones.sources.timm import TimmArchitecture
from headstart.base.seeds import stream
from headstart.inputs.spec import ImageSpec

# name → side of the pictures; None: its own
SIZES = {
    "timm/resnet10t": 64,
    "timm/efficientnet_lite0": 64,
    "timm/vit_tiny_patch16_224": None,
    "timm/convnext_atto": 64,
    "timm/mobilenetv3_small_050": 64,
}
FAMILIES = tuple(SIZES)


def family(name, size=None):
    backbone = catalogue.load(name, pretrained=False)
    size = size or SIZES.get(name)
    return backbone.with_input(replace(backbone.spec, size=size)) if size else backbone


def tiny(name, **arguments):
    """A toy of the catalogue, or a timm architecture made small by arguments of its constructor; pictures of 32."""
    if name.startswith("toy/"):
        return catalogue.load(name)
    architecture = TimmArchitecture(name, tuple(sorted(arguments.items())))
    network = architecture.build(0)
    spec = ImageSpec(32, (0.5,) * 3, (0.5,) * 3, 1.0, "crop", "bilinear")
    with torch.no_grad():
        width = network.eval()(torch.zeros(1, 3, 32, 32)).shape[1]
    count = sum(p.numel() for p in network.parameters())
    card = BackboneCard(
        f"timm/{name}", "image", name, spec, width, count, "none", "nothing", Weights("none", "seeded", here=True)
    )
    return load_random(card, architecture, 0)


def pixels(backbone, n=2, seed=0):
    size = backbone.spec.size
    return torch.from_numpy(stream(seed, "pixels").integers(0, 256, (n, size, size, 3), dtype=np.uint8))


def plan_for(backbone, stages=None, *, head=None, **fields):
    """One phase in which these stages (all by default) and the head learn; the head starts at random."""
    stages = [s.name for s in backbone.stages] if stages is None else stages
    phase = Phase("tune", 3, {**dict.fromkeys(stages, 0.01), HEAD: 0.01})
    return Plan("test", (phase,), head=head or Head("random"), **fields)
