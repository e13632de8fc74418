"""How long a step takes here, to plan by time: told by a few steps, which leave no trace."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from headstart.adapt.model import AdaptedModel
from headstart.adapt.penalties import Penalties
from headstart.adapt.plan import Phase, Plan
from headstart.training.ema import copy_
from headstart.training.engines.engine import Engine
from headstart.training.loop import LoopSettings, Source, no_penalties, taken
from headstart.training.losses import LossFunction
from headstart.training.optimizer import make_optimizer
from headstart.training.phase import buffers_of, enter_phase, learners, refresh
from headstart.training.step import Moment, Objective, learn_


def measure_step(
    model: AdaptedModel,
    plan: Plan,
    phase: Phase,
    source: Source,
    loss: LossFunction,
    *,
    engine: Engine,
    settings: LoopSettings,
    steps: int = 3,
    penalties: Callable[[Phase, nn.Module], Penalties] = no_penalties,
) -> float:
    """Seconds that a step of ``phase`` takes on ``source``: batch, forward, backward and update; no validation.

    The mean of ``steps`` after a first one that is not counted, because it allocates. Afterwards the model holds the
    bits it held, in eval mode, on the device of ``engine``. Raises TrainingFault as training would.
    """
    whole = source.batches.batch_size
    ids = [f"row {row}" for row in range(source.batches.n)]
    model.to(engine.device)
    with _unchanged(model, phase, settings):
        optimizer = make_optimizer(model, plan.optimizer)
        enter_phase(model, phase)
        with penalties(phase, source.module) as terms, taken(source.batches, 0, steps + 1) as batches:
            bf16 = settings.precision == "bf16"
            objective = Objective.of(model, phase, source.module, loss, terms, clip_norm=plan.clip_norm, bf16=bf16)
            micro_batch, began = settings.micro_batch or whole, 0.0
            for batch in batches:
                moment = Moment(batch.step, steps + 1, phase.name, batch.step, ids)
                micro_batch = learn_(
                    objective, optimizer, batch, moment, whole=whole, micro_batch=micro_batch, engine=engine
                ).micro_batch
                if batch.step == 0:
                    began = _now(engine.device)
            return (_now(engine.device) - began) / steps


@contextmanager
def _unchanged(model: AdaptedModel, phase: Phase, settings: LoopSettings) -> Iterator[None]:
    """Puts back what a step can change, and lays the model out as ``settings`` ask for meanwhile."""
    live = dict(learners(model, phase)) | buffers_of(model, phase.lr)
    before = {name: tensor.detach().clone() for name, tensor in live.items()}
    learning = {name: p.requires_grad for name, p in model.named_parameters()}
    if settings.channels_last:
        model.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        copy_(live, before)
        for name, p in model.named_parameters():
            p.requires_grad_(learning[name])
        if settings.channels_last:
            model.to(memory_format=torch.contiguous_format)
        refresh(model)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()
