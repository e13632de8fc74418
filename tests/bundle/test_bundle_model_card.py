"""README.md of a model folder: true, readable by machines, and harmless whatever the classes are called."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from bundle_cases import FACTS, TASKS, random_head

from headstart.bundle.save import save
from headstart.records.estimate import Estimate
from headstart.records.evaluation import Baseline, Evaluation, Verdict

NAN = float("nan")
SCORE = Estimate(0.913, 0.894, 0.930, 812)
EVALUATION = Evaluation(
    task="classification",
    labels=("bird", "cat", "dog"),
    n=812,
    headline="accuracy",
    metrics={"accuracy": SCORE, "macro_f1": Estimate(0.9, 0.88, 0.92, 812), "roc_auc": Estimate(NAN, NAN, NAN, 0)},
    baselines=(
        Baseline("majority", "always the largest class", Estimate(0.41, 0.38, 0.44, 812), SCORE, SCORE, 1e-9, 100, 812),
    ),
    verdict=Verdict("yes", "Transfer helped: 0.50 [0.47, 0.53] over the largest class.", "majority"),
)
PAYLOADS = (
    "<script>alert(1)</script>",
    "[click](javascript:alert(1))",
    "![x](http://evil/x.png)",
    "a | b",
    "`code`",
    "line\nbreak\n# heading",
    "---",
    '"quoted": yes',
    "#hash",
    "*bold* _it_ ~~no~~",
    "\u202eevil",
    "{{ jinja }}",
)


def readme_of(toy, folder, task=TASKS["classification"], evaluation=EVALUATION, **changes):
    facts = replace(FACTS, evaluation=evaluation, **changes)
    head = random_head(task.outputs, toy.card.feature_dim)
    save(folder / "model", backbone=toy, head=head, task=task, facts=facts)
    return (folder / "model" / "README.md").read_text("utf-8")


def front_matter(readme):
    yaml = pytest.importorskip("yaml")
    _, front, body = readme.split("---\n", 2)
    return yaml.safe_load(front), body


def test_the_front_matter_is_what_the_hub_reads(toy, tmp_path):
    front, _ = front_matter(readme_of(toy, tmp_path))
    assert front["license"] == "apache-2.0" and front["library_name"] == "timm" and front["base_model"] == "toy/conv"
    (result,) = front["model-index"][0]["results"]
    assert {m["type"]: m["value"] for m in result["metrics"]} == {"accuracy": 0.913, "macro_f1": 0.9}  # no NaN
    assert "812" in result["metrics"][0]["name"] and "0.894 to 0.930" in result["metrics"][0]["name"]


def test_an_unusual_licence_keeps_its_name(toy, tmp_path):
    from headstart.backbones.backbone import Backbone

    card = replace(toy.card, licence='CC BY-NC "4.0": non commercial')
    front, body = front_matter(readme_of(Backbone(card, toy.network, toy.architecture, toy.record), tmp_path))
    assert front["license"] == "other" and front["license_name"] == 'CC BY-NC "4.0": non commercial'
    assert "CC BY-NC" in body


def test_the_score_stands_with_its_interval_and_baseline(toy, tmp_path):
    _, body = front_matter(readme_of(toy, tmp_path))
    assert "**accuracy 0.913, 95% interval 0.894 to 0.930, n = 812**" in body
    assert "| always the largest class | 0.410 | 0.380 to 0.440 | 812 |" in body
    assert "Transfer helped" in body and "| 1 | cat | 31 |" in body and "100 labelled images" in body


def test_without_an_evaluation_it_says_so(toy, tmp_path):
    front, body = front_matter(readme_of(toy, tmp_path, evaluation=None))
    assert "model-index" not in front and "Not evaluated." in body


def test_a_fine_tuned_network_is_not_called_frozen(toy, tmp_path):
    """Through adapt, so that the note by which the card knows stays the one that is written."""
    from headstart.adapt.model import assemble, finished
    from headstart.adapt.plan import Head, Phase, Plan

    plan = Plan("x", (Phase("all", 1, {toy.stages[-1].name: 1e-4, "head": 1e-3}),), head=Head("random"))
    tuned, _ = finished(assemble(toy, TASKS["classification"], plan, probe=None, seed=0))
    frozen_says, tuned_says = readme_of(toy, tmp_path / "a"), readme_of(tuned, tmp_path / "b")
    assert "kept frozen" in frozen_says and "was fitted on its" in frozen_says
    assert "frozen" not in tuned_says and "then fine-tuned for this task" in tuned_says
    assert "was trained with it; before that, one of the kind ridge, lambda 12.3" in tuned_says
    assert "were changed by fine-tuning (sha256 of the result" in tuned_says


def test_few_test_examples_are_a_limit(toy, tmp_path):
    assert "judged on 40 examples only" in readme_of(toy, tmp_path, evaluation=replace(EVALUATION, n=40))


@pytest.mark.parametrize(
    ("task", "words"), [("multilabel", "Sigmoid of each"), ("regression", "predicted values themselves")]
)
def test_it_says_what_the_outputs_mean(toy, tmp_path, task, words):
    assert words in readme_of(toy, tmp_path, TASKS[task], evaluation=None)


def test_class_names_are_text_and_nothing_else(toy, tmp_path):
    task = replace(TASKS["classification"], labels=PAYLOADS)
    nasty = readme_of(toy, tmp_path, task, counts=dict.fromkeys(PAYLOADS, 5))
    plain = readme_of(
        toy, tmp_path, replace(task, labels=tuple("abcdefghijkl")), counts=dict.fromkeys("abcdefghijkl", 5)
    )
    assert len(nasty.splitlines()) == len(plain.splitlines())  # no name starts a line of its own
    assert front_matter(nasty)[0] == front_matter(plain)[0]
    body = front_matter(nasty)[1]
    assert "<" not in re.sub(r"```.*?```", "", body, flags=re.DOTALL)
    rows = [line for line in body.splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(rows) == len(PAYLOADS) and all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in rows)
    assert not re.search(r"(?<!\\)\]\((?!https://github\.com/headstart-learn)", body)  # no link but ours
    assert "\u202e" not in body


def test_hundreds_of_classes_stay_readable(toy, tmp_path):
    labels = tuple(f"class {i:03}" for i in range(250))
    readme = readme_of(toy, tmp_path, replace(TASKS["classification"], labels=labels), evaluation=None)
    assert "and 150 more: see `labels.json`" in readme and "class 100" not in readme


def test_equal_models_have_equal_cards(toy, tmp_path):
    assert readme_of(toy, tmp_path / "a") == readme_of(toy, tmp_path / "b")
