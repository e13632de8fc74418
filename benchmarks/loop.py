"""A step of headstart's loop against a hand-written one, with the same network, precision, layout and pixels."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise, product
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.figure import Bench, Outcome, Row, divided
from benchmarks.material import LITE0, random_weights

if TYPE_CHECKING:
    from headstart.adapt.plan import Plan, Schedule
    from headstart.backbones.backbone import Backbone
    from headstart.base.progress import Event

TITLE = "the training loop ÷ a hand-written torch loop (images a second)"
PREDICTED = (
    "I predicted 1.0 for ResNet-50 and ViT-S, where a step is seconds of matrix products, and 0.97 for "
    "EfficientNet-Lite0: what the loop does besides (a check that everything is finished and finite, copies of the "
    "BatchNorm statistics, rates of each stage) is some milliseconds a step. The running mean of the weights costs "
    "another percent."
)
EXCLUDED = (
    "Both train the whole network on the same pixels in memory (uint8, normalised inside the step), batches of 32, "
    "AdamW with the same groups and rates, gradients clipped at norm 1, the loss read in every step, channels_last; in "
    "float32, and in bfloat16 autocast where the processor multiplies it. Median of the steps after the second. Left "
    "out: making views of pictures (threads do it beside), validations, checkpoints. The loop keeps the memory that "
    "tensors free (base/memory.py), which nobody writes by hand."
)
CLASSES, BATCH, HEAD_RATE = 10, 32, 1e-3
NETWORKS = (
    ("EfficientNet-Lite0", LITE0, ""),
    ("ResNet-50", "timm/resnet50", "resnet50"),
    ("ViT-S/16", "timm/vit_small_patch16_224", "vit_small_patch16_224"),
)


@dataclass(frozen=True, eq=False)
class Case:
    backbone: Backbone
    pixels: np.ndarray
    y: np.ndarray
    steps: int
    bf16: bool

    def plan(self, ema: float | None) -> Plan:
        from headstart.adapt.plan import Budget, Head
        from headstart.adapt.strategies import by_name

        budget = Budget(self.steps, BATCH, len(self.y), CLASSES)
        plan = by_name("full").plan([s.name for s in self.backbone.stages], budget)
        return replace(plan, augment="none", head=Head(start="random"), ema=ema)


def measure(bench: Bench) -> Outcome:
    from headstart.features.choose import cpu_has_bf16

    rows, details = [], {}
    precisions = {"float32": False} | ({"bfloat16": True} if cpu_has_bf16() else {})
    for (network, name, architecture), (precision, bf16) in product(NETWORKS[: bench.pick(3, 1)], precisions.items()):
        what = f"{network}, {precision}"
        runs: dict[str, Callable[[Case], float]] = {"ours": _ours, "with the mean": _with_mean, "by hand": _by_hand}
        speeds: dict[str, list[float]] = {run: [] for run in runs}
        for _ in range(bench.rounds):
            for run, speed in runs.items():
                speeds[run].append(_alone(speed, bench, name, architecture, bf16))
        ratio = divided(speeds["ours"], speeds["by hand"])
        rows += [
            Row(f"{what}: the loop ÷ a hand-written one", ratio, must=0.95, at_most=False),
            Row(
                f"{what}: with the running mean of the weights ÷ by hand",
                divided(speeds["with the mean"], speeds["by hand"]),
            ),
            Row(f"{what}: a hand-written loop", tuple(speeds["by hand"]), "images/s"),
        ]
        details[what] = speeds
    return Outcome(tuple(rows), (), details)


def _alone(speed: Callable[[Case], float], bench: Bench, name: str, architecture: str, bf16: bool) -> float:
    """In a process of its own: what one loop has asked of the C library would quicken the next one."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measured, speed, bench, name, architecture, bf16).result()


def _measured(speed: Callable[[Case], float], bench: Bench, name: str, architecture: str, bf16: bool) -> float:
    return speed(_case(bench, name, architecture, bf16))


def _case(bench: Bench, name: str, architecture: str, bf16: bool) -> Case:
    from headstart.backbones.catalogue import catalogue
    from headstart.base.seeds import stream

    backbone = catalogue.load(name, weights=random_weights(bench, architecture) if architecture else None)
    rng, side, n = stream(0, "loop"), backbone.spec.size, 4 * BATCH
    pixels = rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8)
    return Case(backbone, pixels, rng.integers(0, CLASSES, n), bench.pick(7, 4), bf16)


class Ticks:
    """An observer that notes when each step was over."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, event: Event) -> None:
        from headstart.base.progress import Advanced

        if isinstance(event, Advanced):
            self.times.append(time.perf_counter())


def images_per_s(times: list[float]) -> float:
    """From the ends of the steps; the first two warm up."""
    return BATCH / statistics.median(b - a for a, b in pairwise(times[1:]))


def _ours(case: Case) -> float:
    return _loop(case, ema=None)


def _with_mean(case: Case) -> float:
    return _loop(case, ema=0.1)


def _loop(case: Case, *, ema: float | None) -> float:
    import torch

    from headstart.adapt.model import assemble
    from headstart.inputs.batches import ArrayBatches
    from headstart.tasks.classification import Classification
    from headstart.training.checkpoint import NoCheckpoints
    from headstart.training.engines.local import LocalEngine
    from headstart.training.loop import LoopSettings, Source, train

    plan = case.plan(ema)
    task = Classification(tuple(map(str, range(CLASSES))))
    model = assemble(case.backbone, task, plan, probe=None, seed=0)
    targets = torch.from_numpy(case.y)

    class Whole:
        def enter(self, phase: Any) -> Source:
            return Source(model, ArrayBatches(case.pixels, targets, batch_size=BATCH, seed=0))

    ticks = Ticks()
    train(
        model,
        plan,
        Whole(),
        lambda logits, y: torch.nn.functional.cross_entropy(logits.float(), y, reduction="none"),
        validate=None,
        greater_is_better=True,
        checkpoints=NoCheckpoints(),
        engine=LocalEngine(),
        settings=LoopSettings("bf16" if case.bf16 else "float32", channels_last=True),
        seed=0,
        ids=[str(i) for i in range(len(case.y))],
        observer=ticks,
    )
    return images_per_s(ticks.times)


def _by_hand(case: Case) -> float:
    import copy

    import torch
    from torch import nn

    spec, plan = case.backbone.spec, case.plan(None)
    network = copy.deepcopy(case.backbone.network).to(memory_format=torch.channels_last).train()
    head = nn.Linear(case.backbone.card.feature_dim, CLASSES)
    groups = [*_groups(case.backbone, network, plan), {"params": list(head.parameters()), "lr": HEAD_RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.05)
    parameters = [p for group in groups for p in group["params"]]
    bases = [group["lr"] for group in groups]
    mean, std = (255 * torch.tensor(x).view(1, 3, 1, 1) for x in (spec.mean, spec.std))
    pixels, y = torch.from_numpy(case.pixels), torch.from_numpy(case.y)
    times, losses = [], []
    for step in range(plan.steps):
        share = _schedule(plan).at(step, plan.steps)
        for group, base in zip(optimizer.param_groups, bases, strict=True):
            group["lr"] = base * share
        rows = torch.randperm(len(y))[:BATCH]
        images = (pixels[rows].permute(0, 3, 1, 2).float() - mean) / std
        with torch.autocast("cpu", torch.bfloat16, enabled=case.bf16):
            logits = head(case.backbone.architecture.features(network, images))
        loss = nn.functional.cross_entropy(logits.float(), y[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(loss.item())
        times.append(time.perf_counter())
    return images_per_s(times)


def _groups(backbone: Backbone, network: Any, plan: Plan) -> list[dict[str, Any]]:
    """The stages with the rates of the plan."""
    named = list(network.named_parameters())
    rates = plan.phases[0].lr
    return [
        {"params": [p for name, p in named if stage.holds(name)], "lr": rates[stage.name]} for stage in backbone.stages
    ]


def _schedule(plan: Plan) -> Schedule:
    return plan.phases[0].schedule
