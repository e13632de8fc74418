"""What transfer was worth, told as the record of the proof has it."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from report_page import parsed, words
from report_runs import VARIANTS, a_curve, a_plan, a_proof, estimate, proved, worth

from headstart.records.proof import PowerLaw, ProofRecord
from headstart.records.run import RunFolder
from headstart.report import html, plots
from headstart.report.contents import contents
from headstart.report.plans import plan_words
from headstart.report.proof import worth_words


def section(run: RunFolder, **changes: object) -> dict[str, Any]:
    run.save(replace(run.load(ProofRecord), **changes))  # type: ignore[arg-type]
    found = contents(run)["proof"]
    assert isinstance(found, dict)
    return found


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return proved(tmp_path / "run")


def text_of(run: RunFolder) -> str:
    return words(parsed(html.render(contents(run))))


def test_a_run_without_a_proof_has_no_section(ordinary: RunFolder) -> None:
    assert contents(ordinary)["proof"] is None
    assert "What transfer was worth" not in text_of(ordinary)


def test_the_sentence_of_the_record_leads(run: RunFolder) -> None:
    assert section(run)["sentence"] == a_proof().sentence
    assert a_proof().sentence in text_of(run)


def test_every_rival_stands_with_its_interval_and_what_it_took(run: RunFolder) -> None:
    random, short, long = section(run)["rivals"]
    assert random["training"] == "" and random["worth"] == "16 × or more"
    assert short["name"] == "Trained from scratch" and short["worth"] == "9.2 × [6.6, 13]"
    assert long["training"] == "7 min 35 s, 4,500 steps, 90.2 passes" and long["worth"] == "6.1 × [4.2, 9]"
    assert [r["is_hardest"] for r in (random, short, long)] == [False, False, True]
    text = text_of(run)
    assert "+0.127 [+0.087, +0.167]" in text and "0.806" in text


@pytest.mark.parametrize(
    ("multiplier", "said"),
    [
        (worth(6.1, 4.2, 9), "6.1 × [4.2, 9]"),
        (worth(12, 8.5, 16), "12 × [8.5, 16 or more]"),
        (worth(1.4, 1, 2.2), "1.4 × [1 or less, 2.2]"),
        (worth(16, 11.7, 16, "at least"), "11 × or more"),
        (worth(1, 1, 1, "at most"), "1 × or less"),
        (worth(3, 1, 16, "cannot be told"), "cannot be told"),
        (None, "–"),
    ],
)
def test_a_multiplier_says_how_sure_it_is(multiplier: Any, said: str) -> None:
    assert worth_words(multiplier) == said


def test_negative_transfer_is_named_and_the_rival_that_won_is_marked(tmp_path: Path) -> None:
    harmed = VARIANTS["harmed"](tmp_path / "harmed")
    page = html.render(contents(harmed))
    text = words(parsed(page))
    assert page.count('class="warning"><b class="tag">') == 2 and "Transfer did harm: accuracy 0.700 is 0.100" in text
    assert page.count('class="n lost"') == 1
    assert "Label efficiency" not in text, "one size is no curve"
    assert "no time of training" in text
    assert "did harm" not in text_of(proved(tmp_path / "well"))


def test_the_chart_has_a_dot_and_a_bar_for_each_size_and_speaks(run: RunFolder) -> None:
    f = section(run)
    scale = plots.efficiency_scale(f["curves"], f["lines"], most=1.0)
    drawn = str(plots.efficiency(f["curves"], f["lines"], scale, "title"))
    for key in ("transfer", "random-network"):
        assert len(re.findall(f'class="size {key}"', drawn)) == len(re.findall(f'class="spread {key}"', drawn)) == 5
        assert f'class="law {key}"' in drawn
    assert 'class="across scratch"' in drawn and 'class="across scratch-long"' in drawn
    assert "pretrained, frozen: " in drawn and "with 1,596 labels" in drawn
    # Doublings are equally wide, and the larger score stands higher.
    places = [float(x) for x in re.findall(r'<circle cx="([\d.]+)%" cy="[\d.]+%" r="4.5" class="size transfer"', drawn)]
    steps = [b - a for a, b in pairwise(places)]
    assert max(steps) - min(steps) < 0.2
    heights = [float(y) for y in re.findall(r'cy="([\d.]+)%" r="4.5" class="size transfer"', drawn)]
    assert heights == sorted(heights, reverse=True)
    assert re.findall(r">([\d,]+)</text>", str(plots.efficiency_axis(f["curves"]))) == [
        "100",
        "200",
        "399",
        "798",
        "1,596",
    ]


def test_no_number_under_the_chart_is_written_over_another() -> None:
    curve = {"points": [{"n": n} for n in (12, 24, 48, 96, 192, 208)]}
    assert re.findall(r">([\d,]+)</text>", str(plots.efficiency_axis([curve]))) == ["12", "24", "48", "96", "208"]


def test_the_fitted_curve_goes_through_what_it_was_fitted_to(run: RunFolder) -> None:
    """The points of these curves lie on their laws to three digits."""
    for curve in section(run)["curves"]:
        ends = curve["fitted"][0], curve["fitted"][-1]
        for (n, value), point in zip(ends, (curve["points"][0], curve["points"][-1]), strict=True):
            assert n == pytest.approx(point["n"]) and value == pytest.approx(point["score"]["value"], abs=1e-3)


def test_where_less_is_better_the_law_is_the_score_itself(run: RunFolder) -> None:
    law = PowerLaw(2.0, 1.0, 0.5, 1596)
    curve = replace(a_curve("transfer", law), points=a_curve("transfer", law).points)
    f = section(run, metric="rmse", curves=(curve, replace(curve, key="random-network")))
    assert f["higher_is_better"] is False
    assert f["curves"][0]["fitted"][-1][1] == pytest.approx(3.0)
    assert "(lower is better)" in text_of(run)


def test_scores_that_are_not_defined_leave_gaps_and_no_fault(run: RunFolder) -> None:
    nan = estimate(float("nan"), 480)
    curves = tuple(
        replace(c, points=(replace(c.points[0], score=nan), *c.points[1:]), law=None) for c in a_proof().curves
    )
    f = section(run, curves=curves)
    scale = plots.efficiency_scale(f["curves"], f["lines"], most=1.0)
    drawn = str(plots.efficiency(f["curves"], f["lines"], scale, "title"))
    assert drawn.count('class="size transfer"') == 4 and "law" not in drawn
    html.render(contents(run))


def test_adapters_stand_beside_blocks_and_low_rank_products_in_layers() -> None:
    surgery = [{"kind": "adapter", "rank": 8, "where": "all"}, {"kind": "lora", "rank": 4, "where": "attention"}]
    facts = {f["name"]: f["text"] for f in plan_words(a_plan(surgery=surgery))["facts"]}
    assert facts["Surgery"] == "adapters of rank 8 beside each block; LoRA of rank 4 in attention layers"


def test_words_of_a_record_that_are_not_ours_are_no_class(run: RunFolder) -> None:
    curves = tuple(replace(c, key='x" onload="y') for c in a_proof().curves)
    page = html.render(contents((run.save(a_proof(curves=curves)), run)[1]))
    assert "size other" in page and 'onload="y' not in page
