"""C1, C3, C4, C8: a training that was stopped, killed or asked to stop, and taken up again, ends in the same bits.

Every example is unique, so that another order of the data cannot give the same weights.
"""

import itertools
import os
import random
import shutil
import signal

import pytest
from checkpoint_child import Child
from resume_child import CONFIGURATIONS, IDS, STEPS, N, Rehearsal, differences, forgetting, train_until_stopped

from headstart.base.errors import Stopped
from headstart.base.progress import Advanced
from headstart.training.checkpoint import Checkpoints
from headstart.training.loop import TRAINING, LoopSettings
from headstart.training.state import PIECES

SOAK = [pytest.mark.slow, pytest.mark.timeout(3600)]
EVERY = 2


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Configuration → outcome of a training that nobody disturbed."""
    known = {}

    def of(name):
        if name not in known:
            known[name] = Rehearsal(name, tmp_path_factory.mktemp("whole")).run()
        return known[name]

    return of


class Crash(Exception):
    pass


class At:
    """An observer that does something when ``step`` steps are done."""

    def __init__(self, step, what):
        self.step, self.what = step, what

    def __call__(self, event):
        if isinstance(event, Advanced) and event.what == TRAINING and event.done == self.step:
            self.what()


def crash():
    raise Crash


def ask():
    signal.raise_signal(signal.SIGTERM)


def run_with_stops(name, folder, stops, what=ask, **options):
    """Train ``name``, stopping after each of ``stops`` steps and going on; (outcome, every step with its ids)."""
    seen = []
    for stop in stops:
        rehearsal = Rehearsal(name, folder, observer=At(stop, what), **options)
        with pytest.raises((Stopped, Crash)):
            rehearsal.run()
        seen += rehearsal.seen
    rehearsal = Rehearsal(name, folder, **options)
    result = rehearsal.run()
    return result, seen + rehearsal.seen


def check_order(seen):
    """Each step always saw the same ids, and every epoch holds each id exactly once."""
    by_step = {}
    for step, ids in seen:
        assert by_step.setdefault(step, ids) == ids, f"step {step} saw other examples the second time"
    assert sorted(by_step) == list(range(STEPS))
    in_order = list(itertools.chain.from_iterable(by_step[step] for step in range(STEPS)))
    for start in range(0, len(in_order) - N + 1, N):
        assert sorted(in_order[start : start + N]) == sorted(IDS)


def test_stopping_after_every_single_step_changes_no_bit(tmp_path, uninterrupted):
    result, seen = run_with_stops("plain", tmp_path, range(1, STEPS))
    assert differences(result, uninterrupted("plain")) == []
    assert [step for step, _ in seen] == list(range(STEPS))
    check_order(seen)


def test_crashing_after_any_step_changes_no_bit(tmp_path, uninterrupted):
    """Without a last save: the steps since the newest checkpoint are made again."""
    result, seen = run_with_stops("plain", tmp_path, range(1, STEPS, 3), crash, every=EVERY)
    assert differences(result, uninterrupted("plain")) == []
    assert len(seen) > STEPS
    check_order(seen)


STOPS = (1, 16, 17, 18, 30, 46, 59)  # in phases, on both borders (17, 46) and around one


@pytest.mark.parametrize("name", [name for name in CONFIGURATIONS if name != "plain"])
def test_every_kind_of_state_survives_a_stop(tmp_path, uninterrupted, name):
    whole = uninterrupted(name)
    steps = len(whole["history"]["steps"])
    result, seen = run_with_stops(name, tmp_path, [stop for stop in STOPS if stop < steps])
    assert differences(result, whole) == []
    assert [step for step, _ in seen] == list(range(steps))


def test_the_configurations_differ(uninterrupted):
    """Or else one of them would test nothing of its own. The layout of the memory alone changes no result here."""
    kept = {str(sorted(uninterrupted(name)["kept"].items())) for name in CONFIGURATIONS if name != "channels last"}
    assert len(kept) == len(CONFIGURATIONS) - 1
    assert uninterrupted("early stop")["history"]["stopped_because"] == "patience"


# The state is data in one place; a piece that is added there must be added here, with a training that needs it.
NEEDED_BY = {
    **dict.fromkeys(("weights", "buffers", "optimizer", "step", "steps", "validations"), "plain"),
    **dict.fromkeys(("best", "best_score", "best_step", "waited"), "early stop"),
    "ema": "EMA",
    "micro_batch": "grad-accum",
}


@pytest.mark.parametrize("piece", [piece.name for piece in PIECES if piece.name != "stopped_because"])
def test_no_piece_of_the_state_could_be_left_out(tmp_path, uninterrupted, piece):
    """Mutants: a training that forgets one piece when it is taken up. Each must be noticed by the tests above."""
    name = NEEDED_BY[piece]
    with pytest.raises(Stopped):
        Rehearsal(name, tmp_path / "c", observer=At(25, ask)).run()
    shutil.copytree(tmp_path / "c", tmp_path / "copy")
    # Memory that did not suffice is state, too: the smaller micro-batch stays, whatever is asked for later.
    going_on = {"settings": LoopSettings()} if piece == "micro_batch" else {}
    assert differences(Rehearsal(name, tmp_path / "c", **going_on).run(), uninterrupted(name)) == []
    forgetful = Rehearsal(name, tmp_path / "copy", store=forgetting(piece, name), **going_on)
    assert differences(forgetful.run(), uninterrupted(name)) != []


@pytest.mark.parametrize("moment", ["before-temp", "written-50", "after-rename", "after-complete", "validation"])
def test_being_asked_in_the_middle_of_a_save_or_a_validation_is_heard_after_it(tmp_path, uninterrupted, moment):
    reached = 0

    def at(point):
        nonlocal reached
        reached += 1
        if point == moment and reached > 40:  # not in the first save
            signal.raise_signal(signal.SIGTERM)

    class Asking(Checkpoints):
        def __init__(self, folder, **options):
            super().__init__(folder, at=at, **options)

    heard = [lambda event: None, lambda event: "validation score" in getattr(event, "text", "") and ask()]
    rehearsal = Rehearsal("plain", tmp_path, every=5, store=Asking, observer=heard[moment == "validation"])
    with pytest.raises(Stopped, match="SIGTERM"):
        rehearsal.run()
    done = len(rehearsal.seen)
    assert Checkpoints(tmp_path, run_id="plain").newest().step == done < STEPS
    assert differences(Rehearsal("plain", tmp_path).run(), uninterrupted("plain")) == []


@pytest.mark.slow
@pytest.mark.parametrize("stop", range(1, STEPS))
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_one_stop_anywhere_changes_no_bit(tmp_path, uninterrupted, name, stop):
    whole = uninterrupted(name)
    if stop < len(whole["history"]["steps"]):
        assert differences(run_with_stops(name, tmp_path, [stop])[0], whole) == []


def test_a_finished_training_is_given_back_as_it_was(tmp_path, uninterrupted):
    first = Rehearsal("plain", tmp_path).run()
    again = Rehearsal("plain", tmp_path)
    assert differences(again.run(), first) == []
    assert again.seen == []
    with pytest.raises(IndexError):  # the mutant that forgets that it is over
        Rehearsal("plain", tmp_path, store=forgetting("stopped_because", "plain")).run()


def test_a_damaged_newest_checkpoint_costs_an_interval_and_no_bit(tmp_path, uninterrupted):
    with pytest.raises(Crash):
        Rehearsal("plain", tmp_path, every=EVERY, observer=At(31, crash)).run()
    newest = max(tmp_path.glob("ckpt-*"))
    with open(newest / "tensors.safetensors", "r+b") as file:
        file.seek(100_000)
        file.write(b"damage")
    heard = []
    rehearsal = Rehearsal("plain", tmp_path, every=EVERY, observer=heard.append)
    result = rehearsal.run()
    assert differences(result, uninterrupted("plain")) == []
    assert rehearsal.seen[0][0] == 28
    assert any("CK25" in getattr(event, "text", "") for event in heard)


# -- real processes ----------------------------------------------------------------------------------------------------


class Run:
    """One training, continued by one process after the other."""

    def __init__(self, folder, name):
        self.folder, self.name, self.log = folder, name, folder / "steps.log"
        folder.mkdir()
        self.log.touch()

    def start(self):
        child = Child(train_until_stopped, self.name, self.folder / "c", EVERY, self.log)
        assert child.first() == "ready"
        return child

    def seen(self):
        return [(int(step), ids) for step, *ids in map(str.split, self.log.read_text().splitlines())]

    def steps_begun(self):
        """Of the process that ran last."""
        return self.seen()[-1][0] if self.seen() else 0

    def newest(self):
        newest = Checkpoints(self.folder / "c", run_id=self.name).newest()
        assert not [path for path in (self.folder / "c").rglob("*") if ".tmp-" in path.name]
        return newest.step if newest else 0


def interrupt_many_times(tmp_path, whole, times, one):
    """Call one(run, dice) ``times`` times, on as many trainings as that takes; each must end as ``whole`` did."""
    dice, done, number = random.Random(0), 0, 0
    while done < times:
        run, number, result = Run(tmp_path / str(number), "plain"), number + 1, None
        while result is None:
            if done < times:
                result = one(run, dice)
                done += result is None
            else:
                result = outcome_of(run.start())
        assert differences(result, whole) == [], f"training {number}, after {done} interruptions"
        check_order(run.seen())
    return number


def outcome_of(child):
    (result,) = child.rest()
    assert child.process.exitcode == 0
    return result


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=SOAK)])
def test_kill_9_at_random_moments_changes_no_bit(tmp_path, uninterrupted, kills):
    def kill(run, dice):
        child = run.start()
        sent = child.kill_after(dice.uniform(0, 0.9))
        if sent:
            return sent[0]
        last, newest = run.steps_begun(), run.newest()
        assert newest >= last - last % EVERY, f"step {last} was begun, but only {newest} is saved"
        return None

    interrupt_many_times(tmp_path, uninterrupted("plain"), kills, kill)


@pytest.mark.parametrize("times", [10, pytest.param(50, marks=SOAK)])
def test_sigterm_at_random_moments_saves_and_exits_75_and_changes_no_bit(tmp_path, uninterrupted, times):
    def terminate(run, dice):
        child = run.start()
        child.process.join(dice.uniform(0, 0.9))
        if child.process.is_alive():
            os.kill(child.process.pid, signal.SIGTERM)
        sent = child.rest()
        if sent:
            return sent[0]
        assert child.process.exitcode == 75
        assert run.newest() == run.steps_begun() + 1, "what was done is saved"
        return None

    interrupt_many_times(tmp_path, uninterrupted("plain"), times, terminate)
