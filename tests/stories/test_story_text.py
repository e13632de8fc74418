"""The same job on texts, from the command line: a table, a folder, lines of a file; and what goes wrong with them."""

import csv
import json
import random
import re

import numpy as np
import pytest

import headstart as hs
from headstart.records.predictions import Predictions
from headstart.workflow.config import DataConfig

GOOD = re.findall(r"\w+", "lovely great superb happy fine sunny brilliant warm kind gentle")
BAD = re.findall(r"\w+", "awful dreadful poor sad broken grim dull cold rude harsh")
PLAIN = re.findall(r"\w+", "the a this film hotel book was is very quite and so it we they thought really today")


def sentence(rng, words):
    told = [rng.choice(PLAIN) for _ in range(rng.randint(4, 14))]
    for _ in range(3):
        told.insert(rng.randint(0, len(told)), rng.choice(words))
    return " ".join(told) + rng.choice(".!?")


def reviews(n, seed=0):
    rng = random.Random(seed)
    return [(sentence(rng, GOOD if i % 2 else BAD), "good" if i % 2 else "bad") for i in range(n)]


def write(path, rows, header=("review", "sentiment")):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture(scope="module")
def finished_texts(tmp_path_factory, cache):
    """A run on 340 sentences, three of which are empty, doubled and nearly doubled."""
    folder = tmp_path_factory.mktemp("texts")
    rows = reviews(340)
    rows += [("", "good"), rows[0], (rows[1][0].upper().replace(".", " !! "), rows[1][1])]
    table = write(folder / "reviews.csv", rows)
    config = hs.FitConfig(data=DataConfig(text="review", target="sentiment"), backbone="toy/text")
    hs.fit(table, out=folder / "run", config=config, cache=cache)
    return folder / "run", table


def test_a_run_on_texts_leaves_what_a_run_on_pictures_leaves(finished_texts):
    run, _ = finished_texts
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert [b["key"] for b in evaluation["baselines"]] == ["majority", "tf-idf", "random-network"]
    assert evaluation["verdict"]["against"] in ("tf-idf", "random-network")
    assert {p.name for p in (run / "model").iterdir()} >= {"tokenizer.json", "tokenizer_config.json", "config.json"}
    assert json.loads((run / "run.json").read_text())["status"] == "done"


def test_empty_texts_are_left_out_by_line_and_copies_stay_on_one_side(finished_texts):
    run, _ = finished_texts
    audit, split = (json.loads((run / name).read_text()) for name in ("audit.json", "split.json"))
    assert [(q["id"], q["code"]) for q in audit["quarantined"]] == [("line 342", "TX30")]
    kinds = {tuple(c["ids"]): c["kind"] for c in audit["clusters"]}
    assert kinds == {("line 2", "line 343"): "exact", ("line 3", "line 344"): "near"}
    for ids in kinds:
        assert len({name in split["test"] for name in ids}) == 1


def test_served_texts_are_scored_as_they_were_evaluated(finished_texts, headstart, tmp_path):
    run, table = finished_texts
    judged = Predictions.load(run / "predictions.npz")
    code, _, _ = headstart("predict", run, table, "--text", "review", "--out", tmp_path / "p.csv")
    assert code == 0
    with open(tmp_path / "p.csv", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    for name, scores in zip(judged.ids, judged.scores, strict=True):
        assert np.allclose([float(rows[name][f"p_{label}"]) for label in judged.labels], scores, atol=2e-3)
    assert rows["line 342"]["problem"].startswith("TX30")


def test_python_predicts_strings_as_texts_and_not_as_files(finished_texts):
    run, _ = finished_texts
    model = hs.load(run)
    answers = model.predict(["superb, lovely and warm", "", "dreadful and broken"])
    assert list(answers.ids) == ["0", "2"] and [q.code for q in answers.quarantined] == ["TX30"]
    alone = [model.predict([text]).scores[0] for text in ("superb, lovely and warm", "dreadful and broken")]
    assert np.allclose(answers.scores, alone, atol=2e-3)
    assert set(model("a great film")) == {"good", "bad"}


def test_lines_of_a_file_are_predicted(finished_texts, headstart, tmp_path):
    run, _ = finished_texts
    (tmp_path / "new.txt").write_text("a great and lovely day\n\nso sad and cold\n")
    code, out, _ = headstart("predict", run, tmp_path / "new.txt", "--json")
    found = json.loads(out)
    assert code == 0 and [p["id"] for p in found["predictions"]] == ["line 1", "line 3"]
    assert [q["id"] for q in found["quarantined"]] == ["line 2"]


def test_evaluate_says_what_was_learnt_from_before(finished_texts, headstart):
    run, table = finished_texts
    code, out, _ = headstart("evaluate", run, table, "--text", "review", "--target", "sentiment", "--json")
    found = json.loads(out)
    assert code == 0 and found["evaluation"]["n"] == 342
    assert len(found["seen_in_training"]) >= 270


def test_the_saved_folder_opens_with_plain_transformers(finished_texts):
    """The lines of the README, run as they stand, give the scores that headstart gives."""
    run, _ = finished_texts
    readme = (run / "model" / "README.md").read_text()
    lines = readme.split("## Open it without headstart")[1].split("```python")[1].split("```")[0]
    lines = lines.replace('"./', f'"{run / "model"}/').replace("Your text.", "a great and lovely day.")
    told = []
    exec(compile(lines, "README.md", "exec"), {"print": told.append})
    ours = hs.load(run, precision="float32")("a great and lovely day.")
    assert told[0] == pytest.approx(ours, abs=2e-3)


def test_a_folder_of_text_files_by_class_is_read(headstart, tmp_path):
    for i, (text, label) in enumerate(reviews(80)):
        (tmp_path / "mails" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "mails" / label / f"{i:03}.txt").write_text(text)
    (tmp_path / "mails" / "good" / "latin.txt").write_bytes("très bien".encode("latin-1"))
    code, out, _ = headstart("inspect", tmp_path / "mails", "--json")
    audit = json.loads(out)["audit"]
    assert code == 0 and audit["modality"] == "text" and audit["counts"] == {"bad": 40, "good": 40}
    assert audit["quarantined"][0]["code"] == "TB54"
    assert "byte 0xE8 at offset 2" in audit["quarantined"][0]["reason"]
    code, out, _ = headstart("inspect", tmp_path / "mails", "--encoding", "latin-1", "--json")
    assert code == 0 and json.loads(out)["audit"]["counts"] == {"bad": 40, "good": 41}


def test_the_same_text_under_two_labels_is_reported(headstart, tmp_path):
    rows = [*reviews(60), ("one and the same", "good"), ("One, and the SAME!", "bad")]
    code, out, _ = headstart("inspect", write(tmp_path / "r.csv", rows), "--text", "review", "--json")
    found = json.loads(out)
    assert code == 0
    assert any(f["code"] == "DA44" and "2 texts look the same" in f["text"] for f in found["audit"]["findings"])


def test_several_labels_and_numbers_are_learnt_from_texts(cache, tmp_path):
    rng = random.Random(1)
    rows = [
        (text, "|".join(sorted({label, rng.choice(["long", "short", label])})), len(text) / 7)
        for text, label in reviews(90)
    ]
    texts = [row[0] for row in rows]
    for kind, y in (("multi-label", [row[1] for row in rows]), ("regression", [row[2] for row in rows])):
        config = hs.FitConfig(data=DataConfig(text="texts", task=kind), backbone="toy/text", random_baseline="off")
        run = hs.fit(texts, y, out=tmp_path / kind, config=config, cache=cache)
        assert [b.key for b in run.evaluation.baselines] == ["majority", "tf-idf"]
        assert hs.load(tmp_path / kind).predict(["a fine day"]).scores.shape[0] == 1


@pytest.mark.parametrize(
    "words, code",
    [
        (("--text", "revew"), "TB63"),
        (("--text", "review", "--backbone", "toy/conv"), "PL80"),
        (("--text", "review", "--backbone", "toy/text", "--prove"), "PL81"),
        (("--text", "review", "--backbone", "toy/text", "--strategy", "adapter"), "PL15"),
        (("--path-column", "review", "--backbone", "toy/text"), "PL80"),
    ],
)
def test_what_does_not_go_together_is_said_before_any_work(words, code, headstart, tmp_path):
    table = write(tmp_path / "r.csv", reviews(40))
    if "--path-column" in words:
        table = write(tmp_path / "r.csv", [("r.csv", label) for _, label in reviews(40)])
    exit_code, _, err = headstart("fit", table, "--target", "sentiment", "--out", tmp_path / "run", *words)
    assert exit_code == 2 and code in err


def test_a_table_of_texts_without_the_option_is_told_of_it(headstart, tmp_path):
    code, _, err = headstart("fit", write(tmp_path / "r.csv", reviews(20)), "--out", tmp_path / "run")
    assert code == 2 and "for texts: --text review" in err


def test_few_examples_of_each_class_learn_and_the_same_rows_judge(cache, tmp_path):
    rows = reviews(120)
    runs = []
    for most in (2, 8):
        config = hs.FitConfig(
            data=DataConfig(text=""), backbone="toy/text", random_baseline="off", examples_per_class=most
        )
        out = tmp_path / str(most)
        runs.append(hs.fit([r[0] for r in rows], [r[1] for r in rows], out=out, config=config, cache=cache))
        split = json.loads((out / "split.json").read_text())
        assert split["counts_train"] == {"bad": most, "good": most}
        assert f"{2 * most} learn, at most {most} of each class, and {96 - 2 * most} are left out" in split["reason"]
        assert not set(split["train"]) & set(split["test"])
    assert list(runs[0].predictions.ids) == list(runs[1].predictions.ids)
