"""The whole judgement of a model."""

import dataclasses
import time

import numpy as np
import pytest

from headstart.base.config import from_dict, to_dict
from headstart.base.errors import DataError
from headstart.base.files import read_json, write_json
from headstart.evaluation import evaluate as module
from headstart.evaluation.baselines import compare, majority
from headstart.evaluation.evaluate import evaluate
from headstart.evaluation.scores import SCORES
from headstart.records.evaluation import Evaluation, LabelIssue


def test_every_score_has_an_interval_and_its_n(classes_of, labels_of, values_of):
    for made in (classes_of(), labels_of(), values_of()):
        e = evaluate(made, resamples=200)
        assert set(SCORES[made.task]) <= set(e.metrics)
        assert e.score is e.metrics[e.headline]
        for name, m in e.metrics.items():
            assert m.low < m.value < m.high, name
            assert m.n == 300


def test_the_record_survives_a_file(classes_of, labels_of, values_of, tmp_path):
    for made in (classes_of(), labels_of(), values_of()):
        issues = (LabelIssue("x", "a", "b", -0.5),)
        baseline = compare(made, majority(made.targets, made), key="majority", what="m", trained_on=3, resamples=50)
        e = evaluate(made, before=made, baselines=(baseline,), label_issues=issues, resamples=50)
        write_json(tmp_path / "e.json", to_dict(e))
        again = from_dict(Evaluation, read_json(tmp_path / "e.json"))
        assert repr(sorted(again.metrics.items())) == repr(sorted(e.metrics.items()))
        bare = [dataclasses.replace(x, metrics={}) for x in (again, e)]
        assert repr(bare[0]) == repr(bare[1])  # NaN is not equal to itself


def test_per_class_table_and_confusion_fit_together(classes_of):
    e = evaluate(classes_of(), resamples=50)
    matrix = np.asarray(e.confusion)
    assert matrix.sum() == 300
    for k, c in enumerate(e.per_class):
        assert c.support == matrix[k].sum()
        assert c.recall.value == pytest.approx(matrix[k, k] / matrix[k].sum())
        assert c.precision.value == pytest.approx(matrix[k, k] / matrix[:, k].sum())
        assert c.f1.low < c.f1.value < c.f1.high
    assert e.metrics["macro_f1"].value == pytest.approx(np.mean([c.f1.value for c in e.per_class]))
    assert e.metrics["accuracy"].value == pytest.approx(np.trace(matrix) / 300)


def test_a_class_without_test_examples_prints_as_a_dash(classes_of):
    made = dataclasses.replace(classes_of(), labels=("a", "b", "c", "d", "never seen"))
    scores = np.concatenate([made.scores, np.full((300, 1), 1e-9)], axis=1)
    e = evaluate(dataclasses.replace(made, scores=scores), resamples=50)
    last = e.per_class[-1]
    assert (str(last.recall), str(last.precision), str(last.f1), last.support) == ("–", "–", "–", 0)
    assert e.metrics["macro_f1"].value == e.metrics["macro_f1"].value


def test_a_perfect_model_is_not_certain(classes_of):
    made = classes_of(40)
    e = evaluate(dataclasses.replace(made, scores=np.eye(4)[made.targets] * 0.96 + 0.01), resamples=100)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "macro_precision", "roc_auc", "average_precision"):
        m = e.metrics[name]
        assert (m.value, m.high) == (1.0, 1.0), name
        assert 0.5 < m.low < 0.97, name
    assert all(c.f1.low < 1 for c in e.per_class)
    assert e.worst == ()


def test_a_perfect_model_on_groups_is_less_certain_still(classes_of):
    made = classes_of(40)
    perfect = dataclasses.replace(made, scores=np.eye(4)[made.targets] * 0.96 + 0.01)
    alone, same = (evaluate(dataclasses.replace(perfect, groups=g), resamples=50) for g in (None, np.arange(40) + 7))
    assert repr(alone.metrics["accuracy"]) == repr(same.metrics["accuracy"])  # groups of one row are no groups
    pairs = evaluate(dataclasses.replace(perfect, groups=np.arange(40) // 2), resamples=50)
    for name in ("accuracy", "macro_f1"):
        assert pairs.metrics[name].low < alone.metrics[name].low < 1


def test_one_example_and_one_class_are_enough(classes_of):
    e = evaluate(classes_of(1), resamples=20)
    assert e.n == 1
    assert str(e.metrics["roc_auc"]) == "–"
    assert e.metrics["accuracy"].low < e.metrics["accuracy"].high


def test_worst_mistakes_come_by_loss_and_least_certain_by_margin(classes_of):
    made = classes_of()
    e = evaluate(made, resamples=20, examples=10)
    losses = [w.loss for w in e.worst]
    assert losses == sorted(losses, reverse=True)
    assert all(w.target != w.predicted for w in e.worst)
    own = made.scores[np.arange(300), made.targets]
    assert losses[0] == pytest.approx(-np.log(own[made.predicted != made.targets].min()))
    row = {i: k for k, i in enumerate(made.ids)}
    first = made.scores[row[e.least_certain[0].id]]
    top = np.sort(made.scores, axis=1)
    assert np.sort(first)[-1] - np.sort(first)[-2] == pytest.approx((top[:, -1] - top[:, -2]).min())
    assert e.least_certain[0].confidence == pytest.approx(first.max())


def test_multi_label_and_regression_examples_speak_their_language(labels_of, values_of):
    e = evaluate(labels_of(), resamples=20)
    assert all(set(w.target.split("|")) <= set("abcd") | {""} for w in e.worst)
    e = evaluate(values_of(), resamples=20)
    assert e.worst[0].loss == max(w.loss for w in e.worst)
    assert len(e.worst[0].target.split()) == 2
    assert e.least_certain == ()


def test_calibration_before_and_after(classes_of):
    made = classes_of(2000)
    sharp = made.scores**4 / (made.scores**4).sum(axis=1, keepdims=True)
    e = evaluate(made, before=dataclasses.replace(made, scores=sharp), resamples=50)
    assert e.metrics["ece_before"].value != e.metrics["ece"].value
    assert sum(b.n for b in e.reliability_after) == sum(b.n for b in e.reliability_before) == 2000
    assert e.reliability_before[-1].confidence > e.reliability_after[-1].confidence
    for name in ("ece", "ece_before"):
        m = e.metrics[name]
        assert 0 <= m.low <= m.value <= m.high


def test_groups_widen_intervals(classes_of):
    groups = np.repeat(np.arange(30), 10)
    made = classes_of(groups=groups)
    scores = made.scores.copy()
    scores[groups < 10] = 0.25  # a third of the groups fails together
    by_group = evaluate(dataclasses.replace(made, scores=scores), resamples=300)
    by_row = evaluate(dataclasses.replace(made, scores=scores, groups=None), resamples=300)
    width = lambda e, m: e.metrics[m].high - e.metrics[m].low  # noqa: E731
    for name in ("accuracy", "log_loss", "macro_f1"):
        assert width(by_group, name) > 1.25 * width(by_row, name)


def test_the_order_of_rows_changes_nothing_but_the_draw(classes_of):
    made = classes_of()
    order = np.random.default_rng(0).permutation(300)
    a, b = evaluate(made, resamples=20), evaluate(made.take(order), resamples=20)
    for name in a.metrics:
        assert a.metrics[name].value == pytest.approx(b.metrics[name].value)
    assert a.confusion == b.confusion
    assert [w.id for w in a.worst] == [w.id for w in b.worst]


def test_the_same_call_gives_the_same_bits_and_changes_no_input(classes_of):
    made = classes_of()
    for a in (made.scores, made.targets, made.ids):
        a.flags.writeable = False
    assert repr(evaluate(made, resamples=50)) == repr(evaluate(made, resamples=50))
    assert repr(evaluate(made, resamples=50)) != repr(evaluate(made, resamples=50, seed=1))


def test_large_ranking_work_gets_fewer_resamples(classes_of, monkeypatch):
    monkeypatch.setattr(module, "RANKING_CELLS", 1)
    monkeypatch.setattr("headstart.evaluation.intervals.CHUNK_CELLS", 300 * 100)
    e = evaluate(classes_of(), resamples=400)
    assert e.metrics["roc_auc"].low < e.metrics["roc_auc"].high


def test_unlabelled_empty_and_nan_predictions_are_refused(classes_of):
    made = classes_of()
    with pytest.raises(DataError, match="not known"):
        evaluate(dataclasses.replace(made, targets=None))
    with pytest.raises(DataError, match="no examples"):
        evaluate(made.take(np.arange(0)))
    broken = made.scores.copy()
    broken[3] = np.nan
    with pytest.raises(DataError, match="1 of 300 examples are NaN"):
        evaluate(dataclasses.replace(made, scores=broken))
    with pytest.raises(DataError, match="other examples"):
        evaluate(made, before=made.take(np.arange(299)))


def test_a_thousand_resamples_of_all_scores_are_quick(classes_of):
    made = classes_of(400, 3)
    evaluate(made, resamples=10)  # imports
    start = time.process_time()
    evaluate(made, before=made)
    assert time.process_time() - start < 1.5  # 0.15 s alone on one core; the bound allows for a busy machine
