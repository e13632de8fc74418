"""One step: the gradients of one batch, in micro-batches where memory asks for them, and the update.

The loss of a batch is a sum over its examples divided by its size, so the division into micro-batches does not change
what is learnt. It changes two things besides rounding: BatchNorm that moves normalises each micro-batch by itself, and
dropout draws in another order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from headstart.adapt.model import AdaptedModel
from headstart.adapt.penalties import Penalties
from headstart.adapt.plan import Phase
from headstart.base.errors import TrainingFault, shown
from headstart.inputs.batches import Batch
from headstart.training.engines.engine import Engine
from headstart.training.health import Symptoms, fault_of, is_out_of_memory
from headstart.training.losses import LossFunction
from headstart.training.phase import buffers_of, learners, moving_statistics


@dataclass(frozen=True, eq=False)
class Objective:
    """What a phase minimises, and what one of its steps may change.

    module: batch.inputs → (b, K) logits.  learners: (name, parameter).  buffers: of the learning stages, live.
    statistics: those of them that BatchNorm moves.  smallest: micro-batch that the learning stages can stand.
    clip_norm, bf16: as in Plan and LoopSettings.
    """

    module: nn.Module
    loss: LossFunction
    penalties: Penalties
    learners: Sequence[tuple[str, nn.Parameter]]
    buffers: Sequence[Tensor]
    statistics: Sequence[Tensor]
    smallest: int
    clip_norm: float | None
    bf16: bool

    @classmethod
    def of(
        cls,
        model: AdaptedModel,
        phase: Phase,
        module: nn.Module,
        loss: LossFunction,
        penalties: Penalties,
        *,
        clip_norm: float | None,
        bf16: bool,
    ) -> Objective:
        statistics = moving_statistics(model, phase)
        buffers = list(buffers_of(model, phase.lr).values())
        smallest = 2 if statistics else 1
        return cls(module, loss, penalties, learners(model, phase), buffers, statistics, smallest, clip_norm, bf16)


@dataclass(frozen=True)
class Measured:
    """loss: mean over the whole batch, penalties included.  norm: of the gradients before clipping."""

    loss: float
    norm: float
    micro_batch: int


@dataclass(frozen=True)
class Moment:
    """Where in the run a step is, for its random numbers and its error messages. ids: of all training examples."""

    step: int
    steps: int
    phase: str
    seed: int
    ids: Sequence[str]


def learn_(
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    moment: Moment,
    *,
    whole: int,
    micro_batch: int,
    engine: Engine,
) -> Measured:
    """Make one update from ``batch``, this process's share of ``whole`` examples.

    Out of memory, it starts again from its beginning with half the micro-batch: the same bits as if that size had been
    asked for at once. TrainingFault, with weights and buffers as they were before, where the loss or the gradient is
    not finite (TR01) or the smallest micro-batch does not fit (TR02).
    """
    before = [buffer.clone() for buffer in objective.buffers]
    inputs, targets = batch.inputs.to(engine.device), batch.targets.to(engine.device)
    while True:
        fits = True
        try:
            with _seeded(moment.seed, engine.device):
                loss, each = _accumulate_(objective, inputs, targets, micro_batch, whole / engine.world_size)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            fits = False  # out of here first: the error holds on to the memory
        if not engine.total([not fits])[0]:
            break
        _undo_(objective, optimizer, before)
        micro_batch = _halved(min(micro_batch, math.ceil(whole / engine.world_size)), objective, moment)
    gradients = [(name, p.grad) for name, p in objective.learners if p.grad is not None]
    engine.average_([loss, *(gradient for _, gradient in gradients), *objective.statistics])
    norm = get_total_norm([gradient for _, gradient in gradients])
    loss_value, norm_value = torch.stack([loss, norm.to(loss)]).tolist()  # the one wait for the device
    measured = Measured(loss_value, norm_value, micro_batch)
    if not (math.isfinite(measured.loss) and math.isfinite(measured.norm)):
        weights = objective.module.named_parameters()
        symptoms = Symptoms(measured.loss, measured.norm, batch.rows, inputs, targets, each, weights, gradients)
        fault = fault_of(symptoms, step=moment.step, steps=moment.steps, phase=moment.phase, ids=moment.ids)
        _undo_(objective, optimizer, before)
        raise fault
    if objective.clip_norm is not None:
        clip_grads_with_norm_([p for _, p in objective.learners], objective.clip_norm, norm)
    _update_(optimizer, moment)
    return measured


def _accumulate_(
    objective: Objective, inputs: Tensor, targets: Tensor, micro_batch: int, size: float
) -> tuple[Tensor, Tensor]:
    """Add the gradients of the batch, divided by ``size``; returns (its loss, the loss of each example), detached."""
    parts = min(math.ceil(len(inputs) / micro_batch), max(1, len(inputs) // objective.smallest))
    total, each = torch.zeros((), device=inputs.device), []
    for x, y in zip(inputs.tensor_split(parts), targets.tensor_split(parts), strict=True):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=objective.bf16):
            logits = objective.module(x)
        losses = objective.loss(logits, y)
        value = losses.sum() / size
        if len(objective.penalties):
            value = value + objective.penalties(x, y) * (len(x) / size)
        value.backward()
        total += value.detach()
        each.append(losses.detach())
    return total, torch.cat(each)


def _update_(optimizer: torch.optim.Optimizer, moment: Moment) -> None:
    try:
        optimizer.step()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingFault(
            f"TR03 step {moment.step} of {moment.steps}: memory does not suffice for the optimiser, which is as large "
            "for any batch. Freeze more stages, choose the optimiser 'sgd' or a smaller network. "
            "What was saved before is intact."
        ) from error
    optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def _undo_(objective: Objective, optimizer: torch.optim.Optimizer, before: Sequence[Tensor]) -> None:
    """Take back what the forward and backward pass left behind, and hand its memory back."""
    optimizer.zero_grad(set_to_none=True)
    for buffer, value in zip(objective.buffers, before, strict=True):
        buffer.copy_(value)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _halved(micro_batch: int, objective: Objective, moment: Moment) -> int:
    half = math.ceil(micro_batch / 2)
    if half == micro_batch or half < objective.smallest:
        few = "a single example" if objective.smallest == 1 else "two examples, the fewest for BatchNorm that moves,"
        raise TrainingFault(
            f"TR02 step {moment.step} of {moment.steps}, phase '{shown(moment.phase)}': memory does not suffice for "
            f"{few} at once. Choose a smaller network or picture size, let fewer stages learn, or close other "
            "programs. What was saved before is intact."
        )
    return half


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Dropout and stochastic depth draw from ``seed`` inside; the global generators do not notice."""
    if device.type != "cuda":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
        return
    with torch.cuda.device(device), torch.random.fork_rng(devices=[device], device_type="cuda"):
        torch.default_generator.manual_seed(seed)
        torch.cuda.manual_seed(seed)
        yield
