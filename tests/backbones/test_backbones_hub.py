"""Models of the hub, fetched from a hub that runs on this machine, and weights that are split over files."""

import json

import pytest
import torch
from a_hub import hub
from safetensors.torch import load_file, save_file

from headstart.backbones.catalogue import catalogue
from headstart.backbones.sharded import read_sharded
from headstart.base.errors import CheckpointMismatch, DataError, EnvironmentFault, NotInCatalogue, Refused

NAME = "hf/tiny/model"


@pytest.fixture
def folder(tmp_path):
    """A small ViT as transformers saves it."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8
    )
    ViTForImageClassification(config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def split(folder):
    """The same with its weights in three files."""
    state = load_file(folder / "model.safetensors")
    files = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    places = {name: files[i % 3] for i, name in enumerate(sorted(state))}
    for file in files:
        save_file({n: state[n] for n, f in places.items() if f == file}, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / "model.safetensors").unlink()
    return folder


@pytest.fixture
def here(folder, tmp_path, monkeypatch):
    """The hub on this machine, with an empty cache."""
    from huggingface_hub import constants

    with hub(folder) as (address, fetched):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield fetched


def features(backbone):
    torch.manual_seed(1)
    with torch.inference_mode():
        return backbone(torch.rand(2, 3, 32, 32))


def test_a_model_of_the_hub_equals_the_same_folder(here, folder):
    card = catalogue.card(NAME)
    assert (card.name, card.modality, card.weights.kind, card.weights.here) == (NAME, "image", "hub", False)
    assert "model.safetensors" not in here, "a card needs no weights"
    backbone = catalogue.load(NAME)
    torch.testing.assert_close(features(backbone), features(catalogue.load(f"file:{folder}")), rtol=0, atol=0)
    assert backbone.card.name == backbone.record.name == NAME


def test_what_was_fetched_once_is_never_fetched_again(here):
    catalogue.load(NAME)
    before = list(here)
    catalogue.load(NAME, offline=True)
    assert catalogue.card(NAME, offline=True).weights.here
    assert here == before


def test_offline_fetches_nothing_not_even_the_description(here):
    with pytest.raises(EnvironmentFault, match="EN75"):
        catalogue.card(NAME, offline=True)
    catalogue.card(NAME)
    with pytest.raises(EnvironmentFault, match="EN75"):
        catalogue.load(NAME, offline=True)
    assert "model.safetensors" not in here


def test_split_weights_come_whole_from_the_hub(split, here):
    backbone = catalogue.load(NAME)
    assert sum(name.endswith(".safetensors") for name in here) == 3
    torch.testing.assert_close(features(backbone), features(catalogue.load(f"file:{split}")), rtol=0, atol=0)


def test_a_repository_without_a_model_says_so(folder, here):
    (folder / "model.safetensors").unlink()
    with pytest.raises(EnvironmentFault, match=r"EN75 .* holds none of model\.safetensors"):
        catalogue.load(NAME)


def test_a_repository_that_is_not_there_is_an_error_that_names_its_page(here):
    with pytest.raises(EnvironmentFault, match=r"EN75 .*huggingface\.co/tiny/other"):
        catalogue.load("hf/tiny/other")


@pytest.mark.parametrize("name", ["hf/model", "hf/a/b/c", "hf/../secret", "hf/tiny/model@", "hf//x"])
def test_names_that_the_hub_cannot_have_are_refused_before_anything_is_asked(name, here):
    with pytest.raises(NotInCatalogue, match="hf/ORG/NAME"):
        catalogue.load(name)
    assert here == []


def test_split_weights_are_those_of_one_file(folder, split):
    whole = catalogue.load(f"file:{split}")
    assert whole.record.matched == whole.record.expected
    checkpoint = read_sharded(split / "model.safetensors.index.json")
    assert checkpoint.size == sum(f.stat().st_size for f in split.glob("model-*.safetensors"))


def test_a_missing_part_is_named(split):
    (split / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(DataError, match=r"CK14 .*1 of 3 weights files .*model-00002"):
        catalogue.load(f"file:{split}")


def test_a_tensor_that_is_not_where_the_index_says_is_an_error(split):
    index = split / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    name = next(n for n, f in content["weight_map"].items() if "00001" in f)
    content["weight_map"][name] = "model-00002-of-00003.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointMismatch, match=r"CK11 .*should be in model-00002"):
        catalogue.load(f"file:{split}")


@pytest.mark.parametrize("place", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", ".hidden"])
def test_an_index_reaches_nothing_outside_its_folder(split, place):
    index = split / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"][next(iter(content["weight_map"]))] = place
    index.write_text(json.dumps(content))
    with pytest.raises(Refused, match="CK02"):
        catalogue.load(f"file:{split}")


@pytest.mark.parametrize("content", ["{}", "[]", '{"weight_map": {}}', '{"weight_map": {"a": 1}}'])
def test_an_index_without_a_map_says_so(split, content):
    (split / "model.safetensors.index.json").write_text(content)
    with pytest.raises(DataError, match="CK14"):
        catalogue.load(f"file:{split}")


def test_a_network_for_sounds_is_that_of_a_local_folder(tmp_path, monkeypatch):
    from huggingface_hub import constants
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    folder = tmp_path / "sounds"
    config = Wav2Vec2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )
    Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    with hub(folder) as (address, fetched):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        card = catalogue.card(NAME)
        assert card.modality == "audio" and not card.input.normalised and "model.safetensors" not in fetched
        fetched_one, local = catalogue.load(NAME), catalogue.load(f"file:{folder}")
    wave = torch.sin(torch.arange(8000) / 5)[None]
    with torch.inference_mode():
        assert torch.equal(fetched_one(wave), local(wave))
    assert fetched.count("model.safetensors") == 1
