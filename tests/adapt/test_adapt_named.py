"""A class's name as one example more: closed forms, limits, and its place among the heads."""

import numpy as np
import pytest

from headstart.adapt.heads.choose import choose
from headstart.adapt.heads.folds import Folds
from headstart.adapt.heads.named import NamedMean, unit
from headstart.adapt.heads.nearest_mean import NearestMean
from headstart.adapt.heads.rotated import rotate
from headstart.base.seeds import stream
from headstart.tasks.classification import Classification
from headstart.tasks.multilabel import MultiLabel

TASK = Classification(("a", "b", "c"))


def made(n=60, width=12, signal=1.0, seed=0):
    """Features, classes, and names that point where their class does, from another place."""
    rng = stream(seed, "named", n, width)
    y = np.arange(n) % 3
    towards = unit(rng.standard_normal((3, width)))
    X = (rng.standard_normal((n, width)) + 5 + 4 * signal * towards[y]).astype(np.float32)
    names = unit(towards + 0.3 * rng.standard_normal(width))
    return X, y, names


def fitted(X, y, names):
    return NamedMean(names).fit(rotate(X), y, TASK, {})


def thirds(n):
    order = stream(1).permutation(n)
    return Folds.checked(n, [(np.setdiff1d(order, v), np.sort(v)) for v in np.array_split(order, 3)])


def test_the_direction_is_the_mean_of_name_and_examples():
    X, y, names = made()
    u = unit(X - X.mean(axis=0))
    own = unit(names - names.mean(axis=0))
    expected = unit(np.stack([own[k] + u[y == k].sum(axis=0) for k in range(3)]))
    weight = fitted(X, y, names).weight
    np.testing.assert_allclose(unit(weight), expected, atol=1e-5)
    lengths = np.linalg.norm(X - X.mean(axis=0), axis=1)
    np.testing.assert_allclose(np.linalg.norm(weight, axis=1), 10 / lengths.mean(), rtol=1e-5)


def test_the_centre_of_the_examples_belongs_to_no_class():
    X, y, names = made()
    logits = fitted(X, y, names).logits(X.mean(axis=0, dtype=np.float64)[None])
    np.testing.assert_allclose(logits, 0, atol=1e-5)


def test_what_all_names_share_says_nothing():
    X, y, names = made()
    shift = 7 * stream(5).standard_normal(12)
    a, b = (fitted(X, y, n).logits(X) for n in (names, names + shift))
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_many_examples_outweigh_a_wrong_name():
    X, y, names = made(n=3000, signal=0.5)
    wrong = names[[1, 2, 0]]
    plain = NearestMean().fit(rotate(X), y, TASK, {}).logits(X).argmax(axis=1)
    assert (fitted(X, y, wrong).logits(X).argmax(axis=1) == plain).mean() > 0.98


def test_without_names_it_is_the_nearest_mean():
    X, y, _ = made()
    one, other = (f.fit(rotate(X), y, TASK, {}) for f in (NamedMean(), NearestMean()))
    assert one.weight.tobytes() == other.weight.tobytes()
    assert not NamedMean().fits(TASK)


def test_a_class_without_examples_is_known_by_its_name():
    X, y, names = made(n=300, signal=2.0)
    seen = y < 2
    logits = fitted(X[seen], y[seen], names).logits(X)
    assert (logits.argmax(axis=1) == y)[y == 2].mean() > 0.5


def test_held_out_rows_are_not_seen():
    X, y, names = made()
    parts = thirds(60)
    family, (train, val) = NamedMean(names), parts.pairs[0]
    found = family.cross_validate(rotate(X), y, TASK, parts).logits
    by_hand = fitted(X[train], y[train], names).logits(X[val])
    np.testing.assert_allclose(found[val], by_hand, atol=1e-9)


def test_right_names_help_where_examples_are_few_and_the_head_is_kept():
    wins = []
    for seed in range(8):
        X, y, names = made(n=300, width=64, signal=0.6, seed=seed)
        few, rest = np.arange(6), np.arange(6, 300)
        with_names = (fitted(X[few], y[few], names).logits(X[rest]).argmax(axis=1) == y[rest]).mean()
        without = NearestMean().fit(rotate(X[few]), y[few], TASK, {}).logits(X[rest]).argmax(axis=1)
        wins.append(with_names - (without == y[rest]).mean())
    assert np.mean(wins) > 0.05
    chosen = choose(X[:24], y[:24], task=TASK, folds=thirds(24).pairs, names=names, resamples=300)
    assert chosen.family == "names+mean"
    np.testing.assert_allclose(chosen.head.weight, fitted(X[:24], y[:24], names).weight)


def test_misleading_names_are_found_out():
    X, y, names = made(n=240, signal=1.0)
    chosen = choose(X, y, task=TASK, folds=thirds(240).pairs, names=-50 * names, resamples=300)
    tried = {t.name: t for t in chosen.record.trials}
    assert tried["names+mean"].scores["accuracy"].value <= tried["nearest-mean"].scores["accuracy"].value + 0.02


def test_other_features_get_the_same_head_without_names():
    X, y, _ = made()
    chosen = choose(X, y, task=TASK, folds=thirds(60).pairs, families=("names+mean",), resamples=300)
    assert chosen.family == "nearest-mean"


def test_there_is_no_such_head_for_several_labels():
    assert not NamedMean(np.eye(3)).fits(MultiLabel(("a", "b", "c")))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_scale_and_dtype_do_not_matter(scale):
    X, y, names = made()
    a = fitted(X, y, names).logits(X)
    b = fitted((X * scale).astype(np.float64), y, names).logits(X * scale)
    np.testing.assert_allclose(a, b, atol=2e-3)


def test_equal_rows_and_one_row_of_a_class_are_no_trouble():
    X, y, names = made(n=6)
    X[2:] = X[0]
    assert np.isfinite(fitted(X, y, names).weight).all()
