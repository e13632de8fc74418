"""Several kinds of columns in one table, from the command line: learnt together, told by block, saved, asked again."""

import csv
import json
import random

import numpy as np
import pytest
from PIL import Image

import headstart as hs
from headstart.base.errors import DataError
from headstart.workflow.config import DataConfig

GOOD, BAD = ("lovely", "superb", "sunny", "gentle"), ("awful", "broken", "grim", "harsh")
PLAIN = ("the", "house", "garden", "is", "near", "and", "very", "quite")
HEADER = ("photo", "description", "rooms", "street", "verdict")


def listings(folder, n, seed=0, *, gaps=True):
    """Rows of which picture, text and number each tell a part of the verdict; every ninth lacks photo or text."""
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(n):
        good = i % 2
        name = f"photos/{seed}-{i:03}.png"
        tint = noise.normal((60, 150, 80) if good else (120, 90, 110), 45)
        pixels = noise.normal(tint, 40, (24, 24, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name)
        words = [rng.choice(PLAIN) for _ in range(6)]
        told = good if rng.random() < 0.8 else 1 - good
        words.insert(3, rng.choice(GOOD if told else BAD))
        rooms = round(rng.gauss(4 if good else 3, 1), 1)
        rows.append([name, f"{' '.join(words)} {i}", rooms, rng.choice(["north", "south"]), "yes" if good else "no"])
    if gaps:
        for i in range(0, n, 9):
            rows[i][i // 9 % 2] = ""
    return rows


def write(path, rows, header=HEADER):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


DATA = DataConfig(target="verdict", text="description", path_column="photo", features=("*",))
ASKED = ("--target", "verdict", "--text", "description", "--path-column", "photo", "--features", "*")
NETWORKS = "toy/conv,toy/text,columns/plain"


@pytest.fixture(scope="module")
def finished_mixed(tmp_path_factory, cache):
    """A run on 320 listings, one of them twice, one with a photo that is no picture."""
    folder = tmp_path_factory.mktemp("mixed")
    rows = listings(folder, 320)
    (folder / "photos" / "broken.png").write_bytes(b"no picture")
    rows += [rows[1], ["photos/broken.png", "the garden is lovely", 3.0, "north", "yes"]]
    table = write(folder / "listings.csv", rows)
    run = hs.fit(table, out=folder / "run", config=hs.FitConfig(data=DATA, backbone=NETWORKS), cache=cache)
    return run, table


def test_every_block_is_a_rival_and_what_it_is_worth_is_told(finished_mixed):
    run, _ = finished_mixed
    keys = [b.key for b in run.evaluation.baselines]
    assert keys == ["majority", "description alone", "photo alone", "columns", "tf-idf", "random-network"]
    blocks = json.loads((run.folder.path / "blocks.json").read_text())
    assert [b["name"] for b in blocks["blocks"]] == ["description", "photo", "columns"]
    assert [b["missing"] for b in blocks["blocks"]] == [18, 18, 0]
    assert all(b["loss"]["low"] <= b["loss"]["value"] <= b["loss"]["high"] for b in blocks["blocks"])
    assert run.record.status == "done"
    page = run.report.read_text(encoding="utf-8")
    assert '<section id="blocks"' in page and "one feature more says that it was missing" in page


def test_a_row_with_a_bad_file_is_left_out_and_equal_rows_stay_on_one_side(finished_mixed):
    run, _ = finished_mixed
    audit = json.loads(run.folder.audit.read_text())
    assert [(q["id"], q["reason"].split(":")[0]) for q in audit["quarantined"]] == [("line 323", "photo")]
    assert [c["ids"] for c in audit["clusters"]] == [["line 3", "line 322"]]
    split = json.loads(run.folder.split.read_text())
    assert ("line 3" in split["test"]) == ("line 322" in split["test"])


def test_the_saved_folder_answers_as_the_run_did(finished_mixed, tmp_path):
    run, table = finished_mixed
    answers = hs.predict(run.folder.path, table, cache=tmp_path).predictions
    at = {name: i for i, name in enumerate(answers.ids)}
    rows = [at[name] for name in run.predictions.ids]
    np.testing.assert_allclose(answers.scores[rows], run.predictions.scores, atol=2e-3)


def test_each_block_is_saved_as_a_model_of_its_own_and_their_outputs_add_up(finished_mixed):
    run, table = finished_mixed
    model = hs.load(run.folder.path)
    rows = hs.open_dataset(table, learnt=dict(model.spec.kinds))[:4]
    whole = model.predict(rows)
    total = sum(model.absent[name] for name in model.parts) * 0.0
    texts, photos = hs.load(run.folder.model / "1-description"), hs.load(run.folder.model / "2-photo")
    row = rows.values[1].values
    total = total + texts.head.logits(texts.embed([row[0]]))[0] + photos.head.logits(photos.embed([row[1]]))[0]
    total = total + model.parts["columns"].head.logits(model.parts["columns"].embed([row[2].cells]))[0]
    np.testing.assert_allclose(model.task.decode(total[None])[0], whole.scores[1], atol=1e-6)


def test_a_row_without_photo_and_text_is_answered_and_one_of_nothing_known_too(finished_mixed):
    run, _ = finished_mixed
    model = hs.load(run.folder.path)
    only = model({"rooms": 4.2})
    assert set(only) == {"yes", "no"} and sum(only.values()) == pytest.approx(1)
    with pytest.raises(DataError, match=r"TB63 the model learnt from no column 'roms'. Did you mean 'rooms'"):
        model({"roms": 4.2})


def test_another_table_of_the_same_columns_is_evaluated(finished_mixed, headstart, tmp_path):
    run, _ = finished_mixed
    table = write(tmp_path / "more.csv", listings(tmp_path, 24, seed=5))
    code, out, err = headstart("evaluate", run.folder.path, table, "--json")
    assert code == 0, err
    assert json.loads(out)["evaluation"]["n"] == 24
    code, _, err = headstart("predict", run.folder.path, table, "--text", "description")
    assert code != 0 and "the model knows its columns" in err
    short = write(tmp_path / "short.csv", [row[:1] + row[2:] for row in listings(tmp_path, 4)], ("photo", *HEADER[2:]))
    code, _, err = headstart("predict", run.folder.path, short)
    assert code != 0 and "lacks description, which the model learnt from" in err


def test_a_changed_block_is_refused(finished_mixed, tmp_path):
    import shutil

    run, _ = finished_mixed
    copy = shutil.copytree(run.folder.model, tmp_path / "model")
    labels = copy / "2-photo" / "labels.json"
    labels.write_bytes(labels.read_bytes().replace(b"yes", b"yea"))
    with pytest.raises(hs.HeadstartError, match="CK06"):
        hs.load(copy)


def test_what_needs_one_kind_of_column_is_refused_before_any_work(headstart, tmp_path):
    table = write(tmp_path / "t.csv", listings(tmp_path, 12))
    code, _, err = headstart("fit", table, *ASKED, "--time", "1m", "--out", tmp_path / "run")
    assert code != 0 and "PL86 --strategy or --time: not with several kinds of columns at once" in err
    assert "--text COLUMN" in err
    code, _, err = headstart("fit", table, *ASKED, "--backbone", "toy/conv,toy/vit", "--out", tmp_path / "run")
    assert code != 0 and "PL87 --backbone toy/vit is for images, and 'toy/conv' does that too" in err
    code, _, err = headstart("fit", table, *ASKED, "--backbone", "columns/mlp", "--out", tmp_path / "run")
    assert code != 0 and "PL87 --backbone columns/mlp goes with columns alone" in err
    wrong = [word.replace("description", "descripton") for word in ASKED]
    code, _, err = headstart("fit", table, *wrong, "--out", tmp_path / "run")
    assert code != 0 and "no column 'descripton' for the texts. Did you mean 'description'?" in err
    code, _, err = headstart("rank", table, *ASKED[:-2])
    assert code != 0 and "PL86 rank works on one kind of column at a time" in err
    twice = ("--target", "verdict", "--text", "photo", "--path-column", "photo")
    code, _, err = headstart("fit", table, *twice, "--out", tmp_path / "run")
    assert code != 0 and "column 'photo' is named for two uses" in err


def test_few_rows_are_judged_by_cross_validation_with_a_number_as_the_target(headstart, tmp_path):
    rows = [[*row[:4], round(100 + 20 * row[2] + i / 99, 2)] for i, row in enumerate(listings(tmp_path, 60))]
    table = write(tmp_path / "few.csv", rows, (*HEADER[:4], "price"))
    code, out, err = headstart(
        *("fit", table, "--target", "price", "--text", "description", "--features", "rooms,street", "--json"),
        *("--task", "regression"),
        *("--backbone", "toy/text,columns/plain", "--random-baseline", "off", "--out", tmp_path / "run"),
    )
    assert code == 0, err
    told = json.loads(out)
    assert told["evaluation"]["n"] == 60 and told["evaluation"]["how"] == "cross-validation"
    worth = {b["name"]: b["loss"]["value"] for b in told["blocks"]["blocks"]}
    assert worth["columns"] > 5 * abs(worth["description"])  # the price is made of rooms


def test_inspect_looks_at_every_block(finished_mixed, headstart):
    _, table = finished_mixed
    code, out, err = headstart("inspect", table, *ASKED)
    assert code == 0, err
    assert "18 of 321 rows have no description" in out + err


def test_sounds_beside_numbers_with_several_labels_a_row(headstart, tmp_path):
    """A tone says 'high', a number says 'large'; either, both or none."""
    soundfile = pytest.importorskip("soundfile")
    rng, rows = np.random.default_rng(0), []
    for i in range(80):
        high, large = i % 2, i // 2 % 2
        wave = np.sin(np.arange(12_000) * (0.5 if high else 0.1) * rng.uniform(0.8, 1.2)) * 0.5
        soundfile.write(tmp_path / f"{i:02}.wav", wave + rng.normal(0, 0.05, len(wave)), 16_000)
        labels = [name for name, holds in (("high", high), ("large", large)) if holds]
        rows.append([f"{i:02}.wav", round(rng.normal(5 if large else 1, 0.5), 2), "|".join(labels)])
    table = write(tmp_path / "calls.csv", rows, ("call", "size", "what"))
    words = ("--target", "what", "--task", "multi-label", "--path-column", "call", "--features", "size", "--json")
    nets = ("--backbone", "toy/audio,columns/plain", "--random-baseline", "off")
    code, out, err = headstart("fit", table, *words, *nets, "--out", tmp_path / "run")
    assert code == 0, err
    told = json.loads(out)
    assert told["evaluation"]["metrics"]["macro_f1"]["value"] > 0.7
    assert {b["name"] for b in told["blocks"]["blocks"]} == {"call", "columns"}
    known = hs.predict(tmp_path / "run", table, cache=tmp_path / "cache").predictions
    assert known.scores.shape == (80, 2) and np.isfinite(known.scores).all()
    model = hs.load(tmp_path / "run")
    assert set(model({"call": str(tmp_path / "01.wav"), "size": 5.0})) == {"high", "large"}
