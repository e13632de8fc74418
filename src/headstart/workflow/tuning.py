"""One training: a plan carried out on some rows, and what comes of it says about others."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headstart.adapt.heads.choose import HEADS, Chosen
from headstart.adapt.heads.head import HeadFamily, LinearHead
from headstart.adapt.heads.named import NamedMean
from headstart.adapt.heads.rotated import rotate
from headstart.adapt.interpolate import interpolated
from headstart.adapt.model import AdaptedModel, assemble, finished
from headstart.adapt.penalties import Penalties, References, SourceClassifier, penalties_for, relationship
from headstart.adapt.plan import HEAD, Loss, Phase, Plan
from headstart.adapt.strategies.options import scaled
from headstart.backbones.backbone import Backbone, tensors_sha256
from headstart.backbones.cut import Cut, cut_for
from headstart.base.config import from_dict, to_dict
from headstart.base.progress import QUIET, Observer, Said, track
from headstart.base.seeds import number
from headstart.features.border import Border
from headstart.features.choose import COMPARED, exact_runner, make_runner
from headstart.features.extract import rounded
from headstart.features.runners.runner import run_all
from headstart.features.safety import Verdict, copies, judge, rows_to_try, safe_policy
from headstart.inputs.augment import Policy, policy_named
from headstart.inputs.batches import ArrayBatches, PixelBatches
from headstart.inputs.decoded import Pictures
from headstart.inputs.pairs import PairBatches
from headstart.inputs.prepared import stacked
from headstart.inputs.sequences import SequenceBatches, Sequences
from headstart.records.history import History
from headstart.records.run import BackboneRecord
from headstart.tasks.task import Task
from headstart.training.checkpoint import Checkpoints, NoCheckpoints
from headstart.training.engines.local import LocalEngine
from headstart.training.loop import LoopSettings, Source, Validation, train
from headstart.training.losses import Mixup, Units, as_targets, constant_loss, loss_for
from headstart.workflow.judge import Known
from headstart.workflow.zero_shot import names_read_by

PULLED = 64  # examples on which the pull on each stage is measured
COSTED = 4  # steps that are made to learn what one costs
EVALUATED = 512  # examples that are prepared at once
RESTARTS = 2  # of a training on texts or sounds that came to nothing
LEAST_JUDGED = 50  # steps of a training below which nobody can say that it came to nothing


@dataclass(frozen=True, eq=False)
class Ground:
    """What every training of one fit shares.

    examples: the rows of ``known``, decoded and prepared once.
    runner: name of the runner that makes features for judging.  border: activations at frozen borders, made once.
    """

    backbone: Backbone
    known: Known
    examples: Pictures | Sequences
    runner: str
    device: str
    settings: LoopSettings
    border: Border
    seed: int
    observer: Observer = QUIET

    @property
    def pictures(self) -> Pictures:
        assert isinstance(self.examples, Pictures), "asked for what only pictures have"
        return self.examples

    def prepared(self, rows: np.ndarray) -> np.ndarray | list[np.ndarray]:
        """The examples of rows as runners take them: pictures as one array, examples of any length as a list."""
        arrays = [self.examples.prepared(int(row)) for row in rows]
        return arrays if isinstance(self.examples, Sequences) else np.stack(arrays)

    @property
    def steps_alike(self) -> bool:
        """Whether every step is as much work as any other; texts and sounds are of any length."""
        return not isinstance(self.examples, Sequences)

    def batch(self, rows: np.ndarray) -> Tensor:
        """The examples of rows as the model takes them."""
        return torch.from_numpy(stacked(self.prepared(rows)))

    def policy(self, plan: Plan) -> Policy:
        """The plan's augmentation, 'auto' without what would change answers; a policy asked for by name stays."""
        policy = policy_named(plan.augment)
        return safe_policy(policy, self.verdicts)[0] if plan.augment == "auto" else policy

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Which changes of training pictures are harmless here; tested when a plan first wants to make some."""
        known = self.known
        rows = rows_to_try(known.task.strata(known.y), seed=self.seed)
        runner = make_runner(self.backbone, self.runner, self.device)
        assert runner is not None, f"this machine offered the runner {self.runner} a moment ago"
        changed = {}
        for kind in track(policy_named("auto").kinds, self.observer, "testing augmentations", unit="kinds"):
            parts = [run_all(runner, pixels) for pixels in copies(self.pictures, rows, kind)]
            changed[kind] = rounded(np.concatenate(parts))
        verdicts = judge(known.X, known.y, rows, changed, task=known.task, groups=known.groups, seed=self.seed)
        for verdict in verdicts:
            if not verdict.allowed:
                self.observer(Said(verdict.why))
        return verdicts

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the record, from what has been tested so far."""
        return tuple(v.why for v in self.__dict__.get("verdicts", ()) if not v.allowed)


@dataclass(frozen=True, eq=False)
class Tuned:
    """A network after training, as plain as it was before, with its linear head on raw features.

    notes: sentences for the record, where the training had to be begun anew.
    """

    backbone: Backbone
    head: LinearHead
    plan: Plan
    history: History | None = None
    notes: tuple[str, ...] = ()


def tune(
    ground: Ground,
    plan: Plan,
    rows: np.ndarray,
    probe: LinearHead | None,
    *,
    begin: Tuned | None = None,
    held: np.ndarray | None = None,
    usual: Chosen | None = None,
    checkpoints: Checkpoints | NoCheckpoints | None = None,
    seconds: float | None = None,
    observer: Observer | None = None,
) -> Tuned:
    """Carry out ``plan`` on ``rows`` (positions in ground.known).

    probe: the head to start from, its temperature in its weights.  begin: a network, with its head, that takes the
    place of the loaded one and the probe; what penalties pull towards stays the loaded one.
    held: rows on which the best weights are chosen, for plans with patience; without them the last weights are kept,
    so that nothing is chosen on rows that judge.
    usual: the kind of head that is fitted on the new features, for plans whose head comes after the training; without
    it their head stays at random, which is enough to see what a step costs.

    A training on texts or sounds that has come to nothing is begun anew, at half the rates and with another seed
    (METHODS B.4).
    """
    checkpoints, said = checkpoints or NoCheckpoints(), observer or ground.observer
    notes: list[str] = []
    left = seconds
    for again in range(RESTARTS + 1):
        tuned = _carried_out(
            replace(ground, seed=number(ground.seed, "restart", again)) if again else ground,
            scaled(plan, 0.5**again) if again else plan,
            rows,
            begin.head if begin is not None else probe,
            begin=begin.backbone if begin is not None else ground.backbone,
            held=held,
            checkpoints=checkpoints.beside(f"restart-{again}") if again else checkpoints,
            seconds=left,
            observer=said,
            may_fail=again < RESTARTS,
        )
        assert tuned.history is not None, "a training has a history"
        if tuned.history.stopped_because != "failed":
            break
        left = None if left is None else max(0.0, left - tuned.history.seconds)
        notes.append(
            f"after {len(tuned.history.steps)} steps the network knew less than which answers are usual; "
            f"the training was begun anew at {0.5 ** (again + 1):g} of the rates"
        )
        said(Said(notes[-1], "warning"))
    if plan.head.start == "after" and usual is not None:
        X = features_of(ground, tuned.backbone, rows)
        if usual.names is not None:
            usual = replace(usual, names=names_read_by(tuned.backbone, ground.known.task))
        tuned = replace(tuned, head=head_like(usual, X, ground.known.y[rows], ground.known.task))
    return replace(tuned, notes=tuple(notes))


def head_like(chosen: Chosen, X: np.ndarray, y: np.ndarray, task: Task) -> LinearHead:
    """The chosen kind of head from other features or rows, calibrated as the chosen one is.

    Its names must have been read by the network that the features are of.
    """
    families: dict[str, HeadFamily] = {f.name: f for f in HEADS} | {NamedMean.name: NamedMean(chosen.names)}
    family = families[chosen.family]
    return family.fit(rotate(X), y, task, chosen.setting).scaled(chosen.temperature)


def _carried_out(
    ground: Ground,
    plan: Plan,
    rows: np.ndarray,
    probe: LinearHead | None,
    *,
    begin: Backbone,
    held: np.ndarray | None,
    checkpoints: Checkpoints | NoCheckpoints,
    seconds: float | None,
    observer: Observer,
    may_fail: bool,
) -> Tuned:
    """One start of a training. may_fail: whether it may end as 'failed', where that can be told."""
    known, task = ground.known, ground.known.task
    units = Units.of(task, known.y[rows])
    start = units.learnt_head(probe) if probe is not None else None
    network = Backbone(begin.card, begin.network, begin.architecture, ground.backbone.record)
    model = assemble(network, task, plan, probe=start, seed=ground.seed)
    y = units.learnt(known.y[rows])
    loss = loss_for(task, plan.loss, y=y)
    references = References(ground.backbone, source=source_classes(ground, plan, rows))

    def penalties(phase: Phase, module: nn.Module) -> Penalties:
        return penalties_for(phase, model, module, references)

    feed = Feed(ground, model, plan, rows, as_targets(task, y))
    can_fail = may_fail and isinstance(ground.examples, Sequences) and plan.steps >= LEAST_JUDGED
    can_fail = can_fail and plan.loss.kind != "pairs"  # what a constant answer costs depends on no labels there
    trained = train(
        model,
        plan,
        feed,
        loss,
        validate=_validation(ground, model, units, rows, held) if held is not None and len(held) else None,
        greater_is_better=False,
        checkpoints=checkpoints,
        engine=LocalEngine(torch.device(ground.device)),
        settings=replace(ground.settings, seconds=seconds),
        seed=ground.seed,
        ids=known.ids[rows].tolist(),
        observer=observer,
        penalties=penalties,
        mixup=Mixup(plan.loss.mixup, task.outputs, ground.seed),
        hopeless=constant_loss(task, loss, y) if can_fail else None,
    )
    backbone, head = finished(model.to("cpu"), ground.backbone)
    return Tuned(backbone, units.raw_head(head), plan, trained.history)


def source_classes(ground: Ground, plan: Plan, rows: np.ndarray) -> SourceClassifier | None:
    """For co-tuning: the classifier that came with the weights, and how often its classes go with those of ``rows``.

    None where no phase asks for it, or the weights came without one (penalties_for says so then).
    """
    source, known = ground.backbone.source, ground.known
    asked = any(penalty.kind == "co-tuning" for phase in plan.phases for penalty in phase.penalties)
    if source is None or not asked:
        return None
    logits = known.X[rows] @ source.weight.T + source.bias
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return SourceClassifier(source.weight, source.bias, relationship(shares, known.y[rows], classes=known.task.outputs))


def step_seconds(history: History, *, alike: bool = True) -> float:
    """What one step costs: the least of those that were made, since a busy moment can only add. The first warms up.

    alike: whether every step is as much work as any other. Batches of texts and sounds are not; of them it is the mean.
    """
    seconds = [row.seconds for row in history.steps]
    each = [b - a for a, b in pairwise(seconds)] or seconds[:1]
    return min(each) if alike else sum(each) / len(each)


def relative_gradients(ground: Ground, rows: np.ndarray, probe: LinearHead) -> dict[str, float]:
    """Stage → ‖gradient‖ / ‖weights‖ on up to PULLED examples before anything is learnt (Lee et al. 2023, Auto-RGN)."""
    task, stages = ground.known.task, list(ground.backbone.tunable)
    units = Units.of(task, ground.known.y[rows])
    some = rows[np.unique(np.linspace(0, len(rows) - 1, min(PULLED, len(rows))).astype(int))]
    everything = Plan("surgical", (Phase("pull", 1, dict.fromkeys([*stages, HEAD], 1.0)),))
    model = assemble(ground.backbone, task, everything, probe=units.learnt_head(probe), seed=ground.seed)
    y = units.learnt(ground.known.y[some])
    loss, targets = loss_for(task, Loss(), y=y), as_targets(task, y)
    for start in range(0, len(some), 16):
        loss(model(ground.batch(some[start : start + 16])), targets[start : start + 16]).sum().backward()
    pulls = {}
    for stage in stages:
        pairs = [(p.detach(), p.grad) for _, p in model.parameters_of(stage) if p.grad is not None]
        pull, size = (sum(float(pair[k].square().sum()) for pair in pairs) for k in (1, 0))
        pulls[stage] = (pull / max(size, 1e-24)) ** 0.5
    return pulls


class Feed:
    """What each phase learns from: activations at the border of what is frozen in it, or the examples themselves."""

    def __init__(self, ground: Ground, model: AdaptedModel, plan: Plan, rows: np.ndarray, targets: Tensor) -> None:
        self._ground, self._model, self._plan = ground, model, plan
        self._rows, self._targets = rows, targets

    def enter(self, phase: Phase) -> Source:
        ground, plan = self._ground, self._plan
        if isinstance(ground.examples, Sequences):
            return self._of_sequences(ground.examples, phase)
        policy = ground.policy(plan)
        cut = self._cut(phase)
        if cut is not None and (policy.changes_nothing or plan.views):
            views = 0 if policy.changes_nothing else plan.views
            inputs = ground.border.activations(cut, ground.pictures, policy, views, ground.observer)
            if inputs is not None:
                batches = ArrayBatches(
                    inputs, self._targets, self._rows, batch_size=plan.batch_size, seed=ground.seed, views=views
                )
                return Source(Tail(cut.tail, self._model.head), batches)
        return Source(
            self._model,
            PixelBatches(
                ground.pictures,
                self._targets,
                self._rows,
                policy=policy,
                batch_size=plan.batch_size,
                seed=ground.seed,
                views=plan.views,
            ),
        )

    def _of_sequences(self, examples: Sequences, phase: Phase) -> Source:
        """Features that are known already, where the head learns alone and the network is as it was loaded."""
        plan, seed = self._plan, self._ground.seed
        if plan.loss.kind == "pairs":
            labels = self._targets.numpy()
            pairs = PairBatches(examples, labels, self._rows, batch_size=plan.batch_size, seed=seed)
            return Source(Headless(self._model), pairs)
        before = [earlier.lr for earlier in plan.phases[: plan.phases.index(phase) + 1]]
        if all(set(lr) == {HEAD} for lr in before):
            X = self._ground.known.X
            batches = ArrayBatches(X, self._targets, self._rows, batch_size=plan.batch_size, seed=seed)
            return Source(Tail(nn.Identity(), self._model.head), batches)
        whole = SequenceBatches(examples, self._targets, self._rows, batch_size=plan.batch_size, seed=seed)
        return Source(self._model, whole)

    def _cut(self, phase: Phase) -> Cut | None:
        """The model in two parts at the first stage that learns, where there is anything frozen below it."""
        first = next((stage for stage in self._model.stage_names if stage in phase.lr), HEAD)
        if first == self._model.stage_names[0]:
            return None
        found = cut_for(self._model.backbone, phase.lr)
        return found if isinstance(found, Cut) else None


class Headless(nn.Module):
    """The model up to its features."""

    def __init__(self, model: AdaptedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model.features(inputs)


class Tail(nn.Module):
    """Activations at the border to logits; shares the modules of network and head."""

    def __init__(self, tail: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.tail, self.head = tail, head

    def forward(self, inputs: Tensor) -> Tensor:
        activations = inputs.float()
        if activations.ndim == 4:  # the layout of the weights, see LoopSettings.channels_last
            activations = activations.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.head(self.tail(activations))
        return logits


def _validation(
    ground: Ground, model: AdaptedModel, units: Units, rows: np.ndarray, held: np.ndarray
) -> Callable[[], Validation]:
    """The loss of the rows ``held``; ``rows`` learn, and give the unit in which values are counted."""
    known = ground.known
    targets = as_targets(known.task, units.learnt(known.y[held]))
    loss = loss_for(known.task, Loss(), y=units.learnt(known.y[rows]))

    def validate() -> Validation:
        parts = []
        device = next(model.parameters()).device
        with torch.inference_mode():
            for start in range(0, len(held), 64):
                parts.append(model(ground.batch(held[start : start + 64]).to(device)).float().cpu())
        value = float(loss(torch.cat(parts), targets).mean())
        return Validation(value, value)

    return validate


def features_of(ground: Ground, backbone: Backbone, rows: np.ndarray) -> np.ndarray:
    """(n, D) float32 features of rows by a network that was trained here, as the store would give them back."""
    runner = exact_runner(backbone, ground.runner, ground.prepared(rows[:COMPARED]), device=ground.device)
    parts = [np.zeros((0, backbone.card.feature_dim), np.float32)]
    for start in range(0, len(rows), EVALUATED):
        parts.append(run_all(runner, ground.prepared(rows[start : start + EVALUATED])))
    return rounded(np.concatenate(parts))


def logits_of(ground: Ground, tuned: Tuned, rows: np.ndarray) -> np.ndarray:
    """(n, K) float64."""
    return tuned.head.logits(features_of(ground, tuned.backbone, rows))


def mixed(loaded: Tuned, tuned: Tuned, share: float) -> Tuned:
    """Weights between those before training (0) and after it (1): WiSE-FT, Wortsman et al. 2022 (arXiv:2109.01903)."""
    state = interpolated(loaded.backbone.network.state_dict(), tuned.backbone.network.state_dict(), share)
    head = LinearHead(
        (1 - share) * loaded.head.weight + share * tuned.head.weight,
        (1 - share) * loaded.head.bias + share * tuned.head.bias,
    )
    note = f"weights {share:.0%} of the way from the loaded to the tuned ones (WiSE-FT)"
    return replace(tuned, backbone=_with_state(tuned.backbone, state, note), head=head)


def has_structure_of(tuned: Backbone, loaded: Backbone) -> bool:
    """Whether nothing was added that stays, such as adapters; LoRA was merged."""
    return tuned.network.state_dict().keys() == loaded.network.state_dict().keys()


def packed(tuned: Tuned) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(plain values, tensors) from which ``opened`` makes it again, bit for bit."""
    assert tuned.history is not None, "a training has a history"
    values = {"plan": to_dict(tuned.plan), "history": to_dict(tuned.history), "record": to_dict(tuned.backbone.record)}
    values["notes"] = list(tuned.notes)
    state = {f"network:{name}": tensor for name, tensor in tuned.backbone.network.state_dict().items()}
    return values, state | {
        "head:weight": torch.from_numpy(tuned.head.weight),
        "head:bias": torch.from_numpy(tuned.head.bias),
    }


def opened(values: Mapping[str, Any], tensors: Mapping[str, Tensor], loaded: Backbone) -> Tuned:
    """What was ``packed``; loaded: the network that the training began with."""
    network = copy.deepcopy(loaded.network)
    start = "network:"
    network.load_state_dict({n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)})
    record = from_dict(BackboneRecord, values["record"], where="record")
    return Tuned(
        Backbone(loaded.card, network, loaded.architecture, record),
        LinearHead(tensors["head:weight"].numpy(), tensors["head:bias"].numpy()),
        from_dict(Plan, values["plan"], where="plan"),
        from_dict(History, values["history"], where="history"),
        tuple(values.get("notes", ())),
    )


def _with_state(backbone: Backbone, state: dict[str, Tensor], note: str) -> Backbone:
    network = copy.deepcopy(backbone.network)
    network.load_state_dict(state)
    record = replace(backbone.record, weights_sha256=tensors_sha256(network), notes=(*backbone.record.notes, note))
    return Backbone(backbone.card, network, backbone.architecture, record)
