"""The main job from the command line: what a user types, sees and gets."""

import csv
import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from tests.stories.conftest import paint, records

import headstart as hs
from headstart.records.predictions import Predictions


def tree(folder):
    return {
        p: (p.stat().st_mtime_ns, p.stat().st_mode, hashlib.sha256(p.read_bytes()).hexdigest())
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_a_run_leaves_everything_it_promises(finished):
    names = {p.name for p in finished.iterdir()}
    assert names >= {
        "run.json",
        "audit.json",
        "split.json",
        "heads.json",
        "evaluation.json",
        "predictions.npz",
        "report.html",
        "model",
    }
    assert {p.name for p in (finished / "model").iterdir()} >= {
        "model.safetensors",
        "config.json",
        "bundle.json",
        "labels.json",
        "README.md",
    }
    assert not [p for p in finished.rglob("*") if "tmp" in p.name or p.suffix in {".pkl", ".pt"}]


def test_the_numbers_hang_together(finished):
    split = json.loads((finished / "split.json").read_text())
    evaluation = json.loads((finished / "evaluation.json").read_text())
    predictions = Predictions.load(finished / "predictions.npz")
    assert json.loads((finished / "run.json").read_text())["status"] == "done"
    assert not set(split["train"]) & set(split["test"])
    assert sorted(predictions.ids) == sorted(split["test"])
    accuracy = (predictions.predicted == predictions.targets).mean()
    assert evaluation["metrics"]["accuracy"]["value"] == pytest.approx(accuracy)
    assert evaluation["n"] == len(split["test"]) == sum(map(sum, evaluation["confusion"]))
    assert [b["key"] for b in evaluation["baselines"]] == ["majority", "pixels", "random-network"]
    assert evaluation["verdict"]["sentence"]


def test_served_equals_evaluated(finished, photos, cache, headstart, tmp_path):
    judged = Predictions.load(finished / "predictions.npz")
    expected = dict(zip(judged.ids, judged.scores, strict=True))
    code, _, _ = headstart("predict", finished, photos, "--out", tmp_path / "p.csv")
    assert code == 0
    with open(tmp_path / "p.csv", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert set(expected) <= set(rows)
    labels = judged.labels
    for name, scores in expected.items():
        assert rows[name]["prediction"] == labels[scores.argmax()]
        got = [float(next(v for k, v in rows[name].items() if k.endswith(label))) for label in labels]
        np.testing.assert_allclose(got, scores, atol=1e-5)
    direct = hs.load(finished).predict([photos / name for name in list(expected)[:10]])
    np.testing.assert_allclose(direct.scores, [expected[n] for n in list(expected)[:10]], atol=1e-5)


def test_the_same_story_twice_gives_the_same_bits(photos, finished, tmp_path):
    env = os.environ | {"PYTHONHASHSEED": "random"}
    chosen = json.loads((finished / "run.json").read_text())["features"]["runner"]
    for out, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "headstart",
                "fit",
                str(photos),
                "--out",
                str(tmp_path / out),
                "-b",
                "toy/conv",
                "--cache",
                str(tmp_path / f"cache-{out}"),
                "--runner",
                chosen,
                "--seed",
                seed,
                "--quiet",
            ],
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=250,
        )
        assert done.returncode == 0, done.stderr
    assert records(tmp_path / "a") == records(tmp_path / "b")
    weights = [(tmp_path / o / "model" / "model.safetensors").read_bytes() for o in "abc"]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2], "another seed divides otherwise and learns otherwise"
    same = [Predictions.load(tmp_path / o / "predictions.npz").scores for o in "ab"]
    np.testing.assert_array_equal(same[0], same[1])


def test_the_same_command_again_computes_nothing(finished, photos, headstart):
    before = tree(finished)
    code, out, err = headstart("fit", photos, "--out", finished, "-b", "toy/conv", "--json")
    assert code == 0
    assert json.loads(out)["reused"] is True
    assert "finished already" in err
    assert tree(finished) == before


def test_other_settings_do_not_overwrite_a_run(finished, photos, headstart):
    before = tree(finished)
    code, _, err = headstart("fit", photos, "--out", finished, "-b", "toy/conv", "--seed", "7")
    assert code == 2
    assert "EN71" in err
    assert "seed was 0, now 7" in err
    assert "--overwrite" in err
    assert tree(finished) == before


def test_changed_data_is_another_run(few, headstart, tmp_path):
    data = paint(tmp_path / "d", 12)
    assert headstart("fit", data, "--out", tmp_path / "r", "-b", "toy/conv", "--random-baseline", "off")[0] == 0
    paint(data, 2, seed=5)
    code, _, err = headstart("fit", data, "--out", tmp_path / "r", "-b", "toy/conv", "--random-baseline", "off")
    assert code == 2
    assert "the data has changed" in err
    words = ["fit", data, "--out", tmp_path / "r", "-b", "toy/conv", "--random-baseline", "off", "--overwrite"]
    assert headstart(*words)[0] == 0


def test_a_damaged_run_is_made_again_and_said_so(few, headstart, tmp_path):
    words = ["fit", few, "--out", tmp_path / "r", "-b", "toy/conv", "--random-baseline", "off"]
    assert headstart(*words)[0] == 0
    weights = tmp_path / "r" / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    code, _, err = headstart(*words)
    assert code == 0
    assert "damaged" in err
    assert hs.load(tmp_path / "r").labels == ("blue", "green", "red")


def test_few_examples_are_judged_by_cross_validation(few, headstart, tmp_path):
    code, out, _ = headstart("fit", few, "--out", tmp_path / "r", "-b", "toy/conv", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["evaluation"]["how"] == "cross-validation"
    assert found["evaluation"]["n"] == 48
    assert len(json.loads((tmp_path / "r" / "split.json").read_text())["train"]) == 48


def test_the_users_data_is_never_touched(photos, finished, headstart, tmp_path):
    before = tree(photos)
    headstart("inspect", photos)
    headstart("predict", finished, photos, "--out", tmp_path / "p.csv")
    headstart("evaluate", finished, photos)
    headstart("report", finished)
    assert tree(photos) == before


def test_evaluate_on_other_data_and_on_what_was_learnt(finished, photos, headstart, tmp_path):
    other = paint(tmp_path / "other", 20, seed=9)
    code, out, err = headstart("evaluate", finished, other, "--json")
    assert code == 0
    assert json.loads(out)["seen_in_training"] == []
    assert json.loads(out)["evaluation"]["n"] == 60
    code, out, err = headstart("evaluate", finished, photos, "--json")
    assert code == 0
    assert len(json.loads(out)["seen_in_training"]) == len(json.loads((finished / "split.json").read_text())["train"])
    assert "DA42" in err


def test_json_is_one_object_on_stdout(finished, photos, headstart, tmp_path):
    one = photos / "red" / "0-000.png"
    for words in (
        ["inspect", photos],
        ["report", finished],
        ["models"],
        ["predict", finished, one],
        ["doctor", "--no-speed"],
    ):
        code, out, _ = headstart(*words, "--json")
        assert code == 0, words
        assert isinstance(json.loads(out), dict), words


def test_user_groups_stay_on_one_side(photos, headstart, tmp_path):
    words = ["fit", photos, "--out", tmp_path / "r", "-b", "toy/conv", "--random-baseline", "off", "--json"]
    code, _, _ = headstart(*words, "--group-by", r"regex:-(\d\d)\d")
    assert code == 0
    split = json.loads((tmp_path / "r" / "split.json").read_text())

    def series(ids):
        return {name.split("-")[1][:2] for name in ids}

    assert split["test"]
    assert not series(split["train"]) & series(split["test"])


def test_a_table_with_several_labels_and_one_with_numbers(photos, headstart, tmp_path):
    paths = sorted(photos.rglob("*.png"))[::4]
    many = tmp_path / "many.csv"
    with open(many, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for i, path in enumerate(paths):
            writer.writerow([os.path.relpath(path, tmp_path), f"{path.parent.name}|{'even' if i % 2 else 'odd'}"])
    code, out, _ = headstart(
        "fit", many, "--out", tmp_path / "m", "-b", "toy/conv", "--allow-outside", "--random-baseline", "off", "--json"
    )
    assert code == 0
    assert json.loads(out)["evaluation"]["task"] == "multilabel"
    numbers = tmp_path / "numbers.csv"
    with open(numbers, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "weight"])
        for i, path in enumerate(paths):
            tint = {"blue": 1.0, "green": 2.0, "red": 3.0}[path.parent.name]
            writer.writerow([os.path.relpath(path, tmp_path), f"{tint + (i % 7) / 20:.3f}"])
    code, out, _ = headstart(
        "fit",
        numbers,
        "--target",
        "weight",
        "--out",
        tmp_path / "n",
        "-b",
        "toy/conv",
        "--allow-outside",
        "--random-baseline",
        "off",
        "--json",
    )
    assert code == 0
    evaluation = json.loads(out)["evaluation"]
    assert evaluation["task"] == "regression"
    assert evaluation["metrics"]["r2"]["value"] > 0.5
    predicted = hs.load(tmp_path / "n").predict(paths[:3])
    assert predicted.scores.shape == (3, 1)


def test_python_says_the_same(few, cache, tmp_path):
    from headstart.workflow.config import FitConfig

    run = hs.fit(few, out=tmp_path / "r", config=FitConfig(backbone="toy/conv", random_baseline="off"), cache=cache)
    assert run.evaluation.score.n == 48
    assert run.report.exists()
    path = next((few / "red").iterdir())
    answer = run.predictor(path)
    assert set(answer) == {"blue", "green", "red"}
    assert sum(answer.values()) == pytest.approx(1)
    assert "accuracy" in str(run)
