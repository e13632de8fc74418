"""Networks of another structure from the command line to the saved model, and strategies with settings of their own."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

import headstart as hs
from headstart.backbones.catalogue import catalogue
from headstart.records.ladder import LadderRecord
from headstart.records.run import RunFolder

TOY = ["-b", "toy/conv", "--quiet", "--random-baseline", "off"]
LITE0 = "package/efficientnet-lite0"
FAST = ["--epochs", "1"]
STRUCTURES = {
    "cut": ["--cut-at", "layer2"],
    "pooled": ["--pooling", "max"],
    "grey": ["--channels", "1"],
    "hidden": ["--hidden", "16,8", "--strategy", "lp-ft", "--epochs", "1"],
    "adapter": ["--strategy", "adapter", "--set", "rank=2", "--epochs", "1"],
    "all": [
        "--cut-at",
        "layer3",
        "--pooling",
        "avgmax",
        "--channels",
        "1",
        "--hidden",
        "8",
        "--strategy",
        "adapter",
        *FAST,
    ],
}


def test_scores_and_saved_model_agree(words_of_run):
    out, photos = words_of_run
    predictions = RunFolder(out).load_predictions()
    again = hs.load(out).predict([photos / i for i in predictions.ids[:20]])
    assert abs(again.scores - predictions.scores[:20]).max() < 2e-3


@pytest.fixture(params=STRUCTURES)
def words_of_run(request, photos, headstart, tmp_path):
    code, _, err = headstart("fit", photos, "--out", tmp_path / "r", *TOY, *STRUCTURES[request.param])
    assert code == 0, err
    return tmp_path / "r", photos


def test_a_fresh_process_evaluates_and_predicts_what_the_run_reported(photos, headstart, cache, tmp_path):
    out = tmp_path / "r"
    words = ["fit", photos, "--out", out, *TOY, *STRUCTURES["all"]]
    code, _, err = headstart(*words)
    assert code == 0, err
    predictions = RunFolder(out).load_predictions()
    told = dict(zip(predictions.ids.tolist(), predictions.scores, strict=True))
    test = tmp_path / "test"
    for name in told:
        (test / name).parent.mkdir(parents=True, exist_ok=True)
        (test / name).write_bytes((photos / name).read_bytes())
    said = _fresh("evaluate", out, test, "--cache", cache, "--json")
    reported = json.loads((out / "evaluation.json").read_text())["metrics"]["accuracy"]["value"]
    assert json.loads(said)["evaluation"]["metrics"]["accuracy"]["value"] == pytest.approx(reported, abs=1e-12)
    _fresh("predict", out, test, "--out", tmp_path / "p.csv", "--cache", cache)
    rows = list(csv.DictReader((tmp_path / "p.csv").open()))
    assert len(rows) == len(told)
    for row in rows:
        scores = [float(row[f"p_{name}"]) for name in ("blue", "green", "red")]
        assert np.allclose(scores, told[row["id"]], atol=1e-6)


def _fresh(*words):
    code = "import sys; from headstart.cli.main import run; sys.exit(run(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_frozen_beside_adapters_keeps_every_bit(photos, headstart, tmp_path):
    code, _, err = headstart("fit", photos, "--out", tmp_path / "r", *TOY, *STRUCTURES["adapter"])
    assert code == 0, err
    saved = hs.load(tmp_path / "r").backbone.network.state_dict()
    loaded = catalogue.load("toy/conv").network.state_dict()
    added = {name for name in saved if ".adapter." in name}
    assert saved.keys() - added == loaded.keys() and added
    assert all((saved[name] == loaded[name]).all() for name in loaded)
    assert any(saved[name].any() for name in added if name.endswith("up.weight")), "the branches learnt"


def test_below_the_last_stages_of_a_cut_network_nothing_moves(photos, headstart, tmp_path):
    words = ["--cut-at", "layer3", "--strategy", "last-stages", "--set", "stages=1", "--epochs", "1"]
    code, _, err = headstart("fit", photos, "--out", tmp_path / "r", *TOY, *words)
    assert code == 0, err
    saved = hs.load(tmp_path / "r").backbone.network.state_dict()
    loaded = catalogue.load("toy/conv").network.state_dict()
    assert set(saved) == {n for n in loaded if not n.startswith("layer4")}
    moved = {n for n in saved if (saved[n] != loaded[n]).any()}
    assert moved and all(n.startswith("layer3") for n in moved)


def test_the_probe_of_another_structure_has_features_of_its_own(photos, finished, headstart, tmp_path):
    code, _, err = headstart("fit", photos, "--out", tmp_path / "r", *TOY, "--cut-at", "layer2")
    assert code == 0, err
    keys = [json.loads((out / "run.json").read_text())["features"]["key"] for out in (finished, tmp_path / "r")]
    assert keys[0] != keys[1]
    again = headstart("fit", photos, "--out", tmp_path / "r", *TOY, "--cut-at", "layer3")
    assert again[0] == 2 and "EN71" in again[2] and "structure.cut_at was layer2, now layer3" in again[2]


# ------------------------------------------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cut-at", "layr2"], "PL72 toy/conv has no stage 'layr2' to be cut at. Did you mean 'layer2'?"),
        (["--cut-at", "layer4"], "PL72 'layer4' is the last stage"),
        (["--pooling", "token"], "PL73 pooling 'token'"),
        (["--pooling", "men"], "PL70 no pooling 'men'"),
        (["--channels", "4"], "PL71 channels is 4"),
        (["--hidden", "16"], "PL61 hidden has no effect"),
        (["--hidden", "16,x", "--strategy", "lp-ft"], "CF23 --hidden is '16,x'"),
        (["--hidden", "0", "--strategy", "lp-ft"], "PL12 options: hidden"),
        (["--hidden", "16", "--strategy", "auto"], "PL65 hidden layers have no place on the ladder"),
        (["--set", "rank=2"], "PL61 --set rank has no effect"),
        (["--set", "rnk=2", "--strategy", "lora"], "PL14 'lora' has no field 'rnk'. Did you mean 'rank'?"),
        (["--set", "rank", "--strategy", "lora"], "PL14 --set takes NAME=VALUE"),
        (["--set", "stages=9", "--strategy", "last-stages"], "PL10 last-stages: 9 stages cannot learn"),
        (["--penalty", "co-tuning", "--strategy", "lp-ft"], "PL66 penalty 'co-tuning' needs the classifier"),
    ],
)
def test_what_has_no_place_is_refused_with_a_reason(words, said, few, headstart, tmp_path):
    code, _, err = headstart("fit", few, "--out", tmp_path / "r", *TOY, *words)
    assert code == 2 and said in err.replace("\n", " "), err


# ----------------------------------------------------------------------------------------------------- plan and balance


def test_plan_shows_structure_fields_and_balance(photos, headstart):
    words = ["--cut-at", "layer2", "--hidden", "16", "--strategy", "lora", "--set", "rank=2", "--balance", "weights"]
    code, out, err = headstart("plan", photos, "-b", "toy/conv", "--quiet", *words)
    assert code == 0, err
    assert "toy/conv (test_resnet, up to layer2)" in out and "LoRA of rank 2" in out and "16 hidden" in out
    assert "classes weighted equally" in out and "fields of lora (--set): rank=2, alpha=16.0, where=all" in out
    code, out, err = headstart("plan", photos, "-b", "toy/conv", "--quiet", "--strategy", "adapter", "--json")
    assert code == 0 and json.loads(out)["plan"]["surgery"][0]["kind"] == "adapter", err


@pytest.mark.parametrize(
    ("balance", "loss"), [("weights", "weights"), ("logit-adjust", "softmax"), ("none", "none"), ("auto", "none")]
)
def test_balance_reaches_the_loss_of_the_training(balance, loss, photos, headstart, tmp_path):
    words = ["--strategy", "linear-probe", "--epochs", "1", "--balance", balance]
    code, _, err = headstart("fit", photos, "--out", tmp_path / "r", *TOY, *words)
    assert code == 0, err
    ladder = RunFolder(tmp_path / "r").load(LadderRecord)
    assert ladder.rungs[0].plan["loss"]["balanced"] == loss
    assert any("the loss of the training" in note for note in ladder.notes) == (loss != "none")


def test_auto_balances_the_loss_only_where_cross_validation_showed_that_it_helps():
    from headstart.tasks.classification import Classification
    from headstart.tasks.multilabel import MultiLabel
    from headstart.tasks.regression import Regression
    from headstart.workflow.config import TuneConfig
    from headstart.workflow.finetuning import balanced

    plain, task = TuneConfig("lp-ft"), Classification(("a", "b"))
    assert balanced(plain, "auto", "none", task) == plain
    assert balanced(plain, "auto", "weights", task).options.balanced == "weights"
    assert balanced(plain, "auto", "logit-adjust", task).options.balanced == "softmax"
    assert balanced(plain, "auto", "none", MultiLabel(("a", "b"))) == plain
    assert balanced(plain, "weights", "none", MultiLabel(("a", "b"))).options.balanced == "weights"
    assert balanced(plain, "logit-adjust", "none", MultiLabel(("a", "b"))) == plain
    assert balanced(plain, "weights", "none", Regression()) == plain


# -------------------------------------------------------------------------------------------------- on a real network


@pytest.mark.skipif(not catalogue.card(LITE0).weights.here, reason="its weights are not installed")
@pytest.mark.parametrize(
    "words",
    [
        ["--cut-at", "blocks.4", "--pooling", "max"],
        ["--strategy", "adapter", "--hidden", "16", "--epochs", "1", "--augment", "none"],
        ["--strategy", "last-stages", "--set", "stages=1", "--penalty", "co-tuning", "--epochs", "2"],
    ],
    ids=["cut", "adapter and hidden", "co-tuning"],
)
def test_a_real_network_of_another_structure_is_saved_as_it_was_judged(words, few, headstart, tmp_path):
    words = [*words, "-b", LITE0, "--quiet", "--random-baseline", "off"]
    code, _, err = headstart("fit", few, "--out", tmp_path / "r", *words)
    assert code == 0, err
    run = json.loads((tmp_path / "r" / "run.json").read_text())
    assert "loaded back and compared on 8 images" in run["notes"][0]
    if "co-tuning" in words:
        ladder = RunFolder(tmp_path / "r").load(LadderRecord)
        assert ladder.rungs[0].plan["phases"][0]["penalties"][0]["kind"] == "co-tuning"
