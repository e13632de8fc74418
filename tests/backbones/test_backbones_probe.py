from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from headstart.backbones.probe import FIRST, _probe_hits, check_preprocessing
from headstart.base.seeds import stream
from headstart.inputs.image import normalise
from headstart.inputs.spec import ImageSpec

SPEC = ImageSpec(size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop=1.0)


def features(trained_with, y, noise):
    """Features that tell the classes apart only when the pictures come as in training."""

    def of(spec, first):
        draws = stream(0, "probe")
        distance = (
            np.abs(np.subtract(spec.std, trained_with.std)).sum()
            + np.abs(np.subtract(spec.mean, trained_with.mean)).sum()
        )
        X = draws.normal(size=(len(y), 20))
        X[np.arange(len(y)), y] += 4 / (1 + noise * distance)
        return X[:first]

    return of


@pytest.fixture
def y():
    return stream(0, "labels").integers(0, 4, 200)


def test_the_right_normalisation_is_confirmed(y):
    assert check_preprocessing(features(SPEC, y, 10), y, SPEC).startswith("Preprocessing holds: a probe reaches 0.9")


def test_a_wrong_normalisation_is_named_with_the_better_one(y):
    sentence = check_preprocessing(features(ImageSpec(size=32), y, 10), y, SPEC)
    assert sentence.startswith("Preprocessing looks wrong: with ImageNet's mean and deviation a probe reaches 0.9")
    assert "mean 0.485 0.456 0.406" in sentence and "n = 200" in sentence


def test_values_up_to_255_are_recognised(y):
    trained = replace(SPEC, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))
    assert "values from 0 to 255" in check_preprocessing(features(trained, y, 10), y, SPEC)


def test_only_what_leads_on_the_first_pictures_is_run_on_all(y):
    trained, asked = ImageSpec(size=32), []

    def of(spec, first):
        asked.append((spec.mean, first))
        return features(trained, y, 10)(spec, first)

    assert "looks wrong" in check_preprocessing(of, y, SPEC)
    assert [mean for mean, first in asked if first == len(y)] == [SPEC.mean, trained.mean]
    assert sorted(first for _, first in asked) == [FIRST] * 3 + [len(y)] * 2


def test_equal_normalisations_raise_no_alarm(y):
    assert "holds" in check_preprocessing(features(SPEC, y, 0), y, SPEC)


def test_false_alarms_are_rare():
    alarms = 0
    for trial in range(40):
        draws = stream(trial, "null")
        y = draws.integers(0, 3, 150)
        base = draws.normal(size=(150, 20)) + 0.8 * np.eye(20)[y]

        def of(spec, first, base=base, trial=trial):
            return (base + 0.3 * stream(trial, spec.mean, spec.std).normal(size=base.shape))[:first]

        alarms += "wrong" in check_preprocessing(of, y, SPEC)
    assert alarms <= 3  # four rivals at 2.5 standard errors each: about one in forty


def test_too_few_examples_are_not_judged():
    assert "too few" in check_preprocessing(lambda spec, first: np.zeros((first, 2)), np.array([0, 1, 0, 1, 0]), SPEC)


def test_the_probe_is_leave_one_out_exactly():
    """The closed form against removing each example in turn."""
    draws = stream(0, "loo")
    y = draws.integers(0, 3, 25)
    X = draws.normal(size=(25, 6)) + np.eye(6)[y]
    X = X - X.mean(axis=0)
    targets = np.where(y[:, None] == np.arange(3), 1.0, -1.0)
    Z = np.hstack([X, np.ones((25, 1))])
    penalty = np.trace(Z @ Z.T) / 25 / 10
    hits = []
    for i in range(25):
        rest = np.arange(25) != i
        W = np.linalg.solve(Z[rest].T @ Z[rest] + penalty * np.eye(7), Z[rest].T @ targets[rest])
        hits.append((Z[i] @ W).argmax() == y[i])
    assert np.array_equal(_probe_hits(X, y), hits)


@pytest.mark.real
def test_real_weights_tell_their_normalisation_from_raw_values():
    """EfficientNet-Lite0, trained with values from -1 to 1, on four faint drawn textures."""
    from headstart.backbones.catalogue import catalogue

    if not catalogue.card("package/efficientnet-lite0").weights.here:
        pytest.skip("not installed")
    backbone = catalogue.load("package/efficientnet-lite0")
    draws = stream(0, "pictures")
    y = np.arange(120) % 4
    pixels = draws.integers(90, 166, (120, 64, 64, 3))
    for i, k in enumerate(y):
        axis = np.arange(64)
        wave = np.sin(axis * (0.4 + 0.35 * k))[:, None] * np.sin(axis * (1.5 - 0.3 * k))[None]
        pixels[i] += (8 * wave[..., None]).round().astype(int)
    pixels = pixels.clip(0, 255).astype(np.uint8)

    def of(spec, first):
        with torch.inference_mode():
            return backbone(torch.from_numpy(normalise(pixels[:first], spec))).numpy()

    assert "holds" in check_preprocessing(of, y, backbone.spec)
    raw = replace(backbone.spec, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))
    assert "looks wrong" in check_preprocessing(of, y, raw)
