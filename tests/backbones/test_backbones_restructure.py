"""Networks of another shape: what is kept gives what it gave, what is removed is gone, and errors say what to do."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from headstart.backbones.backbone import Backbone, tensors_sha256
from headstart.backbones.catalogue import catalogue
from headstart.backbones.restructure import LUMINANCE, architecture_from, luminance, pooled, structured
from headstart.backbones.structure import Structure
from headstart.backbones.taps import tapped
from headstart.base.errors import DataError, PlanError
from headstart.base.seeds import stream
from headstart.features.extract import feature_key
from headstart.inputs.spec import VectorSpec

ALL = [
    Structure(cut_at="layer2"),
    Structure(pooling="max"),
    Structure(pooling="avgmax"),
    Structure(cut_at="layer2", pooling="max"),
    Structure(channels=1),
    Structure("layer3", "avgmax", 1),
]


def pixels(backbone, n=3):
    size = backbone.spec.size
    return torch.from_numpy(stream(0, "pixels").integers(0, 256, (n, size, size, 3), dtype=np.uint8))


def features(backbone, x=None):
    with torch.no_grad():
        return backbone.from_pixels()(pixels(backbone) if x is None else x)


@pytest.mark.parametrize(
    ("name", "stage", "pooling"),
    [
        ("toy/conv", "layer2", "avg"),
        ("toy/conv", "layer2", "max"),
        ("toy/conv", "layer1", "max"),
        ("toy/vit", "blocks.3", "token"),
        ("timm/convnext_atto", "stages.2", "avg"),
        ("timm/swin_tiny_patch4_window7_224", "layers.1", "max"),
        ("timm/mobilenetv3_small_050", "blocks.3", "avg"),
        ("torchvision/resnet18", "layer2", "max"),
        ("torchvision/swin_t", "features.4", "avg"),
        ("torchvision/densenet121", "features.transition2", "max"),
    ],
)
def test_a_cut_network_gives_what_its_last_stage_gave_in_the_whole_one(name, stage, pooling):
    whole = catalogue.load(name, pretrained=name.startswith("toy"))
    part = structured(whole, Structure(stage, pooling))
    reference = tapped(whole, [f"{stage}:{'cls' if pooling == 'token' else pooling}"])
    torch.testing.assert_close(features(part), features(reference), rtol=1e-5, atol=1e-5)
    assert part.card.feature_dim == part.record.feature_dim == features(part).shape[1]
    assert part.card.parameters == sum(p.numel() for p in part.network.parameters()) < whole.card.parameters
    above = [s for s in whole.stages[[s.name for s in whole.stages].index(stage) + 1 :]]
    assert not [n for n in part.network.state_dict() if any(s.holds(n) for s in above)]


def test_without_a_pooling_the_network_pools_as_it_does():
    whole = catalogue.load("toy/conv")
    torch.testing.assert_close(
        features(structured(whole, Structure("layer2"))), features(tapped(whole, ["layer2:avg"])), rtol=1e-5, atol=1e-5
    )
    vit = catalogue.load("torchvision/vit_b_16", pretrained=False)
    cut = structured(vit, Structure("encoder.layers.encoder_layer_1"))
    reference = tapped(vit, ["encoder.layers.encoder_layer_1:cls"])
    torch.testing.assert_close(features(cut), features(reference), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["toy/conv", "toy/vit"])
@pytest.mark.parametrize("pooling", ["avg", "max", "avgmax"])
def test_where_the_library_can_pool_so_the_network_stays_one_of_it(name, pooling):
    loaded = catalogue.load(name)
    other = structured(loaded, Structure(pooling=pooling))
    assert other.opens_with == "timm" and dict(other.architecture.arguments)["global_pool"] == pooling
    assert list(other.network.state_dict()) == list(loaded.network.state_dict())
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = loaded.network.forward_features(images)
        torch.testing.assert_close(other(images), pooled(maps, pooling), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["torchvision/resnet18", "torchvision/swin_t"])
def test_where_it_cannot_the_last_map_is_pooled(name):
    loaded = catalogue.load(name, pretrained=False)
    other = structured(loaded, Structure(pooling="avg"))
    assert other.opens_with == "headstart"
    torch.testing.assert_close(features(other), features(loaded), rtol=1e-5, atol=1e-5)  # their own pooling is avg
    assert not torch.allclose(features(structured(loaded, Structure(pooling="max"))), features(loaded))


def test_pooling_over_tokens_leaves_out_those_that_are_no_place():
    tokens = torch.randn(2, 1 + 9, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pooled(tokens, "avg"), tokens[:, 1:].mean(1))
    torch.testing.assert_close(pooled(tokens, "max"), tokens[:, 1:].amax(1))
    torch.testing.assert_close(pooled(tokens, "avgmax"), (tokens[:, 1:].mean(1) + tokens[:, 1:].amax(1)) / 2)
    assert torch.equal(pooled(tokens, "token"), tokens[:, 0])
    maps = tokens[:, 1:].reshape(2, 3, 3, 5)
    torch.testing.assert_close(pooled(maps, "avg"), pooled(maps.permute(0, 3, 1, 2), "avg"))


@pytest.mark.parametrize("name", ["toy/conv", "toy/vit", "timm/convnext_atto", "torchvision/resnet18"])
def test_a_grey_picture_gives_what_its_three_equal_channels_gave(name):
    loaded = catalogue.load(name, pretrained=name.startswith("toy"))
    alike = loaded.with_input(replace(loaded.spec, mean=(0.5,) * 3, std=(0.25,) * 3))
    grey = structured(alike, Structure(channels=1))
    x = pixels(loaded)[..., :1].expand(-1, -1, -1, 3).contiguous()
    torch.testing.assert_close(features(grey, x), features(alike, x), rtol=1e-4, atol=1e-4)
    first = next(p for p in grey.network.parameters() if p.ndim == 4)
    assert first.shape[1] == 1
    # Of a coloured picture it sees the luminance and nothing else.
    coloured = pixels(loaded)
    light = (coloured.float() * torch.tensor(LUMINANCE)).sum(-1, keepdim=True).expand(-1, -1, -1, 3)
    torch.testing.assert_close(features(grey, coloured), features(alike, light), rtol=1e-4, atol=1e-4)


def test_the_means_of_the_channels_become_one():
    loaded = catalogue.load("torchvision/resnet18", pretrained=False)
    spec = structured(loaded, Structure(channels=1)).spec
    assert len(set(spec.mean)) == len(set(spec.std)) == 1
    assert math.isclose(spec.mean[0], sum(loaded.spec.mean) / 3)
    assert math.isclose(sum(LUMINANCE), 1) and luminance(torch.ones(1, 3, 2, 2)).allclose(torch.ones(1, 1, 2, 2))


@pytest.mark.parametrize("structure", ALL, ids=lambda s: " ".join(s.in_words))
def test_the_loaded_network_is_left_alone_and_nothing_is_shared(structure):
    loaded = catalogue.load("toy/conv")
    before, says = tensors_sha256(loaded.network), features(loaded)
    made = structured(loaded, structure)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
    assert tensors_sha256(loaded.network) == before and torch.equal(features(loaded), says)
    assert structured(loaded, Structure()) is loaded


def test_each_structure_has_a_store_of_its_own_and_so_has_its_random_control():
    loaded = catalogue.load("toy/conv")
    made = [loaded, *(structured(loaded, s) for s in ALL)]
    keys = {feature_key(b, "torch-f32") for b in made} | {feature_key(b.random_copy(0), "torch-f32") for b in made}
    assert len(keys) == 2 * len(made)


@pytest.mark.parametrize("structure", ALL, ids=lambda s: " ".join(s.in_words))
def test_it_is_built_again_from_its_config_alone(structure):
    made = structured(catalogue.load("toy/conv"), structure)
    config = made.classifier_config(["a", "b"])
    if made.opens_with == "timm":
        assert config["model_args"]["global_pool"] == structure.pooling
        return
    assert config["inner_library"] == "timm"
    inner = made.architecture.inner
    again = architecture_from(inner, config["changes"], where="config.json")
    assert again == made.architecture
    shapes = {n: t.shape for n, t in again.build(2).state_dict().items()}
    state = made.classifier_state(np.zeros((2, made.card.feature_dim)), np.zeros(2), ["a", "b"])
    assert shapes == {n: t.shape for n, t in state.items()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"removed": ["layer9"]}, "a module that the structure names is not in"),
        ({"tap": "nowhere", "pooling": "max"}, "a module that the structure names is not in"),
        ({"tap": "layer1"}, "not one that headstart makes"),
        ({"channels": 7}, "not one that headstart makes"),
        ({"width": 10**9}, "not one that headstart makes"),
        ({"pooling": "median"}, "CF23"),
        ({"_target_": "os.system"}, "CF23"),
    ],
)
def test_a_config_that_states_what_we_do_not_make_is_refused(change, words):
    made = structured(catalogue.load("toy/conv"), Structure("layer2"))
    changes = made.classifier_config(["a", "b"])["changes"] | change
    with pytest.raises(DataError, match=words):
        architecture_from(made.architecture.inner, changes, where="config.json")


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("toy/conv", lambda: Structure("layr2"), r"PL72 .*Did you mean 'layer2'\?.*conv1, layer1"),
        ("toy/conv", lambda: Structure("layer4"), r"PL72 'layer4' is the last stage .*conv1, layer1, layer2, layer3"),
        ("toy/conv", lambda: Structure(pooling="token"), r"PL73 .*no class token"),
        ("toy/conv", lambda: Structure("layer2", "token"), r"PL73 .*no class token"),
        ("toy/conv", lambda: Structure(pooling="maxx"), r"PL70 no pooling 'maxx'\. Did you mean 'max'"),
        ("toy/conv", lambda: Structure(channels=4), r"PL71 channels is 4.*--channels 1"),
        ("toy/conv", lambda: Structure(channels=2), r"PL71 channels is 2"),
        ("torchvision/convnext_tiny", lambda: Structure(pooling="max"), r"PL73 .*no places left.*--cut-at"),
        ("torchvision/googlenet", lambda: Structure(channels=1), r"PL74 torchvision/googlenet does not run 1 channel"),
    ],
)
def test_what_cannot_be_made_says_what_can(name, make, words):
    with pytest.raises(PlanError, match=words):
        structured(catalogue.load(name, pretrained=name.startswith("toy")), make())


def test_networks_that_take_no_pictures_keep_their_structure():
    toy = catalogue.load("toy/conv")
    vectors = Backbone(replace(toy.card, input=VectorSpec(5)), toy.network, toy.architecture, toy.record)
    assert structured(vectors, Structure()) is vectors
    with pytest.raises(PlanError, match=r"PL74 toy/conv takes no pictures.*--channels"):
        structured(vectors, Structure("layer2"))


def test_the_classifier_that_came_with_the_weights_stays_only_where_features_are_what_it_was_made_for(tmp_path):
    from safetensors.torch import save_file

    toy = catalogue.load("toy/conv")
    state = toy.classifier_state(np.ones((5, 96)) / 7, np.arange(5.0), list("abcde"))
    save_file({n: t.clone() for n, t in state.items()}, tmp_path / "w.safetensors")
    loaded = catalogue.load("toy/conv", weights=tmp_path / "w.safetensors")
    assert np.allclose(loaded.source.weight, 1 / 7) and np.array_equal(loaded.source.bias, np.arange(5))
    assert loaded.with_input(loaded.spec).source is loaded.source
    assert structured(loaded, Structure(channels=1)).source is loaded.source
    assert structured(loaded, Structure("layer3")).source is None
    assert structured(loaded, Structure(pooling="max")).source is None
    assert toy.source is None and loaded.random_copy(0).source is None
