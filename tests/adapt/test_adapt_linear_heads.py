"""Logistic regression, LDA, nearest mean and neighbours against scikit-learn and their definitions."""

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from headstart.adapt.heads.head import LinearHead
from headstart.adapt.heads.lda import ShrunkLDA, shrinkage
from headstart.adapt.heads.logistic import Logistic, Problem, _truth, logistic, minimise
from headstart.adapt.heads.nearest_mean import NearestMean
from headstart.adapt.heads.neighbours import Neighbours, _answers, _nearest
from headstart.adapt.heads.rotated import fold_moments, rotate
from headstart.base.errors import DataError
from headstart.base.seeds import stream
from headstart.tasks.classification import Classification


def digits(n=500):
    X, y = load_digits(return_X_y=True)
    return (X[:n] / 16).astype(np.float32), y[:n].astype(np.int64), Classification(tuple("0123456789"))


@pytest.mark.parametrize("C", [0.01, 1.0, 10.0])
def test_multinomial_coefficients_are_those_of_sklearn(C):
    X, y, task = digits()
    head = logistic(rotate(X), y, task, penalty=1 / C)
    oracle = LogisticRegression(C=C, tol=1e-10, max_iter=5000).fit(X.astype(float), y)
    np.testing.assert_allclose(head.weight, oracle.coef_, atol=1e-4)
    np.testing.assert_allclose(head.bias, oracle.intercept_, atol=5e-4)


@pytest.mark.parametrize("shape", [(150, 10), (40, 90)])
def test_binary_coefficients_are_those_of_sklearn_with_weights(shape, classes_of):
    X, y, task = classes_of(*shape, classes=2)
    w = stream(5).uniform(0.5, 2, shape[0])
    head = logistic(rotate(X, weights=w), y, task, penalty=1.0)
    oracle = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(X.astype(float), y, sample_weight=w)
    np.testing.assert_allclose(head.weight[1] - head.weight[0], oracle.coef_[0], atol=1e-4)
    np.testing.assert_allclose(head.bias[1] - head.bias[0], oracle.intercept_[0], atol=2e-4)


def test_multi_label_is_one_binary_fit_for_each_label(labels_of):
    X, y, task = labels_of()
    head = logistic(rotate(X), y, task, penalty=0.5)
    for k in range(task.outputs):
        oracle = LogisticRegression(C=2.0, tol=1e-10, max_iter=5000).fit(X.astype(float), y[:, k])
        np.testing.assert_allclose(head.weight[k], oracle.coef_[0], atol=1e-4)
        np.testing.assert_allclose(head.bias[k], oracle.intercept_[0], atol=1e-4)


def test_the_gradient_is_that_of_finite_differences(classes_of):
    X, y, task = classes_of(n=40, width=5)
    rotated = rotate(X, dtype=np.float64)
    used = np.ones((1, 40))
    used[0, ::3] = 0
    problem = Problem(rotated.Z, rotated.spectrum, used, _truth(y, task), np.asarray([0.3]), True, np.float64)

    def loss(w):
        z = problem.logits(w)[0]
        own = z[y, np.arange(40)]
        return used[0] @ (np.log(np.exp(z).sum(axis=0)) - own) + 0.15 * (w[..., :-1] ** 2).sum()

    w = stream(6).standard_normal((1, 3, 6))
    gradient = problem.gradient(w, problem.residual(problem.logits(w)))
    for index in np.ndindex(w.shape):
        up, down = w.copy(), w.copy()
        up[index] += 1e-6
        down[index] -= 1e-6
        assert gradient[index] == pytest.approx((loss(up) - loss(down)) / 2e-6, abs=1e-6)


def test_folds_solved_together_are_those_solved_alone(folds_of, classes_of):
    X, y, task = classes_of()
    rotated, folds = rotate(X), folds_of(120, k=4)
    used = np.zeros((4, 120))
    for p, (train, _) in enumerate(folds.pairs):
        used[p, train] = 1
    penalties = np.asarray([0.1, 1.0, 10.0, 100.0])
    whole = Problem(rotated.Z, rotated.spectrum, used, _truth(y, task), penalties, True)
    together = minimise(whole, None, accuracy=1e-8)
    for p in range(4):
        one = Problem(rotated.Z, rotated.spectrum, used[[p]], _truth(y, task), penalties[[p]], True)
        np.testing.assert_allclose(together[p], minimise(one, None, accuracy=1e-8)[0], atol=5e-3)


def test_separable_classes_end():
    X = np.concatenate([np.full((20, 3), -1.0), np.full((20, 3), 1.0)]).astype(np.float32)
    y = np.repeat([0, 1], 20)
    head = logistic(rotate(X), y, Classification(("a", "b")), penalty=1e-6)
    assert (head.logits(X).argmax(axis=1) == y).all()
    assert np.isfinite(head.weight).all()


@pytest.mark.parametrize("n", [50, 500])
def test_lda_is_sklearn_with_the_same_shrinkage(n):
    X, y, task = digits(n)
    s = shrinkage(64, n)
    head = ShrunkLDA().fit(rotate(X), y, task, {})
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=s, priors=np.bincount(y) / n).fit(X.astype(float), y)
    ours, theirs = head.logits(X), oracle.decision_function(X.astype(float))
    np.testing.assert_allclose(
        ours - ours.mean(axis=1, keepdims=True), theirs - theirs.mean(axis=1, keepdims=True), rtol=1e-3, atol=2e-3
    )


def test_lda_ignores_how_the_features_are_turned():
    X, y = load_iris(return_X_y=True)
    task = Classification(("a", "b", "c"))
    Q = np.linalg.qr(stream(7).standard_normal((4, 4)))[0]
    a, b = ShrunkLDA().fit(rotate(X), y, task, {}), ShrunkLDA().fit(rotate(X @ Q), y, task, {})
    np.testing.assert_allclose(a.logits(X), b.logits(X @ Q), atol=1e-3)


def test_nearest_mean_decides_as_per_example_normalisation():
    X, y, task = digits()
    head = NearestMean().fit(rotate(X), y, task, {})
    centred = X.astype(float) - X.astype(float).mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    means = np.stack([unit[y == k].mean(axis=0) for k in range(10)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    distance = ((unit[:, None] - means) ** 2).sum(axis=2)
    assert (head.logits(X).argmax(axis=1) == distance.argmin(axis=1)).all()


@pytest.mark.parametrize("family", [NearestMean(), ShrunkLDA()], ids=lambda f: f.name)
def test_held_out_logits_are_those_of_a_head_from_the_other_rows(family, folds_of, classes_of):
    X, y, task = classes_of(n=90, width=15)
    folds = folds_of(90, k=3)
    found = family.cross_validate(rotate(X), y, task, folds)
    for train, val in folds.pairs:
        alone = family.fit(rotate(X[train]), y[train], task, found.setting)
        np.testing.assert_allclose(found.logits[val], alone.logits(X[val]), atol=2e-3, rtol=1e-3)


def test_held_out_logistic_is_that_of_sklearn_on_the_other_rows(folds_of, classes_of):
    X, y, task = classes_of(n=150, width=15, gap=4)
    folds = folds_of(150)
    found = Logistic().cross_validate(rotate(X), y, task, folds)
    for train, val in folds.pairs:
        own = X[train].astype(float)
        C = found.setting["C"] / own.var(axis=0).mean()
        oracle = LogisticRegression(C=C, tol=1e-9, max_iter=5000).fit(own, y[train])
        difference = task.decode(found.logits[val]) - oracle.predict_proba(X[val].astype(float))
        assert np.abs(difference).max() < 0.02


def test_neighbours_are_those_of_sklearn(values_of):
    X, y, task = digits(300)
    train, val = np.arange(200), np.arange(200, 300)
    oracle = KNeighborsClassifier(20, metric="cosine", algorithm="brute").fit(X[train], y[train])
    near = _nearest(X, train, val, 20)
    np.testing.assert_array_equal(np.sort(near, axis=1), np.sort(oracle.kneighbors(X[val], 20)[1], axis=1))
    X, y, task = values_of()
    train, val = np.arange(100), np.arange(100, 150)
    oracle = KNeighborsRegressor(5, metric="cosine", algorithm="brute").fit(X[train], y[train])
    np.testing.assert_allclose(_answers(X, y, task, train, val)[1], oracle.predict(X[val]), atol=1e-6)


def test_neighbours_cannot_be_saved(classes_of):
    X, y, task = classes_of()
    with pytest.raises(DataError, match="cannot be saved"):
        Neighbours().fit(rotate(X), y, task, {})


def test_temperature_and_shift_can_be_folded_into_the_head():
    rng = stream(8)
    X = rng.standard_normal((30, 6))
    head = LinearHead(rng.standard_normal((4, 6)), rng.standard_normal(4))
    np.testing.assert_allclose(head.scaled(2.5).logits(X), head.logits(X) / 2.5, atol=1e-12)
    np.testing.assert_allclose(head.shifted(np.arange(4)).logits(X), head.logits(X) + np.arange(4), atol=1e-12)


def test_moments_of_a_fold_are_those_of_its_rows(classes_of):
    X, _, _ = classes_of(n=60, width=10)
    w = stream(9).uniform(0.5, 2, 60)
    rotated = rotate(X, weights=w, dtype=np.float64)
    for train in (np.arange(50), np.arange(12)):  # by what is left out, and directly
        moments = fold_moments(rotated, train)
        Z = rotated.Z[train]
        mean = w[train] @ Z / w[train].sum()
        np.testing.assert_allclose(moments.mean, mean, atol=1e-10)
        np.testing.assert_allclose(moments.gram, ((Z - mean).T * w[train]) @ (Z - mean), atol=1e-8)


@pytest.mark.parametrize("shape", [(70, 20), (20, 70)])
def test_rotation_keeps_distances_and_finds_its_way_back(shape):
    rng = stream(10)
    X, w = rng.standard_normal(shape) + 2, rng.uniform(0.5, 2, shape[0])
    rotated = rotate(X, weights=w, dtype=np.float64)
    np.testing.assert_allclose((rotated.Z**2).sum(axis=1), ((X - rotated.mean) ** 2).sum(axis=1), atol=1e-9)
    np.testing.assert_allclose((rotated.Z.T * w) @ rotated.Z, np.diag(rotated.spectrum), atol=1e-8)
    c = rng.standard_normal((rotated.Z.shape[1], 3))
    np.testing.assert_allclose((X - rotated.mean) @ rotated.back(c).T, rotated.Z @ c, atol=1e-8)


def test_constant_features_are_refused():
    with pytest.raises(DataError, match="constant"):
        rotate(np.ones((10, 4), np.float32))
