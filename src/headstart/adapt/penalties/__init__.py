"""Terms that a phase adds to the loss: L2-SP, BSS, DELTA and co-tuning.

A term sees the training forward through hooks, so that the network runs once for the loss and all its terms; DELTA
alone runs the loaded network beside it. The loop knows no kinds:

    with penalties_for(phase, model, source.module, references) as penalties:
        for each batch:
            value = loss(source.module(inputs), targets).mean() + penalties(inputs, targets)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from headstart.adapt.model import AdaptedModel
from headstart.adapt.penalties.bss import SpectralShrinkage
from headstart.adapt.penalties.co_tuning import CoTuning, SourceClassifier, relationship
from headstart.adapt.penalties.delta import DELTA_STAGES, Delta, spread_out
from headstart.adapt.penalties.l2_sp import HeadDecay, StartingPoint
from headstart.adapt.penalties.loaded import loaded_tensors
from headstart.adapt.penalties.watch import watched_features, watched_outputs
from headstart.adapt.plan import Penalty, Phase
from headstart.backbones.backbone import Backbone
from headstart.base.errors import PlanError, shown

__all__ = ["Penalties", "PenaltyTerm", "References", "SourceClassifier", "penalties_for", "relationship"]


class PenaltyTerm(Protocol):
    """One term, its weight included. Called once after each training forward, with what went into that forward.

    inputs: (b, ...).  targets: (b,) classes, or (b, K) shares of classes after mixup.
    The answer is one number, in float32 or wider. It is a mean over the b examples or does not depend on them, so a
    micro-batch's is weighed as its loss is, by its share of the batch. BSS alone takes each micro-batch as a batch.
    """

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor: ...


class Penalties:
    """All terms of a phase as one callable; leaving the ``with`` block takes its hooks off the model."""

    def __init__(self, terms: Sequence[PenaltyTerm], hooks: ExitStack) -> None:
        self._terms = tuple(terms)
        self._hooks = hooks

    def __len__(self) -> int:
        return len(self._terms)

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """One float32 number on the device of ``inputs``; 0 without terms."""
        total = torch.zeros((), device=inputs.device)
        for term in self._terms:
            total = total + term(inputs, targets).float()
        return total

    def __enter__(self) -> Penalties:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._hooks.close()


@dataclass(frozen=True, eq=False)
class References:
    """What penalties compare the learning model with.

    loaded: the network as it was loaded; it is read, never changed.  source: for co-tuning.
    attention: stage → (C,) weights of its channels for DELTA, with mean 1 (C · a_c of the paper); 1 where not given.
    """

    loaded: Backbone
    source: SourceClassifier | None = None
    attention: Mapping[str, np.ndarray] = field(default_factory=dict)


def penalties_for(phase: Phase, model: AdaptedModel, module: nn.Module, references: References) -> Penalties:
    """The terms of ``phase``; PlanError PL52 for one that cannot be computed.

    module: what is called on the batches of this phase (the model, or its tail behind a frozen border), not wrapped
    in DDP or compiled; it shares the model's tensors.  Make them once the model is on its device and has the phase's
    requires_grad: a frozen parameter costs nothing.
    """
    hooks = ExitStack()
    terms: list[PenaltyTerm] = []
    learning = [stage for stage in model.stage_names if stage in phase.lr]
    for penalty in phase.penalties:
        _check(penalty, phase, references)
        if penalty.kind == "l2-sp":
            terms.append(StartingPoint.of(penalty.weight, model, learning, references.loaded))
        if penalty.kind == "bss":
            terms.append(SpectralShrinkage(penalty.weight, watched_features(model, module, hooks)))
        if penalty.kind == "delta" and learning:
            loaded = loaded_tensors(module, model, references.loaded)
            outputs = watched_outputs(model, module, spread_out(learning, DELTA_STAGES), hooks)
            terms.append(Delta(penalty.weight, module, loaded, outputs, references.attention))
        if penalty.kind == "co-tuning" and references.source is not None:
            features = watched_features(model, module, hooks)
            terms.append(CoTuning.of(penalty.weight, references.source, model, features))
        if penalty.head_weight:
            terms.append(HeadDecay(penalty.head_weight, list(model.head.parameters())))
    return Penalties(terms, hooks)


def _check(penalty: Penalty, phase: Phase, references: References) -> None:
    where = f"PL52 phase '{shown(phase.name)}', penalty '{shown(penalty.kind)}'"
    wrong = [w for w in (penalty.weight, penalty.head_weight) if not (w >= 0 and math.isfinite(w))]
    if wrong:
        raise PlanError(f"{where}: weights must be numbers of 0 or more, got {wrong[0]}.")
    if penalty.kind == "co-tuning" and references.source is None:
        raise PlanError(
            f"{where} needs the classifier that {references.loaded.card.name} was trained with (its weight and bias) "
            "and how often each of its classes goes with each of yours, but the network was loaded without it. "
            "Give References a SourceClassifier, or choose 'l2-sp', 'bss' or 'delta'."
        )
