"""Fine-tuning on texts, from the command line to a folder that plain transformers opens."""

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tests.stories.test_story_text import reviews, write

import headstart as hs
from headstart.records.ladder import LadderRecord
from headstart.records.predictions import Predictions
from headstart.records.run import RunFolder

WORDS = ["--text", "review", "--target", "sentiment", "-b", "toy/text", "--quiet", "--precision", "float32"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write(tmp_path_factory.mktemp("texts") / "reviews.csv", reviews(300))


def tensors(out):
    from safetensors.numpy import load_file

    return load_file(out / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def tuned(table, cache, tmp_path_factory):
    from headstart.cli.main import run

    out = tmp_path_factory.mktemp("runs") / "tuned"
    words = ["fit", table, "--out", out, *WORDS, "--strategy", "lp-ft", "--epochs", "6", "--lr", "1e-3"]
    assert run([str(w) for w in [*words, "--cache", cache]]) == 0
    return out


def test_a_tuned_run_tells_what_was_done(tuned):
    ladder = RunFolder(tuned).load(LadderRecord)
    assert ladder.kept == "lp-ft" and len(ladder.history.steps) == ladder.history.planned > 0
    evaluation = json.loads((tuned / "evaluation.json").read_text())
    assert [b["key"] for b in evaluation["baselines"]] == ["majority", "tf-idf", "random-network", "probe"]
    assert not (tuned / "checkpoints").exists()


def test_the_page_speaks_of_texts(tuned):
    page = (tuned / "report.html").read_text()
    section = re.sub(r"<[^>]+>", " ", page.split('id="finetuning"')[1].split("</section>")[0])
    assert "texts" in section and not re.search(r"\b[Ii]mages?\b", section), section


def test_what_was_saved_is_what_was_judged(tuned, table, headstart, tmp_path):
    judged = Predictions.load(tuned / "predictions.npz")
    answers = hs.load(tuned).predict([text for text, _ in reviews(300)])
    rows = [int(name.split()[1]) - 2 for name in judged.ids]
    assert np.abs(answers.scores[rows] - judged.scores).max() < 2e-3


def test_a_tuned_folder_opens_with_plain_transformers(tuned):
    """The lines of the README, run as they stand, give the scores that headstart gives."""
    readme = (tuned / "model" / "README.md").read_text()
    lines = readme.split("## Open it without headstart")[1].split("```python")[1].split("```")[0]
    lines = lines.replace('"./', f'"{tuned / "model"}/').replace("Your text.", "a great and lovely day.")
    told = []
    exec(compile(lines, "README.md", "exec"), {"print": told.append})
    ours = hs.load(tuned, precision="float32")("a great and lovely day.")
    assert told[0] == pytest.approx(ours, abs=2e-3)


def test_layers_changed_and_the_table_of_words_did_not(tuned, table, cache, headstart, tmp_path):
    code, _, err = headstart("fit", table, "--out", tmp_path / "probe", *WORDS[:-2])
    assert code == 0, err
    before, after = tensors(tmp_path / "probe"), tensors(tuned)
    moved = {name for name in before if (before[name] != after[name]).any()}
    assert any("encoder.layer.0" in name for name in moved) and any("encoder.layer.1" in name for name in moved)
    assert not any("embeddings" in name for name in moved)


@pytest.mark.parametrize(
    "strategy", ["linear-probe", "full", "gradual", "last-stages", "bias", "lora", "surgical", "setfit"]
)
def test_every_strategy_ends_in_a_model_that_says_what_was_judged(strategy, table, headstart, tmp_path):
    words = ["fit", table, "--out", tmp_path / "r", *WORDS, "--strategy", strategy, "--epochs", "1"]
    code, _, err = headstart(*words)
    assert code == 0, err
    ladder = RunFolder(tmp_path / "r").load(LadderRecord)
    assert ladder.kept == strategy and len(ladder.history.steps) == ladder.history.planned


@pytest.mark.parametrize("kind", ["multi-label", "regression"])
def test_labels_and_numbers_are_fine_tuned(kind, headstart, tmp_path):
    rows = [(text, f"{label}|long" if len(text) > 60 else label) for text, label in reviews(90)]
    if kind == "regression":
        rows = [(text, len(text) / 7) for text, _ in rows]
    table = write(tmp_path / "r.csv", rows)
    words = [*WORDS, "--task", kind, "--strategy", "full", "--epochs", "2"]
    code, _, err = headstart("fit", table, "--out", tmp_path / "r", *words)
    assert code == 0, err
    assert hs.load(tmp_path / "r").predict(["a fine day"]).scores.shape[0] == 1


def test_few_texts_are_judged_by_models_that_did_not_see_them(headstart, tmp_path):
    table = write(tmp_path / "r.csv", reviews(36))
    code, _, err = headstart("fit", table, "--out", tmp_path / "r", *WORDS, "--strategy", "full", "--epochs", "2")
    assert code == 0, err
    evaluation = json.loads((tmp_path / "r" / "evaluation.json").read_text())
    assert evaluation["n"] == 36 and evaluation["how"] == "cross-validation"


def test_a_stopped_training_goes_on_to_the_same_bits(table, cache, headstart, tmp_path):
    """SIGTERM during training: exit 75 with a checkpoint; --resume ends with the bits of an uninterrupted run."""
    plan = [*WORDS, "--strategy", "full", "--epochs", "30"]
    code, _, err = headstart("fit", table, "--out", tmp_path / "whole", *plan)
    assert code == 0, err
    words = [sys.executable, "-m", "headstart", "fit", table, "--out", tmp_path / "cut", *plan, "--cache", cache]
    child = subprocess.Popen([str(w) for w in words], stderr=subprocess.PIPE)
    checkpoints = tmp_path / "cut" / "checkpoints"
    deadline = time.monotonic() + 120
    while not checkpoints.exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGTERM)
    said = child.communicate(timeout=60)[1].decode()
    assert child.returncode == 75, said
    code, _, err = headstart("fit", table, "--out", tmp_path / "cut", *plan, "--resume")
    assert code == 0, err
    whole, cut = tensors(tmp_path / "whole"), tensors(tmp_path / "cut")
    assert all((whole[name] == cut[name]).all() for name in whole)


def test_a_plan_is_a_table_of_what_texts_have(table, headstart):
    code, out, err = headstart("plan", table, "--strategy", "lora", *WORDS[:-2])
    assert code == 0, err
    assert "LoRA of rank 8 in attention" in out and "the table of words stays as it was loaded" in out
    assert "image" not in out
    code, _, err = headstart("plan", table, "--strategy", "adapter", *WORDS[:-2])
    assert code == 2 and "PL15" in err
