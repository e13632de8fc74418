"""The ladder: its pieces, and climbs of a toy network that are interrupted; tests/stories climbs as users do."""

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.workflow.climbing import ground_of

from headstart.adapt.heads.named import NamedMean
from headstart.adapt.heads.rotated import rotate
from headstart.adapt.model import FINE_TUNED
from headstart.adapt.strategies import Options
from headstart.backbones.catalogue import catalogue
from headstart.base.config import to_dict
from headstart.base.errors import DataError
from headstart.base.seeds import stream
from headstart.cli.fit import seconds_of
from headstart.records.history import History, StepRecord
from headstart.tasks.classification import Classification
from headstart.workflow import ladder
from headstart.workflow.clock import Deadline
from headstart.workflow.diary import Diary, NoDiary
from headstart.workflow.finetuning import PARTS, learning_rows, share_of_time
from headstart.workflow.judge import Known, Rules, choose_head
from headstart.workflow.ladder import ENOUGH, MOST_HELD, Wish, _Climb, _parts, _span, climb
from headstart.workflow.tuning import head_like, step_seconds
from headstart.workflow.ways import rungs_of


def known(n, groups=None):
    y = np.arange(n) % 3
    groups = np.arange(n) if groups is None else groups
    ids = np.array([str(i) for i in range(n)], object)
    return Known(np.zeros((n, 2), np.float32), y, groups, ids, Classification(("a", "b", "c")))


@pytest.mark.parametrize("n", [30, 150, ENOUGH - 1])
def test_few_rows_are_each_held_back_once(n):
    parts, screen = _parts(known(n), seed=0)
    assert screen is parts[-1], "what was chosen on a part is judged on it last"
    assert sorted(np.concatenate([held for _, held in parts])) == list(range(n))
    assert all(not set(train) & set(held) and len(train) + len(held) == n for train, held in parts)


@pytest.mark.parametrize(("n", "about"), [(1000, 200), (5000, 1000), (40_000, MOST_HELD)])
def test_of_many_rows_one_part_is_held_back(n, about):
    ((train, held),), (_, screening) = _parts(known(n), seed=0)
    assert not set(screening) & set(held), "what screens does not judge"
    assert len(held) == pytest.approx(about, rel=0.02) and len(train) + len(held) == n


def test_groups_stay_on_one_side():
    groups = np.arange(120) // 4
    for train, held in _parts(known(120, groups), seed=0)[0]:
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


def rungs(name, options=None, few=False):
    return {
        rung: [w.name for w in ways] for rung, ways in rungs_of(catalogue.load(name), options or Options(), few=few)
    }


def test_a_little_of_every_layer_is_a_candidate_that_suits_the_network():
    assert "biases and normalisation" in rungs("toy/conv")["last stages"]
    assert "LoRA" in rungs("toy/vit")["last stages"]


def test_what_the_user_chose_is_not_swept_and_has_a_place():
    tried = rungs("toy/conv", Options(lr=1e-3), few=True)
    assert not any("3 times" in name for name in tried["last stages"])
    assert all("L2-SP" not in name for name in rungs("toy/conv", Options(penalty="bss"), few=True)["last stages"])
    assert [r for r in rungs("toy/conv", Options(layer_decay=0.5))] == ["last stages", "full"]


def told(climbed):
    """A record without its times, which no two runs share; and the bits of the model."""

    def timeless(value):
        if isinstance(value, dict):
            return {k: timeless(v) for k, v in value.items() if k not in ("seconds", "images_per_s")}
        return [timeless(v) for v in value] if isinstance(value, list | tuple) else value

    record, tuned = timeless(to_dict(climbed.record)), climbed.tuned
    return (
        repr(record),
        climbed.temperature,
        tuned and tuned.backbone.record.weights_sha256,
        tuned and tuned.head.weight.tobytes(),
    )


class Killed(BaseException):
    """Stands for a signal that nobody outlives."""


class Fragile(Diary):
    """A diary whose writer is gone after ``lives`` pages, the last of them written."""

    def __init__(self, folder, lives):
        super().__init__(folder, "climb")
        self.lives = lives

    def write(self, name, page):
        super().write(name, page)
        self.lives -= 1
        if not self.lives:
            raise Killed


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    return ground_of(tmp_path_factory.mktemp("ladder"))


@pytest.fixture(scope="module")
def start(ground):
    rows = np.arange(len(ground.known))
    return rows, choose_head(ground.known, Rules(3, None, "none", 0, ("ridge",)))


# By log-loss, so that a few steps suffice to climb; in steps, because time differs from one run to the next.
WISH = Wish(Options(augment="none"), "log_loss", 200, batch_size=8, epochs=6)


@pytest.fixture(scope="module")
def uninterrupted(ground, start):
    return climb(ground, *start, WISH, Deadline(None), NoDiary())


def test_the_toy_climb_keeps_a_rung(uninterrupted):
    """Else the tests below would try little."""
    assert uninterrupted.tuned is not None and len(uninterrupted.record.rungs) >= 2


@pytest.mark.parametrize("lives", [1, 6, 10, 11])
def test_a_climb_that_is_killed_after_a_page_ends_as_one_that_was_not(lives, ground, start, uninterrupted, tmp_path):
    """After the opening of a rung, in its screening, while it is judged, and when its model is there."""
    with pytest.raises(Killed):
        climb(ground, *start, WISH, Deadline(None), Fragile(tmp_path, lives))
    assert len(list(tmp_path.iterdir())) == lives
    resumed = climb(ground, *start, WISH, Deadline(None), Diary(tmp_path, "climb"))
    assert told(resumed) == told(uninterrupted)
    again = climb(ground, *start, WISH, Deadline(None), Fragile(tmp_path, 1))
    assert told(again) == told(uninterrupted), "a whole diary needs no training, and no page is written"


def test_a_climb_that_is_killed_at_any_time_ends_as_one_that_was_not(ground, start, uninterrupted, tmp_path):
    rng = stream(0, "kills")
    for kill in range(2):
        folder = tmp_path / str(kill)
        command = [sys.executable, "-m", "tests.workflow.climbing", str(folder), str(torch.get_num_threads())]
        child = subprocess.Popen(command, cwd=os.getcwd(), stdout=subprocess.PIPE)
        assert child.stdout.readline() == b"climbing\n"
        time.sleep(float(rng.uniform(0.05, 2.5)))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        resumed = climb(ground, *start, WISH, Deadline(None), Diary(folder, "climb"))
        assert told(resumed) == told(uninterrupted)


def test_time_that_an_earlier_start_took_is_gone(ground, start, tmp_path):
    """A climb of a minute that was stopped at its end has no time for a rung."""
    diary = Diary(tmp_path, "climb")
    diary.spent = 60.0
    climbed = climb(ground, *start, replace(WISH, epochs=None), Deadline(60.0), diary)
    assert climbed.record.kept == "probe" and climbed.record.seconds > 60


class Sand(Deadline):
    """A deadline in which every question costs nothing: so much is left whatever was done."""

    @property
    def left(self):
        return self.seconds

    @property
    def spent(self):
        return 0.0


def climb_of(ground, start, deadline, monkeypatch, *, cost, diary=None):
    """A climb whose steps all cost as many seconds."""
    monkeypatch.setattr(_Climb, "_cost", lambda self, way: cost)
    wish = replace(WISH, epochs=None)
    return _Climb(ground, *start, wish, deadline, diary or NoDiary())


def test_in_a_short_time_one_way_is_tried_and_in_a_long_one_the_rungs_below_it_too(ground, start, monkeypatch):
    few = rungs_of(ground.backbone, WISH.options, few=False)
    climb = _Climb(ground, *start, replace(WISH, epochs=None), Deadline(None), NoDiary())
    usual = climb._usual(few[-1][1][0], len(start[0])).steps

    def direct(seconds):
        climb = climb_of(ground, start, Sand(seconds), monkeypatch, cost=1.0)
        return [(name, [way.name for way in ways]) for name, ways in climb._direct(few)]

    epoch = len(_parts(ground.known, 0)[0][0][0]) / WISH.batch_size  # steps of a second each
    fits = climb_of(ground, start, Sand(1.0), monkeypatch, cost=1.0)._fits(few[-1][1][:1])
    assert direct(fits * 4 * epoch) == [], "too few epochs of the whole network: something cheaper"
    assert direct(fits * 6 * epoch) == [("full", ["all stages at one rate"])]
    assert direct(fits * 1.1 * usual) == [], "time for its usual training: the climb"
    assert climb_of(ground, start, Deadline(None), monkeypatch, cost=1.0)._direct(few) == []


def test_where_time_is_short_the_network_judged_last_goes_on(ground, start, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(_Climb, "_is_short", lambda self, way, seconds: True)
    trained = ladder.tune

    def watched(*args, begin=None, **named):
        seen.append(begin)
        return trained(*args, begin=begin, **named)

    monkeypatch.setattr(ladder, "tune", watched)
    diary = Diary(tmp_path, "short")
    climbed = climb_of(ground, start, Sand(300.0), monkeypatch, cost=0.5, diary=diary).result()
    assert climbed.tuned is not None and any("judged last" in note for note in climbed.record.notes)
    begun = [begin for begin in seen if begin is not None]
    assert len(begun) == 1 and seen[-1] is begun[0]
    judged = begun[0].backbone.record.weights_sha256
    assert judged not in (ground.backbone.record.weights_sha256, climbed.tuned.backbone.record.weights_sha256)
    assert climbed.tuned.backbone.record.notes.count(FINE_TUNED) == 1
    # A second start finds all of it written down, and the same bits.
    seen.clear()
    again = climb_of(ground, start, Sand(300.0), monkeypatch, cost=0.5, diary=Diary(tmp_path, "short")).result()
    assert not seen and told(again) == told(climbed)
    # Without the last page it trains once more, and begins with the network that the diary kept.
    newest = max(tmp_path.iterdir(), key=lambda place: place.stat().st_mtime_ns)
    shutil.rmtree(newest) if newest.is_dir() else newest.unlink()
    once = climb_of(ground, start, Sand(300.0), monkeypatch, cost=0.5, diary=Diary(tmp_path, "short")).result()
    assert [begin.backbone.record.weights_sha256 for begin in seen] == [judged] and told(once) == told(climbed)


def test_the_probe_of_a_part_counts_the_names_of_classes_as_the_chosen_head_does():
    """Else a rung would be compared with less than what is there already."""
    rng = np.random.default_rng(0)
    y, names = np.arange(24) % 3, rng.normal(size=(3, 8))
    X = (names[y] + rng.normal(size=(24, 8))).astype(np.float32)
    data = replace(known(24), X=X, y=y)
    chosen = choose_head(data, Rules(3, None, "none", 0, names=names))
    assert chosen.family == "names+mean", "names were made to tell"
    part = np.arange(12)
    expected = NamedMean(names).fit(rotate(X[part]), y[part], data.task, {}).scaled(chosen.temperature)
    assert (head_like(chosen, X[part], y[part], data.task).weight == expected.weight).all()
    unnamed = head_like(replace(chosen, names=None), X[part], y[part], data.task)
    assert not np.allclose(unnamed.weight, expected.weight)
