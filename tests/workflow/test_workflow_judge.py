"""The comparison with a random network looks at few rows first, and at more only where those do not tell."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from headstart.tasks.classification import Classification
from headstart.workflow.judge import RANDOM_ROWS, Contest, Known, Plain, Rules, baselines

N = 900


@pytest.fixture
def contest():
    """900 examples of two classes; their features tell the class apart nearly always."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, N)
    X = (rng.normal(size=(N, 6)) + 3.0 * y[:, None] * (np.arange(6) == 0)).astype(np.float32)
    ids = np.array([str(i) for i in range(N)], object)
    known = Known(X, y, np.arange(N), ids, Classification(("a", "b")))
    return Contest(known, Rules(3, None, "none", 0, families=("nearest-mean",)), np.arange(600), np.arange(600, N))


def against(contest, features, *, full=False):
    """(the baseline, rows that the random network was asked for in each look)."""
    looks = []

    def random_features(positions):
        looks.append(positions)
        return SimpleNamespace(X=features[positions])

    model = contest.judge(contest.known.X)
    found = baselines(
        model,
        contest,
        plain=Plain("pixels", "one column", lambda c: c.judge(contest.known.X[:, 1:])),
        random_features=random_features,
        full_random=full,
    )
    return found[-1], looks


def test_a_clear_difference_is_told_by_the_first_look(contest):
    noise = np.random.default_rng(1).normal(size=(N, 4)).astype(np.float32)
    baseline, looks = against(contest, noise)
    assert baseline.gain.low > 0
    assert [len(rows) for rows in looks] == pytest.approx([2 * RANDOM_ROWS[0]], abs=3)


def test_without_a_difference_there_is_a_second_look_that_holds_the_first(contest):
    baseline, looks = against(contest, contest.known.X)
    assert baseline.gain.low <= 0 <= baseline.gain.high
    assert [len(rows) for rows in looks] == pytest.approx([2 * most for most in RANDOM_ROWS], abs=3)
    assert set(looks[0]) <= set(looks[1])
    assert f"both on {baseline.trained_on} training" in baseline.what


def test_each_of_two_looks_has_half_of_the_error(contest):
    assert against(contest, contest.known.X)[0].gain.level == pytest.approx(0.975)


def test_in_full_there_is_one_look_at_everything(contest):
    baseline, looks = against(contest, contest.known.X, full=True)
    assert [len(rows) for rows in looks] == [N]
    assert baseline.gain.level == 0.95
