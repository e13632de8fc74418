import numpy as np
import pytest

from headstart.base.errors import DataError
from headstart.tasks.classification import Classification
from headstart.tasks.multilabel import MultiLabel
from headstart.tasks.regression import Regression


def test_class_names_stay_the_strings_they_are():
    names = ["no", "NA", "007", "None", "1e5", "TRUE"]
    task = Classification.from_targets(names * 2)
    assert task.labels == tuple(sorted(names))
    assert [task.labels[i] for i in task.encode(names)] == names


def test_one_class_is_nothing_to_learn():
    with pytest.raises(DataError, match=r"DA45 only one class \('cat'\)"):
        Classification.from_targets(["cat"] * 5)


def test_an_unknown_class_is_named_with_the_nearest_known_one():
    with pytest.raises(DataError, match=r"DA41 'catt'.*Did you mean 'cat'"):
        Classification(("cat", "dog")).encode(["cat", "catt"])


def test_softmax_is_stable_and_sums_to_one():
    p = Classification(("a", "b", "c")).decode(np.array([[1e4, 0, -1e4], [1.0, 2.0, 3.0]]))
    np.testing.assert_allclose(p.sum(axis=1), 1)
    np.testing.assert_allclose(p[1], np.exp([1, 2, 3]) / np.exp([1, 2, 3]).sum())


def test_labels_of_a_multilabel_task_are_independent():
    task = MultiLabel.from_targets([("sea", "sky"), (), ("sky",)])
    assert task.labels == ("sea", "sky")
    assert task.encode([("sky",), ()]).tolist() == [[0, 1], [0, 0]]
    np.testing.assert_allclose(task.decode(np.array([[0.0, 800.0], [-800.0, 0.0]])), [[0.5, 1], [0, 0.5]])
    with pytest.raises(DataError, match="DA41"):
        task.encode([("sand",)])


def test_multilabel_strata_follow_the_rarest_label():
    task = MultiLabel(("common", "rare"))
    y = np.array([[1, 0], [1, 1], [0, 0], [1, 0]])
    assert task.strata(y).tolist() == [1, 2, 0, 1]


def test_regression_refuses_what_is_no_number():
    task = Regression()
    assert task.encode([1, 2.5]).tolist() == [[1.0], [2.5]]
    with pytest.raises(DataError, match="TB59"):
        task.encode(["1,5", "x"])
    with pytest.raises(DataError, match="TB52 1 of 2"):
        task.encode([1.0, float("nan")])
    with pytest.raises(DataError, match="DA45"):
        Regression.from_targets([3, 3, 3])


def test_regression_strata_are_quantiles():
    strata = Regression().strata(np.arange(100.0)[::-1, None])
    assert np.bincount(strata).tolist() == [10] * 10
    assert strata[0] == 9
