"""Every kind of head through one battery: RELIABILITY B8 as far as it concerns arrays."""

import numpy as np
import pytest

from headstart.adapt.heads.choose import HEADS
from headstart.adapt.heads.folds import Folds
from headstart.adapt.heads.rotated import rotate
from headstart.base.errors import DataError
from headstart.base.seeds import stream
from headstart.tasks.classification import Classification
from headstart.tasks.multilabel import MultiLabel
from headstart.tasks.regression import Regression

TASKS = (
    Classification(("a", "b", "c")),
    Classification(("a", "b")),
    MultiLabel(("a", "b", "c")),
    Regression(("u", "v")),
)
ROWS = [
    pytest.param(family, task, id=f"{family.name}-{task.name}-{task.outputs}")
    for family in HEADS
    for task in TASKS
    if family.fits(task)
]
LINEAR = [row for row in ROWS if row.values[0].linear]


def targets(task, n, rng):
    if task.name == "classification":
        return rng.permutation(np.arange(n) % task.outputs)
    if task.name == "multilabel":
        return rng.integers(0, 2, (n, task.outputs)).astype(np.int8)
    return rng.standard_normal((n, task.outputs))


def made(task, n=60, width=8, seed=0):
    rng = stream(seed, "contract", n, width)
    y = targets(task, n, rng)
    X = rng.standard_normal((n, width)) + 1
    X[:, : task.outputs] += task.regress_on(y)[:, :width]
    return X.astype(np.float32), y


def folds(n, k=3):
    order = stream(1).permutation(n)
    return Folds.checked(n, [(np.setdiff1d(order, v), np.sort(v)) for v in np.array_split(order, k)])


def run(family, task, X, y, parts=None):
    """Cross-validated logits and, for a linear kind, those of the head from all rows."""
    rotated = rotate(X)
    found = family.cross_validate(rotated, y, task, parts or folds(len(X)))
    assert found.logits.shape == (len(X), task.outputs)
    assert np.isfinite(found.logits).all()
    assert np.isfinite(task.decode(found.logits)).all()
    if not family.linear:
        return found.logits, found.logits
    head = family.fit(rotated, y, task, found.setting)
    assert head.weight.shape == (task.outputs, X.shape[1])
    assert head.weight.dtype == head.bias.dtype == np.float64
    assert np.isfinite(head.weight).all()
    assert np.isfinite(head.bias).all()
    return found.logits, head.logits(X)


def test_names_and_ranks_are_unique():
    assert len({f.name for f in HEADS}) == len({f.rank for f in HEADS}) == len(HEADS)


@pytest.mark.parametrize("family, task", ROWS)
class TestEveryHead:
    def test_it_learns_something(self, family, task):
        X, y = made(task, n=200)
        logits, _ = run(family, task, X, y)
        error = (
            (task.decode(logits) - (task.regress_on(y) if task.name == "regression" else task.regress_on(y) > 0)) ** 2
        ).mean()
        chance = task.regress_on(y).var(axis=0).mean() / (1 if task.name == "regression" else 4)
        assert error < 0.9 * chance

    @pytest.mark.parametrize("n, width", [(6, 3), (6, 40), (30, 200), (60, 59), (60, 60), (200, 1)])
    def test_any_shape(self, family, task, n, width):
        X, y = made(task, n, max(width, 3))
        run(family, task, X[:, :width], y)

    def test_constant_columns(self, family, task):
        X, y = made(task)
        X[:, -1] = 0
        X[:, -2] = 5e4
        run(family, task, X, y)

    def test_equal_rows(self, family, task):
        X, y = made(task)
        X[20:40] = X[0]
        run(family, task, X, y)

    def test_tiny_and_huge_features(self, family, task):
        X, y = made(task)
        for scale in (1e-6, 1e6):
            run(family, task, X * np.float32(scale), y)

    def test_scale_does_not_matter(self, family, task):
        X, y = made(task)
        a, _ = run(family, task, X, y)
        b, _ = run(family, task, X * np.float32(1024), y)
        np.testing.assert_allclose(a, b, atol=5e-3, rtol=5e-3)

    def test_read_only_arrays_are_not_changed(self, family, task):
        X, y = made(task)
        X.flags.writeable = y.flags.writeable = False
        before = X.tobytes(), y.tobytes()
        run(family, task, X, y)
        assert (X.tobytes(), y.tobytes()) == before

    def test_twice_is_the_same(self, family, task):
        X, y = made(task)
        (a, b), (c, d) = run(family, task, X, y), run(family, task, X, y)
        assert a.tobytes() == c.tobytes()
        assert b.tobytes() == d.tobytes()

    def test_float64_fortran_order_and_strides(self, family, task):
        X, y = made(task)
        a, _ = run(family, task, X, y)
        wide = np.zeros((60, 16), np.float32)
        wide[:, ::2] = X
        for other in (np.asfortranarray(X), wide[:, ::2], X.astype(np.float64)):
            np.testing.assert_allclose(run(family, task, other, y)[0], a, atol=2e-3, rtol=2e-3)

    def test_held_out_targets_are_not_seen(self, family, task):
        X, y = made(task)
        parts = folds(60)
        _, val = parts.pairs[0]
        setting_free = Folds(60, (parts.pairs[0],))
        a = family.cross_validate(rotate(X), y, task, setting_free)
        other = y.copy()
        other[val] = y[val][::-1]
        b = family.cross_validate(rotate(X), other, task, setting_free)
        if a.setting == b.setting:  # the setting is chosen with all targets, the model of a fold is not
            np.testing.assert_allclose(a.logits[val], b.logits[val], atol=1e-4)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_nan_and_infinity_are_refused(self, family, task, bad):
        X, y = made(task)
        X[7, 3] = bad
        with pytest.raises(DataError, match=r"1 of 60 rows hold NaN or infinite.*first: row 7"):
            run(family, task, X, y)

    def test_one_row_strings_and_wrong_shapes_are_refused(self, family, task):
        X, y = made(task)
        with pytest.raises(DataError, match="too few"):
            run(family, task, X[:1], y[:1])
        with pytest.raises(DataError, match="float array"):
            rotate(X.astype(str))
        with pytest.raises(DataError, match="float array"):
            rotate(X[0])
        with pytest.raises(DataError, match="float array"):
            rotate(X.tolist())

    def test_a_rare_class_that_some_folds_never_see(self, family, task):
        X, y = made(task)
        if task.name == "classification":
            y = np.where(np.arange(60) == 11, task.outputs - 1, y % max(1, task.outputs - 1))
        elif task.name == "multilabel":
            y = y.copy()
            y[:, 0] = np.arange(60) == 11
        logits, _ = run(family, task, X, y)
        if task.name == "classification" and task.outputs > 2:
            unseen = next(val for train, val in folds(60).pairs if 11 in val)
            assert (logits[unseen].argmax(axis=1) != task.outputs - 1).all()

    def test_a_class_without_any_row(self, family, task):
        X, y = made(task)
        if task.name != "classification" or task.outputs < 3:
            pytest.skip("needs three classes")
        logits, fitted = run(family, task, X, y % 2)
        assert (logits.argmax(axis=1) < 2).all()
        assert (fitted.argmax(axis=1) < 2).all()


@pytest.mark.parametrize("family, task", LINEAR)
class TestEveryLinearHead:
    def test_a_subset_is_predicted_as_part_of_the_whole(self, family, task):
        X, y = made(task)
        rotated = rotate(X)
        head = family.fit(rotated, y, task, family.cross_validate(rotated, y, task, folds(60)).setting)
        np.testing.assert_allclose(head.logits(X)[10:13], head.logits(X[10:13]), atol=1e-12)

    def test_turning_the_features_changes_nothing(self, family, task):
        X, y = made(task)
        Q = np.linalg.qr(stream(2).standard_normal((8, 8)))[0]
        a, b = run(family, task, X.astype(np.float64), y), run(family, task, X @ Q - 3, y)
        np.testing.assert_allclose(a[0], b[0], atol=5e-3, rtol=5e-3)
        np.testing.assert_allclose(a[1], b[1], atol=5e-3, rtol=5e-3)

    def test_the_order_of_rows_changes_nothing(self, family, task):
        X, y = made(task)
        order, parts = stream(3).permutation(60), folds(60)
        where = np.argsort(order)
        moved = Folds.checked(60, [(np.sort(where[t]), np.sort(where[v])) for t, v in parts.pairs])
        a, b = run(family, task, X, y, parts), run(family, task, X[order], y[order], moved)
        np.testing.assert_allclose(a[0][order], b[0], atol=5e-3, rtol=5e-3)

    def test_weights_of_one_are_no_weights(self, family, task):
        X, y = made(task)
        plain, weighted = rotate(X), rotate(X, weights=np.ones(60))
        a, b = (family.cross_validate(r, y, task, folds(60)) for r in (plain, weighted))
        assert a.logits.tobytes() == b.logits.tobytes()
