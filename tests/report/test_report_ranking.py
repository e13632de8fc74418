"""The page of a ranking."""

import re
from dataclasses import replace

import html5lib
import pytest
from report_runs import three_classes

from headstart.records.estimate import Estimate
from headstart.records.ranking import RankCost, RankedCandidate, RankRecord, RankRound
from headstart.report.contents import contents as run_contents
from headstart.report.html import render
from headstart.report.plots import log_scale
from headstart.report.ranking import contents, points, write_ranking


def candidate(name, probe, images_per_s, **facts):
    e = Estimate(probe, probe - 0.02, probe + 0.02, 500)
    return RankedCandidate(name, "features", "kept", probe=e, rounds=1, images_per_s=images_per_s, **facts)


RECORD = RankRecord(
    schema=1,
    command="headstart rank photos",
    data="photos",
    data_fingerprint="f",
    task="classification",
    score="left-out accuracy",
    k=3,
    seed=0,
    created="2026-01-02T03:04:05Z",
    learning=500,
    sealed=125,
    same_split=True,
    split="125 sealed",
    candidates=(
        replace(
            candidate("a", 0.9, 50, licence="MIT", parameters=3_000_000, weights_bytes=12_000_000), status="recommended"
        ),
        candidate("b", 0.8, 100),
        candidate("c", 0.7, 60),
        RankedCandidate("d", "features", "failed", why="CK05 cut off"),
        RankedCandidate("e", "features", "not fetched", here=False, why="not on this machine", how_to_get="pip it"),
    ),
    rounds=(RankRound(500, 5, 0, 12.0),),
    recommended="a",
    sentence="Take a: because.",
    budget_s=None,
    cost=RankCost(1.0, 0.5, 2.0, 10.0, 0.3, 0.0, 14.0, 2500, 0, {"a": 3.0}),
    versions={},
    machine={},
    notes=("a note",),
)


def page(tmp_path, record=RECORD):
    return write_ranking(tmp_path, record).read_text()


def test_the_front_holds_what_no_other_beats_in_both():
    found = {p["name"]: p["on_front"] for p in points(RECORD.candidates[:3])}
    assert found == {"a": True, "b": True, "c": False}


def test_points_that_are_equal_are_both_on_the_front():
    found = points([candidate("a", 0.9, 50), candidate("b", 0.9, 50)])
    assert [p["on_front"] for p in found] == [True, True]


def test_who_left_earlier_was_judged_on_fewer_examples_and_is_not_drawn():
    early = replace(candidate("early", 0.95, 500), rounds=1, status="dropped")
    late = replace(candidate("late", 0.9, 50), rounds=2)
    assert [p["name"] for p in points([late, early])] == ["late"]


def test_every_candidate_its_reason_and_the_recommendation_are_on_the_page(tmp_path):
    text = page(tmp_path)
    for words in ("Take a: because.", "take this", "CK05 cut off", "pip it", "0.900", "11.4 MiB", "A note."):
        assert words in text


def test_the_page_is_valid_and_runs_nothing(tmp_path):
    text = page(tmp_path)
    html5lib.HTMLParser(strict=True).parse(text)
    assert "<script" not in text and not re.search(r"(src|href)=\"(?!#|data:)", text)
    assert "default-src 'none'" in text


def test_names_from_data_are_no_markup_and_paths_are_cut(tmp_path):
    evil = replace(RECORD, data="/home/user/<b>photos</b>", sentence="Take <script>alert(1)</script>")
    text = page(tmp_path, evil)
    assert "<script>alert" not in text and "<b>photos" not in text and "/home/user" not in text


def test_a_ranking_of_one_has_a_page_too(tmp_path):
    assert "Quality and cost" in page(tmp_path, replace(RECORD, candidates=RECORD.candidates[:1]))


def test_contents_number_the_rows_as_the_plot_does():
    found = contents(RECORD)
    assert [(r["number"], r["model"]) for r in found["rows"]] == [(p["number"], p["name"]) for p in found["points"]]


@pytest.mark.parametrize("values", [[10.0], [1.0, 1000.0], [0.02, 0.05]])
def test_a_log_scale_holds_its_values_inside(values):
    scale = log_scale(values)
    places = [scale.at(v) for v in values]
    assert all(0 < p < 100 for p in places) and places == sorted(places)
    assert all(scale.low <= t <= scale.high for t in scale.ticks)


def test_the_report_of_a_run_shows_the_ranking_that_chose_its_network(tmp_path):
    run = three_classes(tmp_path)
    assert 'id="choice"' not in render(run_contents(run))
    run.save(replace(RECORD, modality="text"))
    shown = render(run_contents(run))
    assert 'href="#choice"' in shown and "Take a: because." in shown and "Texts/s" in shown
    section = shown[shown.index('id="choice"') :]
    assert section.index(">a <b") < section.index(">b<") < section.index("CK05 cut off")
    html5lib.HTMLParser(strict=True).parse(shown)
