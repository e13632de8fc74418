"""What went wrong in a step: memory, or a number that is none. Found before the weights are touched."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from headstart.base.errors import TrainingFault, listed, shown

_OUT_OF_MEMORY = (  # RuntimeErrors that are torch.OutOfMemoryError by another name
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_LOWER = "Lower the rates, or set clip_norm; with bf16, try precision float32."


def is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in _OUT_OF_MEMORY)


@dataclass(frozen=True, eq=False)
class Symptoms:
    """A step whose loss or gradient is not finite, before its update.

    rows: (b,) positions in the training set.  inputs: (b, ...).  targets: (b, ...).  each: (b,) loss per example.
    weights, gradients: (name, tensor), input side first.
    """

    loss: float
    norm: float
    rows: np.ndarray
    inputs: Tensor
    targets: Tensor
    each: Tensor
    weights: Iterable[tuple[str, Tensor]]
    gradients: Iterable[tuple[str, Tensor]]


def fault_of(symptoms: Symptoms, *, step: int, steps: int, phase: str, ids: Sequence[str]) -> TrainingFault:
    """The error that names the step, the first tensor that is not finite, and the examples.

    ids: of all training examples.
    """
    broken = f"loss is {symptoms.loss}" if not math.isfinite(symptoms.loss) else f"gradient's norm is {symptoms.norm}"
    where, bad, advice = _first_bad(symptoms)
    names = listed([ids[row] for row in symptoms.rows[bad]], most=8)
    return TrainingFault(
        f"TR01 step {step} of {steps}, phase '{shown(phase)}': the {broken} (loss {symptoms.loss:.4g}). "
        f"The first tensor with NaN or Inf: {where}. Examples: {names}. "
        f"The update was not made; the weights are those after step {step - 1}. {advice}"
    )


def check_weights(weights: Mapping[str, Tensor], *, step: int) -> None:
    """TrainingFault TR05 unless all ``weights`` are finite; for the moments in which they are kept.

    The next step would notice an update that overflowed, but a checkpoint may come before it, or no further step.
    """
    if weights and not bool(torch.stack([torch.isfinite(w.detach()).all() for w in weights.values()]).all()):
        bad = [name for name, weight in weights.items() if not bool(torch.isfinite(weight).all())]
        raise TrainingFault(
            f"TR05 the update of step {step} left NaN or Inf in {len(bad)} of {len(weights)} weights ({listed(bad)}). "
            f"They are not saved; what was saved before is intact. {_LOWER}"
        )


def _first_bad(s: Symptoms) -> tuple[str, np.ndarray, str]:
    """(what, (b,) which rows of the batch, what to do), in the order in which values flow."""
    everyone = np.ones(len(s.rows), bool)
    values = "Correct or remove these examples."
    for what, tensor in (("the inputs", s.inputs), ("the targets", s.targets)):
        bad = ~_finite_rows(tensor)
        if bad.any():
            return f"{what} of {bad.sum()} of {len(bad)} examples", bad, values
    for name, tensor in s.weights:
        if not bool(torch.isfinite(tensor).all()):
            return f"the weight '{shown(name)}'", everyone, f"An earlier update overflowed. {_LOWER}"
    bad = ~_finite_rows(s.each)
    if bad.any():
        return f"the loss of {bad.sum()} of {len(bad)} examples", bad, _LOWER
    if not math.isfinite(s.loss):
        return "a penalty", everyone, "Lower its weight, or take it out of the plan."
    for name, tensor in s.gradients:
        if not bool(torch.isfinite(tensor).all()):
            return f"the gradient of '{shown(name)}'", everyone, _LOWER
    return "none here (gradients of another process, or their sum of squares)", everyone, _LOWER


def _finite_rows(tensor: Tensor) -> np.ndarray:
    """(b,) of (b, ...)."""
    return np.asarray(torch.isfinite(tensor.detach()).reshape(len(tensor), -1).all(dim=1).cpu().numpy())
