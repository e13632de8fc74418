"""What the report says equals what the records say."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from report_runs import NAN, THREE, VARIANTS, fine_tuned, name_of, three_classes

from headstart.base.errors import DataError
from headstart.data.words import IMAGES, TEXTS
from headstart.records.audit import Audit, SplitRecord
from headstart.records.estimate import Estimate
from headstart.records.evaluation import Evaluation
from headstart.records.heads import HeadRecord
from headstart.records.run import RunFolder, RunRecord
from headstart.report import html, wording
from headstart.report.contents import confusion, contents


def test_the_answer_is_the_headline_of_the_evaluation(ordinary: RunFolder) -> None:
    page, e = contents(ordinary), ordinary.load(Evaluation)
    assert page["answer"]["score"]["value"] == e.score.value
    assert page["answer"]["score"]["n"] == 400
    assert page["answer"]["headline"] == "376 of 400 images named correctly."
    assert e.score.value == 376 / 400
    assert page["answer"]["verdict"]["sentence"] == e.verdict.sentence
    assert [b["gain"]["value"] for b in page["answer"]["baselines"]] == [b.gain.value for b in e.baselines]


def test_every_metric_is_there_once_and_the_headline_first(ordinary: RunFolder) -> None:
    e = ordinary.load(Evaluation)
    shown = contents(ordinary)["results"]["metrics"]
    assert shown[0]["key"] == e.headline and shown[0]["is_headline"]
    assert {m["key"]: m["estimate"]["value"] for m in shown} == {k: v.value for k, v in e.metrics.items()}


def test_metrics_we_have_no_words_for_are_shown_by_their_key(tmp_path: Path) -> None:
    run = three_classes(tmp_path / "run")
    e = run.load(Evaluation)
    run.save(replace(e, metrics={**e.metrics, "kendall_tau": Estimate(0.4, 0.3, 0.5, 400)}))
    assert "kendall tau" in [m["name"] for m in contents(run)["results"]["metrics"]]
    assert "kendall tau" in html.render(contents(run))


def test_estimates_stand_in_the_page_as_estimate_prints_them(ordinary: RunFolder) -> None:
    text = " ".join(html.render(contents(ordinary)).replace("</span>", "").split())
    e = ordinary.load(Evaluation)
    for estimate in [*e.metrics.values(), *(c.recall for c in e.per_class), *(c.f1 for c in e.per_class)]:
        value, interval = str(estimate).split(", n = ")[0].split(" ", 1)
        assert value in text and interval in text


def test_counts_of_the_split_and_the_audit_are_shown(ordinary: RunFolder) -> None:
    page, audit, split = contents(ordinary), ordinary.load(Audit), ordinary.load(SplitRecord)
    assert {r["name"]: (r["train"], r["test"]) for r in page["data"]["balance"]["rows"]} == {
        name: (split.counts_train[name], split.counts_test[name]) for name in THREE
    }
    assert [q["id"] for q in page["data"]["quarantined"]] == [q.id for q in audit.quarantined]
    assert (page["data"]["split"]["train"], page["data"]["split"]["test"]) == (len(split.train), len(split.test))
    assert [f["severity"] for f in page["data"]["findings"]] == ["warning", "note", "note"]


def test_heads_are_sorted_best_first_and_the_kept_one_is_marked(ordinary: RunFolder) -> None:
    trials = contents(ordinary)["heads"]["trials"]
    scores = [t["score"]["value"] for t in trials]
    assert scores == sorted(scores, reverse=True)
    assert [t["name"] for t in trials if t["is_kept"]] == ["Ridge regression"]


def test_heads_judged_by_an_error_are_sorted_lowest_first(tmp_path: Path) -> None:
    trials = contents(VARIANTS["regression"](tmp_path / "run"))["heads"]["trials"]
    assert [t["score"]["value"] for t in trials] == [12.4, 15.1]


def test_commonest_mistakes_are_the_largest_cells_off_the_diagonal() -> None:
    c = confusion(("a", "b", "c"), ((5, 2, 0), (4, 6, 0), (0, 1, 9)))
    assert c is not None
    assert [(p["target"], p["predicted"], p["count"]) for p in c["pairs"]] == [
        ("b", "a", 4),
        ("a", "b", 2),
        ("c", "b", 1),
    ]
    assert c["pairs"][0]["share"] == 0.4
    assert c["wrong"] == 7 and c["totals"] == [7, 10, 10]


def test_a_class_without_images_has_no_share_and_breaks_nothing() -> None:
    c = confusion(("a", "b"), ((0, 0), (1, 6)))
    assert c is not None and c["totals"][0] == 0
    assert c["pairs"] == [{"target": "b", "predicted": "a", "count": 1, "share": 1 / 7}]


def test_many_classes_are_listed_worst_first(tmp_path: Path) -> None:
    page = contents(VARIANTS["many_classes"](tmp_path / "run"))
    f1 = [c["f1"]["value"] for c in page["results"]["per_class"]]
    assert f1 == sorted(f1) and len(f1) == 40


@pytest.mark.parametrize("variant", VARIANTS)
def test_contents_are_plain_values(variant: str, tmp_path: Path) -> None:
    page = contents(VARIANTS[variant](tmp_path / "run"))
    assert json.loads(json.dumps(page)).keys() == page.keys()


def test_cross_validation_is_said_in_words(tmp_path: Path) -> None:
    text = html.render(contents(VARIANTS["cross_validated"](tmp_path / "run")))
    assert "every image was judged by models that had not learnt from it" in text
    assert "each predicted by a model that had not seen it" in text
    assert "held-out" not in text


def test_a_multi_label_run_has_labels_and_no_confusion_matrix(tmp_path: Path) -> None:
    page = contents(VARIANTS["multilabel"](tmp_path / "run"))
    assert page["results"]["confusion"] is None and page["results"]["unit"] == "label"
    assert page["answer"]["headline"] == "F1 (macro) 0.871 on 400 images."
    assert "By label" in html.render(page)


def test_a_regression_run_shows_its_errors(tmp_path: Path) -> None:
    text = html.render(contents(VARIANTS["regression"](tmp_path / "run")))
    assert "RMSE" in text and "12.40" in text and "MAE" in text and "R²" in text
    assert "What is taken for what" not in text and "lower is better" in text


MISSING = [
    ("run",),
    ("audit",),
    ("split",),
    ("heads",),
    ("evaluation",),
    ("pictures",),
    ("run", "evaluation"),
    ("audit", "split", "heads"),
    ("ladder",),
    ("ladder", "evaluation"),
    ("run", "audit", "split", "heads", "evaluation", "pictures"),
]


@pytest.mark.parametrize("names", MISSING, ids="+".join)
def test_a_missing_record_only_takes_its_section_away(names: tuple[str, ...], tmp_path: Path) -> None:
    run = fine_tuned(tmp_path / "run")
    for name in names:
        getattr(run, name).unlink()
    text = html.render(contents(run))
    assert ('id="finetuning"' in text) == ("ladder" not in names)
    assert ('id="repeat"' in text) == ("run" not in names)
    assert ('id="results"' in text) == ("evaluation" not in names)
    assert "<img" in text or "pictures" in names or "evaluation" in names


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    run = three_classes(tmp_path / "run")
    run.save(replace(run.load(RunRecord), status="running"))
    run.evaluation.unlink()
    page = contents(run)
    assert page["answer"]["headline"].startswith("A head is chosen")
    assert "Start the same command again" in page["answer"]["next"][0]["text"]
    assert not page["title"]["is_finished"]


def test_what_is_not_defined_prints_as_a_dash(tmp_path: Path) -> None:
    run = three_classes(tmp_path / "run")
    e = run.load(Evaluation)
    nothing = Estimate(NAN, NAN, NAN, 0)
    first = replace(e.per_class[0], support=0, precision=nothing, recall=nothing, f1=nothing)
    run.save(replace(e, per_class=(first, *e.per_class[1:]), metrics={**e.metrics, "accuracy": nothing}))
    heads = run.load(HeadRecord)
    run.save(replace(heads, trials=tuple(replace(t, scores={}, difference=nothing) for t in heads.trials)))
    text = html.render(contents(run))
    assert not re.search(r"\bnan\b", re.sub(r'src="[^"]*"', "", text), re.IGNORECASE)
    assert '<span class="value">–</span>' in text
    assert "Accuracy is not defined on these 400 images." in text


def test_pictures_that_are_missing_leave_a_placeholder_with_the_name(ordinary: RunFolder) -> None:
    issues = contents(ordinary)["labels"]
    assert issues[-1]["picture"]["shown"] is None and issues[0]["picture"]["shown"] is not None
    assert f'<span class="missing">{issues[-1]["picture"]["name"]}</span>' in html.render(contents(ordinary))


NOT_PICTURES = [
    "data:text/html;base64,PHNjcmlwdD4=",
    "data:image/svg+xml;base64,PHN2Zz4=",
    'data:image/png;base64,AAAA" onerror="alert(1)',
    "https://example.org/a.png",
    "javascript:alert(1)",
    "data:image/png;base64," + "A" * 300_000,
    17,
    None,
]


@pytest.mark.parametrize("uri", NOT_PICTURES, ids=range(len(NOT_PICTURES)))
def test_only_small_images_pass_as_pictures(uri: object, tmp_path: Path) -> None:
    run = three_classes(tmp_path / "run")
    id = name_of("global", 1)
    run.pictures.write_text(json.dumps({"pictures": {id: {"shown": uri}}, "samples": {"global": [id]}}))
    assert contents(run)["data"]["samples"][0]["pictures"] == [
        {
            "name": id,
            "shown": None,
            "seen": None,
            "text": None,
            "marks": [],
            "cells": [],
            "is_sound": False,
            "sound": None,
        }
    ]


@pytest.mark.parametrize("text", ["{", "[]", '{"pictures": []}', '{"samples": 3}'])
def test_a_damaged_pictures_file_is_named(text: str, tmp_path: Path) -> None:
    run = three_classes(tmp_path / "run")
    run.pictures.write_text(text)
    with pytest.raises(DataError, match=r"CF24 .*pictures\.json"):
        contents(run)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    run = three_classes(tmp_path / "run")
    run.heads.write_text(run.heads.read_text().replace('"chosen"', '"choosen"'))
    with pytest.raises(DataError, match=r"CF23 heads\.json: unknown key 'choosen'"):
        contents(run)


def test_thumbnails_are_bounded_whatever_the_number_of_classes(tmp_path: Path) -> None:
    page = contents(VARIANTS["many_classes"](tmp_path / "run"))
    assert sum(len(row["pictures"]) for row in page["data"]["samples"]) <= 96


def test_texts_are_shown_with_the_words_that_moved_the_model(tmp_path: Path) -> None:
    run = three_classes(tmp_path / "run")
    id = name_of("global", 1)
    marks = [["a ", 0.001], ["very ", 0.05], ["good ", 0.2], ["day", -0.1]]
    entry = {"text": "a very good day <b>", "marks": marks}
    run.pictures.write_text(json.dumps({"pictures": {id: entry}, "samples": {"global": [id]}}))
    (shown,) = contents(run)["data"]["samples"][0]["pictures"]
    assert shown["text"] == "a very good day <b>" and shown["shown"] is None
    assert [m["level"] for m in shown["marks"]] == [0, 1, 3, -2]
    page = html.render(contents(run))
    assert "a very good day &lt;b&gt;" in page or "good </mark>" in page


@pytest.mark.parametrize("marks", [[["a"]], [[1, 2]], "abc", {"a": 1}, [["a", "b"]]])
def test_marks_that_are_none_are_left_out(marks: object, tmp_path: Path) -> None:
    run = three_classes(tmp_path / "run")
    id = name_of("global", 1)
    run.pictures.write_text(json.dumps({"pictures": {id: {"text": "a", "marks": marks}}, "samples": {"global": [id]}}))
    assert contents(run)["data"]["samples"][0]["pictures"][0]["marks"] == []


def test_sentences_about_images_are_said_of_texts_and_names_from_data_stay() -> None:
    said = wording.spoken("The images of 'picture' are no image. An image counts.", TEXTS)
    assert said == "The texts of 'picture' are no text. A text counts."
    assert wording.spoken("An image of a picture.", IMAGES) == "An image of a picture."
