"""All strategies, the ladder and two peers at equal time on four small real sets with large test sets of their own.

$HEADSTART_BENCH_MINUTES (3), $HEADSTART_BENCH_SEEDS (2) and $HEADSTART_BENCH_STRATEGIES (all, by commas) choose what is
measured; every answer that is known is shown. Each is written down when it is there ($HEADSTART_BENCH_CELLS, else
strategies-cells.jsonl in the work folder); a later start goes on with what is missing. Delete the file, or lines of it,
to measure anew.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells import Cell, append_cell, commit, mean_accuracy, mean_difference, read_cells, table
from benchmarks.figure import REPOSITORY, Bench, Outcome, Row
from benchmarks.material import LITE0
from benchmarks.peers import fastai_python
from benchmarks.sets import SmallSet, small_sets

TITLE = "strategies at equal time: accuracy on the test sets"
PREDICTED = (
    "I predicted that within 3 minutes on two cores only the last stages can be trained for enough epochs, so that "
    "'auto' and 'last-stages' lead, full fine-tuning loses to the probe on some set, and digits gain most (far from "
    "photographs), stamps least (near, and the probe is good); that fastai ends a point below 'auto' in the mean, and "
    "plain LP-FT within a point of it."
)
EXCLUDED = (
    "The time is that of choosing and training, decoding included. What all share and pay before (features of the "
    "training images, the first head) and after (answers for the test set) is outside it. The two peers may also time "
    "their epochs before the clock starts, so that the number of epochs fits. They get the same images, weights and "
    "cores: fastai its `fine_tune` (Resize(224), aug_transforms, batch 32, base_lr 2e-3); LP-FT in plain torch, as a "
    "careful user writes it: logistic regression on features, then AdamW at a tenth of a head's rate with warm-up and "
    "cosine, random crops, channels_last, BatchNorm's statistics fixed, bfloat16 where it is faster. Neither mirrors "
    "digits. Intervals: 95 %, over test images; differences are paired."
)
FIXED = ("probe", "last-stages", "lp-ft", "full", "bias", "lora")
PEERS = {"fastai": "benchmarks.peers_fine_tune", "torch": "benchmarks.peers_lp_ft"}
MIRRORED = ("textile", "stamps", "fashion")  # sets whose pictures mean the same in a mirror


def measure(bench: Bench) -> Outcome:
    minutes = 0.5 if bench.small else float(os.environ.get("HEADSTART_BENCH_MINUTES", "3"))
    seeds = range(1) if bench.small else range(int(os.environ.get("HEADSTART_BENCH_SEEDS", "2")))
    names = os.environ.get("HEADSTART_BENCH_STRATEGIES", ",".join(["auto", *FIXED, *PEERS])).split(",")
    default = (bench.session if bench.small else bench.work) / "strategies-cells.jsonl"
    place = Path(os.environ.get("HEADSTART_BENCH_CELLS", default))
    for seed in seeds:
        sets = small_sets(bench.work / "sets", seed)
        for data in [s for s in sets if s.name.startswith("stamps")] if bench.small else sets:
            _fill(bench, place, data, seed, names, minutes)
    cells = [c for c in read_cells(place).values() if c.minutes == minutes and c.seed in seeds]
    shown = {c.strategy for c in cells}
    return _outcome(cells, [name for name in ("auto", *FIXED, *PEERS) if name in shown], minutes)


def _fill(bench: Bench, place: Path, data: SmallSet, seed: int, names: Sequence[str], minutes: float) -> None:
    """Measure the cells of one set that are not there yet."""
    known = read_cells(place)
    missing = [name for name in names if (data.name, seed, name, minutes) not in known]
    if not missing:
        return
    field = Field(bench, data, seed)
    for name in missing:
        right, seconds, words = field.answers(name, minutes)
        cell = Cell(data.name, seed, name, minutes, "".join(map(str, right.astype(int))), seconds, words, commit())
        append_cell(place, cell)
        print(f"  {data.name} seed {seed} {name}: {cell.accuracy:.4f} after {seconds:.0f} s ({words})", flush=True)


def _outcome(cells: Sequence[Cell], names: Sequence[str], minutes: float) -> Outcome:
    def of(name: str, data: str | None = None) -> list[Cell]:
        return [c for c in cells if c.strategy == name and data in (None, c.data)]

    rows = [Row(f"{name}: mean of the sets", (mean_accuracy(of(name)).value,), unit="accuracy") for name in names]
    fixed = [name for name in names if name in FIXED]
    if "auto" in names and fixed:
        best = max(fixed, key=lambda name: mean_accuracy(of(name)).value)
        ahead = 100 * mean_difference(of("auto"), of(best)).value
        rows.append(Row(f"auto − the best fixed strategy ({best})", (ahead,), "points", must=-0.5, at_most=False))
    if "auto" in names and "probe" in names:
        worst = min(
            (mean_difference(of("auto", data), of("probe", data)) for data in {c.data for c in cells}),
            key=lambda d: d.high,
        )
        what = "auto − probe on the set where it is least, upper end of the interval"
        rows.append(Row(what, (100 * worst.high,), "points", must=-0.05, at_most=False))
    for peer in PEERS:
        if "auto" in names and peer in names:
            ahead = 100 * mean_difference(of("auto"), of(peer)).value
            rows.append(Row(f"auto − {peer}, mean of the sets", (ahead,), "points", must=0.0, at_most=False))
    commits = sorted({c.commit for c in cells})
    notes = [*table(cells, names, "auto"), "", f"{minutes:g} minutes for each; code of {', '.join(commits)}."]
    details = {
        f"{c.data}/{c.seed}/{c.strategy}": {
            "accuracy": c.accuracy,
            "n": len(c.right),
            "seconds": c.seconds,
            "kept": c.words,
        }
        for c in cells
    }
    return Outcome(tuple(rows), tuple(notes), details)


class Field:
    """One data set: features of its training images and the head chosen on them, made once."""

    def __init__(self, bench: Bench, data: SmallSet, seed: int) -> None:
        from headstart.backbones.catalogue import catalogue
        from headstart.data.audit import audit
        from headstart.data.split import group_rows
        from headstart.features.extract import extract
        from headstart.workflow.config import DataConfig
        from headstart.workflow.judge import Known, Rules, choose_head
        from headstart.workflow.reading import read, task_of

        self.bench, self.set, self.seed = bench, data, seed
        self.cache = bench.work / "strategies-cache"
        self.backbone = catalogue.load(LITE0)
        images = read(str(data.train), None, DataConfig())
        self.features = extract(self.backbone, images, cache=self.cache)
        found = audit(images, self.features.survey, features=self.features.X)
        rows = self.features.survey.rows
        self.usable = images.take(rows)
        task = task_of(self.usable)
        groups = group_rows(images, rows, found.clusters, by=None)
        y = task.encode(self.usable.targets or ())
        self.known = Known(self.features.X, y, groups, np.asarray(self.usable.ids, object), task)
        self.chosen = choose_head(self.known, Rules(5, None, "none", seed))
        tests = read(str(data.test), None, DataConfig())
        looked = extract(self.backbone, tests, cache=self.cache, only_runner=self.features.record.runner)
        self.test = tests.take(looked.survey.rows)
        self.test_y = task.encode(self.test.targets or ())

    def answers(self, name: str, minutes: float) -> tuple[np.ndarray, float, str]:
        """((n,) whether each test image is named right, seconds of choosing and training, what was done)."""
        from headstart.base.errors import PlanError

        if name in PEERS:
            return self._of_peer(name, minutes)
        backbone, head, words, seconds = self.backbone, self.chosen.head, self.chosen.family, 0.0
        if name != "probe":
            began = time.monotonic()
            try:
                learnt, seconds = self._learn(name, minutes)
            except PlanError as problem:  # not one step in the time: what a user is left with is the probe
                return self._right(backbone, head), time.monotonic() - began, f"the probe, because {problem}"
            words = learnt.record.kept
            if learnt.tuned is not None:
                backbone, head = learnt.tuned.backbone, learnt.tuned.head
                words += f", {len(learnt.tuned.history.steps)} steps" if learnt.tuned.history else ""
        return self._right(backbone, head), seconds, words

    def _right(self, backbone: Any, head: Any) -> np.ndarray:
        from headstart.features.extract import extract

        with self.bench.folder() as cache:
            found = extract(backbone, self.test, cache=cache, only_runner=self.features.record.runner)
        assert len(found.survey.rows) == len(self.test_y), "every test image that could be read once can be read"
        right: np.ndarray = head.logits(found.X).argmax(axis=1) == self.test_y
        return right

    def _learn(self, name: str, minutes: float) -> tuple[Any, float]:
        from headstart.base.progress import QUIET
        from headstart.cli.show import Screen
        from headstart.data.looks.image import ImageLook
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
                look=ImageLook(),
                observer=observer,
            )
            left = 60 * minutes - (time.monotonic() - began)
            rows = np.arange(len(self.known))
            learnt = learn(ground, rows, self.chosen, config, seconds=left)
            return learnt, time.monotonic() - began

    def _of_peer(self, name: str, minutes: float) -> tuple[np.ndarray, float, str]:
        """The same images and weights, in a process of its own; its answers in the order of ours."""
        with self.bench.folder() as folder:
            weights = folder / "weights.safetensors"
            _save_weights(self.backbone, weights)
            job, answer = folder / "job.json", folder / "answer.json"
            facts = {
                "train": [
                    [str(self.set.train / i), int(k)] for i, k in zip(self.usable.ids, self.known.y, strict=True)
                ],
                "test": [[str(self.set.test / i), int(k)] for i, k in zip(self.test.ids, self.test_y, strict=True)],
                "weights": str(weights),
                "architecture": "tf_efficientnet_lite0",
                "seconds": 60 * minutes,
                "seed": self.seed,
                "mirrored": self.set.name.startswith(MIRRORED),
                "workers": os.cpu_count() or 1,
            }
            job.write_text(json.dumps(facts))
            python = fastai_python(self.bench) if name == "fastai" else sys.executable
            command = [python, "-m", PEERS[name], str(job), str(answer)]
            done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{name} ended with {done.returncode}:\n{done.stderr[-3000:]}")
            found = json.loads(answer.read_text())
        return np.asarray(found["answers"]) == self.test_y, found["seconds"], found["words"]


def _rows(folder: Path, ids: Sequence[str], y: np.ndarray) -> list[list[Any]]:
    return [[str(folder / i), int(k)] for i, k in zip(ids, y, strict=True)]


def _save_weights(backbone: Any, place: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in backbone.network.state_dict().items()}, place)
