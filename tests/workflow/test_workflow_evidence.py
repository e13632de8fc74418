"""What is kept, and how often wrongly: simulated answers whose truth is known."""

import numpy as np
import pytest

from headstart.base.seeds import stream
from headstart.tasks.classification import Classification
from headstart.workflow import evidence
from headstart.workflow.evidence import ERROR, NOMINAL, Judge
from headstart.workflow.judge import Known

CLASSES = 10
SHARES = (0.0, 0.5, 1.0)


def answers(rng, n, gain):
    """Share of the tuned weights → logits; with no gain, all of them are equally good and differ by chance alone.

    gain: what the tuned ones add to the logit of the truth.
    """
    y = np.arange(n) % CLASSES
    truth = np.eye(CLASSES)[y]
    shared = (3 + rng.normal(0, 1.5, (n, 1))) * truth + rng.normal(0, 1.2, (n, CLASSES))
    noise = {share: rng.normal(0, 1.5, (n, CLASSES)) for share in (0.0, 1.0)}
    # Between the two lies their mean, with as much noise as either: else a mixture would be better than both.
    noise[0.5] = (noise[0.0] + noise[1.0]) / 2 + rng.normal(0, 1.5 / np.sqrt(2), (n, CLASSES))
    return y, {share: shared + noise[share] + share * gain * truth for share in SHARES}


def known_of(y, groups=None):
    n = len(y)
    task = Classification(tuple(str(k) for k in range(CLASSES)))
    groups = np.arange(n) if groups is None else groups
    return Known(np.zeros((n, 1), np.float32), y, groups, np.arange(n).astype(object), task)


def judge_of(y, below, parts, **changes):
    settings = {"metric": "accuracy", "resamples": 200, "seed": 0}
    return Judge(known_of(y), parts, below, **(settings | changes))


def rate_of_keeping(n, gain, repetitions, *, looks=3):
    """Of a rung that is tried ``repetitions`` times on new data, in up to ``looks`` of three parts."""
    kept = 0
    for repetition in range(repetitions):
        rng = stream(repetition, "evidence", n)
        y, found = answers(rng, n, gain)
        parts = [(np.zeros(0, int), np.sort(part)) for part in np.array_split(rng.permutation(n), 3)]
        judge = judge_of(y, found[0.0], parts, seed=repetition)
        for number, (_, held) in enumerate(parts[:looks], start=1):
            verdict = judge.look({share: x[held] for share, x in found.items()}, last=number == looks)
            if verdict.is_better or verdict.is_worse:
                break
        kept += verdict.is_better
    return kept / repetitions


@pytest.mark.parametrize(("n", "looks"), [(60, 3), (200, 1), (200, 3)])
def test_a_rung_without_merit_is_kept_at_most_once_in_twenty_times(n, looks):
    """400 times each; what lies above 0.05 is what chance allows a rate of 0.05 once in twenty times."""
    chance = 1.645 * np.sqrt(0.05 * 0.95 / 400)
    assert rate_of_keeping(n, 0.0, 400, looks=looks) <= ERROR + chance


def test_a_rung_with_merit_is_kept_more_often_than_by_accuracy_alone(monkeypatch):
    """+0.07 of accuracy, on 200 rows."""
    finer = rate_of_keeping(200, 0.5, 100)
    monkeypatch.setattr(evidence, "FINER", {})
    assert finer > rate_of_keeping(200, 0.5, 100) + 0.15


def test_better_probabilities_without_more_right_answers_keep_nothing():
    """The Brier score is evidence only where accuracy has risen."""
    y = np.arange(200) % CLASSES
    rng = stream(0, "flat")
    below = np.eye(CLASSES)[y] * 2.0
    wrong = rng.permutation(200)[:80]
    below[wrong] = np.eye(CLASSES)[(y[wrong] + 1) % CLASSES] * 2.0
    better = below.copy()
    better[wrong] += np.eye(CLASSES)[y[wrong]] * 1.5  # nearer to the truth, and still wrong
    verdict = judge_of(y, below, [(None, np.arange(200))]).look({0.0: below, 1.0: better}, last=True)
    assert verdict.finer.high < 0 and verdict.gain.value == 0
    assert not verdict.is_better and verdict.share == 1.0


def test_the_looks_share_one_error_and_the_last_takes_what_is_left():
    y, found = answers(stream(0, "looks"), 90, 0.0)
    thirds = [(None, part) for part in np.array_split(np.arange(90), 3)]

    def levels(lasts):
        judge = judge_of(y, found[0.0], thirds)
        looks = zip(thirds, lasts, strict=False)
        return [judge.look({s: x[held] for s, x in found.items()}, last=last).gain.level for (_, held), last in looks]

    each = NOMINAL / 3
    assert levels([False, False, True]) == pytest.approx([1 - 2 * each] * 3)
    assert levels([True]) == pytest.approx([1 - 2 * NOMINAL])
    assert levels([False, True]) == pytest.approx([1 - 2 * each, 1 - 2 * (NOMINAL - each)])


def test_the_loaded_weights_are_never_better_than_themselves():
    y, found = answers(stream(1, "same"), 60, 0.0)
    verdict = judge_of(y, found[0.0], [(None, np.arange(60))]).look(dict.fromkeys(SHARES, found[0.0]), last=True)
    assert verdict.share == 0.0 and verdict.gain.value == 0 and not verdict.is_better


def test_a_score_without_a_finer_one_is_the_evidence_itself():
    y, found = answers(stream(2, "loss"), 120, 1.5)
    judge = judge_of(y, found[0.0], [(None, np.arange(120))], metric="log_loss")
    verdict = judge.look(found, last=True)
    assert verdict.finer is None and verdict.is_better and verdict.gain.high < 0


def test_rows_of_one_group_are_one_piece_of_evidence():
    """Each row ten times over says no more than once."""
    y, found = answers(stream(3, "groups"), 40, 0.6)
    rows, groups = np.repeat(np.arange(40), 10), np.repeat(np.arange(40), 10)
    once = judge_of(y, found[0.0], [(None, np.arange(40))], resamples=2000).look(found, last=True)
    many = Judge(
        known_of(y[rows], groups), [(None, np.arange(400))], found[0.0][rows], metric="accuracy", resamples=2000, seed=0
    ).look({s: x[rows] for s, x in found.items()}, last=True)
    assert many.gain.value == pytest.approx(once.gain.value, abs=0.05)
    assert many.gain.high - many.gain.low == pytest.approx(once.gain.high - once.gain.low, rel=0.2)
