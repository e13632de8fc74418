"""Every score against scikit-learn, on the sample and with weights (a resample is a weighted sample)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from headstart.base.errors import DataError
from headstart.base.seeds import stream
from headstart.evaluation.metrics import calibration
from headstart.evaluation.metrics.classification import confusion
from headstart.evaluation.metrics.counts import count_classes, count_labels, f1, precision, recall
from headstart.evaluation.metrics.ranking import average_precision, ranked, roc_auc
from headstart.evaluation.scores import HEADLINES, SCORES, score
from headstart.tasks.classification import Classification
from headstart.tasks.multilabel import MultiLabel
from headstart.tasks.regression import Regression


def weights_for(n, rows=3, seed=0):
    return stream(seed, "weights").integers(0, 4, (rows, n)).astype(np.float32)


def sk_classification(y, p, w):
    hard, classes = p.argmax(axis=1), np.arange(p.shape[1])
    options = {"sample_weight": w}
    macro = {**options, "average": "macro", "labels": classes, "zero_division": 0}
    ranking = {**options, "average": "macro"}
    onehot = y[:, None] == classes
    auc = sk.roc_auc_score(y, p[:, 1], **options) if p.shape[1] == 2 else sk.roc_auc_score(onehot, p, **ranking)
    ap = (
        sk.average_precision_score(y, p[:, 1], **options)
        if p.shape[1] == 2
        else sk.average_precision_score(onehot, p, **ranking)
    )
    return {
        "accuracy": sk.accuracy_score(y, hard, **options),
        "balanced_accuracy": sk.balanced_accuracy_score(y, hard, **options),
        "macro_precision": sk.precision_score(y, hard, **macro),
        "macro_recall": sk.recall_score(y, hard, **macro),
        "macro_f1": sk.f1_score(y, hard, **macro),
        "roc_auc": auc,
        "average_precision": ap,
        "log_loss": sk.log_loss(y, p, labels=classes, **options),
        "brier": sk.brier_score_loss(y, p if p.shape[1] > 2 else p[:, 1], **options),
    }


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("rounded", [False, True], ids=["distinct", "ties"])
def test_classification_scores_are_those_of_sklearn(classes, rounded, classes_of):
    made = classes_of(200, classes)
    p = made.scores.round(1) + 1e-3 if rounded else made.scores
    p = p / p.sum(axis=1, keepdims=True)
    w = weights_for(200)
    whole = score("classification", made.targets, p, SCORES["classification"])
    resampled = score("classification", made.targets, p, SCORES["classification"], w)
    for name, expected in sk_classification(made.targets, p, None).items():
        assert whole[name] == pytest.approx(expected, abs=1e-6), name
    for r in range(len(w)):
        for name, expected in sk_classification(made.targets, p, w[r]).items():
            assert resampled[name][r] == pytest.approx(expected, abs=1e-5), name


def test_multi_label_scores_are_those_of_sklearn(labels_of):
    made = labels_of()
    y, p, hard = made.targets, made.scores, made.scores >= 0.5
    for w in (None, *weights_for(300, 2)):
        got = score("multilabel", y, p, SCORES["multilabel"], None if w is None else w[None])
        options = {"sample_weight": w}
        expected = {
            "macro_f1": sk.f1_score(y, hard, average="macro", **options),
            "micro_f1": sk.f1_score(y, hard, average="micro", **options),
            "macro_precision": sk.precision_score(y, hard, average="macro", **options),
            "macro_recall": sk.recall_score(y, hard, average="macro", **options),
            "subset_accuracy": sk.accuracy_score(y, hard, **options),
            "roc_auc": sk.roc_auc_score(y, p, average="macro", **options),
            "average_precision": sk.average_precision_score(y, p, average="macro", **options),
            "log_loss": np.mean([sk.log_loss(y[:, k], p[:, k], **options) for k in range(4)]),
            "brier": np.mean([sk.brier_score_loss(y[:, k], p[:, k], **options) for k in range(4)]),
        }
        for name, value in expected.items():
            assert got[name][0] == pytest.approx(value, abs=1e-5), name


def test_regression_scores_are_those_of_sklearn(values_of):
    made = values_of()
    for w in (None, *weights_for(300, 2)):
        got = score("regression", made.targets, made.scores, SCORES["regression"], None if w is None else w[None])
        args, options = (made.targets, made.scores), {"sample_weight": w}
        assert got["rmse"][0] == pytest.approx(sk.root_mean_squared_error(*args, **options))
        assert got["mae"][0] == pytest.approx(sk.mean_absolute_error(*args, **options))
        assert got["r2"][0] == pytest.approx(sk.r2_score(*args, **options))


def test_constant_targets_have_no_r2():
    y = np.full((5, 1), 3e6)
    assert np.isnan(score("regression", y, y + 1, ["r2"])["r2"][0])


def test_classes_that_are_absent_are_undefined_and_left_out_of_macro_scores():
    y, said = np.asarray([0, 0, 1, 1]), np.asarray([0, 2, 1, 1])
    counts = count_classes(y, said, 4)
    assert np.isnan(precision(counts)[0, 2:]).all()
    assert np.isnan(recall(counts)[0, 2:]).all()
    p = np.eye(4)[said]
    got = score("classification", y, p, ["macro_f1", "balanced_accuracy"])
    assert got["macro_f1"][0] == pytest.approx((2 / 3 + 1) / 2)
    assert got["balanced_accuracy"][0] == 0.75


def test_a_resample_is_the_sample_with_rows_repeated(classes_of):
    made = classes_of(50)
    w = weights_for(50, 1)
    rows = np.repeat(np.arange(50), w[0].astype(int))
    names = SCORES["classification"]
    a = score("classification", made.targets, made.scores, names, w)
    b = score("classification", made.targets[rows], made.scores[rows], names)
    for name in names:
        assert a[name][0] == pytest.approx(b[name][0], abs=1e-6)


def test_confusion_is_that_of_sklearn(classes_of):
    made = classes_of()
    got = confusion(made.targets, made.predicted, 4)
    np.testing.assert_array_equal(got, sk.confusion_matrix(made.targets, made.predicted))


def test_counts_by_label_are_those_of_sklearn(labels_of):
    made = labels_of()
    counts = count_labels(made.targets, made.predicted)
    expected = sk.precision_recall_fscore_support(made.targets, made.predicted)
    for got, theirs in zip((precision(counts), recall(counts), f1(counts), counts.support), expected, strict=True):
        np.testing.assert_allclose(got[0], theirs)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_auc_is_the_share_of_pairs_in_the_right_order(rows):
    s, positive = np.asarray([r[0] for r in rows], float), np.asarray([r[1] for r in rows])
    auc = roc_auc(ranked(s, positive))[0]
    if positive.all() or not positive.any():
        assert np.isnan(auc)
        return
    pairs = s[positive][:, None] - s[~positive]
    assert auc == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    assert average_precision(ranked(s, positive))[0] == pytest.approx(sk.average_precision_score(positive, s))


# --- calibration


def slow_ece(confidence, right, bins):
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, bins)
    return sum(len(p) * abs(right[p].mean() - confidence[p].mean()) for p in parts if len(p)) / len(confidence)


def test_ece_is_that_of_equal_bins():
    rng = stream(1)
    confidence = rng.random(300)
    right = (rng.random(300) < confidence**2).astype(float)
    assert calibration.ece(confidence, right)[0] == pytest.approx(slow_ece(confidence, right, 15))
    bars = calibration.reliability(confidence, right)
    assert [b.n for b in bars] == [20] * 15
    assert sum(b.n * abs(b.accuracy - b.confidence) for b in bars) / 300 == pytest.approx(
        slow_ece(confidence, right, 15)
    )


def test_ece_of_several_answers_by_example_is_that_of_all_answers(labels_of):
    made = labels_of()
    truth = made.targets.astype(float)
    a = calibration.ece(made.scores, truth)[0]
    assert a == pytest.approx(calibration.ece(made.scores.ravel(), truth.ravel())[0])
    w = weights_for(300, 1)
    b = calibration.ece(made.scores, truth, w)[0]
    assert b == pytest.approx(calibration.ece(made.scores.ravel(), truth.ravel(), np.repeat(w, 4, axis=1))[0], abs=1e-6)


def test_equal_confidences_share_a_bin_so_the_order_of_rows_does_not_matter():
    rng = stream(2)
    confidence = rng.integers(0, 8, 200) / 8
    right = (rng.random(200) < confidence).astype(float)
    order = rng.permutation(200)
    assert calibration.ece(confidence, right) == pytest.approx(calibration.ece(confidence[order], right[order]))


def test_debiasing_takes_out_what_noise_adds():
    rng = stream(3)
    raw, debiased = [], []
    for _ in range(200):
        confidence = rng.uniform(0.5, 1, 150)
        right = (rng.random(150) < confidence).astype(float)
        raw.append(calibration.ece(confidence, right)[0])
        debiased.append(calibration.ece(confidence, right, debiased=True)[0])
    assert np.mean(raw) > 0.08  # perfectly calibrated, and yet
    assert np.mean(debiased) < 0.6 * np.mean(raw)
    confidence = np.full(3000, 0.9)
    right = (np.arange(3000) % 10 < 6).astype(float)
    assert calibration.ece(confidence, right, debiased=True)[0] == pytest.approx(0.3, abs=0.01)


# --- names


def test_headlines_are_those_of_the_tasks():
    tasks = (Classification(("a", "b")), MultiLabel(("a",)), Regression())
    assert {t.name: t.headline for t in tasks} == HEADLINES
    assert all(HEADLINES[t] in SCORES[t] for t in SCORES)


def test_an_unknown_score_is_refused_with_a_suggestion(classes_of):
    made = classes_of(10)
    with pytest.raises(DataError, match="Did you mean 'macro_f1'"):
        score("classification", made.targets, made.scores, ["macro_f2"])
