"""All strategies and the ladder at equal time on four small real sets with large test sets of their own.

The time is that of choosing and training. What all share and pay before (features, the choice of a head) and after
(predicting the test set) is outside it. $HEADSTART_BENCH_MINUTES, $HEADSTART_BENCH_SEEDS and
$HEADSTART_BENCH_STRATEGIES choose what is run.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figure import Bench, Outcome, Row
from benchmarks.material import LITE0
from benchmarks.sets import SmallSet, small_sets

TITLE = "Strategies at equal time: accuracy on the test sets"
PREDICTED = (
    "I predicted that within 3 minutes on two cores only the last stages can be trained for enough epochs, so that "
    "'auto' and 'last-stages' lead, full fine-tuning loses to the probe on some set, and digits gain most (far from "
    "photographs), stamps least (near, and the probe is good)."
)
FIXED = ("probe", "last-stages", "lp-ft", "full", "bias", "lora")


def measure(bench: Bench) -> Outcome:
    minutes = float(os.environ.get("HEADSTART_BENCH_MINUTES", "3"))
    seeds = range(int(os.environ.get("HEADSTART_BENCH_SEEDS", "2")))
    names = os.environ.get("HEADSTART_BENCH_STRATEGIES", "auto," + ",".join(FIXED)).split(",")
    scores: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    right: dict[str, np.ndarray] = {}
    details: dict[str, Any] = {}
    for seed in range(1) if bench.small else seeds:
        for data in small_sets(bench.work / "sets", seed):
            field = Field(data, bench.work / "strategies-cache", seed)
            for name in names:
                began = time.perf_counter()
                answers, words = field.accuracy(name, 0.2 if bench.small else minutes)
                right[f"{data.name}/{seed}/{name}"] = answers
                scores[name].setdefault(data.name, []).append(float(answers.mean()))
                details[f"{data.name}/{seed}/{name}"] = {
                    "accuracy": float(answers.mean()),
                    "n": len(answers),
                    "seconds": round(time.perf_counter() - began, 1),
                    "kept": words,
                }
                print(f"{data.name} seed {seed} {name}: {answers.mean():.4f} ({words})", flush=True)
    means = {name: [float(np.mean(v)) for v in by_set.values()] for name, by_set in scores.items()}
    rows = [
        Row(f"{name}: {data}", tuple(values), unit="accuracy")
        for name, by_set in scores.items()
        for data, values in by_set.items()
    ]
    rows += [Row(f"{name}: mean of the sets", (float(np.mean(m)),), unit="accuracy") for name, m in means.items()]
    best = max(float(np.mean(m)) for name, m in means.items() if name != "auto") if len(means) > 1 else float("nan")
    if "auto" in means:
        rows.append(
            Row(
                "auto − the best single strategy, in points",
                (100 * (float(np.mean(means["auto"])) - best),),
                unit="points",
                must=-0.5,
                at_most=False,
            )
        )
    return Outcome(
        tuple(rows), (f"{minutes:g} minutes for each, EfficientNet-Lite0, float32 or bfloat16 as timed",), details
    )


class Field:
    """One data set: features of its training images and the head chosen on them, made once."""

    def __init__(self, data: SmallSet, cache: Path, seed: int) -> None:
        from headstart.backbones.catalogue import catalogue
        from headstart.data.audit import audit
        from headstart.data.split import group_rows
        from headstart.features.extract import extract
        from headstart.workflow.config import DataConfig
        from headstart.workflow.judge import Known, Rules, choose_head
        from headstart.workflow.reading import read, task_of

        self.cache, self.seed = cache, seed
        self.backbone = catalogue.load(LITE0)
        self.data = read(str(data.train), None, DataConfig())
        self.features = extract(self.backbone, self.data, cache=cache)
        found = audit(self.data, self.features.survey, features=self.features.X)
        rows = self.features.survey.rows
        self.usable = self.data.take(rows)
        task = task_of(self.usable)
        groups = group_rows(self.data, rows, found.clusters, by=None)
        y = task.encode(self.usable.targets or ())
        self.known = Known(self.features.X, y, groups, np.asarray(self.usable.ids, object), task)
        self.chosen = choose_head(self.known, Rules(5, None, "none", seed))
        self.test = read(str(data.test), None, DataConfig())

    def accuracy(self, name: str, minutes: float) -> tuple[np.ndarray, str]:
        """(n,) whether each test image is named right, and what was kept."""
        from headstart.features.extract import extract

        backbone, head, words = self.backbone, self.chosen.head, self.chosen.family
        if name != "probe":
            learnt = self._learn(name, minutes)
            words = learnt.record.kept + f", {learnt.record.seconds:.0f} s"
            if learnt.tuned is not None:
                backbone, head = learnt.tuned.backbone, learnt.tuned.head
        found = extract(backbone, self.test, cache=self.cache, only_runner=self.features.record.runner)
        usable = self.test.take(found.survey.rows)
        y = self.known.task.encode(usable.targets or ())
        return head.logits(found.X).argmax(axis=1) == y, words

    def _learn(self, name: str, minutes: float) -> Any:
        import tempfile

        from headstart.base.progress import QUIET
        from headstart.cli.show import Screen
        from headstart.data.decode import ImageLimits
        from headstart.workflow.config import FitConfig, TuneConfig
        from headstart.workflow.finetuning import learn, make_ground

        config = FitConfig(tuning=TuneConfig(strategy=name, time_s=60 * minutes), seed=self.seed)
        observer = Screen() if os.environ.get("HEADSTART_BENCH_TALK") else QUIET
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:  # nothing that another strategy made is used
            ground = make_ground(
                self.backbone,
                self.known,
                self.usable,
                self.features.record.runner,
                config,
                keys=[self.features.survey.keys[row] for row in self.features.survey.rows],
                cache=Path(folder),
                limits=ImageLimits(),
                observer=observer,
            )
            left = 60 * minutes - (time.monotonic() - began)
            rows = np.arange(len(self.known))
            return learn(ground, rows, self.chosen, config, seconds=left)
