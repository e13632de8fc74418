"""The pieces of the ladder that can be told without training; tests/stories climbs it."""

import math

import numpy as np
import pytest

from headstart.base.errors import DataError
from headstart.cli.fit import seconds_of
from headstart.records.history import History, StepRecord
from headstart.tasks.classification import Classification
from headstart.workflow.clock import Deadline
from headstart.workflow.finetuning import PARTS, learning_rows, share_of_time
from headstart.workflow.judge import Known
from headstart.workflow.ladder import ENOUGH, MOST_HELD, _parts, _span
from headstart.workflow.tuning import step_seconds


def known(n, groups=None):
    y = np.arange(n) % 3
    groups = np.arange(n) if groups is None else groups
    ids = np.array([str(i) for i in range(n)], object)
    return Known(np.zeros((n, 2), np.float32), y, groups, ids, Classification(("a", "b", "c")))


@pytest.mark.parametrize("n", [30, 150, ENOUGH - 1])
def test_few_rows_are_each_held_back_once(n):
    parts = _parts(known(n), seed=0)
    assert sorted(np.concatenate([held for _, held in parts])) == list(range(n))
    assert all(not set(train) & set(held) and len(train) + len(held) == n for train, held in parts)


@pytest.mark.parametrize(("n", "about"), [(1000, 200), (5000, 1000), (40_000, MOST_HELD)])
def test_of_many_rows_one_part_is_held_back(n, about):
    ((train, held),) = _parts(known(n), seed=0)
    assert len(held) == pytest.approx(about, rel=0.02) and len(train) + len(held) == n


def test_groups_stay_on_one_side():
    groups = np.arange(120) // 4
    for train, held in _parts(known(120, groups), seed=0):
        assert not set(groups[train]) & set(groups[held])


def test_a_busy_moment_does_not_make_steps_dearer():
    steps = tuple(StepRecord(i, 0, 1.0, 1.0, 1.0, s) for i, s in enumerate([5.0, 5.5, 9.0, 9.5]))
    history = History((), steps, (), 4, 4, "finished", 8, 8, 1.0, 9.5)
    assert step_seconds(history) == pytest.approx(0.5)


def test_time_is_shared_where_every_example_is_judged_by_parts():
    assert share_of_time(Deadline(None), parts=True) is None
    assert share_of_time(Deadline(100), parts=False) == pytest.approx(100, abs=1)
    assert share_of_time(Deadline(100), parts=True) == pytest.approx(100 / (PARTS + 1), abs=1)
    assert share_of_time(Deadline(0.0), parts=False) == 0.0
    assert Deadline(None).left == math.inf


def test_most_rows_learn():
    assert learning_rows(100) == 86 and learning_rows(10) == 9


@pytest.mark.parametrize(("words", "seconds"), [("90", 90), ("90s", 90), ("20m", 1200), ("1.5h", 5400)])
def test_time_is_read_as_people_write_it(words, seconds):
    assert seconds_of(words) == seconds


@pytest.mark.parametrize("words", ["", "soon", "-5m", "0", "nan", "inf"])
def test_other_words_are_no_time(words):
    with pytest.raises(DataError, match="20m"):
        seconds_of(words)


def test_a_span_is_rounded_up():
    assert _span(12.1) == "13 s" and _span(91) == "2 min"
