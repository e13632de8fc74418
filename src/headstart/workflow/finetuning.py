"""From the chosen head to a fine-tuned model, or the decision that the head is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from headstart.adapt.calibration import fit_temperature
from headstart.adapt.heads.choose import Chosen
from headstart.adapt.plan import Budget, Plan
from headstart.adapt.strategies import by_name, planned
from headstart.adapt.strategies.options import scaled
from headstart.adapt.strategies.sequences import DEFAULTS, check_options, check_setfit
from headstart.adapt.strategies.setfit import SetFit
from headstart.adapt.strategies.strategy import Strategy
from headstart.adapt.strategies.surgical import Surgical
from headstart.backbones.backbone import Backbone
from headstart.base.config import from_dict, to_dict
from headstart.base.errors import PlanError
from headstart.base.files import key_of, read_json, write_json
from headstart.base.progress import QUIET, Observer, Said
from headstart.data.dataset import Dataset
from headstart.data.looks import ImageLook, Look
from headstart.data.split import folds
from headstart.features.border import Border
from headstart.features.choose import best_device
from headstart.features.feeds import feed_for
from headstart.inputs.decoded import Pictures, decode_pictures
from headstart.inputs.sequences import Sequences, read_sequences
from headstart.records.ladder import LadderRecord, Rung
from headstart.records.run import Ownership, RunFolder
from headstart.tasks.task import Task
from headstart.training.checkpoint import Checkpoints, NoCheckpoints
from headstart.training.loop import LoopSettings
from headstart.workflow.clock import Deadline
from headstart.workflow.config import FitConfig, TuneConfig
from headstart.workflow.diary import Diary, NoDiary
from headstart.workflow.environment import versions
from headstart.workflow.judge import Judgement, Known, Rules, choose_head, judgement
from headstart.workflow.ladder import Wish, climb
from headstart.workflow.precision import fastest_settings
from headstart.workflow.rate_test import find_rates
from headstart.workflow.tuning import COSTED, Ground, Tuned, logits_of, relative_gradients, step_seconds, tune
from headstart.workflow.ways import budget_of, most_steps

PARTS = 3  # of the nested cross-validation, where there is no test part
HELD = 0.15  # share of the training rows on which a strategy asked for by name is calibrated
LEAST_HELD = 20  # of them, where learning from few is what the strategy is for
# Way to balance heads → way to balance the loss, by task; others are left as they are.
LOSSES: Mapping[str, Mapping[str, Literal["weights", "softmax"]]] = {
    "classification": {"weights": "weights", "logit-adjust": "softmax"},
    "multilabel": {"weights": "weights"},
}
STEP_SHARE = 0.9  # of the time of a strategy asked for by name that its steps may take


@dataclass(frozen=True, eq=False)
class Learnt:
    """The model of some rows; chosen: with the head that goes with it.  tuned: None where the probe stays."""

    tuned: Tuned | None
    chosen: Chosen
    record: LadderRecord

    @property
    def backbone(self) -> Backbone | None:
        return self.tuned.backbone if self.tuned is not None else None


def share_of_time(deadline: Deadline, *, parts: bool) -> float | None:
    """Seconds of one learning: all that are left, or a share where every example is also judged by parts."""
    if deadline.seconds is None:
        return None
    return max(0.0, deadline.left) / (PARTS + 1 if parts else 1)


def make_ground(
    backbone: Backbone,
    known: Known,
    usable: Dataset,
    runner: str,
    config: FitConfig,
    *,
    keys: Sequence[bytes],
    cache: Path,
    look: Look,
    observer: Observer,
) -> Ground:
    """Everything that the trainings of one fit share; examples are decoded and prepared once.

    known, usable: the examples that learn, and no others.  keys: their contents.  look: how they are read.
    """
    device = best_device() if config.device == "auto" else config.device
    examples: Pictures | Sequences
    if isinstance(look, ImageLook):
        examples = decode_pictures(
            usable, backbone.spec, keys=keys, limits=look.limits, folder=cache, observer=observer
        )
    else:
        examples = read_sequences(usable, feed_for(backbone).prepare, look=look, keys=keys, observer=observer)
    ground = Ground(
        backbone=backbone,
        known=known,
        examples=examples,
        runner=runner,
        device=device,
        settings=LoopSettings(),
        border=Border(cache / "border", device=device, seed=config.seed),
        seed=config.seed,
        observer=observer,
    )
    return replace(ground, settings=fastest_settings(ground, config.tuning.precision, cache / "precision"))


def learn(
    ground: Ground,
    rows: np.ndarray,
    chosen: Chosen,
    config: FitConfig,
    *,
    seconds: float | None,
    ownership: Ownership | None = None,
    diary: Diary | NoDiary | None = None,
) -> Learnt:
    """The model for ``rows`` (positions in ground.known): by the ladder, or by the strategy that was asked for.

    chosen: the head that won on these rows.  seconds: for all of it.  ownership: of the run folder, where a training
    that was asked for by name keeps its checkpoints; without it, it keeps none.  diary: of the ladder, likewise.
    """
    task = ground.known.task
    tuning = balanced(config.tuning, config.balance, chosen.record.balance, task)
    metric = config.metric or task.headline
    deadline = Deadline(seconds)
    if tuning.options.balanced not in (None, "none"):
        ground.observer(Said(_balanced_words(tuning)))
    if tuning.strategy == "auto":
        wish = Wish(tuning.options, metric, config.resamples, tuning.batch_size, tuning.epochs)
        climbed = climb(ground, rows, chosen, wish, deadline, diary or NoDiary())
        if climbed.tuned is None:
            return Learnt(None, chosen, _said(climbed.record, tuning))
        head = _with_head(chosen, climbed.tuned, climbed.temperature)
        return Learnt(climbed.tuned, head, _said(climbed.record, tuning))
    kept: Checkpoints | NoCheckpoints = NoCheckpoints()
    run = RunFolder(ownership.path.parent) if ownership is not None else None
    if run is not None:
        run_id = key_of([to_dict(config), ground.known.ids.tolist()])
        kept = Checkpoints(run.checkpoints, run_id=run_id, ownership=ownership, observer=ground.observer)
    return _as_asked(ground, rows, chosen, tuning, metric, deadline, kept, run)


def _as_asked(
    ground: Ground,
    rows: np.ndarray,
    chosen: Chosen,
    tuning: TuneConfig,
    metric: str,
    deadline: Deadline,
    checkpoints: Checkpoints | NoCheckpoints,
    run: RunFolder | None,
) -> Learnt:
    """One training by name. Some rows are held back, for the temperature and, with patience, for the best weights.

    Of few rows that learn in pairs none are: a handful says little of a temperature, and the head that is fitted after
    such a training is calibrated as it was on the frozen network.
    """
    known = ground.known.take(rows)
    parts = folds(known.task.strata(known.y), known.groups, k=round(1 / HELD), repeats=1, seed=ground.seed + 3)
    train, held = parts[0]
    if tuning.strategy == SetFit.name and len(held) < LEAST_HELD:
        train, held = np.arange(len(known)), held[:0]
    notes: tuple[str, ...] = ()
    plan = _plan_before(run)
    if plan is None:
        strategy: Strategy | None = None
        if tuning.strategy == Surgical.name:
            probe_head = chosen.head.scaled(chosen.temperature)
            strategy = Surgical(relative_gradient=relative_gradients(ground, rows[train], probe_head))
        plan = plan_of(ground.backbone, tuning, len(train), known.task.outputs, strategy)
        if deadline.seconds is not None and tuning.epochs is None:
            plan = _fitted(ground, plan, rows[train], chosen, tuning, deadline, strategy)
        if tuning.rate_test:
            factor, found = find_rates(ground, plan, rows[train], chosen.head.scaled(chosen.temperature))
            plan, notes = scaled(plan, factor), (found,)
            ground.observer(Said(found))
        if run is not None:
            write_json(run.plan, to_dict(plan))
    ground.observer(Said(f"{plan.strategy}: {plan.steps} steps of {plan.batch_size} on {len(train)} examples"))
    probe = chosen.head.scaled(chosen.temperature)
    tuned = tune(
        ground,
        plan,
        rows[train],
        probe,
        held=rows[held] if plan.patience else None,
        usual=chosen,
        checkpoints=checkpoints,
        seconds=deadline.left if deadline.seconds is not None else None,
    )
    temperature = fit_temperature(logits_of(ground, tuned, rows[held]), known.y[held], known.task) if len(held) else 1.0
    rung = Rung(
        plan.strategy,
        by_name(plan.strategy).in_words,
        None,
        None,
        True,
        "asked for",
        deadline.spent,
        plan=to_dict(plan),
    )
    record = LadderRecord(
        metric=metric,
        folds=f"{len(held) or 'none'} of {len(known)} training examples held back for the temperature",
        rungs=(rung,),
        kept=plan.strategy,
        stopped="the strategy was asked for by name",
        budget_s=deadline.seconds,
        seconds=deadline.spent,
        notes=(*notes, *ground.notes, *tuned.notes),
        history=tuned.history,
    )
    return Learnt(tuned, _with_head(chosen, tuned, temperature), _said(record, tuning))


def check_tuning(backbone: Backbone, tuning: TuneConfig, task: Task) -> None:
    """PlanError for what this network or this task has no place for; said before any example is read.

    PL66: co-tuning without source classes.  PL82: nothing of the network may learn.  PL15: choices for pictures.
    PL16: pairs of what has none.
    """
    if tuning.strategy != "probe" and not backbone.tunable:
        raise PlanError(
            f"PL82 {backbone.card.name} has no layers that may learn: it is a table of vectors, or nothing but what "
            "stays as it was loaded. Leave --strategy and --time out, or choose an encoder, such as "
            "package/minilm-l6 for texts."
        )
    if tuning.strategy == SetFit.name:
        check_setfit(backbone.card.modality, task.name)
    if backbone.card.modality in DEFAULTS and tuning.strategy != "probe":
        check_options(tuning.options, of=backbone.card.modality)
        if tuning.strategy != "auto":
            _planned(backbone, tuning, Budget(100, 1, 100, task.outputs))
    if tuning.options.penalty != "co-tuning":
        return
    if task.name != "classification":
        raise PlanError(
            "PL66 penalty 'co-tuning' relates classes to those that the network was trained on; a "
            f"{task.name} task has none. Choose 'l2-sp', 'bss' or 'delta'."
        )
    if backbone.source is None:
        raise PlanError(
            f"PL66 penalty 'co-tuning' needs the classifier that the weights came with, and {backbone.card.name} has "
            "none on its features: it was published without one, its structure was changed, or its weights are random. "
            "Choose 'l2-sp', 'bss' or 'delta', or another network, such as package/efficientnet-lite0."
        )


def balanced(tuning: TuneConfig, asked: str, by_the_probe: str, task: Task) -> TuneConfig:
    """``tuning`` with a loss that counts classes as --balance says; a choice in its options stays.

    asked: of --balance; 'auto' takes what the probe's cross-validation kept.  by_the_probe: of its HeadRecord.
    Logit adjustment becomes balanced softmax, its counterpart in training (Ren et al. 2020): the probe's head, whose
    bias was shifted by minus the log share of each class, then starts where plain softmax would have had it.
    """
    way = by_the_probe if asked == "auto" or task.name == "classification" else asked
    if tuning.options.balanced is not None or task.name not in LOSSES or way not in LOSSES[task.name]:
        return tuning
    return replace(tuning, options=replace(tuning.options, balanced=LOSSES[task.name][way]))


def _balanced_words(tuning: TuneConfig) -> str:
    how = {"weights": "counts every class alike", "softmax": "is balanced softmax, for classes of uneven size"}
    return f"the loss of the training {how[str(tuning.options.balanced)]}, as the head does"


def _said(record: LadderRecord, tuning: TuneConfig) -> LadderRecord:
    if tuning.options.balanced in (None, "none"):
        return record
    return replace(record, notes=(*record.notes, _balanced_words(tuning)))


def for_fewer(config: FitConfig, n: int) -> FitConfig:
    """The same wishes for a part of the rows: a batch that fits them all also fits a part."""
    most = learning_rows(n)
    if config.tuning.batch_size is None or config.tuning.batch_size <= most:
        return config
    return replace(config, tuning=replace(config.tuning, batch_size=most))


def learning_rows(n: int) -> int:
    """How many of ``n`` training examples a strategy asked for by name learns from; the others are held back."""
    return n - n // round(1 / HELD)


def plan_of(backbone: Backbone, tuning: TuneConfig, n: int, classes: int, strategy: Strategy | None = None) -> Plan:
    """What ``tuning`` asks for, as a plan for ``n`` training examples. strategy: in place of that name's defaults."""
    budget = budget_of(
        backbone, n, classes, strategy=tuning.strategy, epochs=tuning.epochs, batch_size=tuning.batch_size
    )
    return _planned(backbone, tuning, budget, strategy)


def _planned(backbone: Backbone, tuning: TuneConfig, budget: Budget, strategy: Strategy | None = None) -> Plan:
    """Without patience nothing is validated: the last weights are kept, and no row is chosen by."""
    of = backbone.card.modality
    strategy = strategy or by_name(tuning.strategy, tuning.fields, of=of)
    plan = planned(strategy, backbone.tunable, budget, tuning.options, of=of)
    return plan if plan.patience else replace(plan, validations=0)


def _plan_before(run: RunFolder | None) -> Plan | None:
    """What an earlier start of this run was carrying out; steps that time allowed then are not measured anew."""
    if run is None or not run.plan.exists():
        return None
    return from_dict(Plan, read_json(run.plan), where=run.plan.name)


def _fitted(
    ground: Ground,
    plan: Plan,
    rows: np.ndarray,
    chosen: Chosen,
    tuning: TuneConfig,
    deadline: Deadline,
    strategy: Strategy | None,
) -> Plan:
    """The plan with as many steps as the time allows, told by a few of them."""
    n, classes = len(rows), ground.known.task.outputs
    usual = budget_of(ground.backbone, n, classes, strategy=tuning.strategy, batch_size=tuning.batch_size)

    def of(steps: int) -> Plan:
        return _planned(ground.backbone, tuning, replace(usual, steps=steps), strategy)

    trial = tune(ground, of(COSTED), rows, chosen.head.scaled(chosen.temperature), usual=chosen, observer=QUIET)
    assert trial.history is not None, "a training has a history"
    cost = step_seconds(trial.history, alike=ground.steps_alike)
    affordable = int(STEP_SHARE * deadline.left / max(cost, 1e-6))
    if affordable < 1:
        raise PlanError(
            f"PL62 {deadline.seconds:.1f} s are not enough for one step of '{plan.strategy}' ({cost:.1f} s). "
            "Give more with --time, or use --strategy auto, which then keeps the probe."
        )
    return of(min(affordable, most_steps(usual, tuning.strategy)))


def _with_head(chosen: Chosen, tuned: Tuned, temperature: float) -> Chosen:
    return replace(chosen, head=tuned.head, temperature=temperature)


def diary_of(folder: RunFolder, ground: Ground, config: FitConfig) -> Diary:
    """Where the ladder of a run writes down what it has finished; of no use to other settings, examples or versions."""
    of = [to_dict(config), ground.known.ids.tolist(), ground.backbone.record.weights_sha256, versions()]
    return Diary(folder.checkpoints / "ladder", of, ground.observer)


def cross_judged(
    ground: Ground, config: FitConfig, rules: Rules, *, seconds: float | None, diary: Diary | NoDiary | None = None
) -> Judgement:
    """Every row predicted by a model that was chosen, tuned and calibrated without it (nested cross-validation)."""
    known = ground.known
    parts = folds(known.task.strata(known.y), known.groups, k=PARTS, repeats=1, seed=config.seed + 1)
    raw = np.zeros((len(known), known.task.outputs))
    after, count = np.zeros_like(raw), np.zeros(len(known))
    for number, (train, rest) in enumerate(parts):
        ground.observer(Said(f"judging: training without part {number + 1} of {len(parts)}"))
        chosen = choose_head(known.take(train), rules)
        notes = (diary or NoDiary()).about(f"part {number}", train.tolist())
        learnt = learn(ground, train, chosen, for_fewer(config, len(train)), seconds=seconds, diary=notes)
        tuned = learnt.tuned
        logits = logits_of(ground, tuned, rest) if tuned is not None else chosen.head.logits(known.X[rest])
        raw[rest] += logits
        after[rest] += logits / learnt.chosen.temperature
        count[rest] += 1
    judged = np.flatnonzero(count)
    return judgement(known.take(judged), after[judged], raw[judged])
