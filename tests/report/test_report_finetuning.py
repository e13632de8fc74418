"""What came after the probe, told as the ladder's record has it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_page import parsed, words
from report_runs import (
    EVERY,
    LAST,
    VARIANTS,
    a_ladder,
    a_phase,
    a_plan,
    candidates,
    cross_validated,
    fine_tuned,
    the_probe,
    three_classes,
)

from headstart.base.errors import DataError
from headstart.records.estimate import Estimate
from headstart.records.ladder import LadderRecord
from headstart.records.run import RunFolder, RunRecord
from headstart.report import html
from headstart.report.contents import contents
from headstart.report.plans import changes_network, plan_words, rate_words, stages_in_words


def section(variant: str, folder: Path) -> dict[str, Any]:
    found = contents(VARIANTS[variant](folder / variant))["finetuning"]
    assert isinstance(found, dict)
    return found


def told(run: RunFolder, **changes: object) -> dict[str, Any]:
    """The section after its ladder was changed."""
    run.save(replace(run.load(LadderRecord), **changes))  # type: ignore[arg-type]
    found = contents(run)["finetuning"]
    assert isinstance(found, dict)
    return found


def test_a_run_without_a_ladder_has_no_section(ordinary: RunFolder) -> None:
    page = contents(ordinary)
    assert page["finetuning"] is None
    assert "Fine-tuning" not in words(parsed(html.render(page)))


# --- the sentence on top ------------------------------------------------------------------------------------------


def test_the_lead_says_what_was_gained_and_what_was_not(tmp_path: Path) -> None:
    assert section("fine_tuned", tmp_path)["lead"] == (
        "Fine-tuning the last 3 stages (3 times the rate) raised accuracy by 0.062 [0.031, 0.094] over the frozen "
        "probe on 480 training images it had not learnt from; fine-tuning the whole network gained nothing beyond "
        "noise."
    )


def test_each_rung_that_was_climbed_has_its_own_gain(tmp_path: Path) -> None:
    run = fine_tuned(tmp_path / "run")
    rungs = run.load(LadderRecord).rungs
    full = replace(rungs[2], kept=True, gain=Estimate(0.02, 0.004, 0.036, 480, 0.9))
    lead = told(run, rungs=(*rungs[:2], full), kept="full")["lead"]
    assert "by 0.062 [0.031, 0.094] over the frozen probe" in lead
    assert lead.endswith("; fine-tuning the whole network raised accuracy by 0.020 [0.004, 0.036] beyond that.")


def test_an_error_is_lowered_and_not_raised(tmp_path: Path) -> None:
    lead = section("regression_tuned", tmp_path)["lead"]
    assert "lowered RMSE by 1.900 [1.100, 2.600] over the frozen probe" in lead


def test_a_climb_in_vain_says_how_little_it_gained(tmp_path: Path) -> None:
    found = section("probe_stays", tmp_path)
    assert found["lead"].startswith("Fine-tuning did not beat the frozen probe by more than noise")
    assert "changed accuracy by +0.004 [−0.010, +0.018] on 480 training images" in found["lead"]
    assert found["saved"] == "" and found["plan"] is None and found["curve"] is None


def test_a_rung_without_time_is_named_with_its_reason(tmp_path: Path) -> None:
    found = section("no_time", tmp_path)
    assert found["lead"].startswith("Fine-tuning was not tried for want of time")
    text = words(parsed(html.render(contents(VARIANTS["no_time"](tmp_path / "again")))))
    assert text.count("It needs about 4 min more than the probe; give more with --time.") == 1
    assert "The climb ended at ‘last stages’, for the reason given there." in text


def test_a_climb_that_never_began_says_why(tmp_path: Path) -> None:
    run = fine_tuned(tmp_path / "run")
    why = "the probe makes fewer than 2 errors on 480 rows: nothing to gain"
    found = told(run, rungs=(the_probe(1.0),), kept="probe", stopped=why, history=None)
    assert found["lead"] == "Fine-tuning was not tried, so the frozen network with its head was kept."
    assert found["stopped"] == why


def test_a_strategy_that_was_asked_for_is_not_called_better(tmp_path: Path) -> None:
    found = section("by_name", tmp_path)
    assert found["lead"] == (
        "The strategy ‘lp-ft’ was asked for by name and carried out: first the head, then everything at a lower rate; "
        "a good first choice."
    )
    assert found["is_asked"] and found["saved"] == ""
    text = html.render(contents(VARIANTS["by_name"](tmp_path / "again")))
    assert 'class="rungs"' not in text and "Why it stopped" not in text


def test_the_test_images_have_the_last_word(tmp_path: Path) -> None:
    assert section("fine_tuned", tmp_path)["on_test"] == (
        "On 400 held-out test images: accuracy 0.940, and 0.918 with the same network frozen, a gain of +0.022 "
        "[+0.003, +0.041], McNemar p = 0.031."
    )
    assert section("probe_stays", tmp_path)["on_test"] == ""


def test_without_test_images_none_are_spoken_of(tmp_path: Path) -> None:
    run = cross_validated(tmp_path / "run")
    run.save(a_ladder())
    assert "The test images had no say" not in html.render(contents(run)).partition('id="finetuning"')[2]
    assert "The test images had no say." in html.render(contents(fine_tuned(tmp_path / "other")))


# --- rungs and screening ------------------------------------------------------------------------------------------


def test_rungs_stand_from_the_probe_upward_with_their_numbers(tmp_path: Path) -> None:
    run = fine_tuned(tmp_path / "run")
    page, record = contents(run), run.load(LadderRecord)
    rows = page["finetuning"]["rungs"]
    assert [r["name"] for r in rows] == [r.name for r in record.rungs] == ["probe", "last stages", "full"]
    assert [r["score"]["value"] for r in rows] == [r.score.value for r in record.rungs if r.score]
    assert [r["gain"] and r["gain"]["low"] for r in rows] == [r.gain and r.gain.low for r in record.rungs]
    assert [r["is_kept"] for r in rows] == [False, True, False]
    text = words(parsed(html.render(page)))
    assert "+0.062 [+0.031, +0.094]" in text and "90\u00a0% intervals" in text and "3 min 34 s" in text
    assert "It took 13 min 58 s of the 20 min given." in text


def test_time_beyond_the_limit_is_not_said_to_be_within_it(tmp_path: Path) -> None:
    run = fine_tuned(tmp_path / "run")
    assert told(run, seconds=54.3, budget_s=44.0)["time"] == "It took 54 s; 44 s were given."
    assert told(run, seconds=54.3, budget_s=None)["time"] == "It took 54 s; no limit was set."


def test_the_share_of_the_tuned_weights_is_said_in_words(tmp_path: Path) -> None:
    half = "What is saved lies 50\u00a0% of the way from the loaded to the tuned weights (WiSE-FT)"
    assert section("fine_tuned", tmp_path)["saved"].startswith(half)
    assert "saved as they are" in section("regression_tuned", tmp_path)["saved"]


def test_candidates_stand_by_round_with_their_fate(tmp_path: Path) -> None:
    (screening,) = section("fine_tuned", tmp_path)["screenings"]
    assert screening["rounds"] == 2 and screening["lowest"] == [0.388, 0.331]
    fates = {row["name"]: row["fate"] for row in screening["rows"]}
    assert fates == {
        "last 3 stages": "dropped after round 2",
        "last 3 stages, 3 times the rate": "trained in full",
        "last 6 stages": "dropped after round 1",
        "last 3 stages, L2-SP": "dropped after round 1",
    }
    assert [c and c["loss"] for c in screening["rows"][0]["rounds"]] == [0.412, 0.347]
    assert [c and c["loss"] for c in screening["rows"][2]["rounds"]] == [0.431, None]


def test_a_candidate_is_dropped_after_its_last_round_however_earlier_rounds_are_marked(tmp_path: Path) -> None:
    run = fine_tuned(tmp_path / "run")
    rungs = run.load(LadderRecord).rungs
    marked = tuple(replace(c, dropped=c.name != "last 3 stages, 3 times the rate") for c in candidates())
    (screening,) = told(run, rungs=(rungs[0], replace(rungs[1], candidates=marked), rungs[2]))["screenings"]
    assert [row["fate"] for row in screening["rows"]][:2] == ["dropped after round 2", "trained in full"]


def test_long_reasons_and_names_do_not_widen_the_page(tmp_path: Path) -> None:
    """The reason has a row of its own, which folds on a phone; the browser's test measures it."""
    run = fine_tuned(tmp_path / "run")
    rungs = run.load(LadderRecord).rungs
    run.save(a_ladder(rungs=(rungs[0], replace(rungs[1], reason="because " * 100, what="w" * 200))))
    root = parsed(html.render(contents(run)))
    rows = [e for e in root.iter("tr") if e.get("class") == "why"]
    assert len(rows) == 2 and all(cell.get("colspan") == "5" for row in rows for cell in row)


# --- the plan -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["blocks.5", "blocks.6", "top"], "blocks.5, blocks.6, top"),
        (["top", "stem", *(f"blocks.{i}" for i in (10, 9, 8, 11))], "stem, blocks.8 … blocks.11, top"),
        (["layer4", "layer3", "layer2"], "layer2 … layer4"),
        (["blocks.0", "blocks.1", "blocks.2", "blocks.7"], "blocks.0 … blocks.2, blocks.7"),
        ([f"stage{i}.x" for i in range(9)], "9 stages"),
        ([], ""),
    ],
)
def test_stages_in_a_row_are_read_as_a_range(names: list[str], expected: str) -> None:
    assert stages_in_words(names) == expected
    assert stages_in_words(names[::-1]) == expected


def test_phases_say_what_learns_at_which_rates(tmp_path: Path) -> None:
    plan = section("by_name", tmp_path)["plan"]
    assert [(p["number"], p["learns"], p["rates"], p["head_rate"], p["steps"]) for p in plan["phases"]] == [
        (1, "head", "–", "1e-3", 60),
        (2, "stem, blocks.0 … blocks.6, top, head", "1e-6 … 3e-4", "1e-3", 360),
    ]


def test_what_holds_for_the_whole_plan_is_listed(tmp_path: Path) -> None:
    facts = {f["name"]: f["text"] for f in section("fine_tuned", tmp_path)["plan"]["facts"]}
    assert facts == {
        "Batch": "32 images",
        "Head": "starts from the probe’s",
        "Optimiser": "AdamW, weight decay 0.05, gradients clipped at 1",
        "Schedule": "cosine after 10\u00a0% warm-up",
        "Loss": "the task’s own",
        "Penalties": "L2-SP 0.01",
        "Augmentation": "none: images as they are",
    }


def test_choices_of_every_kind_have_words() -> None:
    plan = a_plan(
        "lora",
        phases=[
            a_phase("a", 1, LAST, only="added"),
            a_phase("b", 2, EVERY, penalties=[{"kind": "bss", "weight": 0.001}]),
        ],
        head={"start": "probe", "hidden": [64, 32], "dropout": 0.2},
        surgery=[{"kind": "lora", "rank": 8, "alpha": 16.0, "where": "all"}],
        optimizer={"kind": "sgd", "weight_decay": 0.0, "momentum": 0.9, "nesterov": True},
        loss={"kind": "cross-entropy", "label_smoothing": 0.1, "balanced": "softmax", "mixup": 0.2},
        augment="trivial",
        views=4,
        ema=0.1,
        patience=3,
    )
    found = plan_words(plan)
    assert found["phases"][0]["learns"] == "what was added to blocks.5, blocks.6, top, head"
    facts = {f["name"]: f["text"] for f in found["facts"]}
    assert facts["Head"] == "starts at random, 64 hidden, 32 hidden, dropout 0.2"
    assert facts["Surgery"] == "LoRA of rank 8 in all layers"
    assert facts["Optimiser"] == "SGD, momentum 0.9 (Nesterov), no weight decay, gradients clipped at 1"
    assert facts["Loss"] == "cross-entropy, label smoothing 0.1, mixup 0.2, balanced softmax"
    assert facts["Penalties"] == "a: none; b: BSS 0.001"
    assert facts["Augmentation"] == "trivial; 4 views of each image, drawn once"
    assert facts["Weights"] == "running mean, half-life 10\u00a0% of the steps"
    assert facts["Early end"] == "after 3 validations without improvement"


def test_our_own_plans_are_read_whole() -> None:
    """adapt.plan is the other end of the contract; the report reads only its values."""
    from headstart.adapt.plan import Phase, Plan
    from headstart.base.config import to_dict

    found = plan_words(json.loads(json.dumps(to_dict(Plan("x", (Phase("p", 7, {"head": 1e-3, "stem": 1e-5}),))))))
    assert found["phases"][0]["learns"] == "stem, head" and found["steps"] == 7
    assert {"Batch", "Head", "Optimiser", "Schedule", "Loss", "Augmentation"} <= {f["name"] for f in found["facts"]}


def test_a_plan_of_the_future_still_prints() -> None:
    found = plan_words(a_plan(optimizer={"kind": "lion"}, loss={"kind": "focal"}, surgery=[{"kind": "prefix"}]))
    text = json.dumps(found)
    assert "lion" in text and "focal" in text and "prefix" in text


@pytest.mark.parametrize("phases", ["none", [3], [{"name": "x"}], [{"name": "x", "steps": "3", "lr": {}}]])
def test_a_damaged_plan_is_named(phases: object, tmp_path: Path) -> None:
    run = fine_tuned(tmp_path / "run")
    rungs = run.load(LadderRecord).rungs
    run.save(a_ladder(rungs=(rungs[0], replace(rungs[1], plan=a_plan(phases=phases)))))
    with pytest.raises(DataError, match=r"CF23 ladder\.json: 'phases' of a plan"):
        contents(run)


@pytest.mark.parametrize(
    ("rate", "expected"), [(1e-3, "1e-3"), (7.71e-5, "7.7e-5"), (0.01, "0.01"), (0.3, "0.3"), (float("nan"), "–")]
)
def test_rates_are_short(rate: float, expected: str) -> None:
    assert rate_words(rate) == expected


def test_a_network_is_changed_where_more_than_the_head_learns() -> None:
    assert changes_network(a_plan()) and changes_network(None)
    assert not changes_network(a_plan(phases=[a_phase("head", 5, {"head": 1e-3})]))


# --- the rest of the page stays true ------------------------------------------------------------------------------


def test_the_page_no_longer_says_that_the_network_was_not_changed(tmp_path: Path) -> None:
    tuned = words(parsed(html.render(contents(fine_tuned(tmp_path / "a")))))
    plain = words(parsed(html.render(contents(three_classes(tmp_path / "b")))))
    assert "which was not changed" in plain and "which was not changed" not in tuned
    assert "(T = 0.71)" in plain and "(T = 0.71)" not in tuned  # the temperature of the probe
    assert "Tuned weights" in tuned and "limit of time" in tuned and "limit of time" not in plain


def test_training_only_the_head_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    run = VARIANTS["by_name"](tmp_path / "run")
    rung = run.load(LadderRecord).rungs[0]
    plan = a_plan("linear-probe", phases=[a_phase("head", 60, {"head": 1e-3})])
    told(run, rungs=(replace(rung, name="linear-probe", plan=plan),), kept="linear-probe")
    assert "which was not changed" in words(parsed(html.render(contents(run))))


def test_the_facts_name_what_was_tuned(tmp_path: Path) -> None:
    def facts(variant: str) -> dict[str, str]:
        page = contents(VARIANTS[variant](tmp_path / variant))
        return {f["name"]: f["text"] for f in page["title"]["facts"]}

    assert facts("fine_tuned")["Tuned"] == "last stages" and facts("by_name")["Tuned"] == "lp-ft"
    assert "Tuned" not in facts("probe_stays")


def test_a_run_stopped_after_the_climb_says_how_far_it_is(tmp_path: Path) -> None:
    run = fine_tuned(tmp_path / "run")
    run.save(replace(run.load(RunRecord), status="running"))
    run.evaluation.unlink()
    assert contents(run)["answer"]["headline"].startswith("The model is trained")


def test_the_training_is_told_in_steps_images_and_time(tmp_path: Path) -> None:
    assert section("fine_tuned", tmp_path)["curve"]["sentence"] == (
        "411 steps of 32 images, in 70 s (187.3 images per second)."
    )
    found = section("by_name", tmp_path)["curve"]
    assert found["sentence"].startswith("300 of 420 planned steps of 32 images, in 51 s")
    assert (
        "It ended early: the validations had stopped improving. The weights after step 210 did best"
        in found["sentence"]
    )
    run = fine_tuned(tmp_path / "run")
    history = run.load(LadderRecord).history
    assert history is not None
    small = told(run, history=replace(history, micro_batch=8, stopped_because="time"))["curve"]["sentence"]
    assert "32 images, 8 at a time for want of memory" in small and "It ended at the limit of time." in small


def test_a_history_without_steps_draws_nothing(tmp_path: Path) -> None:
    run = fine_tuned(tmp_path / "run")
    history = run.load(LadderRecord).history
    assert history is not None
    run.save(a_ladder(history=replace(history, steps=(), phases=())))
    assert 'class="losses"' not in html.render(contents(run))


def test_scores_that_are_not_defined_print_as_a_dash(tmp_path: Path) -> None:
    run = fine_tuned(tmp_path / "run")
    nothing = Estimate(float("nan"), float("nan"), float("nan"), 0)
    rungs = (the_probe(), replace(run.load(LadderRecord).rungs[2], score=nothing, gain=nothing))
    run.save(a_ladder(rungs=rungs, kept="probe"))
    text = html.render(contents(run))
    assert not re.search(r"\bnan\b", re.sub(r'src="[^"]*"', "", text), re.IGNORECASE)
