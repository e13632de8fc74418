"""A training that is stopped and taken up again: what it is, and the process that is killed while doing it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import torch

from headstart.adapt.model import AdaptedModel, assemble
from headstart.adapt.penalties import References, penalties_for
from headstart.adapt.plan import HEAD, Head, Loss, Optimizer, Penalty, Phase, Plan, Surgery
from headstart.backbones.backbone import Backbone
from headstart.backbones.catalogue import catalogue
from headstart.base.config import to_dict
from headstart.base.errors import Stopped
from headstart.base.progress import QUIET, Observer
from headstart.base.seeds import stream
from headstart.inputs.batches import ArrayBatches
from headstart.tasks.classification import Classification
from headstart.training.checkpoint import Checkpoints
from headstart.training.engines.local import LocalEngine
from headstart.training.interrupt import Interruption
from headstart.training.loop import LoopSettings, Source, Trained, Validation, train
from headstart.training.losses import Mixup, as_targets, loss_for
from headstart.training.snapshot import Snapshot
from headstart.training.state import TrainState, pieces

STEPS, N, BATCH, SIDE, SEED = 60, 23, 4, 32, 5
TASK = Classification(("cat", "dog", "owl"))
IDS = tuple(f"photo-{i:02d}.png" for i in range(N))
STAGES = ("layer3", "layer4", HEAD)

PIXELS = stream(SEED, "pixels").integers(0, 256, (N, SIDE, SIDE, 3), dtype="uint8")  # every example is unique
Y = stream(SEED, "classes").choice(3, N, p=[0.6, 0.3, 0.1])


@dataclass(frozen=True)
class Configuration:
    """A way to train that keeps state of its own between two steps."""

    plan: Plan
    settings: LoopSettings = field(default_factory=LoopSettings)
    score: Callable[[float], float] = lambda loss: -loss
    balanced_order: bool = False


PLAN = Plan(
    "toy",
    (
        Phase("head", 17, {HEAD: 1e-2}),
        Phase("tune", 29, dict.fromkeys(STAGES, 3e-3)),
        Phase("last", 14, {"layer4": 1e-3, HEAD: 1e-3}, statistics="fixed"),
    ),
    batch_size=BATCH,
    head=Head("random", dropout=0.3),
    validations=6,
)
EVERY_PHASE_REGULARISED = tuple(
    replace(phase, penalties=(Penalty("l2-sp", 0.1), Penalty("bss", 0.01), Penalty("delta", 0.01)))
    for phase in PLAN.phases
)
CONFIGURATIONS = {
    "plain": Configuration(PLAN),
    "EMA": Configuration(replace(PLAN, ema=0.1)),
    "bf16": Configuration(PLAN, LoopSettings(precision="bf16")),
    "grad-accum": Configuration(PLAN, LoopSettings(micro_batch=2)),
    "LoRA": Configuration(
        replace(
            PLAN,
            phases=(Phase("low rank", 60, dict.fromkeys(STAGES, 3e-3), only="added"),),
            surgery=(Surgery("lora", rank=2),),
        )
    ),
    "early stop": Configuration(replace(PLAN, patience=3), score=lambda loss: 0.5),
    "mixup": Configuration(replace(PLAN, loss=Loss(mixup=0.4, label_smoothing=0.1))),
    "class-balanced loss": Configuration(replace(PLAN, loss=Loss(balanced="weights"))),
    "class-balanced order": Configuration(PLAN, balanced_order=True),
    "SGD": Configuration(replace(PLAN, optimizer=Optimizer("sgd", 1e-4), clip_norm=None)),
    "penalties": Configuration(replace(PLAN, phases=EVERY_PHASE_REGULARISED)),
    "channels last": Configuration(PLAN, LoopSettings(channels_last=True)),
}


@cache
def toy() -> Backbone:
    return catalogue.load("toy/conv")


@dataclass(frozen=True)
class Feed:
    """The whole network on pixels. log: told (step, ids) when a step gets its examples."""

    model: AdaptedModel
    balanced: bool
    log: Callable[[int, list[str]], None]

    def enter(self, phase: Phase) -> Source:
        order = Y if self.balanced else None
        batches = ArrayBatches(PIXELS, as_targets(TASK, Y), batch_size=BATCH, seed=SEED, balanced=order)
        return Source(self.model, Logged(batches, self.log))


@dataclass(frozen=True)
class Logged:
    batches: ArrayBatches
    log: Callable[[int, list[str]], None]
    n: int = N
    batch_size: int = BATCH

    def between(self, first, last):
        for batch in self.batches.between(first, last):
            self.log(batch.step, [IDS[row] for row in batch.rows])
            yield batch


@dataclass
class Rehearsal:
    """One configuration trained in ``folder``; going on is the same call again."""

    name: str
    folder: Path
    every: int = 10**6
    observer: Observer = QUIET
    store: type[Checkpoints] = Checkpoints
    settings: LoopSettings | None = None  # instead of the configuration's own
    seen: list[tuple[int, list[str]]] = field(default_factory=list)

    def log(self, step: int, ids: list[str]) -> None:
        self.seen.append((step, ids))

    def run(self) -> dict[str, object]:
        """Train to the end, from the newest checkpoint on; everything that must not depend on interruptions."""
        configuration = CONFIGURATIONS[self.name]
        plan = configuration.plan
        backbone = toy()
        model = assemble(backbone, TASK, plan, probe=None, seed=SEED)
        checkpoints = self.store(self.folder, run_id=self.name, observer=self.observer)
        trained = train(
            model,
            plan,
            Feed(model, configuration.balanced_order, self.log),
            loss_for(TASK, plan.loss, y=Y),
            validate=validation(model, configuration.score),
            greater_is_better=True,
            checkpoints=checkpoints,
            engine=LocalEngine(),
            settings=replace(self.settings or configuration.settings, checkpoint_every=self.every),
            seed=SEED,
            ids=IDS,
            observer=self.observer,
            penalties=lambda phase, module: penalties_for(phase, model, module, References(backbone)),
            mixup=Mixup(plan.loss.mixup, TASK.outputs, SEED),
        )
        return outcome(model, trained, checkpoints)


def forgetting(piece: str, name: str) -> type[Checkpoints]:
    """Checkpoints that give one piece of the state back as it was before the first step of configuration ``name``."""
    configuration = CONFIGURATIONS[name]
    model = assemble(toy(), TASK, configuration.plan, probe=None, seed=SEED)
    micro_batch = configuration.plan.batch_size
    tensors, values = pieces(TrainState.fresh(model, configuration.plan, micro_batch=micro_batch))

    class Forgetful(Checkpoints):
        def newest(self) -> Snapshot | None:
            saved = super().newest()
            if saved is None:
                return None
            kept = {key: tensor for key, tensor in saved.tensors.items() if not key.startswith(f"{piece}:")}
            fresh = {key: tensor for key, tensor in tensors.items() if key.startswith(f"{piece}:")}
            return Snapshot(saved.step, kept | fresh, saved.state | {k: v for k, v in values.items() if k == piece})

    return Forgetful


def validation(model: AdaptedModel, score: Callable[[float], float]) -> Callable[[], Validation]:
    pictures = torch.from_numpy(stream(SEED, "other pixels").integers(0, 256, (8, SIDE, SIDE, 3), dtype="uint8"))

    def validate() -> Validation:
        with torch.no_grad():
            loss = float(torch.nn.functional.cross_entropy(model(pictures), torch.arange(8) % TASK.outputs))
        return Validation(score(loss), loss)

    return validate


def outcome(model: AdaptedModel, trained: Trained, checkpoints: Checkpoints) -> dict[str, object]:
    """Hashes of the kept weights and of all state at the end, and the history without its clock."""
    last = checkpoints.newest()
    history = to_dict(trained.history)
    for row in history["steps"]:
        del row["seconds"]
    del history["seconds"], history["images_per_s"]
    return {
        "score": trained.score,
        "history": history,
        "kept": {name: digest(tensor) for name, tensor in model.state_dict().items()},
        "state": {name: digest(tensor) for name, tensor in last.tensors.items()},
    }


def digest(tensor: torch.Tensor) -> str:
    raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy() if tensor.numel() else b""
    return f"{tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(raw).hexdigest()}"


def differences(one: dict, other: dict) -> list[str]:
    """Where two outcomes are not the same, for a failure that says something."""
    found = [key for key in ("score",) if one[key] != other[key]]
    for part in ("history", "kept", "state"):
        keys = one[part].keys() | other[part].keys()
        found += [f"{part}: {key}" for key in sorted(keys) if one[part].get(key) != other[part].get(key)]
    return found


def train_until_stopped(pipe, name: str, folder: Path, every: int, log: Path) -> None:
    """Say 'ready', train, send the outcome; exit code 75 when asked to stop, as the command line has it."""
    with Interruption():  # a whole command is under one, so that being asked before the first step is heard too
        pipe.send("ready")
        torch.set_num_threads(1)
        rehearsal = Rehearsal(name, folder, every)

        def write(step: int, ids: list[str]) -> None:
            with open(log, "a") as file:
                file.write(f"{step} {' '.join(ids)}\n")

        rehearsal.log = write
        try:
            pipe.send(rehearsal.run())
        except Stopped as stopped:
            sys.exit(stopped.exit_code)
