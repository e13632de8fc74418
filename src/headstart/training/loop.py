"""The loop that executes plans. It knows no strategy, no penalty and no data set by name.

Everything a step does is a function of (plan, seed, step) and of the state in ``state.py``; so a resumed run goes
through the same bits as one that was never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from headstart.adapt.model import AdaptedModel
from headstart.adapt.penalties import Penalties
from headstart.adapt.plan import Phase, Plan
from headstart.base.errors import PlanError, Stopped, TrainingFault
from headstart.base.memory import kept
from headstart.base.progress import Advanced, Finished, Measured, Observer, Said, Started
from headstart.base.seeds import number
from headstart.inputs.batches import Batch, Batches
from headstart.records.history import History, PhaseRecord, StepRecord, ValidationRecord
from headstart.training.checkpoint import Checkpoints, NoCheckpoints
from headstart.training.ema import copy_
from headstart.training.engines.engine import Engine
from headstart.training.health import check_weights, is_out_of_memory
from headstart.training.interrupt import Interruption
from headstart.training.losses import LossFunction
from headstart.training.optimizer import forget_frozen, set_rates
from headstart.training.phase import check_phases, enter_phase, refresh
from headstart.training.state import TrainState, largest, pieces, restore
from headstart.training.step import Moment, Objective, learn_

TRAINING = "training"  # the piece of work as observers hear of it
JUDGED = 0.3  # share of the steps after which a training must know more than a constant answer (METHODS B.4)


@dataclass(frozen=True)
class LoopSettings:
    """How to compute, where a plan says what.

    precision: 'bf16' runs the network under autocast; weights, loss and optimiser stay in float32.
    channels_last: layout of the weights while they train; faster for convolutions.
    micro_batch: examples that go through the network together; None is the whole batch. It is halved where memory asks
    for it.  checkpoint_every: steps.  seconds: training ends its plan early when they are over; None is no limit.
    """

    precision: Literal["float32", "bf16"] = "float32"
    channels_last: bool = False
    micro_batch: int | None = None
    checkpoint_every: int = 100
    checkpoint_s: float = 60.0
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.checkpoint_every < 1 or (self.micro_batch is not None and self.micro_batch < 1):
            raise PlanError(f"PL42 checkpoint_every and micro_batch count steps and examples, from 1 on; got {self}.")


@dataclass(frozen=True, eq=False)
class Source:
    """What a phase learns from.

    module: batch.inputs → (b, K) logits; shares the model's parameters.  batches: this process's part of each batch,
    whose steps are counted over the whole plan.
    """

    module: nn.Module
    batches: Batches


class Feed(Protocol):
    """Gives each phase its source: the whole network on pixels, or its tail on activations of the frozen border."""

    def enter(self, phase: Phase) -> Source:
        """Called with the model in eval mode, and its weights as they are when the phase begins or is taken up."""
        ...


@dataclass(frozen=True)
class Validation:
    """Of the weights that the model holds. score: of the metric that decides; NaN where it is not defined."""

    score: float
    loss: float


@dataclass(frozen=True)
class Trained:
    """The model holds the weights of ``history.best_step``. score: of their validation, None without one."""

    history: History
    score: float | None


def no_penalties(phase: Phase, module: nn.Module) -> Penalties:
    return Penalties((), ExitStack())


def no_mixup(step: int, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return inputs, targets


@contextmanager
def taken(batches: Batches, first: int, last: int) -> Iterator[Iterator[Batch]]:
    """batches.between(first, last), whose threads end with the ``with`` block."""
    made = batches.between(first, last)
    try:
        yield made
    finally:
        if isinstance(made, Generator):
            made.close()


def train(
    model: AdaptedModel,
    plan: Plan,
    feed: Feed,
    loss: LossFunction,
    *,
    validate: Callable[[], Validation] | None,
    greater_is_better: bool,
    checkpoints: Checkpoints | NoCheckpoints,
    engine: Engine,
    settings: LoopSettings,
    seed: int,
    ids: Sequence[str],
    observer: Observer,
    penalties: Callable[[Phase, nn.Module], Penalties] = no_penalties,
    mixup: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]] = no_mixup,
    hopeless: float | None = None,
) -> Trained:
    """Train ``model`` in place as ``plan`` says, or go on where ``checkpoints`` left off; the best weights stay.

    validate: scores the weights that the model holds; called in eval mode, by rank 0, plan.validations times and at
    the end. Without it, the last weights (or their running mean) are kept.  ids: of all training examples, for errors.
    penalties: the terms of a phase, given the source's module.  mixup: see losses.Mixup.
    hopeless: loss of a constant answer. A training that is above it when JUDGED of its steps are made has failed, and
    stops there: transformers that start with too high a rate end in such a place and stay (Mosbach et al. 2021).

    With several processes, every one of them must see the same ``checkpoints``; rank 0 alone writes them.

    Raises PlanError before the first step, TrainingFault with the weights of the last good step, and Stopped (exit 75)
    after a signal, once a checkpoint is saved.
    """
    check_phases(model, plan)
    model.to(engine.device)
    if settings.channels_last:
        model.to(memory_format=torch.channels_last)
    state = TrainState.fresh(model, plan, micro_batch=settings.micro_batch or plan.batch_size)
    engine.same_(list(state.tensors.values()))
    snapshot = checkpoints.newest()
    if snapshot is not None:
        restore(state, snapshot.tensors, snapshot.state)
    if engine.rank == 0:
        checkpoints.check_room(largest(state))
    clock, entered, saved_at = _Clock(state), -1, time.monotonic()
    observer(Measured(TRAINING, state.step, {}))
    first = state.step

    with kept(), Interruption() as interruption, _announced(observer, state, plan), ExitStack() as leaving:
        while not state.stopped_because:
            place, phase, k = plan.at(state.step)
            if place != entered:
                leaving.close()  # workers and hooks of the phase before
                refresh(model)
                source = feed.enter(phase)
                enter_phase(model, phase)
                forget_frozen(state.optimizer)
                terms = leaving.enter_context(penalties(phase, source.module))
                bf16 = settings.precision == "bf16"
                objective = Objective.of(model, phase, source.module, loss, terms, clip_norm=plan.clip_norm, bf16=bf16)
                batches = leaving.enter_context(taken(source.batches, state.step, state.step - k + phase.steps))
                entered = place

            share = set_rates(state.optimizer, phase, k)
            clock.start_step()
            batch = next(batches)
            assert batch.step == state.step, f"batch {batch.step} came in step {state.step}"
            inputs, targets = mixup(state.step, batch.inputs, batch.targets)
            measured = learn_(
                objective,
                state.optimizer,
                replace(batch, inputs=inputs, targets=targets),
                Moment(state.step, plan.steps, phase.name, number(seed, "step", state.step, engine.rank), ids),
                whole=source.batches.batch_size,
                micro_batch=state.micro_batch,
                engine=engine,
            )
            clock.end_step(source.batches.batch_size)

            state.step += 1
            state.micro_batch = measured.micro_batch
            state.ema.update()
            row = StepRecord(state.step - 1, place, measured.loss, measured.norm, share, clock.seconds)
            state.steps.append(row)
            observer(Advanced(TRAINING, state.step, plan.steps))
            rate = share * max(phase.lr.values())
            told = {
                "loss": measured.loss,
                "gradient_norm": measured.norm,
                "rate": rate,
                "images_per_s": clock.images_per_s,
            }
            observer(Measured(TRAINING, state.step, told))

            # What one process alone knows is shared here, so that all of them leave the loop in the same step.
            late = engine.rank == 0 and settings.seconds is not None and clock.seconds >= settings.seconds
            asked, late = (bool(x) for x in engine.total([bool(interruption.asked), late]))
            over, best = state.step == plan.steps, False
            if validate is not None and (over or late or _is_due(state.step, plan)):
                best = _validate(model, state, validate, greater_is_better, engine)
                enter_phase(model, phase)
                observer(Said(_sentence(state, plan, clock)))
                found = state.validations[-1]
                observer(
                    Measured(TRAINING, state.step, {"validation_score": found.score, "validation_loss": found.loss})
                )
            patience = plan.patience is not None and state.waited >= max(1, plan.patience)
            state.stopped_because = "finished" if over else "time" if late else "patience" if patience else ""
            if hopeless is not None and not state.stopped_because and _has_failed(state, plan, hopeless):
                state.stopped_because = "failed"

            due = state.step % settings.checkpoint_every == 0 or time.monotonic() - saved_at >= settings.checkpoint_s
            if due or best or asked or state.stopped_because:
                check_weights(state.weights, step=state.step - 1)
                if engine.rank == 0:
                    checkpoints.commit(state.step, *pieces(state), best=best)
                saved_at = time.monotonic()
            if asked and not state.stopped_because:
                raise Stopped(_farewell(state, plan, interruption.asked, checkpoints))

    if state.step > first:
        observer(Measured(TRAINING, state.step, _final(state)))
    copy_(state.tensors, state.best or state.ema.values)
    refresh(model)
    if settings.channels_last:
        model.to(memory_format=torch.contiguous_format)
    return Trained(_history(state, plan, clock), state.best_score)


def _final(state: TrainState) -> dict[str, float]:
    kept = {"best_step": state.best_step, "best_score": state.best_score} if state.best_score is not None else {}
    return {"steps": state.step, "seconds": state.seconds, **kept}


def _has_failed(state: TrainState, plan: Plan, hopeless: float) -> bool:
    """Asked after every step, answered once: by the mean loss of the steps before, as many as half of those made."""
    if state.step != math.ceil(JUDGED * plan.steps):
        return False
    losses = [row.loss for row in state.steps[state.step // 2 :]]
    return sum(losses) / len(losses) > hopeless


def _is_due(step: int, plan: Plan) -> bool:
    """Whether one of plan.validations, evenly spread over the plan, falls on ``step`` updates."""
    return step * plan.validations // plan.steps > (step - 1) * plan.validations // plan.steps


def _validate(
    model: AdaptedModel,
    state: TrainState,
    validate: Callable[[], Validation],
    greater_is_better: bool,
    engine: Engine,
) -> bool:
    """Score the weights (their running mean, if there is one) and keep them if they are the best so far."""
    with state.ema.swapped_in():
        refresh(model)
        found = _scored(validate, state) if engine.rank == 0 else Validation(0.0, 0.0)
        score, loss = engine.total([found.score, found.loss])
        best = not math.isnan(score) and (
            state.best_score is None or (score > state.best_score if greater_is_better else score < state.best_score)
        )
        state.waited += 1
        if best:
            state.keep_best(score)
    state.validations.append(ValidationRecord(state.step, score, loss, best))
    return best


def _scored(validate: Callable[[], Validation], state: TrainState) -> Validation:
    try:
        return validate()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingFault(
            f"TR04 after step {state.step}: memory does not suffice for the validation. Validate in smaller batches, "
            "or close other programs. What was saved before is intact."
        ) from error


class _Clock:
    """Time by the monotonic clock: of the whole training, earlier starts included, and inside steps of this start."""

    def __init__(self, state: TrainState) -> None:
        self._began = time.monotonic() - state.seconds
        self._step_began = 0.0
        self._inside, self._images, self._steps = 0.0, 0, 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def images_per_s(self) -> float:
        return self._images / self._inside if self._inside else 0.0

    @property
    def seconds_per_step(self) -> float:
        return self._inside / max(1, self._steps)

    def start_step(self) -> None:
        self._step_began = time.monotonic()

    def end_step(self, images: int) -> None:
        self._inside += time.monotonic() - self._step_began
        self._images, self._steps = self._images + images, self._steps + 1


@contextmanager
def _announced(observer: Observer, state: TrainState, plan: Plan) -> Iterator[None]:
    began = time.monotonic()
    observer(Started(TRAINING, plan.steps, "step"))
    try:
        yield
    finally:
        observer(Finished(TRAINING, state.step, time.monotonic() - began))


def _sentence(state: TrainState, plan: Plan, clock: _Clock) -> str:
    """Loss since the validation before, score, speed and time left."""
    before = state.validations[-2].step if len(state.validations) > 1 else 0
    losses = [row.loss for row in state.steps[before:]]
    last = state.validations[-1]
    best = "the best" if last.best else f"best {state.best_score:.4g} after {state.best_step}" if state.best else "none"
    left = (plan.steps - state.step) * clock.seconds_per_step
    return (
        f"step {state.step} of {plan.steps}: loss {sum(losses) / max(1, len(losses)):.4g}, "
        f"validation score {last.score:.4g} ({best}), {clock.images_per_s:.0f} images/s, {left:.0f} s left"
    )


def _farewell(state: TrainState, plan: Plan, signal: str, checkpoints: Checkpoints | NoCheckpoints) -> str:
    asked = signal or "another process was asked"
    return f"{asked}: stopped after step {state.step} of {plan.steps}. {checkpoints.farewell}"


def _history(state: TrainState, plan: Plan, clock: _Clock) -> History:
    entered = plan.at(state.step - 1)[0] + 1
    firsts = [sum(phase.steps for phase in plan.phases[:i]) for i in range(entered)]
    return History(
        phases=tuple(
            PhaseRecord(phase.name, first, dict(phase.lr))
            for phase, first in zip(plan.phases[:entered], firsts, strict=True)
        ),
        steps=tuple(state.steps),
        validations=tuple(state.validations),
        planned=plan.steps,
        best_step=state.best_step if state.best else state.step,
        stopped_because=state.stopped_because or "finished",
        batch_size=plan.batch_size,
        micro_batch=min(state.micro_batch, plan.batch_size),
        images_per_s=clock.images_per_s,
        seconds=state.seconds,
    )
