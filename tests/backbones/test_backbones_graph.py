"""Graphs as networks: their features, stages, structure and saved models are those of any other backbone."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from a_graph import PREPROCESSING, GraphFile, small_graph, small_graph_in_numpy

from headstart.adapt.heads.head import LinearHead
from headstart.backbones.catalogue import catalogue
from headstart.backbones.cut import HEAD, Cut, cuts
from headstart.backbones.graph import architecture_from, crossings, plain
from headstart.backbones.restructure import structured
from headstart.backbones.structure import Structure
from headstart.base.errors import DataError
from headstart.bundle.load import load
from headstart.bundle.save import ModelFacts, save
from headstart.features.feeds import feed_for
from headstart.inputs.image import normalise
from headstart.tasks.classification import Classification
from headstart.testing.sources import check_backbone, check_classifier, check_random_copy

FACTS = ModelFacts(
    head_family="ridge",
    head_setting={"lambda": 1.0},
    rounded=False,
    counts={"a": 1, "b": 1, "c": 1},
    trained_on_n=3,
    created="2026-11-21T12:00:00Z",
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    graph = small_graph()
    return graph, graph.write(tmp_path_factory.mktemp("graph"))


@pytest.fixture(scope="module")
def backbone(written):
    return catalogue.load(f"file:{written[1]}")


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def test_features_are_those_of_loops_over_pixels(written, backbone, pixels):
    fed = (pixels / 255 - np.array(PREPROCESSING["mean"])) / np.array(PREPROCESSING["std"])
    with torch.no_grad():
        found = backbone.from_pixels()(torch.from_numpy(pixels)).numpy()
    assert backbone.card.feature_dim == 32 and found.shape == (3, 32)
    np.testing.assert_allclose(found, small_graph_in_numpy(written[0], fed), atol=2e-5)


def test_a_graph_keeps_the_contract_of_backbones(backbone):
    check_backbone(backbone)
    check_random_copy(backbone)
    check_classifier(backbone)


def test_stages_begin_where_maps_become_smaller(backbone):
    graph = backbone.architecture.graph
    assert graph.output == "half"
    assert [s.name for s in backbone.stages] == [f"stages.{i}" for i in range(4)]
    assert all(len(values) == 1 for values in crossings(graph))
    firsts = [graph.nodes[i].name for i in graph.borders]
    assert firsts == ["pool", "deep", "inner/before"]


def test_the_network_is_cut_before_every_stage(backbone):
    found = cuts(backbone, [*(s.name for s in backbone.stages[1:]), HEAD])
    assert [s for s, c in found.items() if not isinstance(c, Cut)] == []
    assert max(c.apart for c in found.values()) == 0.0


def test_gradients_reach_all_parameters(backbone, pixels):
    images = torch.from_numpy(normalise(pixels, backbone.spec))
    backbone.network.zero_grad()
    backbone(images).square().sum().backward()
    lost = [n for n, p in backbone.network.named_parameters() if p.grad is None or not p.grad.abs().any()]
    backbone.network.zero_grad()
    assert lost == []


def test_fresh_weights_give_values_of_the_size_of_trained_ones(backbone, pixels):
    images = torch.from_numpy(normalise(pixels, backbone.spec))
    for stage in (copy := backbone.random_copy(3)).network.stages:
        stage.register_forward_hook(lambda module, given, found: spreads.append(float(found.std())))
    spreads: list[float] = []
    with torch.no_grad():
        copy(images)
    assert len(spreads) == 4 and all(0.1 < s < 10 for s in spreads)


def test_an_earlier_stage_gives_features_too(backbone):
    shorter = structured(backbone, Structure(cut_at="stages.1", pooling="max"))
    assert shorter.card.feature_dim == 24 and shorter.card.parameters < backbone.card.parameters


@pytest.mark.parametrize("structure", [Structure(), Structure(cut_at="stages.2")], ids=["whole", "cut"])
def test_a_saved_model_says_what_it_said(backbone, structure, tmp_path, pixels):
    shaped = structured(backbone, structure)
    random = np.random.default_rng(0)
    head = LinearHead(random.normal(size=(3, shaped.card.feature_dim)), random.normal(size=3))
    save(tmp_path / "model", backbone=shaped, head=head, task=Classification(("a", "b", "c")), facts=FACTS)
    reloaded = load(tmp_path / "model", precision="float32")
    with torch.no_grad():
        features = shaped.from_pixels()(torch.from_numpy(pixels)).numpy()
        again = reloaded.backbone.from_pixels()(torch.from_numpy(pixels)).numpy()
    assert np.array_equal(features, again) and reloaded.backbone.architecture == shaped.architecture
    assert reloaded.manifest.opens_with == "headstart"


def test_openvino_gives_the_same_features(backbone, pixels):
    pytest.importorskip("openvino")
    from headstart.features.runners.openvino import convert, core

    compiled = core().compile_model(convert(backbone).model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    batch = np.concatenate([pixels] * 6)[:16]
    found = next(iter(compiled(batch).values()))
    with torch.no_grad():
        expected = backbone.from_batch()(torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    assert feed_for(backbone).nothing().array.shape == (32, 32, 3)


# -- config.json ------------------------------------------------------------------------------------------------------


def config_of(backbone):
    return json.loads(json.dumps(backbone.architecture.config(backbone.spec, ["a", "b"], 16)))


def test_a_graph_written_and_read_is_the_same(backbone):
    assert architecture_from(config_of(backbone), where="config.json") == backbone.architecture
    assert plain(backbone.architecture.graph) == config_of(backbone)["graph"]


def strange_op(graph):
    graph["nodes"][3]["op"] = "exec"


def strange_function(graph):
    node = next(n for n in graph["nodes"] if n["op"] == "function")
    node["settings"]["function"] = "__import__"


def before_its_input(graph):
    graph["nodes"].reverse()


def twice(graph):
    graph["nodes"].append(graph["nodes"][-1])


def no_output(graph):
    graph["output"] = "nowhere"


def empty_stage(graph):
    graph["borders"] = [5, 5]


def more_settings(graph):
    graph["nodes"][0]["settings"]["path"] = "/etc/passwd"


def broken_groups(graph):
    next(n for n in graph["nodes"] if n["op"] == "conv")["settings"]["groups"] = 5


def absurd_width(graph):
    next(n for n in graph["nodes"] if n["op"] == "conv")["settings"]["outputs"] = 2**40


CHANGES = {
    strange_op: "is none of ours",
    strange_function: "is none of ours",
    before_its_input: "that is not before it",
    twice: "is there twice",
    no_output: "has no output 'nowhere'",
    empty_stage: "stages without nodes",
    more_settings: "unknown key 'path'",
    broken_groups: "cannot be built",
    absurd_width: "cannot be built",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.__name__)
def test_a_config_that_states_no_graph_of_ours_is_refused(backbone, change):
    config = config_of(backbone)
    change(config["graph"])
    with pytest.raises(DataError, match=CHANGES[change]):
        architecture_from(config, where="config.json")


# -- single operations ------------------------------------------------------------------------------------------------


def features_at(node, graph, tmp_path, pixels):
    path = graph.write(tmp_path, preprocessing={"mean": [0, 0, 0], "std": [1, 1, 1]})
    backbone = catalogue.load(f"file:{path}#{node}")
    with torch.no_grad():
        return backbone.from_pixels()(torch.from_numpy(pixels)).numpy()


def test_averages_at_the_rim_count_what_lies_on_the_map(tmp_path, pixels):
    graph = GraphFile()
    first = graph.conv("first", "pictures", 1, 3, 4, act=None)
    graph.add("rim", "AvgPool", first, ksize=[1, 31, 31, 1], strides=[1, 31, 31, 1], padding="SAME")
    found = features_at("rim", graph, tmp_path, pixels)
    x = pixels / 255 @ graph.arrays["first/w"][0, 0].astype(np.float64) + graph.arrays["first/b"]
    # 'SAME' puts 15 rows before the first of two windows and 15 after the second, which leaves 16 rows to each.
    assert np.allclose(found, np.mean([x[:, a, b].mean((1, 2)) for a in HALVES for b in HALVES], 0), atol=1e-5)


HALVES = (slice(0, 16), slice(16, 32))


@pytest.mark.parametrize("words", [{}, {"half_pixel_centers": True}, {"align_corners": True}])
def test_maps_are_stretched_as_tensorflow_does(tmp_path, words):
    rows = np.arange(8, dtype=np.float64) ** 2
    graph = GraphFile(8)
    graph.const("w", np.eye(3).reshape(1, 1, 3, 3))
    graph.add("first", "Conv2D", "pictures", "w", strides=[1, 1, 1, 1], padding="VALID")
    graph.add("up", "ResizeBilinear", "first", graph.const("size", [20, 20], np.int32), **words)
    graph.add("row", "Max", "up", graph.const("axes", [2], np.int32), keep_dims=False)
    graph.add("all", "Reshape", "row", graph.const("shape", [1, 60], np.int32))
    pixels = np.broadcast_to(rows[None, :, None, None], (2, 8, 8, 3)).astype(np.uint8)
    found = features_at("all", graph, tmp_path, pixels)[0].reshape(20, 3)[:, 1] * 255
    places = {"half_pixel_centers": (np.arange(20) + 0.5) * 8 / 20 - 0.5, "align_corners": np.arange(20) * 7 / 19}
    expected = np.interp(places.get(next(iter(words), ""), np.arange(20) * 8 / 20), np.arange(8), rows)
    assert np.allclose(found, expected, atol=1e-3)


def test_activations_that_are_fused_in_are_applied(tmp_path, pixels):
    graph = GraphFile()
    weights = [graph.drawn("w", 1, 1, 3, 5), graph.drawn("b", 5), graph.const("slope", [0.1, 0.2, 0.3, 0.4, 0.5])]
    words = {"strides": [1, 1, 1, 1], "padding": "VALID"}
    graph.add("bent", "_FusedConv2D", "pictures", *weights, fused_ops=["BiasAdd", "Prelu"], **words)
    graph.add("leaky", "_FusedConv2D", "pictures", "w", "b", fused_ops=["BiasAdd", "LeakyRelu"], **words)
    x = pixels / 255 @ graph.arrays["w"][0, 0].astype(np.float64) + graph.arrays["b"]
    for node, slope in (("bent", graph.arrays["slope"]), ("leaky", 0.2)):
        found = features_at(node, graph, tmp_path / node, pixels)
        assert np.allclose(found, np.where(x > 0, x, slope * x).mean((1, 2)), atol=1e-5)


def test_parts_of_a_map_go_their_own_ways_and_meet_again(tmp_path, pixels):
    graph = GraphFile()
    graph.conv("first", "pictures", 1, 3, 6, act=None)
    graph.add("parts", "SplitV", "first", graph.const("n", [4, 2], np.int32), graph.const("axis", 3, np.int32))
    graph.add("less", "Neg", "parts:1")
    graph.add("meet", "ConcatV2", "less", "parts", graph.const("at", -1, np.int32))
    x = pixels / 255 @ graph.arrays["first/w"][0, 0].astype(np.float64) + graph.arrays["first/b"]
    expected = np.concatenate([-x[..., 4:], x[..., :4]], -1).mean((1, 2))
    assert np.allclose(features_at("meet", graph, tmp_path, pixels), expected, atol=1e-5)
