"""Scores by the number of labels: nested parts, honest forecasts, every kind of target."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from headstart.base.seeds import number, stream
from headstart.data.split import split
from headstart.evaluation.curves import few_of_each
from headstart.tasks.classification import Classification
from headstart.tasks.multilabel import MultiLabel
from headstart.tasks.regression import Regression
from headstart.workflow.few_shot import DRAWS, few_shot, small_head
from headstart.workflow.judge import Contest, Known, Rules, choose_head, cross_validated, held_out


def known(n=400, width=16, classes=4, noise=3.0, task=None, groups=None):
    rng = stream(0, "few-shot", n, classes)
    y = rng.permutation(np.arange(n) % classes)
    X = rng.standard_normal((n, width)) * noise + 3 * rng.standard_normal((classes, width))[y]
    task = task or Classification(tuple("abcdefgh"[:classes]))
    ids = np.array([str(i) for i in range(n)], object)
    return Known(X.astype(np.float32), y, np.arange(n) if groups is None else groups, ids, task)


def curve(data, family="ridge", share=0.25, metric=None):
    strata = data.task.strata(data.y)
    rules = Rules(5, metric, "none", 0, (family,))
    if share:
        train, test = split(strata, data.groups, given=None, share=share, seed=0)
        model = held_out(choose_head(data.take(train), rules), data.take(test)).after
    else:
        train, test = np.arange(len(data)), np.zeros(0, np.int64)
        model = cross_validated(data, rules).after
    return few_shot(model, Contest(data, rules, train, test)), model


class TestParts:
    def test_each_class_gives_at_most_so_many_and_small_parts_lie_in_large_ones(self):
        y = np.repeat([0, 1, 2], [50, 10, 3])
        parts = few_of_each(y, np.arange(63), [1, 2, 4, 8, 16], seed=3)
        assert [np.bincount(y[p]).tolist() for p in parts] == [
            [1, 1, 1],
            [2, 2, 2],
            [4, 4, 3],
            [8, 8, 3],
            [16, 10, 3],
        ]
        for small, large in pairwise(parts):
            assert np.isin(small, large).all()

    def test_few_examples_come_from_different_groups_where_they_can(self):
        groups = np.repeat(np.arange(10), 5)
        for seed in range(5):
            (rows,) = few_of_each(np.zeros(50, int), groups, [10], seed=seed)
            assert len(set(groups[rows])) == 10

    def test_other_seeds_draw_others(self):
        y = np.arange(100) % 2
        one, other = (few_of_each(y, np.arange(100), [8], seed=s)[0] for s in (0, 1))
        assert not np.array_equal(one, other)


class TestTheCurve:
    def test_it_ends_with_the_model_itself(self):
        found, model = curve(known())
        right = (model.scores.argmax(axis=1) == model.targets).mean()
        assert found.points[-1].score.value == pytest.approx(right)
        assert found.points[-1].n == 300
        assert [p.most for p in found.points] == [1, 2, 4, 8, 16, 32, 64, 0]

    def test_more_labels_are_better_where_they_should_be(self):
        values = [p.score.value for p in curve(known())[0].points]
        assert values[-1] > values[2] > values[0] > 0.25

    def test_a_point_is_the_mean_of_heads_fitted_by_hand(self):
        data = known()
        found, _ = curve(data, "lda")
        train, test = split(data.y, data.groups, given=None, share=0.25, seed=0)
        scores = []
        for draw in range(DRAWS):
            (rows,) = few_of_each(data.y[train], data.groups[train], [8], seed=number(0, "few-shot", draw))
            head = small_head(data.take(train[rows]), "lda")
            scores.append((head.logits(data.X[test]).argmax(axis=1) == data.y[test]).mean())
        assert found.points[3].score.value == pytest.approx(np.mean(scores))
        assert found.points[3].n == 32

    def test_few_examples_are_judged_by_the_folds_of_the_model(self):
        found, model = curve(known(n=80), share=0)
        assert found.n == len(model) == 80
        assert found.points[-1].n == 64

    def test_twice_is_the_same(self):
        one, other = (curve(known())[0] for _ in range(2))
        assert one.points == other.points
        assert one.doubled == other.doubled

    @pytest.mark.parametrize("family", ["nearest-mean", "ridge", "lda", "logistic"])
    def test_every_kind_of_head_has_a_curve(self, family):
        found, _ = curve(known(n=200), family)
        assert found.head == ("ridge" if family == "logistic" else family)
        assert all(np.isfinite(p.score.value) for p in found.points)

    def test_several_labels_and_numbers_have_sizes_of_all_examples(self):
        base = known(n=300)
        rng = stream(4)
        values = base.X[:, :2].astype(np.float64) + rng.standard_normal((300, 2))
        for task, y in (
            (MultiLabel(("a", "b")), (values > 0).astype(np.int8)),
            (Regression(("u", "v")), values),
        ):
            found, _ = curve(Known(base.X, y, base.groups, base.ids, task))
            assert not found.is_by_class
            assert [round(p.n) for p in found.points[:3]] == pytest.approx([16, 32, 64], abs=1)
            assert found.points[-1].n == pytest.approx(225, abs=10)

    def test_probabilities_are_not_scored_from_heads_that_are_not_calibrated(self):
        assert curve(known(n=200), metric="log_loss")[0].metric == "accuracy"

    def test_one_example_of_each_class_leaves_nothing_to_tell(self):
        data = known(n=8)
        rules = Rules(5, None, "none", 0, ("nearest-mean",))
        learn, judge = np.arange(4), np.arange(4, 8)
        model = held_out(choose_head(known(n=40).take(np.arange(40)), rules), data.take(judge)).after
        assert few_shot(model, Contest(data, rules, learn[:1], judge)) is None


class TestTheForecast:
    def test_it_is_told_where_the_curve_foretells_its_own_end(self):
        found, _ = curve(known(n=1200, noise=5.0))
        assert found.doubled is not None
        assert found.law is not None
        assert found.doubled.low <= found.doubled.value <= found.doubled.high
        assert found.doubled.value >= found.points[-1].score.value - 0.03
        assert f"{found.doubled.value:.3f}" in found.sentence

    def test_it_is_not_told_where_the_last_step_fits_no_curve(self):
        data = known(n=1200, noise=5.0)
        rules = Rules(5, None, "none", 0, ("ridge",))
        train, test = split(data.y, data.groups, given=None, share=0.25, seed=0)
        model = held_out(choose_head(data.take(train), rules), data.take(test)).after
        perfect = replace(model, scores=np.eye(4)[data.y[test]])
        found = few_shot(perfect, Contest(data, rules, train, test))
        assert found.doubled is None
        assert found.law is None
        assert "cannot be followed" in found.why_not
        assert "twice" not in found.sentence

    def test_three_sizes_are_too_few(self):
        found, _ = curve(known(n=24, noise=1.0))
        assert found.doubled is None
        assert "too few" in found.why_not


@pytest.mark.parametrize("head", ["ridge", "nearest-mean", "lda"])
@pytest.mark.parametrize(
    ("task", "y", "usual"),
    [
        (Classification(("a", "b")), np.array([0, 1, 1]), 1),
        (Regression(), np.array([1.0, 2.0, 6.0]), 3.0),
    ],
)
def test_examples_that_nothing_tells_apart_teach_what_is_usual(head, task, y, usual):
    """Found by a network whose units were all dead; a table of word vectors gives it for unknown words."""
    X = np.ones((3, 5), np.float32)
    known = Known(X, y, np.arange(3), np.array(["x", "y", "z"], object), task)
    logits = small_head(known, head).logits(np.random.default_rng(0).normal(size=(4, 5)))
    said = logits.argmax(axis=1) if task.name == "classification" else logits[:, 0]
    assert np.allclose(said, usual)
