"""Fine-tuning the last stages with the frozen border kept, against running the whole network in each step."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.figure import Bench, Outcome, Row, divided
from benchmarks.loop import NETWORKS
from benchmarks.material import image_folder, random_weights

if TYPE_CHECKING:
    from headstart.adapt.plan import Plan
    from headstart.workflow.tuning import Ground

TITLE = "fine-tuning the last stages with the cached border ÷ what the count of operations predicts"
PREDICTED = (
    "I predicted 0.9 for ResNet-50 and ViT-S, whose operations are large products at one speed, and more than 1 for "
    "EfficientNet-Lite0: its early stages are depthwise convolutions on large maps, which take more time than their "
    "operations say, and those are what the border saves."
)
EXCLUDED = (
    "A step of the strategy last-stages (a third of the stages), batches of 16 photographs, as the ladder runs it: "
    "precision and layout as timed. Median of the steps after the first. Operations: forward passes as torch's "
    "FlopCounterMode counts them, backward passes twice that. Decoding and resizing are done before either, and "
    "so is the one pass of the frozen part over all pictures."
)
BATCH = 16


def measure(bench: Bench) -> Outcome:
    rows, details = [], {}
    for what, name, architecture in NETWORKS[: bench.pick(3, 1)]:
        with tempfile.TemporaryDirectory(dir=bench.session) as folder:
            ground = _ground(bench, name, architecture, Path(folder))
            plan = _plan(ground, bench.pick(12, 4))
            predicted, without, kept = _predicted(ground, plan), [], []
            for _ in range(bench.rounds):
                without.append(_step_seconds(replace(ground, border=_none(Path(folder))), plan))
                kept.append(_step_seconds(ground, plan))
        times = divided(without, kept)
        rows += [
            Row(f"{what}: times faster ÷ predicted", tuple(t / predicted for t in times), must=0.8, at_most=False),
            Row(f"{what}: times faster", times),
            Row(f"{what}: predicted by the operations", (predicted,)),
            Row(f"{what}: a step without the border", tuple(without), "s"),
        ]
        details[what] = {"precision": ground.settings.precision, "with": kept, "without": without}
    return Outcome(tuple(rows), (), details)


def _ground(bench: Bench, name: str, architecture: str, folder: Path) -> Ground:
    from headstart.backbones.catalogue import catalogue
    from headstart.data.looks.image import ImageLook
    from headstart.workflow.config import DataConfig, FitConfig
    from headstart.workflow.finetuning import make_ground
    from headstart.workflow.judge import Known
    from headstart.workflow.reading import read, task_of

    backbone = catalogue.load(name, weights=random_weights(bench, architecture) if architecture else None)
    data = read(str(image_folder(folder / "pictures", 4 * BATCH)), None, DataConfig())
    task = task_of(data)
    n = len(data)
    known = Known(
        np.zeros((n, backbone.card.feature_dim), np.float32),
        task.encode(data.targets or ()),
        np.arange(n),
        np.asarray(data.ids, object),
        task,
    )
    keys = [data.content(row)[0] for row in range(n)]
    return make_ground(
        backbone,
        known,
        data,
        "torch-f32",
        FitConfig(),
        keys=keys,
        cache=folder / "cache",
        look=ImageLook(),
        observer=_quiet(),
    )


def _quiet() -> Any:
    from headstart.base.progress import QUIET

    return QUIET


def _plan(ground: Ground, steps: int) -> Plan:
    from headstart.adapt.plan import Budget, Head
    from headstart.adapt.strategies import by_name

    known = ground.known
    budget = Budget(steps, BATCH, len(known), known.task.outputs)
    plan = by_name("last-stages").plan([s.name for s in ground.backbone.stages], budget)
    return replace(plan, head=Head(start="random"))


def _none(folder: Path) -> Any:
    """A border that never has the room, so that every step runs the whole network."""
    from headstart.features.border import Border

    class NoBorder(Border):
        def activations(self, *asked: Any, **also: Any) -> None:
            return None

    return NoBorder(folder / "none")


def _step_seconds(ground: Ground, plan: Plan) -> float:
    from headstart.workflow.tuning import tune

    history = tune(ground, plan, np.arange(len(ground.known)), None).history
    assert history is not None, "a training has a history"
    return median(b - a for a, b in pairwise([row.seconds for row in history.steps]))


def _predicted(ground: Ground, plan: Plan) -> float:
    """Operations of a step of the whole network ÷ of its tail, a backward pass counted as two forward ones.

    Torch (2.15) counts forward passes alone: in backward ones it takes depthwise convolutions for dense.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from headstart.backbones.cut import Cut, cut_for

    backbone = ground.backbone
    cut = cut_for(backbone, plan.phases[0].lr)
    assert isinstance(cut, Cut), f"{backbone.card.name} cannot be cut: {cut.reason}"

    def operations(module: Any, inputs: Any) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(inputs)
        return int(counter.get_total_flops())

    side = backbone.spec.size
    frozen = operations(cut.prefix, torch.zeros((1, side, side, 3), dtype=torch.uint8))
    tail = operations(cut.tail, torch.zeros((1, *cut.shape)))
    return (frozen + 3 * tail) / (3 * tail)
