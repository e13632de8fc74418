"""The control with random weights, whatever the runner makes of them."""

import numpy as np
import pytest
from tests.workflow.climbing import paint

from headstart.backbones.catalogue import catalogue
from headstart.data.looks import look_for
from headstart.data.open import open_dataset
from headstart.features import choose
from headstart.features.extract import extract
from headstart.workflow.at_random import AtRandom


@pytest.fixture
def seen(tmp_path):
    said = []
    dataset, toy = open_dataset(paint(tmp_path / "photos")), catalogue.load("toy/conv")
    return AtRandom(toy, dataset, "torch-f32-nhwc", tmp_path, "cpu", 0, look_for("image"), said.append), said


def test_it_is_the_network_with_other_weights_and_made_once(seen, monkeypatch):
    at_random, said = seen
    made = []
    plain = choose.make_runner
    monkeypatch.setattr(choose, "make_runner", lambda *a, **k: made.append(a[1]) or plain(*a, **k))
    rows = [1, 4, 7]
    found = [at_random(rows), at_random([2, 5])][0]
    assert made == ["torch-f32-nhwc"]
    expected = extract(
        at_random.of.random_copy(0), at_random.dataset.take(rows), cache=at_random.cache, only_runner="torch-f32"
    )
    assert np.allclose(found.X, expected.X, atol=1e-5)
    assert not any(getattr(event, "level", "") == "warning" for event in said)


def test_where_random_weights_disagree_with_float32_plain_torch_takes_over(seen, monkeypatch):
    at_random, said = seen
    monkeypatch.setattr(choose, "_agreement", lambda *_: choose.Agreement(0.9, 0.9))
    with pytest.raises(choose.Disagreement, match="EN72"):
        extract(at_random.copy, at_random.dataset, cache=at_random.cache, only_runner=at_random.runner)
    found = at_random([0, 3])
    assert found.record.runner == "torch-f32" and "plain torch takes its place" in str(said)
    assert at_random([1]).record.runner == "torch-f32"
