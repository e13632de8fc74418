"""Entering a phase: who learns, and who is in train or in eval mode.

A pure function of (model, phase): it does not matter what the model was before, so a resumed run enters a phase as the
uninterrupted one did.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor, nn

from headstart.adapt.model import AdaptedModel
from headstart.adapt.plan import HEAD, Phase, Plan
from headstart.base.errors import PlanError, shown

_RUNNING = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def enter_phase(model: AdaptedModel, phase: Phase) -> None:
    """Let the parameters that ``phase`` names learn, and freeze everything else.

    A frozen stage is in eval mode: with requires_grad off alone its BatchNorm would still drift, and its dropout and
    stochastic depth would still draw. A learning stage is in train mode; with statistics='fixed' its BatchNorm is not.
    """
    learning = {name for name, _ in learners(model, phase)}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in learning)
        if name not in learning:
            parameter.grad = None  # or the optimiser would still move it
    awake = _modules_of(model, phase.lr)
    refresh(model)
    # The flag rather than train(), which would reach children of other stages, and layers that stages share (CoaT).
    for module in model.modules():
        resting = phase.statistics == "fixed" and isinstance(module, _RUNNING)
        module.training = id(module) in awake and not resting


def refresh(model: nn.Module) -> None:
    """Eval mode, without what some networks (LeViT) remember in it of weights that are no longer theirs."""
    model.train()
    model.eval()


def learners(model: AdaptedModel, phase: Phase) -> list[tuple[str, nn.Parameter]]:
    """(name, parameter) of all that learns in ``phase``, in the order of the stages; the head always learns whole."""
    return [item for stage in (*model.stage_names, HEAD) for item in learners_of(model, phase, stage)]


def learners_of(model: AdaptedModel, phase: Phase, stage: str) -> list[tuple[str, nn.Parameter]]:
    """What of one stage (or HEAD) learns in ``phase``."""
    if stage not in phase.lr:
        return []
    named = model.parameters_of(stage)
    if stage == HEAD or phase.only == "all":
        return named
    if phase.only == "added":
        return [(name, p) for name, p in named if name in model.added]
    return [(name, p) for name, p in named if is_norm_or_bias(name, p)]


def is_norm_or_bias(name: str, parameter: nn.Parameter) -> bool:
    """Biases, and weights with one axis: normalisation and layer scale."""
    return parameter.ndim < 2 or name.rsplit(".", 1)[-1] == "bias"


def ever_learning(model: AdaptedModel, plan: Plan) -> dict[str, nn.Parameter]:
    """Name → parameter of all that learns in some phase; the rest of the model stays as it was loaded."""
    return dict(item for phase in plan.phases for item in learners(model, phase))


def buffers_of(model: AdaptedModel, stages: Iterable[str]) -> dict[str, Tensor]:
    """Name → buffer of these stages (or HEAD): what a forward pass in train mode may change."""
    members = _modules_of(model, stages)
    return {
        f"{path}.{name}": buffer
        for path, module in model.named_modules()
        if id(module) in members
        for name, buffer in module.named_buffers(recurse=False)
    }


def moving_statistics(model: AdaptedModel, phase: Phase) -> list[Tensor]:
    """Means and variances of the BatchNorms that normalise with the batch they are given in ``phase``."""
    if phase.statistics == "fixed":
        return []
    norms = (module for stage in phase.lr for module in model.modules_of(stage) if isinstance(module, _RUNNING))
    return [b for norm in norms for b in norm.buffers(recurse=False) if b.is_floating_point()]


def _modules_of(model: AdaptedModel, stages: Iterable[str]) -> set[int]:
    return {id(module) for stage in stages for module in model.modules_of(stage)}


def check_phases(model: AdaptedModel, plan: Plan) -> None:
    """PlanError, all problems together, for phases that this model cannot be trained with."""
    plan.check(model.stage_names)
    problems = list(_problems(model, plan))
    if problems:
        raise PlanError("\n".join(problems))


def _problems(model: AdaptedModel, plan: Plan) -> Iterator[str]:
    for phase in plan.phases:
        if not learners(model, phase):
            yield (
                f"PL40 phase '{shown(phase.name)}' trains nothing: its stages {', '.join(phase.lr)} have no parameter "
                f"of the kind '{phase.only}'. Name the head or other stages too."
            )
        if plan.batch_size == 1 and moving_statistics(model, phase):
            yield (
                f"PL41 phase '{shown(phase.name)}' would normalise with the statistics of single examples: its stages "
                "have BatchNorm, and batches hold 1. Choose a batch size of 2 or more, or statistics='fixed'."
            )
