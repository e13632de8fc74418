"""The choice between networks on columns, and what a column is worth."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from headstart.adapt.heads.head import LinearHead
from headstart.backbones.columns import LEARNT, NAMES, columns_backbone
from headstart.bundle.load import load
from headstart.bundle.save import ModelFacts, save
from headstart.data.rows import Frame, Rows
from headstart.features.extract import features_of_rows
from headstart.inputs.columns import encode, learn_columns
from headstart.tasks.classification import Classification
from headstart.tasks.regression import Regression
from headstart.workflow.columns import Judge, averaged, choose_network, tasks_for, with_hidden_layers
from headstart.workflow.contributions import contributions
from headstart.workflow.judge import Known, Rules
from headstart.workflow.modalities.rivals import boosting, linear, predicted

N = 320
RULES = Rules(folds=4, metric=None, balance="none", seed=0)


def rows_of(X, names="abcdefgh"):
    columns = {names[i]: X[:, i] for i in range(X.shape[1])}
    return list(Rows(Frame(columns, dict.fromkeys(columns, "number"), "t", [str(i) for i in range(len(X))])))


def known_of(y, task):
    n = len(y)
    ids = np.array([str(i) for i in range(n)], object)
    return Known(np.zeros((n, 0), np.float32), y, np.arange(n), ids, task)


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(N, 3))


def numbers(y):
    return known_of(np.asarray(y, float).reshape(-1, 1), Regression())


def kept(X, known):
    return choose_network(rows_of(X), known, NAMES, RULES)


def test_the_simplest_network_is_kept_where_nothing_needs_more(X):
    noise = np.random.default_rng(1).normal(size=N)
    model, trials, reason = kept(X, numbers(X[:, 0] - X[:, 1] + noise))
    assert model.backbone.card.name == "columns/plain"
    assert [t.name for t in trials if t.kept] == ["columns/plain"]
    assert reason


def test_a_richer_one_is_kept_where_it_is_shown_to_be_better(X):
    assert kept(X, numbers(np.abs(X[:, 0])))[0].backbone.card.name == "columns/curves"
    assert kept(X, numbers(X[:, 0] * X[:, 1]))[0].backbone.card.name == "columns/kernel"


def test_classes_that_no_line_parts_are_parted(X):
    y = (np.square(X[:, :2]).sum(axis=1) > 1.4).astype(np.int64)
    model, _, _ = kept(X, known_of(y, Classification(("in", "out"))))
    assert model.backbone.card.name != "columns/plain"
    assert (model.held_out.predicted == y[[int(i) for i in model.held_out.ids]]).mean() > 0.9


def test_hidden_layers_are_asked_for_by_name_and_stand_in_the_network(X):
    y = X[:, 0] * X[:, 1]
    rows, known = rows_of(X), numbers(y)
    model, trials, _ = choose_network(rows, known, (LEARNT,), RULES)
    card = model.backbone.card
    assert (card.name, card.feature_dim, model.chosen.family) == (LEARNT, 64, "mlp")
    assert [(t.name, t.head) for t in trials] == [(LEARNT, "mlp")]
    assert not model.chosen.head.hidden and model.chosen.head.weight.shape == (1, 64)
    after, _ = model.judge(rows, known)
    assert np.square(after.scores - known.y).mean() < 0.3 * y.var()
    again = choose_network(rows, known, (LEARNT,), RULES)[0]
    assert again.backbone.record.weights_sha256 == model.backbone.record.weights_sha256


def test_hidden_layers_are_saved_with_the_network_and_say_the_same_when_loaded(X, tmp_path):
    rows, rng = rows_of(X), np.random.default_rng(7)
    columns = learn_columns(rows)
    curves = columns_backbone("columns/curves", columns, encode(rows, columns), seed=0)
    features = features_of_rows(curves, rows)
    widths = (features.shape[1], 9, 5)
    hidden = tuple((rng.normal(size=(b, a)), rng.normal(size=b)) for a, b in pairwise(widths))
    head = LinearHead(rng.normal(size=(2, 5)), rng.normal(size=2), hidden)
    task = Regression(("u", "v"))
    deeper, last = with_hidden_layers(curves, head)
    assert (deeper.card.name, deeper.card.feature_dim, last.hidden) == (LEARNT, 5, ())
    save(tmp_path / "m", backbone=deeper, head=last, task=task, facts=ModelFacts("mlp", rounded=False))
    said = load(tmp_path / "m").predict([dict(zip("abc", row, strict=True)) for row in X.tolist()]).scores
    np.testing.assert_allclose(said, head.logits(features), rtol=1e-4, atol=1e-3)
    assert "its hidden layers with their targets" in (tmp_path / "m" / "README.md").read_text()


def test_hidden_layers_are_not_tried_on_few_rows(X):
    def tried(n):
        trials = choose_network(rows_of(X[:n]), numbers(X[:n, 0]), ("columns/plain", LEARNT), RULES)[1]
        return {t.name for t in trials}

    assert tried(100) == {"columns/plain"}
    assert tried(N) == {"columns/plain", LEARNT}


def test_the_logarithm_is_tried_for_long_tailed_targets_above_zero_only(X):
    long = np.exp(X[:, 0])
    links = lambda y: [t.link for t in tasks_for(numbers(y))]  # noqa: E731
    assert links(long) == ["identity", "log"]
    assert links(long - 1) == ["identity"]
    assert links(X[:, 0]) == ["identity"]
    assert links(X[:, 0] + 100) == ["identity"]


def test_a_logarithm_is_kept_and_undone_without_bias(X):
    rng = np.random.default_rng(2)
    y = np.exp(2 + X[:, 0] + 0.4 * rng.normal(size=N))
    known = numbers(y)
    model, _, _ = kept(X, known)
    assert model.task.link == "log"
    after, _ = model.judge(rows_of(X), known)
    assert after.scores.mean() == pytest.approx(y.mean(), rel=0.1)
    assert (after.scores > 0).all()


def test_what_judges_say_stands_in_the_order_of_the_rows(X):
    y = X[:, 0] * 3
    known, rows = numbers(y), rows_of(X)
    halves = [np.arange(0, N, 2), np.arange(1, N, 2)]
    judges = [
        Judge(choose_network([rows[i] for i in learn], known.take(learn), ["columns/plain"], RULES)[0], judged)
        for learn, judged in (halves, halves[::-1])
    ]
    after, _ = averaged(judges, rows, known)
    assert after.ids.tolist() == [str(i) for i in range(N)]
    np.testing.assert_allclose(after.scores[:, 0], y, atol=0.05)


def test_a_column_is_worth_what_shuffling_it_costs(X):
    """For y = 3a + b, shuffling a column with weight w gives an error of √2 w times its standard deviation."""
    y = 3 * X[:, 0] + X[:, 1]
    known, rows = numbers(y), rows_of(X)
    learn, judged = np.arange(160), np.arange(160, N)
    model, _, _ = choose_network([rows[i] for i in learn], known.take(learn), ["columns/plain"], RULES)
    found = contributions([Judge(model, judged)], rows, known, metric="rmse", seed=0, resamples=200)
    loss = {c.column: c.loss for c in found}
    assert [c.column for c in found[:2]] == ["a", "b"]
    assert loss["a"].value == pytest.approx(3 * np.sqrt(2) * X[160:, 0].std(), rel=0.1)
    assert loss["b"].value == pytest.approx(np.sqrt(2) * X[160:, 1].std(), rel=0.1)
    assert abs(loss["c"].value) < 0.02


@pytest.mark.parametrize("rival", [linear, boosting])
def test_rivals_learn_from_training_rows_and_answer_for_the_others(rival, X):
    y = (X[:, 0] > 0).astype(np.int64)
    known, rows = known_of(y, Classification(("a", "b"))), rows_of(X)
    parts = [(np.arange(200), np.arange(200, N))]
    (said,) = predicted(rival, rows, known, parts)
    assert said.ids.tolist() == [str(i) for i in range(200, N)]
    assert (said.predicted == y[200:]).mean() > 0.9
    np.testing.assert_allclose(said.scores.sum(axis=1), 1)
    other = replace(known, y=np.r_[y[:200], 1 - y[200:]])
    np.testing.assert_array_equal(predicted(rival, rows, other, parts)[0].scores, said.scores)


def test_rivals_know_classes_and_names_that_the_training_rows_lack(X):
    y = np.r_[np.arange(200) % 2, np.full(N - 200, 2)]
    known, rows = known_of(y, Classification(("a", "b", "c"))), rows_of(X)
    for rival in (linear, boosting):
        (said,) = predicted(rival, rows, known, [(np.arange(200), np.arange(200, N))])
        assert said.scores.shape == (N - 200, 3)
        assert (said.scores[:, 2] < 1e-6).all()
