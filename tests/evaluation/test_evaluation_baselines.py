import dataclasses

import numpy as np
import pytest
from scipy import stats

from headstart.base.errors import DataError
from headstart.evaluation.baselines import compare, majority, verdict


def worse(predictions, share=0.5):
    """The same model, but blind for some rows."""
    scores = predictions.scores.copy()
    scores[: int(len(scores) * share)] = scores.mean(axis=0)
    return dataclasses.replace(predictions, scores=scores)


def against(model, baseline, key="pixels", **options):
    return compare(
        model, baseline, key=key, what="the same head on plain pixels", trained_on=99, resamples=400, **options
    )


def test_majority_answers_with_the_shares_of_the_training_labels(classes_of, labels_of, values_of):
    made = classes_of(10)
    answer = majority(np.asarray([2, 2, 2, 0]), made)
    np.testing.assert_allclose(answer.scores, np.tile([0.25, 0, 0.75, 0], (10, 1)))
    assert set(answer.names) == {"class 2"}
    assert majority(np.asarray([[0, 1, 1, 0], [0, 1, 0, 0]]), labels_of(5)).scores[0].tolist() == [0, 1, 0.5, 0]
    assert majority(np.asarray([[1.0, 2], [3, 4]]), values_of(5)).scores[0].tolist() == [2, 3]
    with pytest.raises(DataError, match="no training targets"):
        majority(np.asarray([], int), made)


def test_the_gain_is_paired_and_the_p_value_is_mcnemars(classes_of):
    model = classes_of(400)
    base = worse(model)
    b = against(model, base)
    right, theirs = model.predicted == model.targets, base.predicted == model.targets
    assert b.gain.value == pytest.approx(right.mean() - theirs.mean())
    assert b.gain.low < b.gain.value < b.gain.high
    only = int((right & ~theirs).sum()), int((~right & theirs).sum())
    assert b.p_value == pytest.approx(stats.binomtest(only[0], sum(only)).pvalue)
    assert (b.score.value, b.reference.value) == (theirs.mean(), right.mean())
    assert (b.n, b.trained_on) == (400, 99)


def test_a_gain_is_an_improvement_also_where_less_is_better(values_of):
    model = values_of()
    b = against(model, majority(model.targets, model))
    assert b.gain.value == pytest.approx(b.score.value - b.reference.value)
    assert b.gain.low > 0
    assert b.p_value is None
    v = verdict([b], "regression")
    assert v.answer == "yes"
    assert "below" in v.sentence


def test_the_verdict_is_yes_only_if_the_interval_excludes_zero(classes_of):
    model = classes_of(400)
    assert verdict([against(model, worse(model, 0.6))], "classification").answer == "yes"
    assert verdict([against(model, worse(model, 0.004))], "classification").answer == "not shown"
    assert verdict([against(model, model)], "classification").answer == "not shown"
    assert verdict([against(worse(model, 0.6), model)], "classification").answer == "no"


def test_the_strongest_baseline_decides_and_majority_does_not(classes_of):
    model = classes_of(400)
    weak, strong = against(model, worse(model, 0.9)), against(model, worse(model, 0.3), "random-network")
    same = against(model, model, "majority")
    v = verdict([weak, strong, same], "classification")
    assert (v.answer, v.against) == ("yes", "random-network")
    assert f"{strong.gain.value:.3f} [{strong.gain.low:.3f}, {strong.gain.high:.3f}] above the" in v.sentence
    assert "400 test examples" in v.sentence
    assert "McNemar p < 0.001" in v.sentence
    assert verdict([same], "classification").answer == "not shown"


def test_groups_widen_the_gain(classes_of):
    groups = np.repeat(np.arange(20), 20)
    model = classes_of(400, groups=groups)
    base = worse(model)  # the blind half is ten whole groups
    by_group = against(model, base).gain
    by_row = against(dataclasses.replace(model, groups=None), base).gain
    assert by_group.high - by_group.low > 1.5 * (by_row.high - by_row.low)


def test_different_examples_are_not_compared(classes_of):
    model = classes_of(50)
    with pytest.raises(DataError, match="different examples"):
        against(model, model.take(np.arange(49)))
    with pytest.raises(DataError, match="different examples"):
        against(model, model.take(np.arange(50)[::-1]))
    with pytest.raises(DataError, match="different labels"):
        against(model, dataclasses.replace(model, labels=tuple("abcd")))
    with pytest.raises(DataError, match="not known"):
        against(dataclasses.replace(model, targets=None), model)
