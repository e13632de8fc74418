"""What the demo says of its model: accuracy with its interval, beside a network of random weights and plain pixels."""

from __future__ import annotations

from benchmarks.figure import Bench, Outcome, Row
from benchmarks.material import ordinary_run, record

TITLE = "the demo's accuracy (2,000 photographs, EfficientNet-Lite0)"
PREDICTED = (
    "I predicted an accuracy of 0.80, and gains over the network with random weights and over pixels of 0.15 to 0.25 "
    "whose intervals exclude 0."
)
EXCLUDED = (
    "One run: the test rows are opened once. Intervals are `fit`'s own (95 %; Wilson for the accuracy, paired "
    "bootstrap for gains). The network with random weights is compared on a subsample, as `fit` does by default."
)


def measure(bench: Bench) -> Outcome:
    run, took = ordinary_run(bench)
    evaluation = record(run, "evaluation.json")
    accuracy = evaluation["metrics"]["accuracy"]
    rows = [Row(f"accuracy on the test rows ({_interval(accuracy)})", (accuracy["value"],), "")]
    for b in evaluation["baselines"]:
        rows.append(Row(f"{b['key']} ({_interval(b['score'])}): {b['what']}", (b["score"]["value"],), ""))
    for b in evaluation["baselines"]:
        what = f"gain over {b['key']}: lower end of {_interval(b['gain'])}, McNemar p = {_p(b['p_value'])}"
        rows.append(Row(what, (b["gain"]["low"],), "", must=0.0, at_most=False))
    heads = record(run, "heads.json")
    notes = (evaluation["verdict"]["sentence"], f"Head kept: {heads['chosen']}. Whole process: {took:.0f} s.")
    return Outcome(tuple(rows), notes, {"baselines": evaluation["baselines"], "accuracy": accuracy})


def _interval(e: dict) -> str:
    return f"{e['value']:.3f} [{e['low']:.3f}, {e['high']:.3f}], n = {e['n']}"


def _p(value: float | None) -> str:
    return "–" if value is None else f"{value:.1g}"
