"""A table from file to saved model: what fit, predict, evaluate and the page do with columns."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import headstart
from headstart.base.errors import DataError, NotInCatalogue, PlanError
from headstart.base.files import read_json
from headstart.base.progress import Said
from headstart.bundle.load import load
from headstart.workflow.config import DataConfig, FitConfig

N = 360
FAST = FitConfig(data=DataConfig(target="price"), resamples=100)


def flats(path: Path, n: int = N, **changed: dict[int, str]) -> Path:
    """Rents that depend on size (bent), town and year; some cells are empty. changed: column → {row: cell}."""
    rng = np.random.default_rng(0)
    size = rng.uniform(20, 150, n)
    town = rng.choice(["Ulm", "Bonn", "Trier"], n)
    built = rng.integers(0, 20_000, n)
    price = 300 + 40 * np.sqrt(size) * (1 + 0.3 * (town == "Bonn")) + built / 100 + rng.normal(0, 8, n)
    rows = {
        "id": [f"f{i:04}" for i in range(n)],
        "size": [f"{v:.2f}" if i % 9 else "" for i, v in enumerate(size)],
        "town": town.tolist(),
        "built": [str(np.datetime64("1960-01-01") + int(d)) for d in built],
        "balcony": ["yes" if v else "no" for v in rng.integers(0, 2, n)],
        "heated": ["gas"] * n,
        "price": [f"{v:.2f}" for v in price],
        "owner": [f"o{v}" for v in rng.integers(0, 40, n)],
    }
    for name, cells in changed.items():
        for row, cell in cells.items():
            rows[name][row] = cell
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(rows)
        writer.writerows(zip(*rows.values(), strict=True))
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> headstart.Run:
    root = tmp_path_factory.mktemp("flats")
    return headstart.fit(flats(root / "flats.csv"), out=root / "run", config=FAST, cache=root / "cache")


def test_a_table_becomes_a_model_that_is_no_worse_than_the_usual_ones(fitted):
    evaluation = fitted.evaluation
    assert [b.key for b in evaluation.baselines] == ["majority", "linear", "boosting"]
    assert evaluation.verdict.question == "Is it better than the usual models?"
    assert evaluation.verdict.answer != "no"
    assert evaluation.score.value < evaluation.baselines[0].score.value / 3


def test_columns_that_say_nothing_are_left_out_and_said_so(fitted):
    record = read_json(fitted.folder.columns)
    assert [c["name"] for c in record["columns"]] == ["size", "town", "built", "balcony", "owner"]
    assert any("'id' left out" in note for note in record["left_out"])
    assert any("'heated' left out" in note for note in record["left_out"])


def test_what_fewer_labels_give_grows_towards_what_all_give(fitted):
    points = fitted.few_shot.points
    assert [p.most for p in points] == [16, 32, 64, 128, 256, 0]
    assert points[0].score.value > points[-1].score.value == pytest.approx(fitted.evaluation.score.value)
    assert "on the columns as the network gives them" in fitted.report.read_text()


def test_what_matters_is_told_from_what_does_not(fitted):
    worth = {c["column"]: c["loss"] for c in read_json(fitted.folder.columns)["contributions"]}
    assert all(worth[name]["low"] > 0 for name in ("size", "town", "built"))
    assert not worth["balcony"]["low"] > 0
    assert max(worth, key=lambda n: worth[n]["value"]) == "size"


def test_the_page_shows_columns_and_no_transfer(fitted):
    page = fitted.report.read_text()
    assert "What each is worth" in page
    assert "columns/" in page
    assert "Did transfer help" not in page


def test_a_saved_model_says_the_same_of_the_same_rows(fitted, tmp_path):
    path = flats(tmp_path / "again.csv")
    again = headstart.evaluate(fitted.folder.path, path, cache=tmp_path / "cache")
    judged = {i: s for i, s in zip(fitted.predictions.ids, fitted.predictions.scores[:, 0], strict=True)}
    ours = dict(zip(again.predictions.ids, again.predictions.scores[:, 0], strict=True))
    assert len(again.seen_in_training) == N - len(judged)
    for name, value in judged.items():
        assert ours[name] == pytest.approx(value, rel=1e-4)


def test_columns_may_stand_in_any_order_beside_any_others(fitted, tmp_path):
    import pandas

    frame = pandas.read_csv(flats(tmp_path / "a.csv"), dtype=str, keep_default_na=False)
    turned = frame[list(frame.columns[::-1])].assign(more="nothing").drop(columns=["price", "id"])
    first = headstart.predict(fitted.folder.path, frame.drop(columns="price"), cache=tmp_path)
    again = headstart.predict(fitted.folder.path, turned, cache=tmp_path)
    np.testing.assert_array_equal(first.predictions.scores, again.predictions.scores)


def test_one_row_is_a_dictionary(fitted):
    model = load(fitted.folder.path)
    row = {"size": 60.0, "town": "Bonn", "built": "1980-05-04", "balcony": "yes", "owner": "o1"}
    (value,) = model(row).values()
    (unknown,) = model({**row, "size": None}).values()
    assert 500 < value < 1200
    assert unknown != value
    with pytest.raises(DataError, match="TB63 the rows lacks column balcony"):
        model({k: v for k, v in row.items() if k != "balcony"})


def test_a_missing_column_and_a_wrong_cell_are_named(fitted, tmp_path):
    path = flats(tmp_path / "a.csv", size={3: "large"})
    with pytest.raises(DataError, match=r"TB67 a.csv, column 'size' holds numbers.*'large' \(line 5\)"):
        headstart.predict(fitted.folder.path, path, cache=tmp_path)
    (tmp_path / "b.csv").write_text("size,town,built,balcony\n30,Ulm,1980-01-01,no\n")
    with pytest.raises(DataError, match=r"TB63 b\.csv lacks column owner"):
        headstart.predict(fitted.folder.path, tmp_path / "b.csv", cache=tmp_path)


def test_new_names_are_counted_and_told(fitted, tmp_path):
    said: list[str] = []
    path = flats(tmp_path / "a.csv", town={0: "Oslo", 5: "Oslo", 7: "Rome"})
    headstart.predict(
        fitted.folder.path,
        path,
        cache=tmp_path,
        observer=lambda e: said.append(e.text) if isinstance(e, Said) else None,
    )
    assert any(
        "TB69 column 'town': 3 rows hold names that no training row had ('Oslo', 'Rome')" in text for text in said
    )


def test_no_test_row_has_a_part_in_what_is_measured(fitted, tmp_path):
    """Other numbers and names in the test rows leave every mean, category and landmark as it was."""
    sealed = sorted(int(i.removeprefix("line ")) - 2 for i in read_json(fitted.folder.split)["test"])
    odd = {"size": {r: str(5000 + r) for r in sealed}, "town": dict.fromkeys(sealed, "Atlantis")}
    other = headstart.fit(
        flats(tmp_path / "flats.csv", **odd), out=tmp_path / "run", config=FAST, cache=tmp_path / "cache"
    )
    assert sorted(int(i.removeprefix("line ")) - 2 for i in read_json(other.folder.split)["test"]) == sealed
    ours, theirs = load(fitted.folder.path), load(other.folder.path)
    assert ours.manifest.input == theirs.manifest.input
    np.testing.assert_array_equal(ours.head.weight, theirs.head.weight)
    for name, value in ours.backbone.network.state_dict().items():
        assert (theirs.backbone.network.state_dict()[name] == value).all(), name


def test_few_rows_are_judged_by_networks_made_without_them(tmp_path):
    run = headstart.fit(flats(tmp_path / "few.csv", 120), out=tmp_path / "run", config=FAST, cache=tmp_path)
    assert run.evaluation.how == "cross-validation"
    assert run.evaluation.n == 120
    assert run.evaluation.verdict.answer != "no"


@pytest.mark.parametrize("name", ["columns/plain", "columns/curves", "columns/kernel"])
def test_a_network_may_be_named(name, tmp_path):
    config = replace(FAST, backbone=name)
    run = headstart.fit(flats(tmp_path / "few.csv", 120), out=tmp_path / "run", config=config, cache=tmp_path)
    assert run.record.backbone.name == name
    assert run.few_shot is not None and run.few_shot.points[-1].n == 96


def test_networks_that_were_pretrained_have_no_place_here(tmp_path):
    path = flats(tmp_path / "few.csv", 60)
    with pytest.raises(NotInCatalogue, match="columns/kernel"):
        headstart.fit(path, out=tmp_path / "run", config=replace(FAST, backbone="columns/kernal"), cache=tmp_path)
    with pytest.raises(PlanError, match="PL82 --weights"):
        headstart.fit(path, out=tmp_path / "run", config=replace(FAST, weights="a.safetensors"), cache=tmp_path)


def test_groups_stay_on_one_side_and_are_not_learnt_from(tmp_path):
    config = replace(FAST, data=replace(FAST.data, group_by="owner"))
    path = flats(tmp_path / "flats.csv")
    run = headstart.fit(path, out=tmp_path / "run", config=config, cache=tmp_path)
    split = read_json(run.folder.split)
    with path.open() as file:
        owners = [row["owner"] for row in csv.DictReader(file)]
    sides = [{owners[int(i.removeprefix("line ")) - 2] for i in split[side]} for side in ("train", "test")]
    assert not sides[0] & sides[1]
    assert "owner" not in [c.name for c in load(run.folder.path).manifest.input.columns]


def test_several_labels_and_several_numbers(tmp_path):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 3))
    lines = ["a,b,c,tags"]
    for row in x:
        tags = "|".join(t for t, v in zip(("warm", "dry"), row, strict=False) if v > 0)
        lines.append(",".join(f"{v:.4f}" for v in row) + f",{tags}")
    (tmp_path / "tags.csv").write_text("\n".join(lines))
    config = FitConfig(data=DataConfig(target="tags", task="multi-label"), resamples=100)
    run = headstart.fit(tmp_path / "tags.csv", out=tmp_path / "run", config=config, cache=tmp_path)
    assert run.evaluation.task == "multilabel"
    assert run.evaluation.score.value > 0.9

    both = headstart.fit(
        x,
        [tuple(row) for row in (x @ rng.normal(size=(3, 2))).tolist()],
        out=tmp_path / "two",
        config=FitConfig(resamples=100),
        cache=tmp_path,
    )
    assert both.evaluation.metrics["r2"].value > 0.99


def test_embeddings_of_an_npz_are_learnt_from(tmp_path):
    rng = np.random.default_rng(2)
    y = rng.integers(0, 3, 330)
    X = rng.normal(size=(330, 24)).astype(np.float32) + 4 * np.eye(3, 24)[y]
    np.savez(tmp_path / "emb.npz", X=X, y=np.array(["red", "green", "blue"])[y])
    config = FitConfig(resamples=100, backbone="columns/plain")
    run = headstart.fit(tmp_path / "emb.npz", out=tmp_path / "run", config=config, cache=tmp_path)
    assert run.evaluation.score.value > 0.8
    np.save(tmp_path / "new.npy", X[:5])
    answers = headstart.predict(run.folder.path, tmp_path / "new.npy", cache=tmp_path).predictions
    assert len(answers) == 5
    np.save(tmp_path / "narrow.npy", X[:5, :20])
    with pytest.raises(DataError, match=r"TB63 .*20 columns; the model learnt from 24"):
        headstart.predict(run.folder.path, tmp_path / "narrow.npy", cache=tmp_path)
