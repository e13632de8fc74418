"""Networks for texts learn in the loop that pictures learn in: what is frozen stays, what failed begins anew."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModel

from headstart.adapt.heads.head import LinearHead
from headstart.adapt.model import assemble
from headstart.adapt.plan import HEAD
from headstart.adapt.strategies import Options
from headstart.adapt.strategies.sequences import DEFAULTS
from headstart.backbones.catalogue import catalogue
from headstart.backbones.sources.toy import TOKENIZER
from headstart.base.errors import PlanError
from headstart.base.progress import Advanced, Said
from headstart.data.looks import look_for
from headstart.data.open import open_dataset
from headstart.features.border import Border
from headstart.features.extract import extract
from headstart.features.feeds import feed_for
from headstart.inputs.pairs import PairBatches
from headstart.inputs.sequences import read_sequences
from headstart.tasks.classification import Classification
from headstart.tasks.multilabel import MultiLabel
from headstart.tasks.regression import Regression
from headstart.training.checkpoint import Checkpoints
from headstart.training.loop import TRAINING, LoopSettings
from headstart.training.optimizer import make_optimizer
from headstart.training.phase import enter_phase
from headstart.workflow.config import FitConfig, TuneConfig
from headstart.workflow.finetuning import check_tuning, learn, plan_of
from headstart.workflow.judge import Known, Rules, choose_head
from headstart.workflow.tuning import Ground, features_of, head_like, step_seconds, tune
from headstart.workflow.ways import budget_of, most_steps, rungs_of
from headstart.workflow.zero_shot import names_of, names_read_by

N = 48
SIZES = {"vocab_size": 60, "max_position_embeddings": 66}
BERT = SIZES | {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
KINDS = {
    "bert": BERT | {"pad_token_id": 0},
    "roberta": BERT | {"pad_token_id": 1},
    "distilbert": SIZES | {"dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 48, "pad_token_id": 0},
}


def texts(n=N):
    """Two classes that differ in one letter of many."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklm "))
    return ["".join(rng.choice(letters, rng.integers(4, 40))) + ("z" if i % 2 else "y") * 3 for i in range(n)]


def ground_of(backbone, tmp_path, task="classification", **changes):
    n = np.arange(N)
    targets = {
        "classification": ["y" if i % 2 else "z" for i in n],
        "multilabel": [("odd", "big") if i % 2 else ("big",) if i > 20 else () for i in n],
        "regression": [float(100 + i % 7) for i in n],
    }[task]
    kind = {"classification": Classification, "multilabel": MultiLabel, "regression": Regression}[task]
    made = kind.from_targets(targets)
    dataset = open_dataset(texts(), text="")
    X = extract(backbone, dataset, cache=tmp_path / "cache", only_runner="torch-f32").X
    known = Known(X, made.encode(targets), n, np.asarray(dataset.ids, object), made)
    examples = read_sequences(dataset, feed_for(backbone).prepare, look=look_for("text"))
    return Ground(
        **{
            "backbone": backbone,
            "known": known,
            "examples": examples,
            "runner": "torch-f32",
            "device": "cpu",
            "settings": LoopSettings(checkpoint_every=2),
            "border": Border(tmp_path / "border"),
            "seed": 0,
            **changes,
        }
    )


def encoder(kind, folder):
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model(kind, **KINDS[kind])).eval().save_pretrained(folder)
    (folder / "tokenizer.json").write_text(TOKENIZER)
    return catalogue.load(f"file:{folder}")


@pytest.fixture(scope="module")
def toy():
    return catalogue.load("toy/text")


def probe(ground):
    rng = np.random.default_rng(1)
    width, outputs = ground.backbone.card.feature_dim, ground.known.task.outputs
    return LinearHead(rng.normal(0, 0.1, (outputs, width)), np.zeros(outputs))


def plan_for(ground, strategy, steps=8, **options):
    tuning = TuneConfig(strategy=strategy, epochs=steps * 8 / N, batch_size=8, options=Options(**options))
    return plan_of(ground.backbone, tuning, N, ground.known.task.outputs)


def trained(ground, strategy, steps=8, **options):
    return tune(ground, plan_for(ground, strategy, steps, **options), np.arange(N), probe(ground))


def changed(ground, tuned):
    before, after = ground.backbone.network.state_dict(), tuned.backbone.network.state_dict()
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strategy", [name for name in DEFAULTS["text"] if name != "setfit"])
def test_every_strategy_trains_every_encoder_and_leaves_the_table_of_words(strategy, kind, tmp_path):
    ground = ground_of(encoder(kind, tmp_path / "network"), tmp_path)
    tuned = trained(ground, strategy, lr=None if strategy == "linear-probe" else 1e-3)
    moved = changed(ground, tuned)
    assert len(tuned.history.steps) == 8
    assert not any("embeddings" in name for name in moved), "every row of it, whether in the texts or not"
    assert bool(moved) == (strategy != "linear-probe")
    assert np.isfinite(features_of(ground, tuned.backbone, np.arange(5))).all()


def test_the_table_of_words_costs_no_memory_in_the_optimiser(toy, tmp_path):
    ground = ground_of(toy, tmp_path)
    plan = plan_for(ground, "full")
    model = assemble(toy, ground.known.task, plan, probe=probe(ground), seed=0)
    enter_phase(model, plan.phases[0])
    optimizer = make_optimizer(model, plan.optimizer)
    logits = model(ground.batch(np.arange(8)))
    logits.square().sum().backward()
    optimizer.step()
    learning = {name for name, p in model.named_parameters() if p in optimizer.state}
    assert learning and not any("embeddings" in name for name in learning)
    assert "stem" not in toy.tunable and HEAD not in toy.tunable


def test_what_is_frozen_draws_no_dropout(toy, tmp_path):
    ground = ground_of(toy, tmp_path)
    plan = plan_for(ground, "last-stages")
    model = assemble(toy, ground.known.task, plan, probe=probe(ground), seed=0)
    enter_phase(model, plan.phases[0])
    awake = {n for n, m in model.named_modules() if isinstance(m, torch.nn.Dropout) and m.training}
    everyone = {n for n, m in model.named_modules() if isinstance(m, torch.nn.Dropout)}
    last = toy.tunable[-1]
    assert awake == {name for name in everyone if last in name} and awake < everyone


def test_the_last_stages_alone_change_where_they_alone_learn(toy, tmp_path):
    ground = ground_of(toy, tmp_path)
    moved = changed(ground, trained(ground, "last-stages"))
    assert moved and all(name.startswith(toy.tunable[-1]) for name in moved)


def test_lora_changes_queries_and_values(toy, tmp_path):
    ground = ground_of(toy, tmp_path)
    moved = changed(ground, trained(ground, "lora"))
    assert {name.split(".")[-2] for name in moved} == {"query", "value"}
    assert len(moved) == 2 * len([stage for stage in toy.tunable if "layer" in stage])


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_labels_and_numbers_are_learnt(task, toy, tmp_path):
    ground = ground_of(toy, tmp_path, task)
    tuned = trained(ground, "full", steps=40, lr=1e-3)
    losses = [row.loss for row in tuned.history.steps]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])


class Crash(Exception):
    pass


def test_a_training_that_was_cut_off_ends_in_the_same_bits(toy, tmp_path):
    def run(folder, stop=None):
        def watch(event):
            if isinstance(event, Advanced) and event.what == TRAINING and event.done == stop:
                raise Crash

        ground = ground_of(toy, tmp_path, observer=watch)
        checkpoints = Checkpoints(folder, run_id="texts")
        return ground, tune(ground, plan_for(ground, "lp-ft", 15), np.arange(N), probe(ground), checkpoints=checkpoints)

    ground, whole = run(tmp_path / "whole")
    for stop in (2, 5, 9):  # in the head's phase, and in the network's
        with pytest.raises(Crash):
            run(tmp_path / "cut", stop)
    _, again = run(tmp_path / "cut")
    state, other = (t.backbone.network.state_dict() for t in (whole, again))
    assert changed(ground, whole) and all(torch.equal(state[name], other[name]) for name in state)
    assert (whole.head.weight == again.head.weight).all()
    assert [row.loss for row in whole.history.steps] == [row.loss for row in again.history.steps]


def test_a_training_that_came_to_nothing_is_begun_anew_at_half_the_rates(toy, tmp_path):
    heard = []
    ground = ground_of(toy, tmp_path, observer=heard.append)
    tuned = trained(ground, "full", steps=60, lr=30.0, head_lr=30.0)
    first, second = [e.text for e in heard if isinstance(e, Said) and e.kind == "warning"]
    assert "after 18 steps" in first and "at 0.5 of the rates" in first and "at 0.25" in second
    assert tuned.notes == (first, second)
    assert tuned.plan.phases[0].lr[HEAD] == 7.5
    assert tuned.history.stopped_because == "finished", "the third is the last, whatever comes of it"


def test_a_training_that_learns_is_left_alone(toy, tmp_path):
    tuned = trained(ground_of(toy, tmp_path), "full", steps=60)
    assert tuned.notes == () and len(tuned.history.steps) == 60


def test_a_restarted_training_is_resumed_where_it_was(toy, tmp_path):
    def run(folder, stop=None):
        seen = []

        def watch(event):
            if isinstance(event, Advanced) and event.what == TRAINING:
                seen.append(event.done)
                if len(seen) == stop:
                    raise Crash

        ground = ground_of(toy, tmp_path, observer=watch)
        plan = plan_for(ground, "full", 60, lr=30.0, head_lr=30.0)
        made = tune(ground, plan, np.arange(N), probe(ground), checkpoints=Checkpoints(folder, run_id="texts"))
        return made, seen

    whole, steps = run(tmp_path / "whole")
    with pytest.raises(Crash):
        run(tmp_path / "cut", stop=24)  # the sixth step of the second start
    again, rest = run(tmp_path / "cut")
    assert len(rest) < len(steps) - 20, "the first start is not made again"
    assert again.notes == whole.notes
    assert (again.head.weight == whole.head.weight).all()


@pytest.mark.parametrize(
    ("tuning", "said"),
    [
        (TuneConfig(strategy="adapter"), "PL15 'adapter' is for pictures"),
        (TuneConfig(strategy="full", options=Options(mixup=0.2)), "PL15 mixup"),
        (TuneConfig(strategy="auto", options=Options(augment="flips")), "PL15 augment 'flips'"),
        (TuneConfig(strategy="linear-probe", options=Options(lr=0.1)), "PL13 lr"),
    ],
)
def test_what_only_pictures_have_is_refused_for_texts(tuning, said, toy):
    with pytest.raises(PlanError, match=said):
        check_tuning(toy, tuning, Classification(("a", "b")))


def test_word_vectors_have_nothing_to_fine_tune(tmp_path):
    (tmp_path / "v.txt").write_text("good 1 0\nbad 0 1\n")
    with pytest.raises(PlanError, match=r"PL82 .*table of vectors"):
        check_tuning(catalogue.load(f"vectors/{tmp_path / 'v.txt'}"), TuneConfig(strategy="full"), None)


def test_few_texts_are_gone_through_some_twenty_times(toy):
    def epochs(n):
        plan = plan_of(toy, TuneConfig(strategy="full"), n, 2)
        return plan.steps * plan.batch_size / n

    assert 19 < epochs(400) < 21 and 19 < epochs(1000) < 21 and epochs(100_000) < 2


def test_what_a_step_costs_is_told_by_all_of_them_where_texts_are_of_any_length(toy, tmp_path):
    tuned = trained(ground_of(toy, tmp_path), "full")
    times = [0.0, 1.0, 4.0, 6.0]
    steps = tuple(replace(row, seconds=t) for row, t in zip(tuned.history.steps, times, strict=False))
    history = replace(tuned.history, steps=steps)
    assert step_seconds(history) == 1.0 and step_seconds(history, alike=False) == 2.0
    assert step_seconds(replace(history, steps=steps[1:2]), alike=False) == 1.0


# ------------------------------------------------------------------------------------------------------------- pairs


def test_texts_that_are_compared_are_of_several_classes_and_a_function_of_the_step(toy, tmp_path):
    ground = ground_of(toy, tmp_path)
    labels = np.array([0] * 20 + [1] * 3 + [2])
    batches = PairBatches(ground.examples, labels, np.arange(24), batch_size=9, seed=5)
    seen = np.zeros(3)
    for step in range(300):
        rows = batches.drawn(step)
        counts = np.bincount(labels[rows], minlength=3)
        assert len(rows) == 9 and sorted(counts) == [0, 4, 5], "two classes of at least four texts each"
        assert len(np.unique(rows[labels[rows] == 0])) == counts[0], "none comes twice where there are enough"
        seen += counts
        assert (rows == batches.drawn(step)).all()
    assert seen.min() > 0.85 * seen.max(), "every class as often as any other, whatever its size"
    batch = next(batches.between(7, 8))
    first = batch.inputs[1].numpy()
    assert first[first >= 0].tolist() == ground.examples.prepared(int(batches.drawn(7)[1])).tolist()
    assert batch.targets.tolist() == labels[batches.drawn(7)].tolist()


@given(st.lists(st.integers(0, 3), min_size=2, max_size=9), st.integers(0, 99))
def test_the_loss_of_pairs_is_the_mean_over_like_and_over_unlike_ones(classes, seed):
    from headstart.training.losses import PairLoss

    rng = np.random.default_rng(seed)
    X = rng.normal(size=(len(classes), 5))
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    parts = []
    for like in (True, False):
        pairs = [(i, j) for i, j in combinations(range(len(classes)), 2) if (classes[i] == classes[j]) == like]
        if pairs:
            parts.append(np.mean([(unit[i] @ unit[j] - like) ** 2 for i, j in pairs]))
    each = PairLoss()(torch.from_numpy(X), torch.tensor(classes))
    assert each.shape == (len(classes),) and float(each.mean()) == pytest.approx(np.mean(parts), abs=1e-12)


def test_one_text_alone_has_no_pair_and_moves_nothing():
    from headstart.training.losses import PairLoss

    X = torch.ones(1, 5, requires_grad=True)
    PairLoss()(X, torch.tensor([2])).sum().backward()
    assert X.grad is not None and not X.grad.any()


def test_setfit_sees_as_many_passes_as_suit_it_and_no_more_for_more_time(toy):
    usual = budget_of(toy, 24, 3, strategy="setfit")
    assert (usual.steps, usual.batch_size) == (60, 16) and most_steps(usual, "setfit") == 60
    assert budget_of(toy, 6, 3, strategy="setfit").batch_size == 6
    asked = budget_of(toy, 24, 3, strategy="setfit", epochs=2, batch_size=8)
    assert (asked.steps, asked.batch_size) == (6, 8)
    assert most_steps(replace(usual, steps=10), "full") == 90


def test_setfit_draws_classes_apart_and_fits_the_chosen_kind_of_head_again(toy, tmp_path):
    ground = ground_of(toy, tmp_path)
    chosen = choose_head(ground.known, Rules(3, None, "none", 0, ("ridge",)))
    plan = plan_for(ground, "setfit", steps=60, lr=1e-3)
    tuned = tune(ground, plan, np.arange(N), chosen.head, usual=chosen)
    X, y = features_of(ground, tuned.backbone, np.arange(N)), ground.known.y
    assert (tuned.head.weight == head_like(chosen, X, y, ground.known.task).weight).all()

    def apart(features):
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        cosines = unit @ unit.T
        return cosines[y[:, None] == y].mean() - cosines[y[:, None] != y].mean()

    assert apart(X) > apart(ground.known.X) + 0.1
    task = ground.known.task
    named = replace(chosen, family="names+mean", names=names_read_by(toy, task))
    again = tune(ground, plan, np.arange(N), chosen.head, usual=named)
    expected = head_like(replace(named, names=names_read_by(tuned.backbone, task)), X, y, task)
    assert (again.head.weight == expected.weight).all(), "the trained network reads the names anew"
    assert (again.head.weight != head_like(named, X, y, task).weight).any()
    assert not any("embeddings" in name for name in changed(ground, tuned))


def test_of_few_texts_none_is_held_back_from_pairs_and_some_are_from_other_trainings(toy, tmp_path):
    ground = ground_of(toy, tmp_path)
    chosen = choose_head(ground.known, Rules(3, None, "none", 0, ("ridge",)))
    for strategy, held in (("setfit", "none"), ("full", "7")):
        config = FitConfig(tuning=TuneConfig(strategy=strategy, epochs=1))
        learnt = learn(ground, np.arange(N), chosen, config, seconds=None)
        assert learnt.record.folds == f"{held} of {N} training examples held back for the temperature"
        assert (learnt.chosen.temperature == 1.0) == (held == "none")


@pytest.mark.parametrize(
    ("task", "options", "said"),
    [
        (Regression(), Options(), "PL16 .*regression"),
        (Classification(("a", "b")), Options(head_lr=0.1), "PL16 head_lr"),
        (Classification(("a", "b")), Options(penalty="bss"), "PL16 penalty"),
    ],
)
def test_what_pairs_have_no_place_for_is_refused(task, options, said, toy):
    with pytest.raises(PlanError, match=said):
        check_tuning(toy, TuneConfig(strategy="setfit", options=options), task)
    with pytest.raises(PlanError, match="PL16"):
        check_tuning(catalogue.load("toy/conv"), TuneConfig(strategy="setfit"), Classification(("a", "b")))


def test_the_ladder_tries_pairs_where_examples_are_few(toy):
    names = [[way.name for way in ways] for _, ways in rungs_of(toy, Options(), few=True, pairs=True)]
    assert names == [["last 1 stages", "LoRA", "setfit"], ["full", "full, 3 times the rate"]]
    assert "setfit" not in str(rungs_of(toy, Options(), few=True))
    assert "setfit" not in str(rungs_of(toy, Options(patience=2), few=True, pairs=True))


def test_names_read_by_a_trained_network_are_those_of_the_cached_way(toy, tmp_path):
    task = Classification(("good news", "bad_news"))
    assert np.allclose(names_read_by(toy, task), names_of(task, toy, cache=tmp_path), atol=2e-3)
