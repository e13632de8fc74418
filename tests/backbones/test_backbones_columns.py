"""Networks on columns: what their features are, and that they can be built again from what is saved."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from headstart.adapt.heads.ridge import ridge_path
from headstart.backbones.columns import NAMES, ROWS_OF_LANDMARK, architecture_from, columns_backbone
from headstart.base.errors import DataError, NotInCatalogue
from headstart.data.rows import Frame, Rows
from headstart.features.extract import through_network
from headstart.inputs.columns import encode, learn_columns


def numbers(X):
    names = [f"c{chr(97 + i)}" for i in range(X.shape[1])]
    frame = Frame(
        dict(zip(names, X.T, strict=True)), dict.fromkeys(names, "number"), "t", [str(i) for i in range(len(X))]
    )
    rows = Rows(frame)
    columns = learn_columns(rows)
    return columns, encode(rows, columns)


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(500, 3))
    return X, np.sin(3 * X[:, 0]) + X[:, 1] * X[:, 2]


def left_out_r2(name, X, y):
    columns, E = numbers(X)
    F = through_network(columns_backbone(name, columns, E, seed=0), E)
    path = ridge_path(F, y[:, None])
    return 1 - np.square(path.left_out[:, 0] - y).mean() / y.var()


def test_each_network_can_say_what_the_one_before_cannot(drawn):
    X, y = drawn
    bent, joined = np.sin(3 * X[:, 0]), X[:, 1] * X[:, 2]
    assert left_out_r2("columns/plain", X, bent) < 0.5
    assert left_out_r2("columns/curves", X, bent) > 0.98
    assert left_out_r2("columns/curves", X, joined) < 0.2
    assert left_out_r2("columns/kernel", X, joined) > 0.98
    assert left_out_r2("columns/kernel", X, y) > 0.95


def test_plain_features_are_the_encoded_columns(drawn):
    columns, E = numbers(drawn[0])
    np.testing.assert_array_equal(through_network(columns_backbone("columns/plain", columns, E, seed=0), E), E)


def test_products_of_kernel_features_are_the_gaussian_kernel_of_landmarks():
    """With every landmark a row, Nyström features are exact on the landmarks themselves."""
    rng = np.random.default_rng(1)
    columns, E = numbers(rng.normal(size=(120, 2)))
    network = columns_backbone("columns/kernel", columns, E, seed=0).network
    marks = network.landmarks
    phi = network.kernel(marks)
    d2 = torch.cdist(marks, marks) ** 2
    torch.testing.assert_close(phi @ phi.T, torch.exp(-network.sharpness * d2), atol=1e-3, rtol=0)


def test_no_landmark_is_a_row_of_the_table(drawn):
    columns, E = numbers(drawn[0])
    landmarks = columns_backbone("columns/kernel", columns, E, seed=0).network.landmarks.numpy()
    nearest = np.sqrt(((landmarks[:, None] - E[None].astype(np.float64)) ** 2).sum(axis=2)).min(axis=1)
    assert len(landmarks) == len(np.unique(E, axis=0)) // ROWS_OF_LANDMARK
    assert (nearest > 1e-6).all()


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_built_again_from_its_config_and_its_tensors(name, drawn):
    columns, E = numbers(drawn[0])
    backbone = columns_backbone(name, columns, E, seed=0)
    config = backbone.classifier_config(["a", "b"])
    again = architecture_from(config, where="config.json").build(0)
    again.load_state_dict(backbone.network.state_dict())
    x = torch.from_numpy(E[:9])
    torch.testing.assert_close(again(x), backbone.network(x), rtol=0, atol=0)


def test_rows_do_not_see_each_other_and_padding_is_passed_over(drawn):
    columns, E = numbers(drawn[0])
    network = columns_backbone("columns/kernel", columns, E, seed=0).network
    whole = network(torch.from_numpy(E))
    torch.testing.assert_close(network(torch.from_numpy(E[3:4]))[0], whole[3], rtol=1e-5, atol=1e-6)
    padded = torch.cat([torch.from_numpy(E), torch.full((len(E), 5), torch.nan)], dim=1)
    torch.testing.assert_close(network(padded), whole)


def test_far_values_are_not_followed_except_by_the_plain_network(drawn):
    columns, E = numbers(drawn[0])
    far = np.stack([E[0] * 0 + 1e3, E[0] * 0 + 1e6]).astype(np.float32)
    bent = through_network(columns_backbone("columns/curves", columns, E, seed=0), far)
    np.testing.assert_array_equal(bent[0], bent[1])


def test_the_seed_alone_decides_and_a_shape_out_of_range_is_refused(drawn):
    columns, E = numbers(drawn[0])
    one, two = (columns_backbone("columns/kernel", columns, E, seed=4).record.weights_sha256 for _ in range(2))
    assert one == two
    assert one != columns_backbone("columns/kernel", columns, E, seed=5).record.weights_sha256
    with pytest.raises(DataError, match="out of range"):
        architecture_from({"shape": {"width": 2**20, "ramps": 0, "landmarks": 0}}, where="config.json")
    with pytest.raises(NotInCatalogue, match="Did you mean 'columns/curves'"):
        columns_backbone("columns/curve", columns, E, seed=0)
