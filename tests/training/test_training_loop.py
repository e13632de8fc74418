import json
import signal
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from tests.training.toys import (
    CLASSES,
    IDS,
    WholeFeed,
    bits,
    differing,
    fit,
    labels,
    pictures,
    toy_model,
    validation_of,
)
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

import headstart.training.state as state_module
from headstart.adapt.penalties import References, penalties_for
from headstart.adapt.plan import HEAD, Optimizer, Penalty, Phase, Plan, Schedule
from headstart.base.config import from_dict, to_dict
from headstart.base.errors import CheckpointMismatch, EnvironmentFault, PlanError, Stopped
from headstart.base.progress import Advanced, Finished, Measured, Said, Started
from headstart.records.history import History
from headstart.training.checkpoint import Checkpoints, NoCheckpoints
from headstart.training.loop import LoopSettings, Source, Validation
from headstart.training.losses import Mixup

CONV = ("conv1", "layer1", "layer2", "layer3", "layer4", HEAD)


def all_stages(steps=6, rate=1e-3, **options):
    return Phase("all", steps, dict.fromkeys(CONV, rate), **options)


# ----------------------------------------------------------------------------------------------------- what it computes


def test_it_is_the_loop_one_would_write_by_hand():
    """Constant SGD on one phase: every loss and every bit of the weights."""
    ours, theirs = toy_model(dropout=0), toy_model(dropout=0)
    plan = Plan(
        "mine",
        (all_stages(5, 0.01, schedule=Schedule("constant", warmup=0)),),
        batch_size=4,
        optimizer=Optimizer("sgd", weight_decay=0.0),
        clip_norm=None,
    )
    losses = [row.loss for row in fit(ours, plan).history.steps]

    theirs.train()
    theirs.backbone.network.train()
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    expected = []
    for batch in WholeFeed(theirs, pictures(), labels()).enter(None).batches.between(0, 5):
        loss = nn.functional.cross_entropy(theirs(batch.inputs), batch.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    assert losses == pytest.approx(expected, rel=1e-6)
    for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6), name


def test_it_learns():
    model = toy_model(dropout=0)
    plan = Plan("mine", (all_stages(60, 2e-3),), batch_size=10)
    steps = fit(model, plan).history.steps
    assert steps[0].loss > 0.8 and steps[-1].loss < 0.05


def test_gradients_are_clipped_together():
    plan = Plan("mine", (all_stages(1, 1.0, schedule=Schedule("constant", warmup=0)),), batch_size=4)
    plan = replace(plan, optimizer=Optimizer("sgd", weight_decay=0.0, momentum=0.0), clip_norm=0.01)
    model = toy_model(dropout=0)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    history = fit(model, plan).history
    moved = torch.stack([(p.detach() - before[n]).norm() for n, p in model.named_parameters()]).norm()
    assert history.steps[0].norm > 0.1 and float(moved) == pytest.approx(0.01, rel=1e-3)


def test_no_step_runs_at_another_rate_than_the_plans():
    phases = (
        Phase("head", 3, {HEAD: 0.3}, schedule=Schedule("step", warmup=0)),
        Phase("top", 4, {"layer4": 2e-3, HEAD: 7e-3}, schedule=Schedule("cosine", warmup=0.5, floor=0.1)),
        all_stages(2),
    )
    plan, rates = Plan("mine", phases, batch_size=4, patience=50), []

    def watch(optimizer, *_):
        rates.append({group["stage"]: group["lr"] for group in optimizer.param_groups})

    hook = register_optimizer_step_pre_hook(watch)
    try:
        model = toy_model()
        history = fit(model, plan, validate=validation_of(model)).history
    finally:
        hook.remove()
    assert len(rates) == plan.steps == len(history.steps)
    for row, seen in zip(history.steps, rates, strict=True):
        number, phase, k = plan.at(row.step)
        expected = {stage: phase.lr.get(stage, 0.0) * phase.schedule.at(k, phase.steps) for stage in CONV}
        assert seen == expected and row.phase == number
        assert expected == {s: history.phases[row.phase].rates.get(s, 0.0) * row.share for s in CONV}
    assert [(p.name, p.first) for p in history.phases] == [("head", 0), ("top", 3), ("all", 7)]


def test_penalties_and_mixup_reach_the_loss():
    plain, pulled, mixed = toy_model(dropout=0), toy_model(dropout=0), toy_model(dropout=0)
    loaded = toy_model(dropout=0).backbone
    phase = all_stages(3, 0.01, penalties=(Penalty("l2-sp", 5.0, 0.1), Penalty("bss", 0.01)))
    plan = Plan("mine", (phase,), batch_size=4)

    def terms(phase, module):
        return penalties_for(phase, pulled, module, References(loaded))

    a = fit(plain, plan).history.steps
    b = fit(pulled, plan, penalties=terms).history.steps
    c = fit(mixed, plan, mixup=Mixup(0.4, CLASSES, seed=0)).history.steps
    assert b[0].loss > a[0].loss and c[0].loss != a[0].loss
    start = dict(loaded.named_parameters())
    far = {m: sum((p - start[n]).norm() for n, p in m.backbone.named_parameters()) for m in (plain, pulled)}
    assert far[pulled] < far[plain]
    assert not pulled.head._forward_pre_hooks


@pytest.mark.parametrize("settings", [LoopSettings(channels_last=True), LoopSettings(precision="bf16")], ids=str)
def test_faster_ways_to_compute_learn_the_same(settings):
    plan = Plan("mine", (all_stages(4, 1e-3),), batch_size=4)
    plain, fast = toy_model(dropout=0), toy_model(dropout=0)
    a, b = fit(plain, plan).history.steps, fit(fast, plan, settings=settings).history.steps
    tolerance = 0.05 if settings.precision == "bf16" else 1e-4
    assert [row.loss for row in a] == pytest.approx([row.loss for row in b], rel=tolerance)
    assert {p.dtype for p in fast.parameters()} == {torch.float32}
    assert all(p.is_contiguous() for p in fast.parameters())


def test_random_numbers_belong_to_the_step_and_leave_no_trace():
    plan = Plan("mine", (all_stages(3),), batch_size=4)
    torch.manual_seed(1)
    first = fit(toy_model(), plan).history.steps
    after = torch.rand(1)
    torch.manual_seed(2)
    second = fit(toy_model(), plan).history.steps
    torch.manual_seed(1)
    assert [r.loss for r in first] == [r.loss for r in second] and torch.rand(1) == after
    assert [r.loss for r in fit(toy_model(), plan, seed=1).history.steps] != [r.loss for r in first]


def test_every_step_draws_anew():
    model, kept = toy_model(dropout=0.5), []
    model.head[0].register_forward_hook(lambda module, args, out: kept.append(out != 0))
    model.head[0].register_forward_pre_hook(lambda _, args: (torch.ones_like(args[0]),))
    fit(model, Plan("mine", (Phase("head", 3, {HEAD: 1e-9}),), batch_size=4))
    assert len(kept) == 3 and not any(torch.equal(a, b) for a, b in pairwise(kept))


# ------------------------------------------------------------------------------------------- validation and its end


def scripted(scores):
    left = iter(scores)
    return lambda: Validation(next(left), 0.5)


def run_with_scores(scores, *, patience=None, validations=None, steps=12, greater=True):
    """(Trained, bits of the weights after each step, bits at the end)"""
    model, seen = toy_model(), {}

    def observer(event):
        if isinstance(event, Advanced):
            seen[event.done] = bits(model)

    plan = Plan("mine", (Phase("head", steps, {HEAD: 0.1}),), batch_size=4, patience=patience)
    plan = replace(plan, validations=validations or len(scores))
    trained = fit(model, plan, validate=scripted(scores), greater_is_better=greater, observer=observer)
    return trained, seen, bits(model)


def test_the_best_weights_are_kept():
    trained, seen, end = run_with_scores([0.5, 0.9, 0.9, 0.7])
    assert [v.step for v in trained.history.validations] == [3, 6, 9, 12]
    assert [v.best for v in trained.history.validations] == [True, True, False, False]
    assert (trained.history.best_step, trained.score) == (6, 0.9)
    assert not differing(end, seen[6]) and differing(end, seen[12])


def test_less_can_be_better():
    trained, seen, end = run_with_scores([0.5, 0.9, 0.3, 0.7], greater=False)
    assert trained.history.best_step == 9 and not differing(end, seen[9])


def test_a_score_that_is_not_defined_is_never_the_best():
    nan = float("nan")
    trained, seen, end = run_with_scores([nan, 0.1, nan, nan])
    assert trained.history.best_step == 6 and not differing(end, seen[6])
    trained, seen, end = run_with_scores([nan, nan])
    assert trained.score is None and trained.history.best_step == 12 and not differing(end, seen[12])


def test_patience_ends_the_training():
    scores = [0.1, 0.5, 0.4, 0.6, 0.5, 0.6, 0.2, 0.9, 0.9, 0.9, 0.9, 0.9]
    trained, seen, end = run_with_scores(scores, patience=3)
    history = trained.history
    assert (history.stopped_because, len(history.steps), history.planned) == ("patience", 7, 12)
    assert history.best_step == 4 and not differing(end, seen[4])
    assert run_with_scores(scores)[0].history.stopped_because == "finished"


@pytest.mark.parametrize(("steps", "validations"), [(12, 5), (7, 7), (3, 10), (10, 1), (10, 0), (100, 7)])
def test_validations_are_spread_and_the_last_weights_are_validated(steps, validations):
    phase = Phase("head", steps, {HEAD: 0.1})
    model = toy_model("toy/vit", dropout=0)
    plan = Plan("mine", (phase,), batch_size=1, validations=validations)
    at = [v.step for v in fit(model, plan, validate=lambda: Validation(0.0, 0.0)).history.validations]
    assert at[-1] == steps and len(at) == max(1, min(validations, steps)) == len(set(at))
    gaps = [b - a for a, b in zip([0, *at], at, strict=False)]
    assert max(gaps) - min(gaps) <= 1


def test_time_that_runs_out_ends_the_plan_and_says_so():
    model = toy_model()
    plan = Plan("mine", (all_stages(50),), batch_size=4, validations=1)
    history = fit(model, plan, validate=validation_of(model), settings=LoopSettings(seconds=0.0)).history
    assert (history.stopped_because, len(history.steps), history.planned) == ("time", 1, 50)
    assert [v.step for v in history.validations] == [1]


def test_batches_are_closed_and_phases_entered_in_order():
    entered, closed = [], []

    class Feed(WholeFeed):
        def enter(self, phase):
            assert not any(m.training for m in self.module.modules())
            entered.append(phase.name)
            source = super().enter(phase)
            inner = source.batches

            class Noting:
                n, batch_size = inner.n, inner.batch_size

                def between(self, first, last):
                    entered.append((first, last))
                    try:
                        yield from inner.between(first, last)
                    finally:
                        closed.append(phase.name)

            return Source(source.module, Noting())

    model = toy_model()
    plan = Plan("mine", (Phase("a", 3, {HEAD: 0.1}), all_stages(4)), batch_size=4, patience=2, validations=7)
    fit(model, plan, feed=Feed(model, pictures(), labels()), validate=scripted([0.9, 0.8, 0.95, 0.9, 0.8]))
    assert entered == ["a", (0, 3), "all", (3, 7)] and closed == ["a", "all"]


def test_observers_hear_how_it_goes():
    events, model = [], toy_model()
    plan = Plan("mine", (all_stages(4),), batch_size=4, validations=2)
    fit(model, plan, validate=validation_of(model), observer=events.append)
    events = [e for e in events if not isinstance(e, Measured)]
    assert isinstance(events[0], Started) and isinstance(events[-1], Finished)
    assert [e.done for e in events if isinstance(e, Advanced)] == [1, 2, 3, 4]
    said = [e.text for e in events if isinstance(e, Said)]
    assert len(said) == 2 and said[0].startswith("step 2 of 4: loss ") and "images/s" in said[0]


def test_what_cannot_be_trained_is_refused_before_the_first_step():
    model = toy_model()
    before = bits(model)
    with pytest.raises(PlanError, match="PL06"):
        fit(model, Plan("mine", (Phase("p", 1, {"layer9": 0.1}),)))
    assert not differing(before, bits(model))


@pytest.mark.parametrize("wrong", [{"checkpoint_every": 0}, {"micro_batch": 0}])
def test_settings_that_count_nothing_are_refused(wrong):
    with pytest.raises(PlanError, match="PL42"):
        LoopSettings(**wrong)


def test_the_history_is_a_record():
    model = toy_model()
    plan = Plan("mine", (Phase("head", 2, {HEAD: 0.1}), all_stages(2)), batch_size=4)
    history = fit(model, plan, validate=validation_of(model)).history
    assert from_dict(History, json.loads(json.dumps(to_dict(history)))) == history
    assert history.images_per_s > 0 and history.seconds == history.steps[-1].seconds > 0


# ------------------------------------------------------------------------------------------------------------ resume


class Tight(nn.Module):
    """A device on which two examples fit at once, while others use it too."""

    def __init__(self, model, in_use):
        super().__init__()
        self.model, self.in_use = model, in_use

    def forward(self, inputs):
        if len(inputs) > 2 and self.in_use:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.model(inputs)


def leaving_the_start(model):
    """A score that falls with every step, and with every bit of the weights: the first validation stays the best."""
    images = torch.from_numpy(pictures(6))
    with torch.no_grad():
        start = toy_model()(images)

    def validate():
        with torch.no_grad():
            far = float((model(images) - start).double().square().sum())
        return Validation(-far, far)

    return validate


PHASES = (
    Phase("head", 2, {HEAD: 0.02}),
    Phase("top", 3, {"layer4": 0.01, HEAD: 0.01}, only="norm-and-bias"),
    Phase("all", 4, dict.fromkeys(CONV, 0.003), statistics="moving"),
    Phase("fixed", 3, dict.fromkeys(CONV[2:], 0.003), statistics="fixed"),
)
PLAN = Plan("mine", PHASES, batch_size=4, ema=0.1, patience=9, validations=12)  # stops after 10 of 12 steps
VARIANTS = {
    "adamw": (PLAN, LoopSettings(checkpoint_every=1000)),
    "sgd": (replace(PLAN, optimizer=Optimizer("sgd")), LoopSettings(checkpoint_every=1000)),
    "bf16": (replace(PLAN, ema=None), LoopSettings("bf16", channels_last=True, checkpoint_every=1000)),
}


def start(folder, plan, settings, stop_after=None):
    """Train, or go on with, a model that is made anew; a signal comes after ``stop_after`` steps."""
    model = toy_model()
    checkpoints = Checkpoints(folder, run_id="test")

    def observer(event):
        if isinstance(event, Advanced) and event.done == stop_after:
            signal.raise_signal(signal.SIGTERM)

    first = checkpoints.newest() is None  # a resumed run finds more memory, and must not use it
    feed = WholeFeed(Tight(model, in_use=first), pictures(), labels())
    trained = fit(
        model,
        plan,
        feed=feed,
        validate=leaving_the_start(model),
        checkpoints=checkpoints,
        settings=settings,
        observer=observer,
        mixup=Mixup(0.2, CLASSES, seed=0),
    )
    return outcome(trained, model, checkpoints)


def outcome(trained, model, checkpoints):
    """Everything that a run leaves, but for the time it took."""
    last = checkpoints.newest()
    state = last.state | {"steps": [row | {"seconds": 0} for row in last.state["steps"]]}
    history = trained.history
    history = replace(history, seconds=0, images_per_s=0, steps=tuple(replace(s, seconds=0) for s in history.steps))
    tensors = {name: t.contiguous().view(torch.uint8).numpy().tobytes() for name, t in last.tensors.items() if t.ndim}
    return bits(model), tensors, state, history, trained.score, checkpoints.best().step


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return {name: start(tmp_path_factory.mktemp(name), plan, settings) for name, (plan, settings) in VARIANTS.items()}


def test_the_uninterrupted_run_has_everything_that_resume_could_lose(uninterrupted):
    _, _, _, history, _, _ = uninterrupted["adamw"]
    assert (history.stopped_because, len(history.steps), history.best_step) == ("patience", 10, 1)
    assert history.micro_batch == 2 and len(history.phases) == 4


@pytest.mark.parametrize(
    ("variant", "stop_after"),
    [("adamw", step) for step in range(1, 10)] + [(name, step) for name in ("sgd", "bf16") for step in (1, 2, 5, 7, 9)],
)
def test_resumed_is_uninterrupted_bit_for_bit(tmp_path, uninterrupted, variant, stop_after):
    plan, settings = VARIANTS[variant]
    with pytest.raises(Stopped, match=f"SIGTERM: stopped after step {stop_after} of 12. Everything is saved"):
        start(tmp_path, plan, settings, stop_after)
    assert start(tmp_path, plan, settings) == uninterrupted[variant]


def test_a_run_may_be_stopped_after_every_step(tmp_path, uninterrupted):
    plan, settings = VARIANTS["adamw"]
    for stop_after in range(1, 10):
        with pytest.raises(Stopped):
            start(tmp_path, plan, settings, stop_after)
    assert start(tmp_path, plan, settings) == uninterrupted["adamw"]


def test_a_finished_run_is_not_trained_further(tmp_path, uninterrupted):
    plan, settings = VARIANTS["adamw"]
    start(tmp_path, plan, settings)
    assert start(tmp_path, plan, settings) == uninterrupted["adamw"]


DROPPED = [piece.name for piece in state_module.PIECES]


@pytest.mark.parametrize("name", DROPPED)
def test_each_piece_of_state_is_needed(tmp_path, uninterrupted, name, monkeypatch):
    """The mutants: a piece that is not saved must be missed, or it is not state."""
    plan, settings = VARIANTS["adamw"]
    if name == "stopped_because":
        start(tmp_path, plan, settings)
    else:
        with pytest.raises(Stopped):
            start(tmp_path, plan, settings, 8)
    kept = tuple(piece for piece in state_module.PIECES if piece.name != name)
    assert len(kept) == len(DROPPED) - 1 >= 10
    monkeypatch.setattr(state_module, "PIECES", kept)
    try:
        found = start(tmp_path, plan, settings)
    except (CheckpointMismatch, KeyError, AssertionError):
        return  # missed at once
    assert without(name, found) != without(name, uninterrupted["adamw"])


def without(name, found):
    """The outcome, where the last checkpoint does not count for lacking the piece itself."""
    model, tensors, state, *rest = found
    tensors = {n: t for n, t in tensors.items() if not n.startswith(f"{name}:")}
    return model, tensors, {k: v for k, v in state.items() if k != name}, *rest


def test_a_checkpoint_of_another_plan_is_refused(tmp_path):
    plan, settings = VARIANTS["adamw"]
    with pytest.raises(Stopped):
        start(tmp_path, plan, settings, 4)
    other = replace(plan, phases=PHASES[:2])
    with pytest.raises(CheckpointMismatch, match=r"CK29 .*other tensors than this plan trains \(buffers:"):
        start(tmp_path, other, settings)


def test_checkpoints_come_at_their_interval_and_at_the_end(tmp_path):
    committed = []

    class Noting(NoCheckpoints):
        def commit(self, step, tensors, state, *, best):
            committed.append((step, best))

    model = toy_model()
    plan = Plan("mine", (all_stages(8),), batch_size=4, validations=2)
    settings = LoopSettings(checkpoint_every=3)
    fit(model, plan, checkpoints=Noting(), settings=settings, validate=scripted([0.5, 0.4]))
    assert committed == [(3, False), (4, True), (6, False), (8, False)]


def test_a_signal_without_checkpoints_says_that_nothing_is_saved():
    def observer(event):
        if isinstance(event, Advanced) and event.done == 2:
            signal.raise_signal(signal.SIGINT)

    model = toy_model()
    with pytest.raises(Stopped, match=r"SIGINT: stopped after step 2 of 6. Nothing is saved") as caught:
        fit(model, Plan("mine", (all_stages(6),), batch_size=4), observer=observer)
    assert caught.value.exit_code == 75 and len(IDS) == len(pictures())


def test_checkpoints_by_the_clock_change_no_bit_of_the_training(tmp_path):
    """One after each step, because the clock says so, or none before the end."""
    ends = []
    for name, seconds in (("often", 1e-9), ("never", 1e9)):
        model, commits = toy_model(), []
        checkpoints = Checkpoints(
            tmp_path / name, run_id="test", at=lambda p, c=commits: c.append(p == "after-complete")
        )
        settings = LoopSettings(checkpoint_every=1000, checkpoint_s=seconds)
        trained = fit(model, PLAN, checkpoints=checkpoints, settings=settings)
        ends.append((bits(model), [row.loss for row in trained.history.steps]))
        assert sum(commits) == (PLAN.steps if name == "often" else 1)
    assert ends[0] == ends[1]


def test_a_disk_that_is_too_small_is_noticed_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr("headstart.training.checkpoint.free_bytes", lambda folder: 10_000)
    model, steps = toy_model(), []
    with pytest.raises(EnvironmentFault, match="EN69"):
        fit(model, PLAN, checkpoints=Checkpoints(tmp_path, run_id="test"), observer=steps.append)
    assert not any(isinstance(event, Advanced) for event in steps)


def test_no_checkpoint_is_larger_than_what_room_was_asked_for(tmp_path):
    asked = []

    class Asked(Checkpoints):
        def check_room(self, size):
            asked.append(size)
            super().check_room(size)

    model, checkpoints = toy_model(), Asked(tmp_path, run_id="test")
    fit(model, replace(PLAN, patience=None), validate=validation_of(model), checkpoints=checkpoints)
    saved = checkpoints.newest().tensors.values()
    assert 0.9 * asked[0] <= sum(t.numel() * t.element_size() for t in saved) <= 1.01 * asked[0]
