"""Confident learning against its definition and the numbers of METHODS D.1."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from headstart.adapt.calibration import fit_temperature
from headstart.adapt.heads.ridge import correct, ridge_path
from headstart.base.errors import DataError
from headstart.base.seeds import stream
from headstart.evaluation.label_errors import confident_joint, label_issues, label_margin, thresholds
from headstart.tasks.classification import Classification


def flipped_digits():
    X, y = load_digits(return_X_y=True)
    rng = np.random.RandomState(0)
    given = y.copy()
    rows = rng.rand(len(y)) < 0.1
    given[rows] = (y[rows] + rng.randint(1, 10, rows.sum())) % 10
    return X / 16, y, given


def test_flipped_digits_are_found_as_measured():
    X, y, given = flipped_digits()
    task = Classification(tuple("0123456789"))
    path = ridge_path(X, task.regress_on(given), score=correct)
    p = task.decode(path.left_out / fit_temperature(path.left_out, given, task))
    issues = label_issues([str(i) for i in range(len(y))], given, p, task.labels)
    wrong = given != y
    found = np.asarray([int(i.id) for i in issues])
    assert wrong.sum() == 174
    assert len(found) == 129
    assert wrong[found].mean() == pytest.approx(0.969, abs=5e-4)
    assert wrong[found].sum() / 174 == pytest.approx(0.718, abs=5e-4)


def slow_joint(y, p):
    joint = np.zeros((p.shape[1], p.shape[1]), int)
    t = [p[y == k, k].mean() if (y == k).any() else np.inf for k in range(p.shape[1])]
    for i in range(len(y)):
        over = [k for k in range(p.shape[1]) if p[i, k] >= t[k]]
        if over:
            joint[y[i], max(over, key=lambda k: p[i, k])] += 1
    return joint


def test_the_joint_is_that_of_the_definition_also_for_an_absent_class():
    rng = stream(0)
    p = rng.dirichlet(np.ones(4), 200)
    y = rng.integers(0, 3, 200)
    np.testing.assert_array_equal(confident_joint(y, p), slow_joint(y, p))
    assert np.isinf(thresholds(y, p)[3])


def test_issues_are_the_off_diagonal_worst_first():
    rng = stream(1)
    p, y = rng.dirichlet(np.ones(3), 150), rng.integers(0, 3, 150)
    ids = [f"row {i}" for i in range(150)]
    issues = label_issues(ids, y, p, ("a", "b", "c"))
    joint = confident_joint(y, p)
    assert len(issues) == joint.sum() - np.trace(joint)
    margins = [i.margin for i in issues]
    assert margins == sorted(margins)
    assert all(i.given != i.suggested for i in issues)
    assert label_issues(ids, y, p, ("a", "b", "c"), most=5) == issues[:5]
    order = rng.permutation(150)
    assert label_issues([ids[i] for i in order], y[order], p[order], ("a", "b", "c")) == issues


def test_the_margin_is_below_zero_where_the_given_label_loses():
    p = np.asarray([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1]])
    np.testing.assert_allclose(label_margin(np.asarray([0, 0]), p), [0.5, -0.5])


def test_rows_that_were_never_judged_are_left_out():
    p = np.asarray([[0.9, 0.1], [np.nan, np.nan], [0.1, 0.9], [0.05, 0.95]])
    y = np.asarray([0, 0, 1, 0])
    assert [i.id for i in label_issues(list("abcd"), y, p, ("x", "y"))] == ["d"]
    assert label_issues(list("abcd"), y, np.full((4, 2), np.nan), ("x", "y")) == ()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="do not fit"):
        label_issues(["a"], np.asarray([0, 1]), np.ones((2, 2)), ("x", "y"))
