"""Fine-tuning from the command line: explicit strategies, the ladder, interruption, and what users get wrong."""

import hashlib
import json
import signal
import subprocess
import sys
import time

import pytest

import headstart as hs
from headstart.features import choose
from headstart.records.ladder import LadderRecord
from headstart.records.run import RunFolder

TOY = ["-b", "toy/conv", "--quiet"]


def bits(out):
    """Of the saved network and head."""
    return hashlib.sha256((out / "model" / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def tuned(photos, cache, tmp_path_factory):
    from headstart.cli.main import run

    out = tmp_path_factory.mktemp("runs") / "tuned"
    words = ["fit", photos, "--out", out, *TOY, "--strategy", "last-stages", "--epochs", "3", "--cache", cache]
    assert run([str(w) for w in words]) == 0
    return out


def test_a_tuned_run_tells_what_was_done(tuned):
    ladder = RunFolder(tuned).load(LadderRecord)
    assert ladder.kept == "last-stages"
    assert len(ladder.history.steps) == ladder.history.planned > 0
    assert ladder.rungs[0].plan["strategy"] == "last-stages"
    evaluation = json.loads((tuned / "evaluation.json").read_text())
    assert [b["key"] for b in evaluation["baselines"]] == ["majority", "pixels", "random-network", "probe"]
    assert not (tuned / "checkpoints").exists(), "a finished run needs no checkpoints"


def test_what_was_saved_is_what_was_judged(tuned, photos):
    """The test predictions come back from the saved model, through files and all."""
    run = hs.load(tuned / "model")
    predictions = RunFolder(tuned).load_predictions()
    again = run.predict([photos / i for i in predictions.ids[:20]])
    assert abs(again.scores - predictions.scores[:20]).max() < 2e-3


def test_the_network_was_changed_and_the_frozen_stages_were_not(tuned, finished):
    from safetensors.numpy import load_file

    before, after = (load_file(p / "model" / "model.safetensors") for p in (finished, tuned))
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed and changed != set(before)
    names = list(json.loads((tuned / "ladder.json").read_text())["rungs"][0]["plan"]["phases"][0]["lr"])
    assert all(any(name.startswith(stage) for stage in [*names, "classifier", "head", "fc"]) for name in changed)


def test_the_same_command_gives_the_same_bits(tuned, photos, headstart, tmp_path):
    code, _, err = headstart(
        "fit", photos, "--out", tmp_path / "again", *TOY, "--strategy", "last-stages", "--epochs", "3"
    )
    assert code == 0, err
    assert bits(tmp_path / "again") == bits(tuned)


@pytest.mark.parametrize("strategy", ["linear-probe", "lp-ft", "gradual", "bias", "lora", "surgical"])
def test_every_strategy_ends_in_a_model_that_says_what_was_judged(strategy, photos, headstart, tmp_path):
    code, _, err = headstart("fit", photos, "--out", tmp_path / "r", *TOY, "--strategy", strategy, "--epochs", "1")
    assert code == 0, err
    ladder = RunFolder(tmp_path / "r").load(LadderRecord)
    rates = [rate for phase in ladder.rungs[0].plan["phases"] for rate in phase["lr"].values()]
    assert ladder.kept == strategy and len(ladder.history.steps) == ladder.history.planned
    assert strategy != "surgical" or len(set(rates)) > 2, "rates follow the measured pull"


def test_the_ladder_keeps_the_probe_when_time_is_short(photos, headstart, tmp_path):
    code, _, err = headstart("fit", photos, "--out", tmp_path / "r", *TOY, "--time", "0.5s")
    assert code == 0, err
    ladder = RunFolder(tmp_path / "r").load(LadderRecord)
    assert ladder.kept == "probe" and "--time" in ladder.stopped


def test_the_ladder_writes_down_each_decision(photos, headstart, tmp_path):
    words = ("-b", "toy/conv", "--time", "60s", "--epochs", "4")  # far more time than so few epochs take
    code, out, err = headstart("fit", photos, "--out", tmp_path / "r", *words)
    assert code == 0, err
    ladder = RunFolder(tmp_path / "r").load(LadderRecord)
    assert [r.name for r in ladder.rungs][:2] == ["probe", "last stages"]
    assert all(r.reason for r in ladder.rungs) and ladder.stopped
    tried = [r for r in ladder.rungs if r.gain is not None]
    assert all(r.kept == (r.finer.high < 0 and r.gain.value > 0 and r.interpolation > 0) for r in tried)
    assert ladder.kept in out


def test_few_examples_are_judged_by_models_that_did_not_see_them(few, headstart, tmp_path):
    code, _, err = headstart("fit", few, "--out", tmp_path / "r", *TOY, "--strategy", "full", "--epochs", "2")
    assert code == 0, err
    evaluation = json.loads((tmp_path / "r" / "evaluation.json").read_text())
    assert evaluation["n"] == 48 and evaluation["how"] == "cross-validation"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--strategy", "lpft"], "lp-ft"),
        (["--lr", "0.1"], "--strategy"),
        (["--strategy", "full", "--lr", "-1"], "above 0"),
        (["--strategy", "full", "--optimizer", "adamv"], "adamw"),
        (["--time", "soon"], "20m"),
        (["--strategy", "full", "--batch-size", "9999"], "9999"),
        (["--strategy", "linear-probe", "--lr", "0.1"], "head_lr"),
    ],
)
def test_a_wrong_wish_is_said_before_any_work(photos, headstart, tmp_path, words, said):
    code, _, err = headstart("fit", photos, "--out", tmp_path / "r", *TOY, *words)
    assert code == 2 and said in err and "Traceback" not in err


def test_resume_needs_something_to_resume(photos, headstart, tmp_path, tuned):
    code, _, err = headstart("fit", photos, "--out", tmp_path / "none", *TOY, "--strategy", "full", "--resume")
    assert code == 2 and "no run to resume" in err
    code, _, err = headstart(
        "fit", photos, "--out", tuned, "-b", "toy/conv", "--strategy", "last-stages", "--epochs", "3", "--resume"
    )
    assert code == 0 and "finished already" in err


def test_a_stopped_training_goes_on_to_the_same_bits(photos, cache, headstart, tmp_path):
    """SIGTERM during training: exit 75 with a checkpoint; --resume ends with the bits of an uninterrupted run."""
    plan = ["--strategy", "full", "--epochs", "8", "--precision", "float32"]
    code, _, err = headstart("fit", photos, "--out", tmp_path / "whole", *TOY, *plan)
    assert code == 0, err
    words = [sys.executable, "-m", "headstart", "fit", photos, "--out", tmp_path / "cut", *TOY, *plan, "--cache", cache]
    child = subprocess.Popen([str(w) for w in words], stderr=subprocess.PIPE)
    checkpoints = tmp_path / "cut" / "checkpoints"
    deadline = time.monotonic() + 120
    while not checkpoints.exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGTERM)
    said = child.communicate(timeout=60)[1].decode()
    assert child.returncode == 75, said
    assert "--resume" in said
    saved = sorted(p.name for p in checkpoints.iterdir())
    for other in (["--resume"], []):  # other settings cost nobody a stopped training
        code, _, err = headstart("fit", photos, "--out", tmp_path / "cut", *TOY, *plan, "--lr", "0.001", *other)
        assert code == 2 and "EN71" in err and "interrupted" in err
        assert sorted(p.name for p in checkpoints.iterdir()) == saved
    code, _, err = headstart("fit", photos, "--out", tmp_path / "cut", *TOY, *plan, "--resume")
    assert code == 0, err
    assert bits(tmp_path / "cut") == bits(tmp_path / "whole")


def test_a_log_has_every_step_of_the_saved_model(photos, headstart, tmp_path):
    """Through the screen, which must take numbers for numbers."""
    words = ["fit", photos, "--out", tmp_path / "r", "-b", "toy/conv", "--strategy", "last-stages", "--epochs", "1"]
    code, _, err = headstart(*words, "--log", f"jsonl:{tmp_path / 'log.jsonl'}")
    assert code == 0, err
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    history = RunFolder(tmp_path / "r").load(LadderRecord).history
    logged = [row["loss"] for row in rows if row["training"] == "training" and "loss" in row]
    assert logged == [row.loss for row in history.steps]
    code, _, err = headstart(*words[:2], "--out", tmp_path / "s", *words[4:], "--log", "jsnol:x")
    assert code == 2 and "jsonl" in err and not (tmp_path / "s").exists()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_outside_of_training_ends_with_75_and_the_same_command_goes_on(name, photos, headstart, tmp_path):
    """While pictures are looked at, long before any training."""
    words = ["fit", photos, "--out", tmp_path / "run", "-b", "toy/conv"]
    command = [sys.executable, "-m", "headstart", *words, "--cache", tmp_path / "cache"]
    child = subprocess.Popen([str(w) for w in command], stderr=subprocess.PIPE)
    assert b"network" in child.stderr.readline(), "the first thing that fit says"
    child.send_signal(getattr(signal, name))
    said = child.communicate(timeout=60)[1].decode()
    assert child.returncode == 75, said
    assert "same command" in said and "Traceback" not in said
    code, _, err = headstart(*words)
    assert code == 0 and "going on" in err, err


def test_a_plan_is_a_table_without_training(photos, headstart):
    code, out, err = headstart("plan", photos, "--strategy", "gradual", *TOY)
    assert code == 0, err
    assert "phase" in out and "gradual" in out
    code, out, _ = headstart("plan", photos, "--strategy", "lp-ft", "--lr", "0.0003", "--json", *TOY)
    plan = json.loads(out)["plan"]
    assert plan["strategy"] == "lp-ft" and 0.0003 in plan["phases"][-1]["lr"].values()
    code, _, err = headstart("plan", photos, "--strategy", "gradul", *TOY)
    assert code == 2 and "gradual" in err


def test_the_model_is_served_by_the_runner_that_judged_it(photos, headstart, tmp_path, monkeypatch):
    """What agrees with float32 for the loaded weights need not for tuned ones: plain torch judges those, and serves."""
    answers = iter([choose.Agreement(1.0, 1.0)])  # for the frozen pass; whatever is compared later disagrees
    monkeypatch.setattr(choose, "_agreement", lambda *_: next(answers, choose.Agreement(0.5, 0.5)))
    words = ("--runner", "torch-f32-nhwc", "--strategy", "last-stages", "--epochs", "1")
    code, _, err = headstart("fit", photos, "--out", tmp_path / "r", *TOY, *words)
    assert code == 0, err
    run = json.loads((tmp_path / "r" / "run.json").read_text())
    bundle = json.loads((tmp_path / "r" / "model" / "bundle.json").read_text())
    assert run["features"]["runner"] == "torch-f32-nhwc" and bundle["runner"] == "torch-f32"
