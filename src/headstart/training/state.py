"""What a run must remember to go on as if it had never stopped.

The list is data in one place (PIECES), so that a test can leave each piece out and see resume fail.
Randomness is not in it: order, views and dropout are functions of (seed, step).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from headstart.adapt.model import AdaptedModel
from headstart.adapt.plan import Plan
from headstart.base.config import from_dict, to_dict
from headstart.base.errors import CheckpointMismatch, listed
from headstart.records.history import StepRecord, StopReason, ValidationRecord
from headstart.training.ema import Ema, copy_
from headstart.training.optimizer import make_optimizer
from headstart.training.phase import buffers_of, ever_learning


@dataclass
class TrainState:
    """One run in the middle of its work; the loop alone changes it.

    weights: parameters that learn in some phase, live.  buffers: of the stages that learn in some phase, live.
    step: updates made.  micro_batch: examples that go through the network together.
    best_score, best_step, best: the best validation so far and the tensors (weights and buffers) it was made with.
    waited: validations since then.  stopped_because: '' while there is more to do.
    """

    weights: dict[str, nn.Parameter]
    buffers: dict[str, Tensor]
    optimizer: torch.optim.Optimizer
    ema: Ema
    micro_batch: int
    step: int = 0
    best_score: float | None = None
    best_step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    waited: int = 0
    steps: list[StepRecord] = field(default_factory=list)
    validations: list[ValidationRecord] = field(default_factory=list)
    stopped_because: StopReason | Literal[""] = ""

    @classmethod
    def fresh(cls, model: AdaptedModel, plan: Plan, *, micro_batch: int) -> TrainState:
        """The state before the first step. The model must be where it will be trained."""
        weights = ever_learning(model, plan)
        buffers = buffers_of(model, {stage for phase in plan.phases for stage in phase.lr})
        half_life = plan.ema * plan.steps if plan.ema else None
        return cls(
            weights, buffers, make_optimizer(model, plan.optimizer), Ema(weights | buffers, half_life), micro_batch
        )

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All of the model that training can change, live."""
        return self.weights | self.buffers

    @property
    def seconds(self) -> float:
        return self.steps[-1].seconds if self.steps else 0.0

    def keep_best(self, score: float) -> None:
        """Remember what the model holds now as the best so far."""
        self.best_score, self.best_step, self.waited = score, self.step, 0
        self.best = {name: tensor.detach().clone() for name, tensor in self.tensors.items()}


@dataclass(frozen=True)
class TensorPiece:
    """Tensors by name; ``write`` gets what ``read`` gave, on the CPU."""

    name: str
    read: Callable[[TrainState], Mapping[str, Tensor]]
    write: Callable[[TrainState, dict[str, Tensor]], None]


@dataclass(frozen=True)
class ValuePiece:
    """A plain value: numbers, strings, None, lists and dicts of them."""

    name: str
    read: Callable[[TrainState], Any]
    write: Callable[[TrainState, Any], None]


def _optimizer_tensors(state: TrainState) -> dict[str, Tensor]:
    """'name/exp_avg' → tensor, for every parameter that has been learning."""
    return {
        f"{name}/{key}": value
        for name, parameter in state.weights.items()
        for key, value in state.optimizer.state.get(parameter, {}).items()
        if value is not None  # SGD without momentum
    }


def _restore_optimizer(state: TrainState, tensors: dict[str, Tensor]) -> None:
    """Through load_state_dict, which knows what of it (Adam's step) stays on the CPU."""
    numbers = {id(p): i for i, p in enumerate(p for g in state.optimizer.param_groups for p in g["params"])}
    states: dict[int, dict[str, Tensor]] = {}
    for path, value in tensors.items():
        name, key = path.rsplit("/", 1)
        parameter = state.weights[name]
        like = torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value
        states.setdefault(numbers[id(parameter)], {})[key] = like.detach()
    state.optimizer.load_state_dict({"state": states, "param_groups": state.optimizer.state_dict()["param_groups"]})


def _restore_best(state: TrainState, tensors: dict[str, Tensor]) -> None:
    live = state.tensors
    state.best = {name: torch.empty_like(live[name]).copy_(value).detach() for name, value in tensors.items()}


def _attribute(name: str) -> ValuePiece:
    return ValuePiece(name, lambda s: getattr(s, name), lambda s, value: setattr(s, name, value))


def _records(name: str, kind: type) -> ValuePiece:
    return ValuePiece(
        name,
        lambda s: to_dict(getattr(s, name)),
        lambda s, rows: setattr(s, name, [from_dict(kind, row, where=name) for row in rows]),
    )


PIECES: tuple[TensorPiece | ValuePiece, ...] = (
    TensorPiece("weights", lambda s: s.weights, lambda s, tensors: copy_(s.weights, tensors)),
    TensorPiece("buffers", lambda s: s.buffers, lambda s, tensors: copy_(s.buffers, tensors)),
    TensorPiece("optimizer", _optimizer_tensors, _restore_optimizer),
    TensorPiece("ema", lambda s: s.ema.values, lambda s, tensors: copy_(s.ema.values, tensors)),
    TensorPiece("best", lambda s: s.best, _restore_best),
    _attribute("step"),
    _attribute("micro_batch"),
    _attribute("best_score"),
    _attribute("best_step"),
    _attribute("waited"),
    _records("steps", StepRecord),
    _records("validations", ValidationRecord),
    _attribute("stopped_because"),
)


def pieces(state: TrainState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors by 'piece:name', values by piece) for ``Checkpoints.commit``; the tensors are live."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for piece in PIECES:
        if isinstance(piece, TensorPiece):
            tensors |= {f"{piece.name}:{name}": tensor for name, tensor in piece.read(state).items()}
        else:
            values[piece.name] = piece.read(state)
    return tensors, values


def largest(state: TrainState) -> int:
    """Bytes of the tensors that ``pieces`` can grow to: with two moments of each weight, and the best so far."""
    weights = sum(p.numel() * p.element_size() for p in state.weights.values())
    kept = sum(t.numel() * t.element_size() for t in state.tensors.values())
    mean = sum(t.numel() * t.element_size() for t in state.ema.values.values())
    return 2 * weights + 2 * kept + mean


def restore(state: TrainState, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Bring a fresh ``state`` to where ``pieces`` found another; CheckpointMismatch where it is of another plan."""
    _check_fits(state, tensors)
    for piece in PIECES:
        if isinstance(piece, TensorPiece):
            start = f"{piece.name}:"
            piece.write(state, {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)})
        else:
            piece.write(state, values[piece.name])


def _check_fits(state: TrainState, saved: Mapping[str, Tensor]) -> None:
    expected = {f"weights:{n}": t.shape for n, t in state.weights.items()}
    expected |= {f"buffers:{n}": t.shape for n, t in state.buffers.items()}
    expected |= {f"ema:{n}": t.shape for n, t in state.ema.values.items()}
    found = {name: t.shape for name, t in saved.items() if name.split(":")[0] in ("weights", "buffers", "ema")}
    if expected != found:
        odd = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise CheckpointMismatch(
            f"CK29 the checkpoint holds other tensors than this plan trains ({listed(odd)}). It was made with another "
            "plan or network; go on with the settings it was made with, or choose another --out."
        )
