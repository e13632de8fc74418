"""scikit-learn's own suite, and what users of it do."""

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import headstart as hs
from headstart.base.errors import DataError


@parametrize_with_checks([hs.TransferClassifier(), hs.TransferRegressor()])
def test_scikit_learns_own_checks_pass(estimator, check):
    check(estimator)


def test_it_stands_beside_a_logistic_regression_on_features():
    X, y = load_digits(return_X_y=True)
    ours = cross_val_score(hs.TransferClassifier(), X[:600], y[:600], cv=3).mean()
    theirs = cross_val_score(make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)), X[:600], y[:600], cv=3)
    assert ours > theirs.mean() - 0.02


def test_the_regressor_stands_beside_ridge():
    X, y = load_diabetes(return_X_y=True)
    ours = cross_val_score(hs.TransferRegressor(), X, y, cv=3, scoring="r2").mean()
    theirs = cross_val_score(RidgeCV(np.logspace(-3, 3, 13)), X, y, cv=3, scoring="r2").mean()
    assert ours > theirs - 0.02


def test_it_clones_searches_and_sits_in_a_pipeline():
    X, y = load_digits(return_X_y=True)
    model = clone(hs.TransferClassifier(folds=3, random_state=1))
    assert model.get_params()["folds"] == 3
    search = GridSearchCV(
        make_pipeline(StandardScaler(), model), {"transferclassifier__balance": ["none", "weights"]}, cv=2
    )
    search.fit(X[:200], y[:200])
    assert search.best_score_ > 0.7


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    paths, labels = [], []
    for i in range(36):
        tint = [(200, 40, 40), (40, 40, 200), (40, 200, 40)][i % 3]
        path = folder / f"{i}.png"
        Image.fromarray(rng.normal(tint, 50, (48, 60, 3)).clip(0, 255).astype(np.uint8)).save(path)
        paths.append(str(path))
        labels.append(["red", "blue", "green"][i % 3])
    return paths, labels


def test_paths_pictures_and_arrays_give_the_same_answers(pictures, tmp_path):
    paths, labels = pictures
    model = hs.TransferClassifier("toy/conv", cache_dir=str(tmp_path)).fit(paths, labels)
    assert model.classes_.tolist() == ["blue", "green", "red"]
    assert model.score(paths, labels) > 0.9
    opened = [Image.open(p).convert("RGB") for p in paths]
    arrays = [np.asarray(p) for p in opened]
    expected = model.predict_proba(paths)
    np.testing.assert_array_equal(model.predict_proba(opened), expected)
    np.testing.assert_array_equal(model.predict_proba(arrays), expected)
    np.testing.assert_array_equal(model.predict_proba(np.stack(arrays)), expected)
    np.testing.assert_allclose(expected.sum(axis=1), 1)
    assert model.transform(paths).shape == (36, model.n_features_in_)


def test_pictures_and_numbers_are_not_mixed_up(pictures, tmp_path):
    paths, labels = pictures
    model = hs.TransferClassifier("toy/conv", cache_dir=str(tmp_path)).fit(paths, labels)
    with pytest.raises(ValueError, match="fitted on examples"):
        model.predict(np.zeros((3, model.n_features_in_)))
    numbers = hs.TransferClassifier().fit(np.random.default_rng(0).random((20, 4)), [0, 1] * 10)
    with pytest.raises(ValueError, match="fitted on a numeric matrix"):
        numbers.predict(paths)


def test_an_unreadable_picture_is_an_error_since_every_row_needs_an_answer(pictures, tmp_path):
    paths, labels = pictures
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    with pytest.raises(DataError, match="1 of 37 images cannot be used"):
        hs.TransferClassifier("toy/conv", cache_dir=str(tmp_path)).fit([*paths, str(bad)], [*labels, "red"])


def test_texts_are_examples_too_in_a_list_or_in_a_column(tmp_path):
    import pandas as pd

    texts = [f"{word} number {i}" for i in range(12) for word in ("a fine day", "rain and storm")]
    y = ["good", "bad"] * 12
    model = hs.TransferClassifier("toy/text", folds=3, cache_dir=str(tmp_path))
    answers = model.fit(texts, y).predict_proba(texts)
    np.testing.assert_array_equal(model.fit(pd.Series(texts), y).predict_proba(pd.Series(texts)), answers)
    assert model.score(texts, y) == 1.0
    with pytest.raises(DataError, match=r"1 of 3 texts cannot be used"):
        model.predict(["a fine day today", "", "rain"])
