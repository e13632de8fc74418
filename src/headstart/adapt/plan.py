"""A plan says what learns, when and at which rate, as a value: printed, stored and tested without training.

The loop executes plans and knows no strategy by name. A stage that a phase does not name is frozen in it: its
parameters, its normalisation statistics and its dropout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from headstart.base.errors import PlanError, did_you_mean, shown

HEAD = "head"  # the name under which a phase gives the head its rate; stages of the network keep their own names


@dataclass(frozen=True)
class Schedule:
    """The rate as a share of its peak over one phase.

    kind: 'cosine' falls to ``floor``; 'step' is multiplied by ``factor`` at each of ``drops`` (shares of the phase);
    'constant' stays; 'rising' goes from ``floor``, above 0, to 1 in equal steps of its logarithm (for rate tests).
    warmup: share of the phase in which the rate rises linearly from 0, in [0, 1).
    """

    kind: Literal["cosine", "step", "constant", "rising"] = "cosine"
    warmup: float = 0.1
    floor: float = 0.0
    drops: tuple[float, ...] = (0.6, 0.85)
    factor: float = 0.1

    def __post_init__(self) -> None:
        in_order = list(self.drops) == sorted(self.drops) and all(0 <= drop <= 1 for drop in self.drops)
        has_start = self.floor > 0 or self.kind != "rising"
        if not (0 <= self.warmup < 1 and 0 <= self.floor <= 1 and 0 < self.factor <= 1 and in_order and has_start):
            raise PlanError(
                "PL01 a schedule needs 0 <= warmup < 1, 0 <= floor <= 1 (above 0 to rise from), 0 < factor <= 1 and "
                f"rising drops between 0 and 1, got {self}."
            )

    def at(self, step: int, steps: int) -> float:
        """The multiplier in [0, 1] at ``step`` of a phase of ``steps``, both counted from 0."""
        warm = round(self.warmup * steps)
        if step < warm:
            return (step + 1) / (warm + 1)
        share = (step - warm) / max(1, steps - warm)
        if self.kind == "cosine":
            return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * share))
        if self.kind == "step":
            return float(self.factor ** sum(step >= drop * steps for drop in self.drops))
        if self.kind == "rising":
            return float(self.floor ** (1 - (step - warm + 1) / (steps - warm)))
        return 1.0


@dataclass(frozen=True)
class Penalty:
    """A term added to the loss; implemented in adapt/penalties.py.

    kind: 'l2-sp' pulls the learning stages towards the loaded weights (Li et al. 2018) and ``head_weight`` the head to
    0; 'bss' holds the smallest singular values of the batch's features down (Chen et al. 2019); 'delta' keeps the
    outputs of the stages near those of the loaded network (Li et al. 2019); 'co-tuning' lets the source head learn the
    source classes that go with each target class (You et al. 2020).
    """

    kind: Literal["l2-sp", "bss", "delta", "co-tuning"]
    weight: float
    head_weight: float = 0.0


@dataclass(frozen=True)
class Phase:
    """One stretch of training.

    lr: stage name (or HEAD) → peak rate; a stage that is not named is frozen.  only: which parameters of the named
    stages learn; the head always learns whole.  'norm-and-bias' is BitFit for transformers and BN-affine for CNNs;
    'added' are the parameters that surgery brought in (LoRA, adapters).
    statistics: whether BatchNorm of the learning stages updates its running statistics ('moving') or uses those it
    came with ('fixed').  border: the first stage that learns decides what may be cached; nothing to say here.
    """

    name: str
    steps: int
    lr: Mapping[str, float]
    only: Literal["all", "norm-and-bias", "added"] = "all"
    statistics: Literal["moving", "fixed"] = "moving"
    schedule: Schedule = Schedule()
    penalties: tuple[Penalty, ...] = ()

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise PlanError(f"PL02 phase '{shown(self.name)}' has {self.steps} steps; it needs at least 1.")
        wrong = {stage: rate for stage, rate in self.lr.items() if not (rate > 0 and math.isfinite(rate))}
        if wrong:
            raise PlanError(
                f"PL03 phase '{shown(self.name)}': rates must be positive numbers, got {wrong}. "
                "Leave a stage out to freeze it."
            )
        if not self.lr:
            raise PlanError(f"PL04 phase '{shown(self.name)}' trains nothing: name at least one stage or '{HEAD}'.")


@dataclass(frozen=True)
class Surgery:
    """A change to the network before the first phase; implemented in adapt/surgery/.

    kind: 'lora' adds low-rank products to Linear and Conv2d layers (Hu et al. 2022); 'adapter' adds a small parallel
    branch to each block (Convpass, Jie & Deng 2022).  where: 'attention' (query and value where they can be told
    apart, else the whole attention) or 'all' layers of the learning stages.
    """

    kind: Literal["lora", "adapter"]
    rank: int = 8
    alpha: float = 16.0
    where: Literal["attention", "all"] = "all"


@dataclass(frozen=True)
class Optimizer:
    """kind: 'sgd' and 'adam' couple the decay (it goes through the gradient), 'adamw' decouples it.

    weight_decay does not touch biases and normalisation parameters (their tensors have one axis).
    momentum and nesterov: SGD only.  betas and eps: Adam and AdamW.
    """

    kind: Literal["sgd", "adam", "adamw"] = "adamw"
    weight_decay: float = 0.05
    momentum: float = 0.9
    nesterov: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


@dataclass(frozen=True)
class Loss:
    """kind: 'auto' is cross-entropy, binary cross-entropy or mean squared error, by the task; 'pairs' holds the cosine
    of two texts near 1 or 0.

    balanced: 'weights' counts classes equally, 'softmax' adds their log shares to the logits (balanced softmax, Ren et
    al. 2020).  label_smoothing, mixup (the α of its Beta distribution; 0 is off): classification and multi-label only.
    """

    kind: Literal["auto", "cross-entropy", "binary-cross-entropy", "mse", "mae", "huber", "pairs"] = "auto"
    label_smoothing: float = 0.0
    balanced: Literal["none", "weights", "softmax"] = "none"
    mixup: float = 0.0


@dataclass(frozen=True)
class Head:
    """start: 'probe' takes the weights of the head chosen on frozen features, 'random' those of torch's Linear.
    'after': the head has no part in the training; one of the chosen kind is fitted on the trained network's features.

    hidden: widths of further layers (with GELU) between the features and the answer; they always start at random.
    """

    start: Literal["probe", "random", "after"] = "probe"
    hidden: tuple[int, ...] = ()
    dropout: float = 0.0


@dataclass(frozen=True)
class Plan:
    """Phases in order, and what holds for all of them.

    augment: policy of inputs/augment.py, 'auto' is what the safety test allows, 'none' allows the cached border.
    views: with augment other than 'none', 0 draws new views for ever; K > 0 draws K views of each image once, so that
    the frozen part of the network runs over them once.  clip_norm: of all gradients together; None is off.
    ema: half-life of the running mean of the weights as a share of the plan's steps; None is off.
    patience: validations without improvement after which training stops; None never stops early.
    """

    strategy: str
    phases: tuple[Phase, ...]
    batch_size: int = 32
    head: Head = Head()
    surgery: tuple[Surgery, ...] = ()
    optimizer: Optimizer = Optimizer()
    loss: Loss = Loss()
    augment: str = "auto"
    views: int = 0
    clip_norm: float | None = 1.0
    ema: float | None = None
    patience: int | None = None
    validations: int = 10

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    def at(self, step: int) -> tuple[int, Phase, int]:
        """(number of the phase, the phase, step within it) at ``step`` of the plan; a pure function of both."""
        first = 0
        for number, phase in enumerate(self.phases):
            if first <= step < first + phase.steps:
                return number, phase, step - first
            first += phase.steps
        raise IndexError(f"step {step} of a plan of {self.steps} steps")

    def check(self, stages: Sequence[str]) -> None:
        """PlanError unless there is a phase, and every rate belongs to one of ``stages`` or the head."""
        if not self.phases:
            raise PlanError("PL05 the plan has no phase, so it trains nothing.")
        for phase in self.phases:
            for name in phase.lr:
                if name != HEAD and name not in stages:
                    raise PlanError(
                        f"PL06 phase '{shown(phase.name)}' gives a rate to '{shown(name)}', which is no stage of this "
                        f"network.{did_you_mean(name, [*stages, HEAD])} Its stages: {', '.join([*stages, HEAD])}."
                    )
            if phase.only == "added" and not self.surgery and set(phase.lr) != {HEAD}:
                raise PlanError(
                    f"PL08 phase '{shown(phase.name)}' trains only what surgery adds, but the plan has no surgery. "
                    "Add one, or let 'all' of the stages learn."
                )


@dataclass(frozen=True)
class Budget:
    """What a strategy may spend.

    steps: optimiser steps.  batch_size: examples of one.  n: training examples.  classes: width of the head.
    """

    steps: int
    batch_size: int
    n: int
    classes: int

    @property
    def per_class(self) -> float:
        return self.n / max(1, self.classes)


def default_budget(
    n: int,
    classes: int,
    *,
    epochs: float | None = None,
    batch_size: int | None = None,
    most_epochs: float = math.inf,
) -> Budget:
    """Steps that suit ``n`` examples: many epochs for few, few for many.

    Between 100 and 2,000 steps of 16 to 64, near 30·√n: 50 examples get 212 steps (a batch of 12: 50 epochs), 1,000
    get 949 (batch 32: 30 epochs), 5,000 get 2,000 (batch 64: 26 epochs). The shape follows the BiT rule (Kolesnikov et
    al. 2020: 500 steps below 20,000 examples), with longer training for few as METHODS B.4 and H ask for.
    most_epochs: what no default exceeds, but for the 100 steps.
    ``epochs`` and ``batch_size`` are taken as given, or refused (PL07), as is a batch larger than the data.
    """
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value is not None and not 0 < value < math.inf:
            raise PlanError(f"PL07 {name} is {value}; it must be above 0. Leave it out for a choice that suits {n}.")
    if batch_size is not None and batch_size > n:
        raise PlanError(f"PL07 batch_size is {batch_size}, but there are {n} training examples; give at most {n}.")
    batch = batch_size or (max(2, min(16, n // 4)) if n < 200 else 32 if n < 4000 else 64)
    batch = max(1, min(batch, n))
    if epochs is not None:
        return Budget(max(1, round(epochs * n / batch)), batch, n, classes)
    steps = max(100, round(min(2000, 30 * math.sqrt(n), most_epochs * n / batch)))
    return Budget(steps, batch, n, classes)
