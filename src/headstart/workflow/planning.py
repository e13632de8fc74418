"""What a strategy would do on this data, as a table; nothing is trained and nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headstart.adapt.describe import Description, describe
from headstart.adapt.plan import HEAD, Plan
from headstart.base.errors import DataError, PlanError
from headstart.base.progress import QUIET, Observer
from headstart.workflow.config import FitConfig
from headstart.workflow.inspect import inspect
from headstart.workflow.reading import check_ways, read, task_of


@dataclass(frozen=True)
class Planned:
    """plan as the value that would be carried out, and how it reads. backbone: the network in words."""

    plan: Plan
    description: Description
    backbone: str
    n: int


def plan(
    data: Any,
    y: Sequence[Any] | None = None,
    *,
    config: FitConfig,
    cache: str | Path | None = None,
    observer: Observer = QUIET,
) -> Planned:
    """The plan of ``config.tuning`` for the examples of ``data`` that would learn. PlanError, DataError as in fit."""
    if config.tuning.strategy in ("probe", "auto"):
        raise PlanError(
            f"PL63 '{config.tuning.strategy}' has no plan of its own: the probe trains no network, and the ladder "
            "chooses as it goes. Name a strategy, such as --strategy lp-ft."
        )
    dataset = read(data, y, config.data)
    check_ways(dataset, config)
    found = inspect(dataset, config=config, cache=cache, observer=observer)
    if found.split is None:
        raise DataError(found.problem)
    from headstart.adapt.model import assemble
    from headstart.backbones.catalogue import catalogue
    from headstart.backbones.restructure import structured
    from headstart.features.extract import check_modality
    from headstart.tasks.classification import Classification
    from headstart.workflow.choose_backbone import choose_backbone, network_words
    from headstart.workflow.finetuning import balanced, check_tuning, learning_rows, plan_of

    name = choose_backbone(config.backbone, catalogue, modality=dataset.modality)
    check_modality(catalogue.card(name), dataset.modality)
    weights = Path(config.weights) if config.weights else None
    backbone = structured(catalogue.load(name, weights=weights, offline=config.offline), config.structure)
    outputs = max(1, len(found.audit.counts))
    n = learning_rows(len(found.split.train))
    kind = task_of(dataset)
    check_tuning(backbone, config.tuning, kind)
    # What 'auto' takes is decided by the probe's cross-validation, and there is no probe here.
    asked = "none" if config.balance == "auto" else config.balance
    made = plan_of(backbone, balanced(config.tuning, asked, asked, kind), n, outputs)
    # The model is assembled (and thrown away) so that what surgery adds is counted, not guessed.
    task = Classification(tuple(str(i) for i in range(outputs)))
    model = assemble(backbone, task, replace(made, head=replace(made.head, start="random")), probe=None, seed=0)
    stages = list(model.stage_names)
    counted = {s: model.parameters_of(s) for s in [*stages, HEAD]}
    description = describe(
        made,
        stages,
        {s: sum(p.numel() for _, p in found) for s, found in counted.items()},
        n,
        partly={
            "norm-and-bias": {s: sum(p.numel() for _, p in f if p.ndim < 2) for s, f in counted.items()},
            "added": {s: sum(p.numel() for key, p in f if key in model.added) for s, f in counted.items()},
        },
        of=dataset.modality,
    )
    return Planned(made, description, network_words(backbone.card), n)
