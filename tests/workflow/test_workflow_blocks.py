"""Blocks beside each other: their scale, what stands for a missing one, and one head taken apart again."""

import numpy as np
import pytest

from headstart.base.seeds import stream
from headstart.tasks.classification import Classification
from headstart.workflow.blocks import OnBlocks, Round, Source, beside_each_other, on_views, said, standardised
from headstart.workflow.judge import Known, Rules

N = 90
EVERY = np.arange(N)
RULES = Rules(3, None, "none", 0, families=("ridge",))


def block(name, width, *, size=1.0, lacks=()):
    rng = stream(0, "block", name)
    X = (size * rng.normal(3, 1 + np.arange(width), (N, width))).astype(np.float32)
    here = ~np.isin(EVERY, lacks)
    X[~here] = 0
    return Source(name, "image", here, X=X)


def seen(source, learn=EVERY):
    return standardised(source, None, source.X, learn)


@pytest.fixture
def known():
    y = np.arange(N) % 2
    ids = np.array([f"row {i}" for i in range(N)], object)
    return Known(np.zeros((N, 0), np.float32), y, EVERY, ids, Classification(("no", "yes")))


@pytest.mark.parametrize(("width", "size"), [(3, 1.0), (200, 1e-3), (40, 1e4)])
def test_every_block_has_mean_0_and_total_variance_1_over_the_rows_that_learn(width, size):
    learn = EVERY[:60]
    Z = seen(block("a", width, size=size), learn).Z[learn].astype(np.float64)
    assert Z.shape == (60, width)
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-5)
    assert Z.var(axis=0).sum() == pytest.approx(1, abs=1e-4)


def test_inside_a_block_directions_keep_their_lengths():
    source = block("a", 5)
    Z = seen(source).Z
    ratio = np.ptp(Z, axis=0) / np.ptp(source.X, axis=0)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)


def test_rows_that_do_not_learn_change_nothing():
    source, learn = block("a", 4), EVERY[:50]
    before = seen(source, learn)
    source.X[50:] *= 100
    after = seen(source, learn)
    np.testing.assert_array_equal(before.mean, after.mean)
    assert before.scale == after.scale


def test_a_missing_block_is_its_mean_and_one_feature_says_so():
    lacks = [0, 5, 80]
    view = seen(block("a", 4, lacks=lacks), EVERY[:60])
    assert view.width == 5 and view.missing == pytest.approx(2 / 60)
    assert not view.Z[lacks, :4].any()
    np.testing.assert_allclose(view.Z[lacks, 4], 1 - 2 / 60, rtol=1e-6)
    assert view.Z[:60, 4].mean() == pytest.approx(0, abs=1e-6)
    whole = seen(block("a", 4, lacks=[80]), EVERY[:60])  # nobody that learns lacks it: there is nothing to learn
    assert whole.width == 4 and not whole.Z[80].any()


def test_a_block_that_nobody_who_learns_has_is_nothing():
    view = seen(block("a", 3, lacks=range(60)), EVERY[:60])
    assert np.isfinite(view.Z).all()


def test_the_heads_of_the_blocks_add_up_to_the_one_head(known):
    views = (seen(block("a", 6, lacks=[1, 4, 9])), seen(block("b", 30, size=50.0)), seen(block("c", 2, lacks=[4])))
    model = on_views(views, EVERY, known, RULES)
    total = np.zeros((N, 2))
    for view, (head, absent) in zip(views, model.own_heads, strict=True):
        total += np.where(view.source.here[:, None], head.logits(view.X), absent)
    np.testing.assert_allclose(total, model.chosen.head.logits(model.Z), atol=1e-5)
    np.testing.assert_allclose(beside_each_other(views), model.Z)


def test_a_block_that_tells_the_target_is_missed_when_it_is_left_out(known):
    telling = block("telling", 3)
    telling.X[:, 0] += 40 * known.y
    sources = (telling, block("idle", 50))
    learn, judged = EVERY[:60], EVERY[60:]
    rounds = [Round(learn, judged, tuple(seen(source, learn) for source in sources))]

    def right(names):
        answers = said(rounds, names, known, RULES).after
        assert list(answers.ids) == list(known.ids[60:])
        return (answers.predicted == known.y[60:]).mean()

    assert right(["telling", "idle"]) == right(["telling"]) == 1
    assert right(["idle"]) < 0.8


def test_the_unit_of_a_block_does_not_matter(known):
    small, large = block("a", 4), block("a", 4, size=1000.0)
    beside = seen(block("b", 7))
    one, other = (on_views((seen(s), beside), EVERY, known, RULES) for s in (small, large))
    assert isinstance(one, OnBlocks)
    np.testing.assert_allclose(one.judge(EVERY, known).after.scores, other.judge(EVERY, known).after.scores, atol=1e-4)
