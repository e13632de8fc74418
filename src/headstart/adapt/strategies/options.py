"""The user's explicit choices, and how they enter a finished plan. They always win.

All strategies share this file, so none can forget a choice or change it on the way. A choice that a plan has no place
for (a rate for stages that do not learn) is an error, because a choice that does nothing looks like one that won.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from headstart.adapt.plan import HEAD, Optimizer, Penalty, Phase, Plan
from headstart.base.errors import PlanError, shown

T = TypeVar("T")

# What each optimiser takes where the user names it and nothing more. The coupled decays are torch's own for Adam and
# that of tllib's recipes for SGD (METHODS B.2).
OPTIMIZERS = {
    "sgd": Optimizer("sgd", weight_decay=5e-4),
    "adam": Optimizer("adam", weight_decay=0.0),
    "adamw": Optimizer("adamw", weight_decay=0.05),
}
# Default rates are for Adam; SGD's are ten times those: .01 and .001 in METHODS B.2 against 1e-3 and 1e-4 in B.3.
RATE_OF = {"sgd": 10.0, "adam": 1.0, "adamw": 1.0}
# Weights of the published recipes (METHODS B.3). DELTA's 0.01 is of a sum over batches of 48 to 64; ours is a mean.
PENALTIES = {
    "l2-sp": Penalty("l2-sp", 0.01, head_weight=0.01),
    "bss": Penalty("bss", 0.001),
    "delta": Penalty("delta", 0.5, head_weight=0.01),
    "co-tuning": Penalty("co-tuning", 2.3),
}
_REPLACE_DECAY = ("l2-sp", "delta")  # they pull towards the loaded weights, which decay to 0 would work against


@dataclass(frozen=True)
class Options:
    """What a user can choose whatever the strategy; None is the strategy's own default.

    lr: peak rate of the stage of the network that learns fastest, in every phase; other stages keep their ratio to it.
    head_lr: peak rate of the head, in every phase.
    layer_decay: rate of a stage over that of the stage above it, in (0, 1]; replaces the strategy's own division.
    optimizer: with 'sgd', default rates are ten times those of Adam; chosen rates are taken as they are.
    weight_decay: at least 0.  schedule, warmup: of every phase; warmup is a share of the phase in [0, 1).
    penalty: 'none' takes a strategy's own away.  penalty_weight: of the penalty chosen here.
    balanced: how the loss counts classes, as in Loss; ``fit`` sets it from --balance.
    label_smoothing: in [0, 1).  mixup: α of its Beta distribution, 0 is off.
    ema: half-life of the mean of the weights as a share of all steps in [0, 1), 0 is off.
    clip_norm: of all gradients together, 0 is off.  augment: name of a policy, 'auto' or 'none'.
    patience: validations without improvement until training stops, 0 never stops early.
    hidden: widths of hidden layers of the head.  dropout: before its layers, in [0, 1).
    """

    lr: float | None = None
    head_lr: float | None = None
    layer_decay: float | None = None
    optimizer: Literal["sgd", "adam", "adamw"] | None = None
    weight_decay: float | None = None
    schedule: Literal["cosine", "step", "constant"] | None = None
    warmup: float | None = None
    penalty: Literal["none", "l2-sp", "bss", "delta", "co-tuning"] | None = None
    penalty_weight: float | None = None
    balanced: Literal["none", "weights", "softmax"] | None = None
    label_smoothing: float | None = None
    mixup: float | None = None
    ema: float | None = None
    clip_norm: float | None = None
    augment: str | None = None
    patience: int | None = None
    hidden: tuple[int, ...] | None = None
    dropout: float | None = None

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise PlanError(f"PL12 options: {'; '.join(problems)}.")


def with_options(plan: Plan, options: Options, stages: Sequence[str]) -> Plan:
    """``plan`` with every choice of ``options`` in it, as the user wrote it.

    stages: of the network, input side first.  PlanError PL13 for a choice that this plan has no place for.
    """
    _check_place(plan, options)
    plan = _with_optimizer(plan, options)
    phases = tuple(_with_penalty(_with_rates(phase, options, stages), options) for phase in plan.phases)
    augment = _chosen(options.augment, plan.augment)
    return replace(
        plan,
        phases=tuple(_with_schedule(phase, options) for phase in phases),
        head=replace(
            plan.head,
            hidden=_chosen(options.hidden, plan.head.hidden),
            dropout=_chosen(options.dropout, plan.head.dropout),
        ),
        loss=replace(
            plan.loss,
            balanced=_chosen(options.balanced, plan.loss.balanced),
            label_smoothing=_chosen(options.label_smoothing, plan.loss.label_smoothing),
            mixup=_chosen(options.mixup, plan.loss.mixup),
        ),
        augment=augment,
        views=0 if augment == "none" else plan.views,
        clip_norm=_chosen(options.clip_norm, plan.clip_norm) or None,
        ema=_chosen(options.ema, plan.ema) or None,
        patience=_chosen(options.patience, plan.patience) or None,
    )


def scaled(plan: Plan, factor: float) -> Plan:
    """``plan`` with every rate times ``factor``; for a sweep over rates that nobody chose."""
    return replace(
        plan, phases=tuple(replace(p, lr={name: rate * factor for name, rate in p.lr.items()}) for p in plan.phases)
    )


def network_stages(phase: Phase) -> list[str]:
    """The stages of the network that learn in ``phase``, without the head."""
    return [name for name in phase.lr if name != HEAD]


def _check_place(plan: Plan, options: Options) -> None:
    """PlanError where a choice would do nothing."""
    chosen = [name for name in ("lr", "layer_decay") if getattr(options, name) is not None]
    chosen += ["penalty"] if options.penalty not in (None, "none") else []
    if chosen and not any(network_stages(phase) for phase in plan.phases):
        raise PlanError(
            f"PL13 {chosen[0]} = {shown(getattr(options, chosen[0]))} has no effect: '{shown(plan.strategy)}' trains "
            f"the head alone. Leave it out{' or choose head_lr' if chosen[0] == 'lr' else ''}, or take a strategy "
            "that trains the network, such as lp-ft."
        )
    if options.hidden and not any(HEAD in phase.lr for phase in plan.phases):
        raise PlanError(
            f"PL13 hidden = {shown(options.hidden)}: hidden layers start at random, and no phase of "
            f"'{shown(plan.strategy)}' trains the head. Leave them out, or take a strategy that does, such as lp-ft."
        )
    if options.penalty == "l2-sp" and all(p.only == "added" for p in plan.phases if network_stages(p)):
        raise PlanError(
            f"PL13 penalty 'l2-sp' has no effect: it pulls weights towards those that were loaded, and in "
            f"'{shown(plan.strategy)}' none of them learns. Leave it out, or take 'bss' or 'delta'."
        )


def _with_optimizer(plan: Plan, options: Options) -> Plan:
    """The optimiser with its decay, and default rates that suit it. Rates the user chose come after this."""
    optimizer = plan.optimizer
    if options.optimizer is not None and options.optimizer != optimizer.kind:
        plan = scaled(plan, RATE_OF[options.optimizer] / RATE_OF[optimizer.kind])
        optimizer = OPTIMIZERS[options.optimizer]
    default = 0.0 if options.penalty in _REPLACE_DECAY else optimizer.weight_decay
    return replace(plan, optimizer=replace(optimizer, weight_decay=_chosen(options.weight_decay, default)))


def _with_rates(phase: Phase, options: Options, stages: Sequence[str]) -> Phase:
    learning = [stage for stage in stages if stage in phase.lr]
    rates = {stage: phase.lr[stage] for stage in learning}
    if learning and options.lr is not None:
        # The ratio is exactly 1 for the fastest stage, which thus gets exactly the rate that was asked for.
        fastest = max(rates.values())
        rates = {stage: options.lr * (rate / fastest) for stage, rate in rates.items()}
    if learning and options.layer_decay is not None:
        top, last = max(rates.values()), stages.index(learning[-1])
        rates = {stage: top * options.layer_decay ** (last - stages.index(stage)) for stage in learning}
    head = {HEAD: _chosen(options.head_lr, phase.lr[HEAD])} if HEAD in phase.lr else {}
    return replace(phase, lr=rates | head)


def _with_penalty(phase: Phase, options: Options) -> Phase:
    """The penalty in phases in which the network learns; one on a frozen network would do nothing."""
    if options.penalty is None or not network_stages(phase):
        return phase
    if options.penalty == "none":
        return replace(phase, penalties=())
    penalty = PENALTIES[options.penalty]
    return replace(phase, penalties=(replace(penalty, weight=_chosen(options.penalty_weight, penalty.weight)),))


def _with_schedule(phase: Phase, options: Options) -> Phase:
    schedule = phase.schedule
    kind, warmup = _chosen(options.schedule, schedule.kind), _chosen(options.warmup, schedule.warmup)
    return replace(phase, schedule=replace(schedule, kind=kind, warmup=warmup))


def _chosen(choice: T | None, default: T) -> T:
    return default if choice is None else choice


_NUMBERS: dict[str, tuple[Callable[[float], bool], str]] = {
    "lr": (lambda x: 0 < x < math.inf, "a number above 0"),
    "head_lr": (lambda x: 0 < x < math.inf, "a number above 0"),
    "layer_decay": (lambda x: 0 < x <= 1, "a number above 0 and at most 1"),
    "weight_decay": (lambda x: 0 <= x < math.inf, "a number of at least 0"),
    "warmup": (lambda x: 0 <= x < 1, "a share of each phase, at least 0 and below 1"),
    "penalty_weight": (lambda x: 0 < x < math.inf, "a number above 0"),
    "label_smoothing": (lambda x: 0 <= x < 1, "a number of at least 0 and below 1"),
    "mixup": (lambda x: 0 <= x < math.inf, "a number of at least 0"),
    "ema": (lambda x: 0 <= x < 1, "a share of all steps, at least 0 and below 1"),
    "clip_norm": (lambda x: 0 <= x < math.inf, "a number of at least 0"),
    "dropout": (lambda x: 0 <= x < 1, "a number of at least 0 and below 1"),
}
_WORDS = {
    "optimizer": tuple(OPTIMIZERS),
    "schedule": ("cosine", "step", "constant"),
    "penalty": ("none", *PENALTIES),
    "balanced": ("none", "weights", "softmax"),
}


def _problems(options: Options) -> Iterator[str]:
    """What is wrong with each choice, all of them at once."""
    for name, (fits, words) in _NUMBERS.items():
        value = getattr(options, name)
        if value is not None and not (_is(value, int | float) and fits(value)):
            yield f"{name} is {shown(value)}; it must be {words}"
    for name, known in _WORDS.items():
        value = getattr(options, name)
        if value is not None and value not in known:
            yield f"{name} is '{shown(value)}'; it must be one of {', '.join(known)}"
    if options.patience is not None and not (_is(options.patience, int) and options.patience >= 0):
        yield f"patience is {shown(options.patience)}; it must be a whole number of at least 0"
    hidden = options.hidden
    if hidden is not None and not (isinstance(hidden, tuple) and all(_is(w, int) and w > 0 for w in hidden)):
        yield f"hidden is {shown(hidden)}; it must be a tuple of widths of at least 1, such as (256,)"
    if options.penalty_weight is not None and options.penalty in (None, "none"):
        yield f"penalty_weight needs a penalty to weigh: choose one of {', '.join(PENALTIES)}"


def _is(value: object, kind: Any) -> bool:
    """isinstance, but True and False are no numbers."""
    return isinstance(value, kind) and not isinstance(value, bool)
