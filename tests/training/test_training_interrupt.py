"""Signals set a flag while an Interruption is open, and nothing is left behind when it closes."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from headstart.training.interrupt import SIGNALS, Interruption, ending_on_signals


@pytest.fixture(autouse=True)
def as_before():
    """Every test must leave the handlers as it found them."""
    before = [signal.getsignal(getattr(signal, name)) for name in SIGNALS]
    yield
    assert [signal.getsignal(getattr(signal, name)) for name in SIGNALS] == before


@pytest.mark.parametrize("name", SIGNALS)
def test_each_signal_only_sets_the_flag(name):
    with Interruption() as interruption:
        assert interruption.asked == ""
        signal.raise_signal(getattr(signal, name))
        assert interruption.asked == name
    assert interruption.asked == name


def test_the_first_signal_gives_the_name():
    with Interruption() as interruption:
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM, signal.SIGHUP):
            signal.raise_signal(number)
        assert interruption.asked == "SIGUSR1"


def test_a_second_ctrl_c_interrupts_at_once():
    with pytest.raises(KeyboardInterrupt), Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.asked == "SIGINT"
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second one was not heard")


def test_the_first_ctrl_c_after_another_signal_still_waits():
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert interruption.asked == "SIGTERM"


def test_handlers_are_back_after_an_error():
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
    try:
        with pytest.raises(ValueError, match="inside"), Interruption():
            raise ValueError("inside")
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [1]


def test_it_can_be_used_again():
    interruption = Interruption()
    for _ in range(2):
        with interruption:
            signal.raise_signal(signal.SIGTERM)
        assert interruption.asked == "SIGTERM"


def test_an_inner_one_tells_the_outer_one():
    with Interruption() as outer:
        with Interruption() as inner:
            signal.raise_signal(signal.SIGTERM)
            assert (inner.asked, outer.asked) == ("SIGTERM", "SIGTERM")
        signal.raise_signal(signal.SIGUSR1)
        assert (inner.asked, outer.asked) == ("SIGTERM", "SIGTERM")


def test_an_inner_one_knows_what_the_outer_one_was_asked():
    with Interruption() as outer:
        signal.raise_signal(signal.SIGHUP)
        with Interruption() as inner:
            assert inner.asked == "SIGHUP"
    assert outer.asked == "SIGHUP"


def test_it_does_nothing_in_another_thread():
    seen = []

    def work():
        with Interruption() as interruption:
            seen.append((interruption.asked, signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [("", before)]


def test_what_is_ignored_stays_ignored():
    """nohup ignores SIGHUP; a run under it must outlive its terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGHUP)
            assert interruption.asked == ""
    finally:
        signal.signal(signal.SIGHUP, before)


def wait_for_ever(pipe):
    pipe.send("ready")
    threading.Event().wait()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_worker_still_ends_when_it_is_told_to():
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    with Interruption() as interruption:
        worker = context.Process(target=wait_for_ever, args=(theirs,), daemon=True)
        worker.start()
        assert ours.recv() == "ready"
        worker.terminate()
        worker.join(20)
        code = worker.exitcode
        worker.kill()
        assert code == -signal.SIGTERM
        assert interruption.asked == ""


def test_a_signal_ends_a_real_process_between_two_steps():
    code = textwrap.dedent("""
        import sys, time
        from headstart.training.interrupt import Interruption
        with Interruption() as interruption:
            print("ready", flush=True)
            while not interruption.asked:
                time.sleep(0.005)
            print(interruption.asked, flush=True)
        sys.exit(75)
    """)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, number)
        assert process.communicate(timeout=20)[0] == f"{number.name}\n"
        assert process.returncode == 75


@pytest.mark.parametrize("name", [name for name in SIGNALS if name != "SIGINT"])
def test_outside_of_training_each_signal_ends_the_work_as_ctrl_c_does(name):
    cleaned = []
    with pytest.raises(KeyboardInterrupt, match=name), ending_on_signals():
        try:
            signal.raise_signal(getattr(signal, name))
            pytest.fail("work went on")
        finally:
            cleaned.append(name)
    assert cleaned == [name]


def test_a_training_inside_hears_the_signal_first():
    with ending_on_signals():
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGTERM)
        assert interruption.asked == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_what_is_ignored_or_handled_by_others_stays_so():
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda *_: heard.append(1)), signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending_on_signals():
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGUSR1, before[0])
        signal.signal(signal.SIGHUP, before[1])
    assert heard == [1]
