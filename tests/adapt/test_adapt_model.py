"""The model that learns: what it starts from, whose its parameters are, and what comes out finished."""

import copy

import numpy as np
import pytest
import torch
from networks_of_families import FAMILIES, family, pixels, plan_for, tiny
from safetensors.torch import save_file
from torch import nn

from headstart.adapt.heads.head import LinearHead
from headstart.adapt.model import assemble, finished
from headstart.adapt.plan import HEAD, Head, Surgery
from headstart.backbones.backbone import tensors_sha256
from headstart.base.errors import PlanError
from headstart.base.seeds import stream
from headstart.tasks.classification import Classification
from headstart.tasks.regression import Regression

TASK = Classification(("a", "b", "c"))
SURGERIES = {
    "none": (),
    "lora": (Surgery("lora"),),
    "adapter": (Surgery("adapter"),),
    "both": (Surgery("adapter"), Surgery("lora", rank=2)),
}


def probe_for(backbone, outputs=3, seed=0):
    draws = stream(seed, "probe")
    return LinearHead(draws.normal(size=(outputs, backbone.card.feature_dim)) / 7, draws.normal(size=outputs))


def assembled(backbone, surgery=(), *, head=None, stages=None, seed=0, probe=None):
    plan = plan_for(backbone, stages, head=head or Head("probe"), surgery=surgery)
    return assemble(backbone, TASK, plan, probe=probe or probe_for(backbone), seed=seed)


def learn_(model, steps=2, stages=None):
    """A few steps of plain gradient descent on whatever asks for gradients."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x = pixels(model.backbone, n=4)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), torch.tensor([0, 1, 2, 0])).backward()
        optimizer.step()
    model.eval()


@pytest.mark.parametrize("name", ["toy/conv", "toy/vit"])
def test_with_the_probe_as_head_it_starts_as_features_times_head(name):
    backbone = tiny(name)
    probe = probe_for(backbone)
    model = assembled(backbone, probe=probe)
    x = pixels(backbone)
    with torch.no_grad():
        features = backbone.from_pixels()(x)
        weight, bias = torch.tensor(probe.weight).float(), torch.tensor(probe.bias).float()
        assert torch.equal(model.features(x), features)
        assert torch.equal(model(x), nn.functional.linear(features, weight, bias))
        assert torch.equal(model(x.float()), model(x))
        assert np.allclose(model(x).numpy(), probe.logits(features.numpy()), atol=1e-5)
    assert isinstance(model.head, nn.Linear) and model.last_layer is model.head and not model.training


@pytest.mark.parametrize("surgery", SURGERIES)
@pytest.mark.parametrize("name", ["toy/conv", "toy/vit"])
def test_the_loaded_backbone_never_changes(name, surgery):
    backbone = tiny(name)
    before, modes = tensors_sha256(backbone.network), [m.training for m in backbone.modules()]
    gradients = [p.requires_grad for p in backbone.parameters()]
    model = assembled(backbone, SURGERIES[surgery])
    start = tensors_sha256(model)
    learn_(model)
    assert tensors_sha256(model) != start
    assert tensors_sha256(backbone.network) == before == backbone.record.weights_sha256
    assert [m.training for m in backbone.modules()] == modes
    assert [p.requires_grad for p in backbone.parameters()] == gradients and all(
        p.grad is None for p in backbone.parameters()
    )


@pytest.mark.parametrize("surgery", SURGERIES)
@pytest.mark.parametrize("name", FAMILIES)
def test_each_parameter_is_in_exactly_one_stage_with_what_surgery_added(name, surgery):
    model = assembled(family(name), SURGERIES[surgery], head=Head("random"))
    named = dict(model.named_parameters())
    stages = [item for stage in (*model.stage_names, HEAD) for item in model.parameters_of(stage)]
    assert len(stages) == len(named) and dict(stages).keys() == named.keys()
    assert all(named[name] is parameter for name, parameter in stages)
    assert model.added <= named.keys() and bool(model.added) == bool(SURGERIES[surgery])
    inside = [
        id(p) for stage in model.stage_names for m in model.modules_of(stage) for p in m.parameters(recurse=False)
    ]
    assert set(inside) <= {id(p) for p in model.backbone.network.parameters()} and len(inside) == len(set(inside))


@pytest.mark.parametrize("name", FAMILIES)
def test_modules_are_in_one_stage_and_those_without_parameters_go_with_the_stage_before(name):
    model = assembled(family(name), head=Head("random"))
    owned = [(id(m), stage) for stage in model.stage_names for m in model.modules_of(stage)]
    assert len(owned) == len(dict(owned))
    for path, module in model.backbone.network.named_modules():
        holders = {
            s.name
            for s in model.backbone.stages
            for n, _ in module.named_parameters()
            if s.holds(f"{path}.{n}".lstrip("."))
        }
        if len(holders) > 1:
            assert id(module) not in dict(owned), "a container of several stages"
        else:
            assert dict(owned)[id(module)] in (holders or set(model.stage_names))
    assert model.modules_of(HEAD) == [model.head]


def test_a_dropout_between_blocks_sleeps_and_wakes_with_the_stage_before_it():
    backbone = tiny("vit_tiny_patch16_224", embed_dim=32, depth=2, num_heads=2, img_size=32, pos_drop_rate=0.1)
    model = assembled(backbone, head=Head("random"))
    assert model.backbone.network.pos_drop in model.modules_of("stem")


def test_an_unknown_stage_is_an_error():
    with pytest.raises(KeyError):
        assembled(tiny("toy/conv")).parameters_of("layer9")


def test_what_is_random_depends_on_the_seed_alone_and_leaves_the_global_generator():
    def start(seed, head):
        return tensors_sha256(assembled(tiny("toy/vit"), SURGERIES["both"], head=head, seed=seed))

    state = torch.random.get_rng_state()
    for head in (Head("random"), Head(hidden=(8,), dropout=0.1)):
        first = start(0, head)
        torch.rand(3)
        assert first == start(0, head) != start(1, head)
    torch.random.set_rng_state(state)
    start(2, Head("random"))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_hidden_layers_come_before_the_answer_and_dropout_alone_before_the_one_layer():
    backbone = tiny("toy/conv")
    model = assembled(backbone, head=Head(hidden=(16, 8), dropout=0.2))
    kinds = [type(m).__name__ for m in model.head]
    assert kinds == ["Linear", "GELU", "Dropout", "Linear", "GELU", "Dropout", "Linear"]
    assert [m.out_features for m in model.head if isinstance(m, nn.Linear)] == [
        16,
        8,
        3,
    ] and model.last_layer is model.head[-1]
    probe = probe_for(backbone)
    model = assembled(backbone, head=Head(dropout=0.2), probe=probe)
    assert [type(m).__name__ for m in model.head] == ["Dropout", "Linear"]
    assert np.allclose(finished(model)[1].weight, probe.weight, atol=1e-7)


def test_a_task_of_one_number_has_one_output():
    backbone = tiny("toy/conv")
    model = assemble(backbone, Regression(), plan_for(backbone), probe=None, seed=0)
    assert model(pixels(backbone)).shape == (2, 1)


def test_plans_that_cannot_be_assembled_say_what_to_do():
    backbone = tiny("toy/conv")
    with pytest.raises(PlanError, match=r"PL21.*probe.*'random'"):
        assemble(backbone, TASK, plan_for(backbone, head=Head("probe")), probe=None, seed=0)
    with pytest.raises(PlanError, match=r"PL22.*only the head"):
        assembled(backbone, SURGERIES["lora"], stages=[])
    with pytest.raises(PlanError, match=r"PL06.*layer3"):
        assembled(backbone, stages=["layr3"])


@pytest.mark.parametrize("surgery", ["none", "lora"])
@pytest.mark.parametrize("name", ["toy/conv", "toy/vit"])
def test_a_finished_model_is_an_ordinary_backbone_and_can_be_saved(name, surgery, tmp_path):
    import timm

    loaded = tiny(name)
    model = assembled(loaded, SURGERIES[surgery])
    learn_(model)
    before = tensors_sha256(model)
    backbone, head = finished(model)
    x = pixels(loaded)
    with torch.no_grad():
        features = model.features(x)
        assert torch.allclose(backbone.from_pixels()(x), features, atol=1e-5)
        assert np.allclose(head.logits(features.numpy()), model(x).numpy(), atol=1e-5)
        assert torch.equal(model.features(x), features) and tensors_sha256(model) == before, "the model is left alone"
    assert head.weight.dtype == head.bias.dtype == np.float64 and head.weight.shape == (3, loaded.card.feature_dim)
    assert list(backbone.network.state_dict()) == list(loaded.network.state_dict())
    assert [s.name for s in backbone.stages] == [s.name for s in loaded.stages] and backbone.card == loaded.card
    assert backbone.record.weights_sha256 == tensors_sha256(backbone.network) != loaded.record.weights_sha256
    assert "fine-tuned by headstart" in backbone.record.notes
    assert any("LoRA merged" in note for note in backbone.record.notes) == (surgery == "lora")
    assert not any(m.training for m in backbone.modules()) and all(p.requires_grad for p in backbone.parameters())
    # Nothing is shared with the model, which may learn on.
    assert not {p.data_ptr() for p in backbone.parameters()} & {p.data_ptr() for p in model.parameters()}
    # Save-ability: other programs open it, and the random control is the architecture's.
    state = backbone.classifier_state(head.weight, head.bias, TASK.labels)
    save_file(state, tmp_path / "model.safetensors")
    plain = timm.create_model(
        loaded.architecture.name,
        num_classes=3,
        checkpoint_path=str(tmp_path / "model.safetensors"),
        **dict(loaded.architecture.arguments),
    ).eval()
    mean, std = torch.tensor(loaded.spec.mean), torch.tensor(loaded.spec.std)
    with torch.no_grad():
        logits = plain(((x / 255 - mean) / std).permute(0, 3, 1, 2))
        assert torch.allclose(logits, model(x), atol=1e-4)
    assert tensors_sha256(backbone.random_copy(3).network) == tensors_sha256(loaded.random_copy(3).network)


@pytest.mark.parametrize("name", FAMILIES)
def test_without_learning_the_finished_network_is_the_loaded_one(name):
    loaded = family(name)
    backbone, _ = finished(assembled(loaded, SURGERIES["lora"]))
    assert tensors_sha256(backbone.network) == tensors_sha256(loaded.network)


@pytest.mark.parametrize(
    ("surgery", "head", "library"),
    [
        ("none", Head(), "timm"),
        ("lora", Head(dropout=0.3), "timm"),
        ("adapter", Head(), "headstart"),
        ("both", Head(), "headstart"),
        ("none", Head(hidden=(8,), dropout=0.3), "headstart"),
        ("both", Head(hidden=(8, 5)), "headstart"),
    ],
)
@pytest.mark.parametrize("name", ["toy/conv", "toy/vit"])
def test_what_a_library_has_no_place_for_stays_in_a_network_of_ours(name, surgery, head, library):
    loaded = tiny(name)
    model = assembled(loaded, SURGERIES[surgery], head=head)
    learn_(model)
    backbone, last = finished(model)
    assert backbone.opens_with == library
    x = pixels(loaded)
    with torch.no_grad():
        features = backbone.from_pixels()(x).numpy()
        assert np.allclose(last.logits(features), model(x).numpy(), atol=1e-5)
    width = head.hidden[-1] if head.hidden else loaded.card.feature_dim
    assert features.shape[1] == backbone.card.feature_dim == backbone.record.feature_dim == width
    assert backbone.card.parameters == sum(p.numel() for p in backbone.network.parameters())
    assert backbone.record.expected == loaded.record.expected, "of the file that was loaded"
    # Nothing is shared with the model, which may learn on.
    assert not {p.data_ptr() for p in backbone.parameters()} & {p.data_ptr() for p in model.parameters()}


@pytest.mark.parametrize("surgery", SURGERIES)
def test_a_checkpoint_of_a_learnt_model_fills_a_fresh_one(surgery):
    model = assembled(tiny("toy/vit"), SURGERIES[surgery])
    learn_(model)
    fresh = assembled(tiny("toy/vit"), SURGERIES[surgery], seed=9)
    fresh.load_state_dict(copy.deepcopy(model.state_dict()), strict=True)
    with torch.no_grad():
        assert torch.equal(fresh(pixels(model.backbone)), model(pixels(model.backbone)))


def test_what_a_network_remembers_in_eval_mode_is_forgotten_and_no_hindrance():
    """LeViT keeps its attention biases from the last pass in eval mode, with their gradients."""
    loaded = family("timm/levit_128s")
    images = torch.randn(1, 3, 224, 224)
    loaded(images)
    model = assembled(loaded, head=Head("random"))
    model.backbone(images)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bn.weight"):
                parameter.fill_(1.0)  # zeros at first, which would hide what attention does
            if "attention_biases" in name:
                parameter.normal_(std=5.0, generator=torch.Generator().manual_seed(0))
        stale = model.backbone(images)
        backbone, _ = finished(model)
        fresh = loaded.random_copy(0)
        fresh.network.load_state_dict(backbone.network.state_dict())
        assert torch.equal(backbone(images), fresh(images)) and not torch.equal(stale, fresh(images))
