"""What to do next follows from the records, and only from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from report_runs import VARIANTS, a_ladder, against_probe, difference, three_classes

from headstart.records.audit import Audit, Finding, SplitRecord
from headstart.records.estimate import Estimate
from headstart.records.evaluation import Evaluation, Verdict
from headstart.records.heads import HeadRecord
from headstart.records.ladder import LadderRecord
from headstart.records.run import RunFolder
from headstart.report.advice import MOST_STEPS, RULES, next_steps
from headstart.report.reading import Records


def said(run: RunFolder) -> str:
    records = Records.read(run)
    return " ".join(step["text"] for rule in RULES if (step := rule(records)))


def quiet(folder: Path) -> RunFolder:
    """A run with nothing to remark on."""
    run = three_classes(folder)
    run.save(replace(run.load(Audit), findings=(), quarantined=(), conflicts=(), leaks=(), clusters=()))
    e = run.load(Evaluation)
    alike = tuple(replace(c, recall=Estimate(0.94, 0.91, 0.97, 100)) for c in e.per_class)
    run.save(replace(e, label_issues=(), per_class=alike))
    return run


def test_a_run_without_blemish_is_only_asked_to_be_tried_elsewhere(tmp_path: Path) -> None:
    run = quiet(tmp_path / "run")
    assert said(run) == ""
    assert [s["text"].split(" before")[0] for s in next_steps(Records.read(run))] == [
        "Try the model on labelled images from another day or place"
    ]


def leaks(run: RunFolder) -> None:
    run.save(replace(run.load(Audit), leaks=VARIANTS["own_split_with_leaks"](run.path / "b").load(Audit).leaks[:1]))


def stop(run: RunFolder) -> None:
    run.save(replace(run.load(Audit), findings=(Finding("AU01", "stop", "Every class is the same."),)))


def verdict(answer: str) -> Callable[[RunFolder], None]:
    return lambda run: run.save(replace(run.load(Evaluation), verdict=Verdict(answer, "…", "pixels")))


def few(run: RunFolder) -> None:
    run.save(replace(run.load(SplitRecord), counts_train={"global": 12, "local": 300, "nominal": 300}))


def imbalance(run: RunFolder) -> None:
    run.save(replace(run.load(Audit), counts={"global": 20, "local": 500}))


def vague(run: RunFolder) -> None:
    e = run.load(Evaluation)
    run.save(replace(e, metrics={**e.metrics, "accuracy": Estimate(0.8, 0.7, 0.9, 60)}))


def overconfident(run: RunFolder) -> None:
    e = run.load(Evaluation)
    run.save(replace(e, metrics={**e.metrics, "ece": Estimate(0.14, 0.09, 0.2, 400)}))


def bent(run: RunFolder) -> None:
    h = run.load(HeadRecord)
    trials = [replace(t, difference=difference(0.0 if t.name == "neighbours" else -0.1, 0.01, 100)) for t in h.trials]
    run.save(replace(h, trials=tuple(trials)))


def weak_class(run: RunFolder) -> None:
    e = run.load(Evaluation)
    first = replace(e.per_class[0], recall=Estimate(0.4, 0.3, 0.5, 100))
    run.save(replace(e, per_class=(first, *e.per_class[1:])))


def room(run: RunFolder) -> None:
    e = run.load(Evaluation)
    run.save(replace(e, metrics={**e.metrics, "accuracy": Estimate(0.85, 0.82, 0.88, 400)}))


def bent_and_tuned(run: RunFolder) -> None:
    bent(run)
    run.save(a_ladder())


def no_time(run: RunFolder) -> None:
    run.save(VARIANTS["no_time"](run.path / "b").load(LadderRecord))


def in_vain(run: RunFolder) -> None:
    run.save(VARIANTS["probe_stays"](run.path / "b").load(LadderRecord))


def worse(run: RunFolder) -> None:
    run.save(a_ladder())
    against_probe(run, -0.03, 0.02, 0.01)


def not_better(run: RunFolder) -> None:
    run.save(VARIANTS["by_name"](run.path / "b").load(LadderRecord))
    against_probe(run, 0.01, 0.02, 0.3)


CASES = [
    (leaks, "1 picture is on two sides of your own split"),
    (stop, "Mend this first: Every class is the same."),
    (verdict("no"), "does not beat the simpler baseline"),
    (verdict("not shown"), "cannot show whether"),
    (few, "One class has fewer than 20 training images (‘global’ has 12)"),
    (imbalance, "25 times as many images"),
    (vague, "uncertain by about ±0.10"),
    (overconfident, "off by 0.14 on average"),
    (bent, "Nearest neighbours scored higher than every linear head"),
    (bent, "Fine-tuning (headstart fit … --time 20m --out NEW-FOLDER), or another network, may gain more"),
    (bent_and_tuned, "in these features. Another network may gain more"),
    (room, "Whether fine-tuning it gains more is found out by headstart fit … --time 20m --out NEW-FOLDER"),
    (no_time, "Fine-tuning the last 3 stages was not tried for want of time: 30 s were given. Give more with --time"),
    (in_vain, "More labelled images are worth more now than more training"),
    (worse, "worse than the same network frozen (−0.030 [−0.050, −0.010] on 400 images)"),
    (not_better, "It is not shown that ‘lp-ft’ is better than the same network frozen (+0.010 [−0.010, +0.030]"),
    (
        weak_class,
        "‘global’ is found least often: recall 0.400 [0.300, 0.500] on 100 images, most often taken for ‘local’ (7)",
    ),
]


@pytest.mark.parametrize(("spoil", "expected"), CASES, ids=[getattr(c[0], "__name__", "?") for c in CASES])
def test_each_remark_appears_when_its_reason_does(
    spoil: Callable[[RunFolder], None], expected: str, tmp_path: Path
) -> None:
    run = quiet(tmp_path / "run")
    spoil(run)
    assert expected in said(run)


def test_fine_tuning_is_not_named_where_it_was_done_or_cannot_gain_much(tmp_path: Path) -> None:
    run = quiet(tmp_path / "run")
    assert "--time" not in said(run)  # 0.94 leaves little
    room(run)
    bent(run)
    assert said(run).count("--time 20m") == 1
    run.save(a_ladder())
    assert "--time" not in said(run)


def test_a_ladder_that_paid_is_not_called_in_vain_for_a_few_test_images(tmp_path: Path) -> None:
    run = quiet(tmp_path / "run")
    run.save(a_ladder())
    against_probe(run, 0.01, 0.02, 0.3)
    assert said(run) == ""


def test_a_weak_class_within_noise_is_not_blamed(tmp_path: Path) -> None:
    run = quiet(tmp_path / "run")
    e = run.load(Evaluation)
    first = replace(e.per_class[0], recall=Estimate(0.6, 0.2, 0.95, 5), support=5)
    run.save(replace(e, per_class=(first, *e.per_class[1:])))
    assert "least often" not in said(run)


def test_advice_is_short_and_ends_with_trying_elsewhere(ordinary: RunFolder) -> None:
    steps = next_steps(Records.read(ordinary))
    assert 1 < len(steps) <= MOST_STEPS
    assert "headstart evaluate" in steps[-1]["text"]
