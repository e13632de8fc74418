from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from headstart.backbones.catalogue import catalogue
from headstart.base.errors import CheckpointMismatch
from headstart.base.seeds import stream
from headstart.inputs.spec import ImageSpec

LABELS = ["no", "NA", "007"]


def head(backbone, seed=0):
    draws = stream(seed, "head")
    return draws.normal(size=(3, backbone.card.feature_dim)).astype(np.float32), draws.normal(size=3).astype(np.float32)


def folder_of(backbone, path):
    """A model folder as the bundle writes it."""
    weight, bias = head(backbone)
    path.mkdir(exist_ok=True)
    save_file(backbone.classifier_state(weight, bias, LABELS), path / "model.safetensors", metadata={"format": "pt"})
    (path / "config.json").write_text(json.dumps(backbone.classifier_config(LABELS)))
    for name, content in backbone.companion_files().items():
        (path / name).write_text(json.dumps(content))
    return path


def expected_scores(backbone, images):
    weight, bias = head(backbone)
    with torch.inference_mode():
        return backbone(images).numpy() @ weight.T + bias


@pytest.mark.parametrize("name", ["toy/conv", "toy/vit"])
@pytest.mark.parametrize("fit", ["crop", "squish", "pad"])
def test_a_saved_classifier_opens_in_timm_with_its_preprocessing(tmp_path, name, fit):
    import timm
    from timm.data import create_transform, resolve_model_data_config

    backbone = catalogue.load(name).with_input(ImageSpec(64, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), 1.0, fit, "bilinear"))
    folder = folder_of(backbone, tmp_path / "model")
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        assert np.allclose(model(images).numpy(), expected_scores(backbone, images), atol=1e-4)
    cfg = resolve_model_data_config(model)
    assert tuple(cfg["input_size"]) == (3, 64, 64) and tuple(cfg["mean"]) == (0.4, 0.5, 0.6)
    assert create_transform(**cfg, is_training=False) is not None
    assert list(model.pretrained_cfg["label_names"]) == LABELS and model.num_classes == 3


@pytest.mark.parametrize(
    "name",
    [
        "timm/vgg11",
        "timm/deit_tiny_distilled_patch16_224",
        "timm/resnetv2_50x1_bit.goog_in21k",
        "timm/convnext_atto",
        "timm/mobilenetv3_small_050",
        "timm/swin_tiny_patch4_window7_224",
    ],
)
def test_classifier_states_of_unusual_heads_load_strictly(name):
    """Convolutions as heads, two heads (distilled), heads inside blocks; checked on the meta device where large."""
    backbone = catalogue.load(name, pretrained=False)
    state = backbone.classifier_state(*head(backbone), LABELS)
    with torch.device("meta"):
        full = backbone.architecture.build(3).state_dict()
    assert {k: v.shape for k, v in full.items()} == {k: v.shape for k, v in state.items()}


def test_a_network_without_a_linear_classifier_says_so():
    with pytest.raises(CheckpointMismatch, match="no linear classifier"):
        catalogue.load("torchvision/squeezenet1_1", pretrained=False)


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:FutureWarning")
def test_from_pixels_can_be_traced_and_run_in_bfloat16(toy):
    pixels = torch.from_numpy(stream(0, "pixels").integers(0, 256, (4, 64, 64, 3), dtype=np.uint8))
    module = toy.from_pixels()
    with torch.inference_mode():
        expected = module(pixels)
    with torch.no_grad():
        traced = torch.jit.trace(module, pixels[:2], check_trace=False)
        assert torch.allclose(traced(pixels), expected, atol=1e-5)
    half = catalogue.load("toy/conv").from_pixels().to(torch.bfloat16).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        rough = half(pixels)
    assert rough.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(rough.float(), expected).min() > 0.999


@pytest.mark.openvino
@pytest.mark.filterwarnings("ignore:.torch.jit.trace:FutureWarning")
def test_from_pixels_converts_to_openvino(toy):
    openvino = pytest.importorskip("openvino")
    pixels = torch.from_numpy(stream(0, "pixels").integers(0, 256, (2, 64, 64, 3), dtype=np.uint8))
    model = openvino.convert_model(toy.from_pixels(), example_input=pixels)
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with torch.inference_mode():
        assert np.allclose(compiled(pixels.numpy())[0], toy.from_pixels()(pixels).numpy(), atol=1e-4)


def test_with_input_shares_the_weights_and_changes_the_normalisation(toy):
    other = toy.with_input(ImageSpec(size=64, mean=(0, 0, 0), std=(1, 1, 1), crop=1.0))
    assert other.network is toy.network and other.spec.std == (1, 1, 1)
    pixels = torch.from_numpy(stream(0, "pixels").integers(0, 256, (2, 64, 64, 3), dtype=np.uint8))
    with torch.inference_mode():
        assert torch.allclose(other.from_pixels()(pixels), toy(pixels.permute(0, 3, 1, 2) / 255), atol=1e-5)


def test_classifier_state_does_not_share_memory_that_training_would_change(toy):
    assert toy.opens_with == "timm"
    state = toy.classifier_state(*head(toy), LABELS)
    assert all(t.is_contiguous() and t.device.type == "cpu" for t in state.values())
