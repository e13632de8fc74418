"""``headstart rank``, as users meet it."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
from PIL import Image
from tests.stories.conftest import paint

import headstart
from headstart.base.config import from_dict
from headstart.base.errors import DataError, PlanError
from headstart.base.progress import Started
from headstart.data.open import open_dataset
from headstart.records.audit import SplitRecord
from headstart.records.ranking import RankRecord
from headstart.records.run import RunFolder
from headstart.workflow.config import FitConfig
from headstart.workflow.own_runs import finished_runs
from headstart.workflow.rank import RankConfig, look, quick_choice, termination_as_interrupt

TOYS = ("toy/conv", "toy/vit")
PLAIN = RankConfig(candidates=TOYS, own_runs="")


@pytest.fixture(scope="module")
def ranking(photos, cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("ranked") / "photos"
    return headstart.rank(photos, config=PLAIN, out=out, cache=cache)


def checkpoint(folder, *, damage=None):
    """A folder as timm writes it, of the toy network; damage: what is done to its tensors."""
    import timm
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    torch.manual_seed(1)
    state = timm.create_model("test_resnet", num_classes=10).state_dict()
    if damage is not None:
        state = {name: damage(tensor) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    save_file(state, folder / "model.safetensors")
    spec = {"input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0}
    config = {"architecture": "test_resnet", "num_classes": 10, "pretrained_cfg": spec}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_the_command_shows_a_table_a_reason_and_where_the_report_is(headstart_rank, photos, tmp_path):
    code, out, err = headstart_rank(photos, "--candidates", "toy/conv,toy/vit", "--out", tmp_path / "r")
    assert code == 0, err
    for words in ("left-out accuracy", "→ toy/", "Take toy/", "img/s", "apache-2.0", "ranking.html"):
        assert words in out
    assert (tmp_path / "r" / "ranking.html").stat().st_size > 10_000


def test_json_is_one_object_that_is_the_record(headstart_rank, photos, tmp_path):
    code, out, _ = headstart_rank(photos, "--candidates", "toy/conv", "--out", tmp_path / "r", "--json")
    assert code == 0
    record = from_dict(RankRecord, json.loads(out)["ranking"])
    assert json.loads(out)["ranking"] == json.loads((tmp_path / "r" / "ranking.json").read_text())
    assert record.candidates[0].model == "toy/conv" and record.candidates[0].status == "recommended"


def test_a_frame_has_one_row_a_candidate_best_first(ranking):
    frame = ranking.to_frame()
    assert set(frame["model"]) == set(TOYS)
    assert frame["model"][0] == ranking.record.recommended or frame["combined"].is_monotonic_decreasing
    assert (frame["probe_low"] <= frame["probe"]).all() and (frame["probe"] <= frame["probe_high"]).all()
    assert (frame["images_per_s"] > 0).all() and (frame["weights_bytes"] == 4 * frame["parameters"]).all()


def test_the_probe_score_is_the_ridge_score_of_features_that_fit_would_extract(ranking, photos, cache):
    from pathlib import Path

    from headstart.backbones.catalogue import catalogue
    from headstart.features.extract import extract
    from headstart.ranking.scores import RidgeLoo

    looked = look(open_dataset(photos), PLAIN, Path(cache), lambda event: None)
    row = next(c for c in ranking.record.candidates if c.model == "toy/vit")
    features = extract(catalogue.load("toy/vit"), looked.usable, cache=Path(cache), only_runner=row.runner)
    assert row.probe.n == len(looked.known) == 264
    assert row.probe.value == pytest.approx(RidgeLoo()(features.X, looked.known.y))


def test_the_rows_that_fit_seals_are_not_looked_at_and_fit_computes_only_those(photos, tmp_path):
    cache = tmp_path / "cache"
    found = headstart.rank(photos, "toy/conv", config=PLAIN, cache=cache)
    assert (found.record.learning, found.record.sealed, found.record.same_split) == (264, 66, True)
    run = headstart.fit(photos, out=tmp_path / "run", cache=cache, config=FitConfig(backbone="toy/conv"))
    looked = look(open_dataset(photos), PLAIN, cache, lambda event: None)
    assert tuple(looked.known.ids) == run.folder.load(SplitRecord).train
    assert (run.record.features.images, run.record.features.from_cache) == (330, 264)


def test_where_nothing_is_sealed_fit_finds_every_feature_in_the_cache(few, tmp_path):
    cache = tmp_path / "cache"
    headstart.rank(few, TOYS, config=PLAIN, cache=cache)
    run = headstart.fit(few, out=tmp_path / "run", cache=cache, config=FitConfig(backbone="toy/vit"))
    assert run.record.features.from_cache == run.record.features.images == 48


def test_a_second_ranking_computes_nothing_and_says_the_same(ranking, photos, cache):
    again = headstart.rank(photos, config=PLAIN, cache=cache).record
    assert again.cost.computed == 0 and again.cost.from_cache == 2 * 264
    assert [c.probe for c in again.candidates] == [c.probe for c in ranking.record.candidates]
    assert again.recommended == ranking.record.recommended


def test_an_interrupted_race_goes_on_from_the_cache(photos, tmp_path):
    def stop(event):
        if isinstance(event, Started) and event.what.startswith("toy/vit on"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        headstart.rank(photos, config=PLAIN, cache=tmp_path, observer=stop)
    again = headstart.rank(photos, config=PLAIN, cache=tmp_path).record
    assert (again.cost.computed, again.cost.from_cache) == (264, 264)


def test_a_polite_request_to_end_is_an_interrupt_and_only_inside():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), termination_as_interrupt():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_layers_are_lines_of_their_own_from_one_pass(photos, ranking, cache):
    from dataclasses import replace

    found = headstart.rank(photos, "toy/conv", config=replace(PLAIN, layers=True), cache=cache).record
    lines = {c.layer: c for c in found.candidates}
    assert "features" in lines and any(name.startswith("layer") for name in lines) and len(lines) >= 3
    assert found.cost.computed + found.cost.from_cache == 264
    plain = next(c for c in ranking.record.candidates if c.model == "toy/conv")
    assert lines["features"].probe.value == pytest.approx(plain.probe.value, abs=0.02)


def test_a_stage_that_gives_what_the_network_gives_is_not_listed_twice(photos, cache):
    from dataclasses import replace

    found = headstart.rank(photos, "toy/conv", config=replace(PLAIN, layers=True), cache=cache).record
    probes = [(c.probe.value, c.combined) for c in found.candidates]
    assert len(set(probes)) == len(probes) or "layer4:avg" not in {c.layer for c in found.candidates}


def test_candidates_that_cannot_run_are_rows_with_their_reason(headstart_rank, photos, tmp_path):
    checkpoint(tmp_path / "models" / "a-good")
    checkpoint(tmp_path / "models" / "b-nan", damage=lambda t: t * float("nan"))
    checkpoint(tmp_path / "models" / "b-overflow", damage=lambda t: t * 1e25)
    checkpoint(tmp_path / "models" / "c-constant", damage=lambda t: t * 0)
    (tmp_path / "models" / "d-empty").mkdir()
    broken = checkpoint(tmp_path / "models" / "e-cut") / "model.safetensors"
    broken.write_bytes(broken.read_bytes()[:1000])
    code, out, err = headstart_rank(
        photos, "--candidates-in", tmp_path / "models", "--candidates", "toy/vit", "--out", tmp_path / "r"
    )
    assert code == 0, err
    record = RunFolder(tmp_path / "r").load(RankRecord)
    by_name = {os.path.basename(c.model): c for c in record.candidates}
    assert by_name["a-good"].probe is not None and by_name["vit"].probe is not None
    for name, words in {
        "b-nan": "77 of 92 tensors hold NaN",
        "b-overflow": "NaN or infinite features",
        "c-constant": "constant",
        "d-empty": "no config.json",
        "e-cut": "CK",
    }.items():
        assert by_name[name].status == "failed" and words in by_name[name].why, by_name[name].why
        assert words in out


def test_where_all_fail_the_error_has_every_reason(photos, tmp_path, cache):
    checkpoint(tmp_path / "a", damage=lambda t: t * float("nan"))
    with pytest.raises(DataError, match=r"RK14 no candidate could be ranked:\n.*/a: .*NaN or infinity"):
        headstart.rank(photos, f"file:{tmp_path}/a", config=PLAIN, cache=cache)


def test_filters_that_leave_none_name_themselves(headstart_rank, photos):
    code, _, err = headstart_rank(photos, "--candidates", "toy/*", "--max-params", "100k")
    assert code == 2 and "--max-params 0.1M removed 2 (toy/conv, toy/vit)" in err
    code, _, err = headstart_rank(photos, "--candidates", "toy/*", "--max-ms", "0.0001")
    assert code == 2 and "--max-ms 0.0001 removed 2 (the fastest here, toy/" in err


def test_too_little_time_says_how_much_is_needed(headstart_rank, photos):
    code, _, err = headstart_rank(photos, "--candidates", "toy/*", "--time", "0.001s")
    assert code == 2 and "RK13" in err and "Give --time" in err


def test_time_to_spare_is_used_for_short_fine_tunes(photos, cache):
    from dataclasses import replace

    found = headstart.rank(photos, config=replace(PLAIN, time_s=90), cache=cache).record
    tuned = [c for c in found.candidates if c.tuned is not None]
    assert len(tuned) == 2 and all(c.tuned.n == 66 for c in tuned)
    assert "after a short fine-tuning" in found.sentence and found.cost.total < 95


def test_one_class_is_said_as_fit_says_it(headstart_rank, tmp_path):
    paint(tmp_path / "one", 20, classes=("red",))
    code, _, err = headstart_rank(tmp_path / "one", "--candidates", "toy/conv")
    assert code == 2 and "DA45 only one class ('red')" in err


def test_a_class_with_one_image_is_left_out_with_the_warning_of_fit(headstart_rank, few, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(few, data)
    (data / "rare").mkdir()
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(data / "rare" / "one.png")
    code, _, err = headstart_rank(data, "--candidates", "toy/conv", "--out", tmp_path / "r")
    assert code == 0 and "class 'rare' has 1 image" in err
    assert RunFolder(tmp_path / "r").load(RankRecord).rounds[-1].n == 48


@pytest.mark.parametrize("task", ["regression", "multi-label"])
def test_values_and_labels_are_ranked_by_what_is_explained(tmp_path, few, cache, task):
    paths = sorted(few.glob("*/*.png"))
    order = ["red", "green", "blue"]
    words = {"regression": lambda p: f"{order.index(p.parent.name)}.5", "multi-label": lambda p: f"{p.parent.name}|any"}
    rows = [f"{p},{words[task](p)}" for p in paths]
    table = tmp_path / "table.csv"
    table.write_text("path,target\n" + "\n".join(rows) + "\n")
    from dataclasses import replace

    from headstart.workflow.config import DataConfig

    data = DataConfig(target="target", task=task, allow_outside=True)
    found = headstart.rank(table, "toy/conv", config=replace(PLAIN, data=data), cache=cache).record
    assert found.score == "left-out R²" and -1 < found.candidates[0].probe.value < 1


def test_texts_are_ranked_too_but_not_their_layers(tmp_path, cache):
    from dataclasses import replace

    from headstart.workflow.config import DataConfig

    pytest.importorskip("transformers")
    rows = [f"the film was {('fine', 'dull')[i % 2]} on day {i},{('good', 'bad')[i % 2]}" for i in range(60)]
    (tmp_path / "t.csv").write_text("said,label\n" + "\n".join(rows) + "\n")
    texts = replace(PLAIN, data=DataConfig(text="said", target="label"))
    found = headstart.rank(tmp_path / "t.csv", "toy/text", config=texts, cache=cache).record
    assert found.candidates[0].probe.n == 60 and "left-out texts" in found.sentence
    with pytest.raises(DataError, match="RK11 --layers ranks stages of networks for images, and this data is texts"):
        headstart.rank(tmp_path / "t.csv", "toy/text", config=replace(texts, layers=True), cache=cache)


def test_own_runs_count_unless_they_had_the_same_data(finished, photos):
    runs = finished.parent if not hasattr(finished, "folder") else finished.folder.path.parent
    (found,) = finished_runs(runs)
    record = RunFolder(next(runs.glob("*/run.json")).parent)
    from headstart.records.run import RunRecord

    run = record.load(RunRecord)
    assert list(found.accuracy) == [run.backbone.name] and 0 < next(iter(found.accuracy.values())) <= 100
    assert finished_runs(runs, without=run.data_fingerprint) == []


def test_a_damaged_run_is_no_evidence(tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    assert finished_runs(tmp_path) == [] and finished_runs(tmp_path / "nowhere") == []


def test_a_run_that_goes_on_keeps_the_network_it_chose(ranking, photos, tmp_path):
    folder = RunFolder(tmp_path)
    folder.save(ranking.record)
    chosen = quick_choice(open_dataset(photos), FitConfig(backbone="auto"), folder, tmp_path, lambda event: None)
    assert chosen == ranking.record.recommended


def test_wrong_words_are_said_before_any_work(photos):
    with pytest.raises(DataError, match=r"RK11 no score 'logmee'. Did you mean 'logme'"):
        RankConfig(scores=("logmee",))
    with pytest.raises(DataError, match="RK13"):
        RankConfig(time_s=0)
    with pytest.raises((DataError, PlanError)):
        headstart.rank(photos, [], config=RankConfig(candidates_in="/nowhere"))


@pytest.fixture
def headstart_rank(headstart, cache):
    def command(*words):
        return headstart("rank", *words, "--cache", cache, "--no-own-runs")

    return command
