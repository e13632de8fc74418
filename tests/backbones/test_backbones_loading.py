"""Near-miss checkpoints: the right network to the last bit, or a refusal with counts (RELIABILITY A6)."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from headstart.backbones.catalogue import catalogue
from headstart.base.errors import CheckpointMismatch, Refused

LOADS = {
    "whole classifier": lambda s: s,
    "without head": lambda s: {k: v for k, v in s.items() if not k.startswith("fc.")},
    "module.": lambda s: {"module." + k: v for k, v in s.items()},
    "_orig_mod.": lambda s: {"_orig_mod." + k: v for k, v in s.items()},
    "module._orig_mod.": lambda s: {"module._orig_mod." + k: v for k, v in s.items()},
    "model. (Lightning)": lambda s: {"state_dict": {"model." + k: v for k, v in s.items()}, "epoch": 3},
    "backbone. with another head": lambda s: (
        {"backbone." + k: v for k, v in s.items()} | {"head.weight": s["fc.weight"]}
    ),
    "net.encoder.": lambda s: {"net.encoder." + k: v for k, v in s.items()},
    "student and teacher": lambda s: {
        **{"student." + k: v for k, v in s.items()},
        "student_temp": torch.ones(1),
    },
    "state_dict": lambda s: {"state_dict": s},
    "model": lambda s: {"model": s, "optimizer": {"state": {}, "param_groups": []}},
    "model_state": lambda s: {"model_state": s, "step": 5},
    "with extra EMA": lambda s: {"state_dict": s, "state_dict_ema": {k: v * 0 for k, v in s.items()}},
    "only EMA": lambda s: {"state_dict_ema": s, "epoch": 1},
    "head of 21843": lambda s: s | {"fc.weight": torch.zeros(21843, 96), "fc.bias": torch.zeros(21843)},
    "head of 2": lambda s: s | {"fc.weight": torch.zeros(2, 96), "fc.bias": torch.zeros(2)},
    "no counters": lambda s: {k: v for k, v in s.items() if "num_batches" not in k},
    "another order": lambda s: dict(reversed(s.items())),
    "double": lambda s: {k: v.double() for k, v in s.items()},
    "parameters": lambda s: {k: torch.nn.Parameter(v, requires_grad=False) for k, v in s.items()},
    "not contiguous": lambda s: {k: v.t().contiguous().t() if v.ndim == 2 else v for k, v in s.items()},
}
LOADS_ROUNDED = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
REFUSED = {
    "another width": lambda s: {k: v.repeat(2, *[1] * (v.ndim - 1)) if v.ndim else v for k, v in s.items()},
    "narrower": lambda s: {k: v[: max(1, len(v) // 2)] if v.ndim else v for k, v in s.items()},
    "transposed": lambda s: {k: v.transpose(0, 1) if v.ndim == 4 else v for k, v in s.items()},
    "one layer transposed": lambda s: s | {"layer2.0.conv1.weight": s["layer2.0.conv1.weight"].transpose(0, 1)},
    "one layer missing": lambda s: {k: v for k, v in s.items() if not k.startswith("layer3.0.conv2")},
    "one tensor missing": lambda s: {k: v for k, v in s.items() if k != "layer4.0.bn1.running_var"},
    "no statistics": lambda s: {k: v for k, v in s.items() if "running" not in k},
    "half of it": lambda s: dict(list(s.items())[: len(s) // 2]),
    "first quarter": lambda s: dict(list(s.items())[: len(s) // 4]),
    "deeper": lambda s: s | {k.replace("layer4.0", "layer4.1"): v for k, v in s.items() if k.startswith("layer4.0")},
    "head only": lambda s: {k: v for k, v in s.items() if k.startswith("fc.")},
    "LoRA only": lambda s: {f"{k}.lora_A.weight": torch.ones(2, 2) for k in s},
    "other names": lambda s: {f"x{i}": v for i, v in enumerate(s.values())},
    "flattened": lambda s: {k: v.flatten() for k, v in s.items()},
    "optimiser only": lambda s: {"optimizer": {"state": {i: {"exp_avg": v} for i, v in enumerate(s.values())}}},
    "optimiser state alone": lambda s: {
        "state": {i: {"exp_avg": v} for i, v in enumerate(s.values())},
        "param_groups": [],
    },
    "a stem of another size": lambda s: s | {"conv1.0.weight": torch.zeros(7, 3, 3, 3)},
    "grey input": lambda s: s | {"conv1.0.weight": s["conv1.0.weight"].sum(1, keepdim=True)},
    "empty": lambda s: {"x": torch.zeros(0)},
}


@pytest.fixture
def state(toy_classifier):
    return {k: v.clone() for k, v in toy_classifier.state_dict().items()}


@pytest.mark.parametrize("case", LOADS)
def test_near_misses_that_are_the_same_network_load_exactly(case, state, toy, toy_images, tmp_path):
    torch.save(LOADS[case](state), tmp_path / "w.pth")
    loaded = catalogue.load("toy/conv", weights=tmp_path / "w.pth")
    assert loaded.record.matched >= 0.99 * sum(1 for k in toy.network.state_dict() if "num_batches" not in k)
    with torch.inference_mode():
        assert (loaded(toy_images) - toy(toy_images)).abs().max() <= 1e-5


@pytest.mark.parametrize("case", LOADS_ROUNDED)
def test_half_precision_files_load_as_what_they_hold(case, state, toy, toy_images, tmp_path):
    kind = LOADS_ROUNDED[case]
    rounded = {k: v.to(kind) if v.is_floating_point() else v for k, v in state.items()}
    save_file(rounded, tmp_path / "w.safetensors")
    loaded = catalogue.load("toy/conv", weights=tmp_path / "w.safetensors")
    reference = toy.architecture.build(0).eval()
    reference.load_state_dict({k: v.float() for k, v in rounded.items() if not k.startswith("fc.")})
    with torch.inference_mode():
        assert (loaded(toy_images) - reference(toy_images)).abs().max() <= 1e-5
    assert f"stored as {case}, used as float32" in loaded.record.notes


@pytest.mark.parametrize("case", REFUSED)
def test_near_misses_that_are_another_network_are_refused_with_counts(case, state, tmp_path):
    torch.save(REFUSED[case](state), tmp_path / "w.pth")
    with pytest.raises(CheckpointMismatch, match=r"^CK11 w.pth: (\d+ of 90 backbone tensors match|holds)") as caught:
        catalogue.load("toy/conv", weights=tmp_path / "w.pth")
    assert caught.value.exit_code == 2


def test_a_refused_file_leaves_the_network_as_it_was(toy, state):
    from headstart.backbones.loading import load_into

    network = toy.architecture.build(0)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(CheckpointMismatch):
        load_into(network, REFUSED["one tensor missing"](state), heads=("fc",))
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_one_nan_is_refused(state, tmp_path):
    state["layer2.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(Refused, match=r"CK10 .*1 of 92 tensors .*first: layer2.0.conv1.weight"):
        catalogue.load("toy/conv", weights=tmp_path / "w.pth")


def test_what_was_loaded_is_recorded_and_one_byte_changes_it(state, tmp_path):
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    first = catalogue.load("toy/conv", weights=tmp_path / "w.pth").record
    assert (first.weights_file, first.loader, first.matched, first.expected) == ("w.pth", "torch-legacy", 90, 90)
    assert first.weights_size == (tmp_path / "w.pth").stat().st_size
    assert any("head 'fc' of 10 classes left out" in note for note in first.notes)
    assert "unknown" in first.licence and "unknown" in first.trained_on
    content = bytearray((tmp_path / "w.pth").read_bytes())
    content[-3] ^= 1
    (tmp_path / "w.pth").write_bytes(content)
    assert catalogue.load("toy/conv", weights=tmp_path / "w.pth").record.weights_sha256 != first.weights_sha256


def test_the_wrong_network_is_named_when_it_is_a_known_one(tmp_path):
    import timm

    torch.save(timm.create_model("resnet18", num_classes=7).half().state_dict(), tmp_path / "w.pth")
    with pytest.raises(
        CheckpointMismatch, match=r"of 294 backbone tensors match .* looks like timm/resnet18 or torchv"
    ):
        catalogue.load("package/efficientnet-lite0", weights=tmp_path / "w.pth")


def test_kinds_of_files_are_recognised(state, tmp_path):
    torch.save(REFUSED["LoRA only"](state), tmp_path / "w.pth")
    with pytest.raises(CheckpointMismatch, match="looks like a LoRA adapter"):
        catalogue.load("toy/conv", weights=tmp_path / "w.pth")


def test_loading_leaves_torchs_generator_alone(state, tmp_path):
    torch.save(state, tmp_path / "w.pth")
    before = torch.random.get_rng_state()
    catalogue.load("toy/conv", weights=tmp_path / "w.pth")
    assert torch.equal(before, torch.random.get_rng_state())
