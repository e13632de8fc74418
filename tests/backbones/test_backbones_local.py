"""Model folders: timm's, transformers' and our own; nothing in a config reaches code or other files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_backbones_backbone import LABELS, expected_scores, folder_of

from headstart.backbones.catalogue import catalogue
from headstart.base.errors import CheckpointMismatch, DataError, NotInCatalogue, Refused
from headstart.inputs.spec import ImageSpec
from headstart.testing.sources import check_backbone, check_classifier, check_random_copy

VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32,
       "patch_size": 8}  # fmt: skip
STAGED = {"hidden_sizes": [8, 16], "depths": [1, 1]}
WINDOWED = {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "image_size": 32, "patch_size": 4, "window_size": 4}
KINDS = {
    "vit": VIT,
    "deit": VIT,
    "beit": VIT,
    "dinov2": {k: v for k, v in VIT.items() if k != "intermediate_size"},
    "dinov2_with_registers": {k: v for k, v in VIT.items() if k != "intermediate_size"},
    "resnet": STAGED | {"embedding_size": 8},
    "regnet": STAGED | {"embedding_size": 8, "groups_width": 8},
    "convnext": STAGED | {"num_stages": 2},
    "convnextv2": STAGED | {"num_stages": 2},
    "swin": WINDOWED,
    "swinv2": WINDOWED,
}
PROCESSOR = {
    "size": {"height": 32, "width": 32},
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4],
    "resample": 3,
}


def publishers_transformers(kind, folder, classes=5):
    from transformers import AutoConfig, AutoModelForImageClassification

    config = AutoConfig.for_model(kind, **KINDS[kind])
    config.num_labels = classes
    config.architectures = [next(iter(_classes(config))).__name__]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = AutoModelForImageClassification.from_config(config).eval()
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return network


def _classes(config):
    from transformers import AutoModelForImageClassification

    mapped = AutoModelForImageClassification._model_mapping[type(config)]
    return mapped if isinstance(mapped, tuple) else (mapped,)


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_folders_give_the_publishers_scores(tmp_path, kind):
    network = publishers_transformers(kind, tmp_path)
    backbone = catalogue.load(f"file:{tmp_path}", offline=True)
    assert backbone.opens_with == "transformers"
    assert backbone.spec == ImageSpec(32, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 1.0, "squish", "bicubic")
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        scores = network.classifier(backbone(images))
        assert torch.allclose(scores, network(images).logits, atol=1e-5)
    check_backbone(backbone)
    check_classifier(backbone)


@pytest.mark.parametrize("kind", ["vit", "resnet", "dinov2"])
def test_a_saved_transformers_model_opens_in_transformers(tmp_path, kind):
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    (tmp_path / "published").mkdir()
    publishers_transformers(kind, tmp_path / "published")
    backbone = catalogue.load(f"file:{tmp_path / 'published'}")
    folder = folder_of(backbone, tmp_path / "ours")
    model = AutoModelForImageClassification.from_pretrained(folder, local_files_only=True).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert np.allclose(model(images).logits.numpy(), expected_scores(backbone, images), atol=1e-4)
    assert [model.config.id2label[i] for i in range(3)] == LABELS
    processor = AutoImageProcessor.from_pretrained(folder)
    assert list(processor.image_mean) == [0.5, 0.4, 0.3]


def test_a_random_copy_of_a_transformers_network(tmp_path):
    publishers_transformers("vit", tmp_path)
    check_random_copy(catalogue.load(f"file:{tmp_path}"))


@pytest.mark.parametrize(
    ("processor", "spec"),
    [
        ({"size": 48}, (48, 1.0, "squish")),
        (
            {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}},
            (32, 40, "crop"),
        ),
        ({"size": {"shortest_edge": 28}, "crop_pct": 0.875}, (28, 32, "crop")),
    ],
)
def test_preprocessor_configs_are_understood(tmp_path, processor, spec):
    publishers_transformers("resnet", tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    found = catalogue.card(f"file:{tmp_path}").input
    assert (found.size, found.fit) == (spec[0], spec[2])
    assert found.fit == "squish" or int(found.size / found.crop) == spec[1]


@pytest.mark.parametrize("name", ["toy/conv", "toy/vit", "torchvision/mobilenet_v2"])
def test_our_own_model_folder_is_a_backbone_again(tmp_path, name):
    backbone = catalogue.load(name, pretrained=name.startswith("toy"))
    if name.startswith("toy"):
        backbone = backbone.with_input(ImageSpec(64, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), 1.0, "pad", "bilinear"))
    again = catalogue.load(f"file:{folder_of(backbone, tmp_path / 'm')}")
    images = torch.randn(2, 3, backbone.spec.size, backbone.spec.size)
    with torch.inference_mode():
        assert torch.equal(again(images), backbone(images))
    assert again.spec == backbone.spec and again.opens_with == backbone.opens_with
    assert any("of 3 classes left out" in note for note in again.record.notes)


def test_a_folder_as_timm_writes_it_opens(tmp_path):
    import timm
    from timm.models import save_for_hf

    network = timm.create_model("test_efficientnet", num_classes=4).eval()
    save_for_hf(network, str(tmp_path), safe_serialization=True)
    backbone = catalogue.load(f"file:{tmp_path}")
    images = torch.randn(2, 3, 160, 160)
    with torch.inference_mode():
        assert torch.allclose(network.classifier(backbone(images)), network(images), atol=1e-5)
    assert backbone.spec.size == 160


# --- bad folders -----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, toy):
    return folder_of(toy, tmp_path / "model")


def edited(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    return f"file:{folder}"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda c: c.update(architecture="hf-hub:evil/net"), DataError, "is not an architecture of timm"),
        (lambda c: c.update(architecture="../../x"), DataError, "is not an architecture of timm"),
        (lambda c: c.update(architecture=["resnet18"]), DataError, "is not an architecture of timm"),
        (lambda c: c["model_args"].update(checkpoint_path="/etc/passwd"), Refused, "CF20 .*checkpoint_path"),
        (lambda c: c["model_args"].update(pretrained=True), Refused, "CF20 .*pretrained"),
        (lambda c: c["model_args"].update(pretrained_cfg={"file": "x"}), Refused, "CF20 .*pretrained_cfg"),
        (lambda c: c["model_args"].update(norm_layer="os.system"), Refused, "CF20 .*norm_layer"),
        (lambda c: c["model_args"].update(block={"_target_": "x"}), Refused, "CF20 .*block"),
        (lambda c: c["model_args"].update(no_such=3), DataError, "no_such"),
        (lambda c: c["pretrained_cfg"].update(input_size=[1, 64, 64]), DataError, "only square RGB"),
        (lambda c: c["pretrained_cfg"].update(input_size=[3, "64", "64"]), DataError, "only square RGB"),
        (lambda c: c["pretrained_cfg"].update(mean=[0.5]), DataError, "mean"),
        (lambda c: c["pretrained_cfg"].update(std=[0, 0, 0]), DataError, "std"),
        (lambda c: c["pretrained_cfg"].update(crop_pct="all"), DataError, "crop_pct"),
        (lambda c: c.pop("architecture"), DataError, "names neither"),
    ],
)
def test_configs_that_reach_further_or_make_no_sense_are_refused(folder, change, error, message):
    with pytest.raises(error, match=message):
        catalogue.load(edited(folder, change))


@pytest.mark.parametrize(
    "key", ["auto_map", "trust_remote_code", "_attn_implementation_internal", "_target_", "quantization_config"]
)
def test_transformers_configs_that_ask_for_code_are_refused(tmp_path, key):
    publishers_transformers("vit", tmp_path)
    with pytest.raises(Refused, match=f"CF20 .*key '{key}' asks to import code. Refused."):
        catalogue.load(edited(tmp_path, lambda c: c.update({key: {"AutoModel": "evil.Net"}})))


def test_nested_code_in_a_config_is_found(tmp_path):
    publishers_transformers("vit", tmp_path)
    with pytest.raises(Refused, match="CF20"):
        catalogue.load(edited(tmp_path, lambda c: c.update(extra=[{"deep": {"_target_": "os.system"}}])))


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 10**9},
        {"hidden_size": -3},
        {"hidden_size": "a"},
        {"patch_size": 0},
        {"hidden_size": 8192, "intermediate_size": 32768},
    ],
)
def test_settings_that_make_no_network_or_too_large_a_one_are_refused(tmp_path, change):
    publishers_transformers("vit", tmp_path)
    with pytest.raises((DataError, Refused), match=r"CF20|cannot build|CK18"):
        catalogue.load(edited(tmp_path, lambda c: c.update(change)))


def test_unknown_kinds_of_transformers_are_named(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(DataError, match="model_type 'llama' is not one that is read here"):
        catalogue.load(f"file:{tmp_path}")


@pytest.mark.parametrize("text", ["{", "[1]", "3", '{"a": 1, "a": 2}', '{"a": NaN}', "[" * 100_000])
def test_broken_json_is_the_users_error(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(DataError):
        catalogue.load(f"file:{folder}")


def test_missing_pieces_are_named(folder, tmp_path):
    with pytest.raises(NotInCatalogue, match="there is no folder"):
        catalogue.load(f"file:{tmp_path / 'nowhere'}")
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"none of model.safetensors, pytorch_model.bin, model.pth is there"):
        catalogue.load(f"file:{folder}")
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(DataError, match="CK14"):
        catalogue.load(f"file:{folder}")
    (folder / "config.json").unlink()
    with pytest.raises(DataError, match=r"no config.json"):
        catalogue.load(f"file:{folder}")


def test_weights_of_another_network_in_a_folder_are_refused(folder):
    state = load_file(folder / "model.safetensors")
    save_file({f"x.{k}x": v for k, v in state.items()}, folder / "model.safetensors")
    with pytest.raises(CheckpointMismatch, match="0 of 90 backbone tensors match"):
        catalogue.load(f"file:{folder}")


def test_a_transformers_file_with_a_missing_layer_is_refused(tmp_path):
    publishers_transformers("vit", tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    kept = {k: v for k, v in state.items() if not k.startswith("vit.encoder.layer.1.attention")}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointMismatch, match="are missing"):
        catalogue.load(f"file:{tmp_path}")
