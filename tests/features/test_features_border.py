"""Activations at the border: the numbers of the whole network, made once, and never stale."""

import copy
import os
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from headstart.backbones.backbone import Backbone
from headstart.backbones.catalogue import catalogue
from headstart.backbones.cut import HEAD, cut, evaluating
from headstart.base import files
from headstart.base.errors import TrainingFault
from headstart.base.progress import Finished, Said
from headstart.base.seeds import stream
from headstart.data.open import open_dataset
from headstart.features.border import Border, Sight, border_bytes, sight_of, sight_of_pixels
from headstart.features.choose import offered
from headstart.inputs.augment import policy_named
from headstart.inputs.batches import ArrayBatches, PixelBatches
from headstart.inputs.decoded import decode_pictures
from headstart.inputs.image import normalise

STILL = policy_named("none")


@pytest.fixture(scope="module", params=["toy/conv", "toy/vit"])
def backbone(request):
    return catalogue.load(request.param)


@pytest.fixture
def part(toy):
    return cut(toy, "layer3")


@pytest.fixture(scope="module")
def pixels():
    return stream(0, "pixels").integers(0, 256, (21, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rng = stream(0, "pictures")
    for label in ("blue", "red"):
        (folder / label).mkdir()
        for i in range(9):
            Image.fromarray(rng.integers(0, 256, (90, 80 + i, 3), dtype=np.uint8)).save(folder / label / f"{i}.png")
    return decode_pictures(open_dataset(folder), catalogue.load("toy/conv").spec)


def exact(tmp_path, **options):
    return Border(tmp_path / "border", runner="torch-f32", **options)


def middle(backbone):
    return backbone.stages[len(backbone.stages) // 2].name


def by_hand(part, pixels):
    with torch.no_grad():
        return part.prefix(torch.from_numpy(np.ascontiguousarray(pixels))).numpy()


def test_features_from_the_border_are_those_of_the_whole_network(backbone, pixels, tmp_path):
    part = cut(backbone, middle(backbone))
    stored = exact(tmp_path).activations_of(part, sight_of_pixels(pixels))
    assert stored.dtype == np.float16
    assert stored.shape == (21, *part.shape)
    with torch.no_grad():
        features = part.tail(torch.from_numpy(stored).float())
        expected = backbone.from_pixels()(torch.from_numpy(pixels))
    assert float((features - expected).abs().max() / expected.abs().max()) < 2e-3  # half precision: 2^-11 a number


def test_stored_as_float32_they_are_the_same_numbers(backbone, pixels, tmp_path):
    part = cut(backbone, middle(backbone))
    stored = exact(tmp_path, precision="float32").activations_of(part, sight_of_pixels(pixels))
    np.testing.assert_allclose(stored, by_hand(part, pixels), rtol=1e-5, atol=1e-6)


def step(own, part, features_of):
    """Name → change of the network's tensors in one step of SGD on the tail and a head, its statistics moving."""
    y = torch.from_numpy(stream(0, "y").integers(0, 3, 21))
    head = torch.from_numpy(stream(0, "head").normal(size=(3, own.card.feature_dim))).float().requires_grad_()
    before = {name: tensor.clone().float() for name, tensor in own.network.state_dict().items()}
    optimizer = torch.optim.SGD([*part.tail.parameters(), head], lr=0.1, momentum=0.9)
    part.tail.train()  # the same modules, however the features are made
    F.cross_entropy(features_of() @ head.T, y).backward()
    optimizer.step()
    return {name: tensor.float() - before[name] for name, tensor in own.network.state_dict().items()}


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("float16", 1e-2)])
def test_a_step_from_the_border_is_a_step_of_the_whole_network(backbone, pixels, tmp_path, precision, tolerance):
    networks = [
        Backbone(backbone.card, copy.deepcopy(backbone.network), backbone.architecture, backbone.record)
        for _ in range(2)
    ]
    parts = [cut(own, middle(own)) for own in networks]
    images = torch.from_numpy(normalise(pixels, backbone.spec))
    stored = exact(tmp_path, precision=precision).activations_of(parts[0], sight_of_pixels(pixels))
    cached = step(networks[0], parts[0], lambda: parts[0].tail(torch.from_numpy(stored).float()))
    uncached = step(networks[1], parts[1], lambda: networks[1](images))
    moved = {name for name, change in uncached.items() if change.abs().max() > 0}
    assert moved == {name for name, change in cached.items() if change.abs().max() > 0}
    assert any("running_mean" in name for name in moved) == (backbone.card.name == "toy/conv")
    # Over all tensors together: where rounding moves one number across a ReLU's corner, one channel shows it.
    apart = torch.cat([(cached[name] - uncached[name]).flatten() for name in moved]).norm()
    assert apart <= tolerance * torch.cat([uncached[name].flatten() for name in moved]).norm()


def test_behind_the_last_stage_the_features_cross(toy, pixels, tmp_path):
    stored = exact(tmp_path).activations_of(cut(toy, HEAD), sight_of_pixels(pixels))
    assert stored.shape == (21, toy.card.feature_dim)
    with torch.no_grad():
        expected = toy.from_pixels()(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(stored, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("runner", offered("cpu"))
def test_every_runner_gives_activations_that_agree(part, pixels, tmp_path, runner):
    stored = Border(tmp_path, runner=runner).activations_of(part, sight_of_pixels(pixels)).reshape(21, -1)
    expected = by_hand(part, pixels).reshape(21, -1)
    norms = np.linalg.norm(stored.astype(np.float64), axis=1) * np.linalg.norm(expected, axis=1)
    assert ((stored * expected).sum(1) / norms).min() > 0.999


def test_openvino_runs_the_frozen_part_of_a_transformer(pixels, tmp_path):
    pytest.importorskip("openvino")
    part = cut(catalogue.load("toy/vit"), "blocks.3")
    stored = Border(tmp_path, runner="openvino-f32").activations_of(part, sight_of_pixels(pixels))
    np.testing.assert_allclose(stored, by_hand(part, pixels), rtol=5e-3, atol=5e-3)


# --------------------------------------------------------------------------------------------- pictures and views


def test_pictures_are_seen_as_at_prediction(part, pictures, tmp_path):
    stored = exact(tmp_path).activations(part, pictures, STILL)
    seen = np.stack([pictures.prepared(i) for i in range(len(pictures))])
    np.testing.assert_allclose(stored, by_hand(part, seen), rtol=2e-3, atol=2e-3)


def test_cached_views_are_those_that_would_be_drawn(part, pictures, tmp_path):
    """Step by step, activations of cached views are what the frozen part makes of the views of PixelBatches."""
    policy, n, targets = policy_named("auto"), len(pictures), torch.arange(len(pictures))
    stored = exact(tmp_path, seed=3).activations(part, pictures, policy, 2)
    assert stored.shape == (2, n, *part.shape)
    cached = ArrayBatches(stored, targets, batch_size=4, seed=3, views=2)
    drawn = PixelBatches(pictures, targets, np.arange(n), policy=policy, batch_size=4, seed=3, views=2)
    for a, b in zip(cached.between(0, 12), drawn.between(0, 12), strict=True):
        assert np.array_equal(a.rows, b.rows)
        np.testing.assert_allclose(a.inputs.numpy(), by_hand(part, b.inputs.numpy()), rtol=2e-3, atol=2e-3)


def test_other_pictures_views_and_seeds_have_other_keys(pictures):
    auto = policy_named("auto")
    keys = [
        sight_of(pictures, STILL).key,
        sight_of(pictures, auto, 1).key,
        sight_of(pictures, auto, 2).key,
        sight_of(pictures, auto, 2, seed=1).key,
        sight_of(pictures, auto.without(["horizontal-flip"]), 2).key,
    ]
    assert len(set(keys)) == len(keys)
    assert sight_of(pictures, STILL).key == sight_of(pictures, STILL, seed=5).key  # nothing is drawn


# ------------------------------------------------------------------------------------------------ once and no more


def counting(sight, seen):
    def blocks(most):
        for block in sight.blocks(most):
            seen.append(len(block))
            yield block

    return Sight(sight.n, sight.views, sight.key, sight.ids, blocks)


def computed(border, part, sight):
    """(activations, pictures that were seen for them)."""
    seen = []
    return border.activations_of(part, counting(sight, seen)), sum(seen)


def test_activations_are_made_once(part, pixels, tmp_path):
    border, sight = exact(tmp_path), sight_of_pixels(pixels)
    first, some = computed(border, part, sight)
    again, none = computed(border, part, sight)
    later, still_none = computed(exact(tmp_path), part, sight)  # another process
    assert some > 0 == none == still_none
    assert np.array_equal(first, again)
    assert np.array_equal(first, later)


def test_another_cut_of_the_same_weights_is_the_same(toy, pixels, tmp_path):
    border, sight = exact(tmp_path), sight_of_pixels(pixels)
    computed(border, cut(toy, "layer3"), sight)
    copied = Backbone(toy.card, copy.deepcopy(toy.network), toy.architecture, toy.record)
    with torch.no_grad():
        copied.network.layer4[0].conv1.weight.add_(1)  # behind the border
    assert computed(border, cut(copied, "layer3"), sight)[1] == 0


@pytest.mark.parametrize("what", ["weights", "statistics", "stage", "pixels", "precision", "runner"])
def test_whatever_the_numbers_depend_on_makes_them_new(toy, pixels, tmp_path, what):
    computed(exact(tmp_path), cut(toy, "layer3"), sight_of_pixels(pixels))
    other = Backbone(toy.card, copy.deepcopy(toy.network), toy.architecture, toy.record)
    border, stage, seen = exact(tmp_path), "layer3", pixels.copy()
    with torch.no_grad():
        if what == "weights":
            other.network.conv1[0].weight[0, 0, 0, 0] += 1e-6
        if what == "statistics":
            other.network.bn1.running_mean[0] += 1e-6
    if what == "stage":
        stage = "layer2"
    if what == "pixels":
        seen[-1, -1, -1, -1] ^= 1
    if what == "precision":
        border = exact(tmp_path, precision="float32")
    if what == "runner":
        border = Border(tmp_path / "border", runner="torch-f32-nhwc")
    assert computed(border, cut(other, stage), sight_of_pixels(seen))[1] > 0


@pytest.mark.parametrize("damage", ["cut short", "empty", "another shape", "objects"])
def test_a_damaged_file_is_made_again_loudly(part, pixels, tmp_path, damage):
    sight, said = sight_of_pixels(pixels), []
    first = exact(tmp_path).activations_of(part, sight)
    (path,) = (tmp_path / "border").glob("*.npy")
    if damage == "cut short":
        path.write_bytes(path.read_bytes()[:-100])
    if damage == "empty":
        path.write_bytes(b"")
    if damage == "another shape":
        np.save(path, np.zeros((3, 2), np.float16))
    if damage == "objects":
        np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    again = exact(tmp_path).activations_of(part, sight, said.append)
    assert np.array_equal(first, again)
    assert any(isinstance(e, Said) and e.kind == "warning" and "is damaged" in e.text for e in said)
    assert np.array_equal(np.load(path), first)


def test_progress_is_told(part, pixels, tmp_path):
    events = []
    exact(tmp_path).activations_of(part, sight_of_pixels(pixels), events.append)
    assert events[0].total == 1  # one batch of 32
    assert any(isinstance(e, Finished) and e.done == 1 for e in events)


# ------------------------------------------------------------------------------------------------------ room


def test_bytes_are_known_beforehand(part, pixels, tmp_path):
    stored = exact(tmp_path).activations_of(part, sight_of_pixels(pixels))
    assert border_bytes(part, 21) == stored.nbytes
    assert border_bytes(part, 21, 3, "float32") == 6 * stored.nbytes


def test_what_is_too_large_for_memory_is_mapped(part, tmp_path):
    many = stream(1, "pixels").integers(0, 256, (75, 64, 64, 3), dtype=np.uint8)  # three batches
    border = exact(tmp_path, in_memory=1000)
    mapped = border.activations_of(part, sight_of_pixels(many))
    assert isinstance(mapped, np.memmap)
    np.testing.assert_allclose(mapped, by_hand(part, many), rtol=2e-3, atol=2e-3)
    assert computed(border, part, sight_of_pixels(many))[1] == 0
    batch = next(ArrayBatches(mapped, torch.zeros(75), batch_size=5, seed=0).between(0, 1))
    assert np.array_equal(batch.inputs.numpy(), mapped[batch.rows])


def test_streams_may_deliver_in_any_order(part, tmp_path):
    pytest.importorskip("openvino")
    many = stream(1, "pixels").integers(0, 256, (75, 64, 64, 3), dtype=np.uint8)
    stored = Border(tmp_path, runner="openvino-f32").activations_of(part, sight_of_pixels(many))
    np.testing.assert_allclose(stored, by_hand(part, many), rtol=5e-3, atol=5e-3)


def test_without_room_the_whole_network_runs_and_the_user_is_told(part, pixels, tmp_path, monkeypatch):
    monkeypatch.setattr("headstart.features.border.free_bytes", lambda path: 5 * 2**20)
    said = []
    assert exact(tmp_path, in_memory=1000).activations_of(part, sight_of_pixels(pixels), said.append) is None
    (sentence,) = [e.text for e in said if isinstance(e, Said)]
    needed = files.human_bytes(border_bytes(part, 21))
    assert f"of 21 pictures before 'layer3' would take {needed}, and only 5.0 MiB are free in" in sentence
    assert "each step runs the whole network" in sentence
    assert list((tmp_path / "border").iterdir()) == []


def test_a_full_disk_costs_nothing_that_fits_in_memory(part, pixels, tmp_path, monkeypatch):
    def full(path, write):
        raise files.disk_fault(OSError(28, "no space"), path)

    monkeypatch.setattr("headstart.features.border.write_with", full)
    said = []
    stored = exact(tmp_path).activations_of(part, sight_of_pixels(pixels), said.append)
    assert stored.shape == (21, *part.shape)
    assert any("EN69" in e.text for e in said if isinstance(e, Said))


def test_the_folder_keeps_its_limit_and_the_latest_files(toy, pixels, tmp_path):
    sight = sight_of_pixels(pixels)
    stages = ["layer2", "layer3", "layer4"]
    sizes = {stage: border_bytes(cut(toy, stage), 21) + 1024 for stage in stages}
    border = exact(tmp_path, on_disk=sizes["layer3"] + sizes["layer4"])
    for stage in stages:
        border.activations_of(cut(toy, stage), sight)
        for file in (tmp_path / "border").glob("*.npy"):
            os.utime(file, (file.stat().st_atime - 100, file.stat().st_mtime - 100))
    seen = {stage: computed(exact(tmp_path), cut(toy, stage), sight)[1] for stage in reversed(stages)}
    assert seen["layer4"] == seen["layer3"] == 0 < seen["layer2"]


def test_what_a_dead_process_left_is_removed_after_a_day(part, pixels, tmp_path):
    folder = tmp_path / "border"
    folder.mkdir()
    old, young = folder / ".a.npy.tmp-1-00", folder / ".b.npy.tmp-2-00"
    for path, age in ((old, 90_000), (young, 60)):
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
    exact(tmp_path).activations_of(part, sight_of_pixels(pixels))
    assert not old.exists()
    assert young.exists()


# ------------------------------------------------------------------------------------------------ strange numbers


def scaled(toy, factor):
    """The toy with a normalisation that multiplies what crosses before layer3."""
    other = Backbone(toy.card, copy.deepcopy(toy.network), toy.architecture, toy.record)
    with torch.no_grad():
        for norm in [m for m in other.network.layer2.modules() if isinstance(m, nn.BatchNorm2d)]:
            norm.weight.mul_(factor)
            norm.bias.mul_(factor)
    return cut(other, "layer3")


@pytest.mark.parametrize("in_memory", [2**30, 1000])
def test_numbers_beyond_float16_are_kept_as_float32(toy, pixels, tmp_path, in_memory):
    part = scaled(toy, 1e5)
    stored = exact(tmp_path, in_memory=in_memory).activations_of(part, sight_of_pixels(pixels))
    expected = by_hand(part, pixels)
    assert np.abs(expected).max() > 65504
    assert stored.dtype == np.float32
    np.testing.assert_allclose(stored, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert computed(exact(tmp_path, in_memory=in_memory), part, sight_of_pixels(pixels))[1] == 0


class BreaksOnLight(nn.Module):
    """Infinite for bright pictures."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return torch.where(images.mean((1, 2, 3), keepdim=True) > 0.9, torch.inf, self.network(images))


def test_pictures_whose_numbers_are_infinite_are_named(part, tmp_path):
    """Finite for the first pictures, on which the runners are compared."""
    pixels = np.zeros((18, 64, 64, 3), np.uint8)
    pixels[17] = 255
    frozen = part.frozen
    breaking = Backbone(frozen.card, BreaksOnLight(frozen.network), frozen.architecture, frozen.record)
    with pytest.raises(TrainingFault, match=r"CK10 .* NaN or infinite numbers for row 17\."):
        exact(tmp_path).activations_of(replace(part, frozen=breaking), sight_of_pixels(pixels))
    assert list((tmp_path / "border").glob("*")) == []


def test_modes_are_left_as_they_were(toy, pixels, tmp_path):
    other = Backbone(toy.card, copy.deepcopy(toy.network), toy.architecture, toy.record)
    part = cut(other, "layer3")
    other.network.train()
    state = {k: v.clone() for k, v in other.network.state_dict().items()}
    stored = exact(tmp_path).activations_of(part, sight_of_pixels(pixels))
    assert all(m.training for m in other.network.modules())
    assert all(torch.equal(v, state[k]) for k, v in other.network.state_dict().items())
    with evaluating(other):
        np.testing.assert_allclose(stored, by_hand(part, pixels), rtol=2e-3, atol=2e-3)
