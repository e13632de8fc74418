"""Leave-one-out against what it stands for: n fits without the row."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.linear_model import RidgeCV

from headstart.adapt.heads import ridge as module
from headstart.adapt.heads.ridge import RELATIVE_LAMBDAS, Ridge, correct, path_on, ridge_path
from headstart.adapt.heads.rotated import rotate
from headstart.base.errors import DataError
from headstart.base.seeds import stream


def refit(X, Y, penalty, weights=None):
    """Ridge with a free intercept, by the normal equations."""
    w = np.ones(len(X)) if weights is None else weights
    mx, my = w @ X / w.sum(), w @ Y / w.sum()
    A = (X - mx).T * w
    W = np.linalg.solve(A @ (X - mx) + penalty * np.eye(X.shape[1]), A @ (Y - my))
    return lambda Z: (Z - mx) @ W + my


def brute_force(X, Y, penalty, groups, weights=None):
    out = np.empty_like(Y)
    for g in np.unique(groups):
        rest, left = groups != g, groups == g
        out[left] = refit(X[rest], Y[rest], penalty, None if weights is None else weights[rest])(X[left])
    return out


@pytest.mark.parametrize("n, width", [(60, 20), (30, 50), (25, 25)], ids=["n>D", "n<D", "n=D"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_left_out_predictions_equal_refits(n, width, weighted, grouped):
    rng = stream(1, n, width)
    X, Y = rng.standard_normal((n, width)) + 5, rng.standard_normal((n, 3))
    weights = rng.uniform(0.2, 3, n) if weighted else None
    groups = rng.integers(0, n // 3, n) if grouped else np.arange(n)
    for penalty in (0.1, 10.0):
        path = ridge_path(X, Y, lambdas=np.asarray([penalty]), groups=groups if grouped else None, weights=weights)
        expected = brute_force(X, Y, penalty, groups, weights)
        assert np.abs(path.left_out - expected).max() < 1e-10


def test_the_path_is_that_of_sklearn_ridge_cv():
    X, y = load_digits(return_X_y=True)
    X = X[:400] / 16
    Y = np.where(y[:400, None] == np.arange(10), 1.0, -1.0)
    lambdas = np.logspace(-1, 3, 5)
    oracle = RidgeCV(alphas=lambdas, store_cv_results=True).fit(X, Y)
    path = ridge_path(X, Y, lambdas=lambdas)
    for i, penalty in enumerate(lambdas):
        one = ridge_path(X, Y, lambdas=np.asarray([penalty]))
        np.testing.assert_allclose((Y - one.left_out) ** 2, oracle.cv_results_[:, :, i], atol=1e-10)
    np.testing.assert_allclose(path.solution(oracle.alpha_).weight, oracle.coef_, atol=1e-9)
    np.testing.assert_allclose(path.solution(oracle.alpha_).bias, oracle.intercept_, atol=1e-9)


@pytest.mark.parametrize("shape", [(80, 30), (30, 80)])
def test_the_solution_is_that_of_sklearn_with_weights(shape):
    rng = stream(2)
    X, Y, w = rng.standard_normal(shape) + 1, rng.standard_normal((shape[0], 2)), rng.uniform(0.5, 2, shape[0])
    head = ridge_path(X, Y, lambdas=np.asarray([0.7]), weights=w).solution()
    oracle = SklearnRidge(alpha=0.7, solver="svd").fit(X, Y, sample_weight=w)
    np.testing.assert_allclose(head.weight, oracle.coef_, atol=1e-10)
    np.testing.assert_allclose(head.logits(X), oracle.predict(X), atol=1e-10)


def test_rotating_the_features_changes_nothing():
    rng = stream(3)
    X, Y = rng.standard_normal((90, 25)), rng.standard_normal((90, 2))
    Q = np.linalg.qr(rng.standard_normal((25, 25)))[0]
    np.testing.assert_allclose(ridge_path(X, Y).left_out, ridge_path(X @ Q, Y).left_out, atol=1e-9)
    np.testing.assert_allclose(ridge_path(X, Y).scores, ridge_path(X @ Q + 4, Y).scores, atol=1e-9)


def test_the_order_of_rows_changes_nothing():
    rng = stream(4)
    X, Y, groups = rng.standard_normal((60, 70)), rng.standard_normal((60, 2)), rng.integers(0, 20, 60)
    order = rng.permutation(60)
    a, b = ridge_path(X, Y, groups=groups), ridge_path(X[order], Y[order], groups=groups[order])
    np.testing.assert_allclose(a.left_out[order], b.left_out, atol=1e-9)


def test_scaling_all_features_changes_nothing_on_the_default_path(classes_of):
    X, y, task = classes_of()
    a, b = (ridge_path(X.astype(float) * s, task.regress_on(y)) for s in (1.0, 1e3))
    np.testing.assert_allclose(a.left_out, b.left_out, atol=1e-8)


def test_ties_go_to_the_larger_penalty():
    X = np.asarray([[-1.0], [-1.1], [1.0], [1.1]])
    Y = np.asarray([[1.0, -1.0]] * 2 + [[-1.0, 1.0]] * 2)
    path = ridge_path(X, Y, lambdas=np.asarray([0.01, 0.1]), score=correct)
    assert path.scores.tolist() == [1.0, 1.0]
    assert path.best_lambda == 0.1


def test_rows_kept_in_float32_give_the_same_path(monkeypatch, classes_of):
    X, y, task = classes_of(n=300, width=40)
    exact = ridge_path(X, task.regress_on(y))
    monkeypatch.setattr(module, "EXACT_BYTES", 0)
    monkeypatch.setattr(module, "PORTION_CELLS", 1)
    rough = ridge_path(X, task.regress_on(y))
    assert rough.rotated.Z.dtype == np.float32
    np.testing.assert_allclose(rough.left_out, exact.left_out, atol=1e-4)


def test_held_out_predictions_equal_refits_on_the_other_rows(folds_of, classes_of):
    X, y, task = classes_of(n=60, width=12)
    folds, rotated = folds_of(60), rotate(X)
    found = Ridge().cross_validate(rotated, y, task, folds)
    Y = task.regress_on(y)
    for train, val in folds.pairs:
        own = X[train].astype(float)
        penalty = found.setting["lambda"] * ((own - own.mean(axis=0)) ** 2).sum() / 12
        expected = refit(own, Y[train], penalty)(X[val].astype(float))
        np.testing.assert_allclose(found.logits[val], expected, atol=1e-4)


def test_large_groups_choose_the_penalty_by_folds(folds_of, classes_of):
    X, y, task = classes_of(n=200, width=10)
    groups = np.arange(200) // 100
    pairs = folds_of(200, k=2)
    found = Ridge(groups=groups).cross_validate(rotate(X), y, task, pairs)
    assert found.setting["lambda"] in RELATIVE_LAMBDAS
    assert np.isfinite(found.logits).all()


def test_all_rows_in_one_group_is_refused(classes_of):
    X, y, task = classes_of()
    with pytest.raises(DataError, match="one group"):
        ridge_path(X, task.regress_on(y), groups=np.zeros(len(y)))


def test_a_penalty_of_zero_is_refused(classes_of):
    X, y, task = classes_of()
    with pytest.raises(DataError, match="above 0"):
        ridge_path(X, task.regress_on(y), lambdas=np.asarray([0.0, 1.0]))


def test_leave_one_out_accuracy_on_digits_is_what_was_measured():
    X, y = load_digits(return_X_y=True)
    Y = np.where(y[:, None] == np.arange(10), 1.0, -1.0)
    path = ridge_path(X / 16, Y, score=correct)
    assert path.scores.max() == pytest.approx(0.937, abs=0.003)


def test_one_pass_over_several_penalties_equals_one_by_one(classes_of):
    X, y, task = classes_of()
    rotated, Y = rotate(X, dtype=np.float64), task.regress_on(y)
    lambdas = np.asarray([0.1, 1.0, 10.0])
    together = path_on(rotated, Y, lambdas, None, correct)
    apart = [path_on(rotated, Y, lambdas[[i]], None, correct).scores[0] for i in range(3)]
    assert together.scores.tolist() == apart
