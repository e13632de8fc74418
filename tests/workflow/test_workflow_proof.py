"""Proof of transfer on generated pictures, where the truth is known, and its sentences."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from headstart.backbones.catalogue import catalogue
from headstart.base.config import from_dict, to_dict
from headstart.base.progress import Said
from headstart.data.open import open_dataset
from headstart.features.border import Border
from headstart.features.extract import extract
from headstart.inputs.decoded import decode_pictures
from headstart.records.estimate import Estimate
from headstart.records.evaluation import Baseline
from headstart.records.proof import Multiplier, ProofRecord, Rival
from headstart.tasks.classification import Classification
from headstart.tasks.regression import Regression
from headstart.training.loop import LoopSettings
from headstart.workflow.judge import Contest, Known, Rules, choose_head, cross_validated, held_out
from headstart.workflow.proof import _grown, _parts, negative_transfer, prove, scratch_plan, summary
from headstart.workflow.tuning import Ground

RUNNER = "torch-f32"


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def paint(folder, per_class):
    """Class folders of small noisy pictures; four in five are tinted as their class."""
    rng = np.random.default_rng(0)
    for label, side in {"blue": -1, "red": 1}.items():
        (folder / label).mkdir(parents=True)
        for i in range(per_class):
            tint = np.array([125, 110, 125]) + rng.normal(side * 30, 35) * np.array([1, 0, -1])
            pixels = rng.normal(tint, 60, (40, 48, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i:03}.png")
    return folder


class World:
    """What fit has at hand when it asks for proof; X: features of the 'pretrained' network, its own where None."""

    def __init__(self, folder, cache, *, test, X=None, regression=False, metric=None):
        self.dataset, self.cache, self.seen = open_dataset(folder), cache, []
        self.backbone = catalogue.load("toy/conv")
        every = self.features_by(self.backbone, np.arange(len(self.dataset))).X
        targets = self.dataset.targets
        task = Classification.from_targets(targets)
        y = task.encode(targets)
        if regression:
            task, y = Regression(), y[:, None] * 100.0 + 1000 + np.arange(len(y))[:, None] % 7
        ids = np.asarray(self.dataset.ids, object)
        self.known = Known(every if X is None else X(y, every), y, np.arange(len(y)), ids, task)
        rows = np.arange(len(y))
        self.test = rows[rows % 4 == 3] if test else np.zeros(0, np.int64)
        self.train = np.setdiff1d(rows, self.test)
        rules = Rules(5, metric, "none", 0, ("ridge",))
        self.contest = Contest(self.known, rules, self.train, self.test)
        chosen = choose_head(self.known.take(self.train), rules)
        judged = held_out(chosen, self.known.take(self.test)) if test else cross_validated(self.known, rules)
        self.model, self.said = judged.after, []
        usable = self.dataset.take(self.train.tolist())
        self.ground = Ground(
            backbone=self.backbone,
            known=self.known.take(self.train),
            examples=decode_pictures(usable, self.backbone.spec),
            runner=RUNNER,
            device="cpu",
            settings=LoopSettings(),
            border=Border(cache / "border"),
            seed=0,
            observer=self.hear,
        )

    def hear(self, event):
        if isinstance(event, Said):
            self.said.append(event.text)

    def features_by(self, network, positions):
        self.seen.append((network.record.loader, len(positions)))
        return extract(
            network, self.dataset.take(positions.tolist()), cache=self.cache, device="cpu", only_runner=RUNNER
        )

    def prove(self, augment="light", **kwargs):
        """'light' because the safety test, which 'auto' asks for, must see the features of the ground's network."""
        return prove(
            self.model,
            self.contest,
            self.ground,
            random_features=lambda rows: self.features_by(self.backbone.random_copy(0), rows),
            features_by=self.features_by,
            seconds=0.3,
            least_s=0.3,
            resamples=300,
            augment=augment,
            **kwargs,
        )


def knowing(y, X):
    """Features in which the classes lie far apart, so that a few labels are enough."""
    rng = np.random.default_rng(1)
    return (4.0 * y.reshape(len(y), -1)[:, :1] + rng.normal(0, 1, (len(y), 16))).astype(np.float32)


def ignorant(y, X):
    """Features that say nothing."""
    return np.random.default_rng(1).normal(0, 1, (len(y), 16)).astype(np.float32)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return paint(tmp_path_factory.mktemp("pictures") / "tints", 64)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def known(pictures, cache):
    """(world, record) where the pretrained network knows the classes."""
    world = World(pictures, cache, test=True, X=knowing)
    return world, world.prove()


# --- a whole proof


def test_features_that_know_the_classes_were_worth_many_labels(known):
    world, record = known
    assert record.how == "held-out" and record.n == len(world.test) and record.learnt_from == len(world.train)
    by_key = {rival.against.key: rival for rival in record.rivals}
    assert list(by_key) == ["random-network", "scratch", "scratch-long"]
    assert by_key["random-network"].worth.kind == "at least"
    assert record.sentence.startswith("Transfer was worth ")
    assert record.sentence in world.said


def test_rivals_are_judged_on_the_models_own_examples(known):
    world, record = known
    truth = float((world.model.predicted == world.model.targets).mean())
    for rival in record.rivals:
        assert rival.against.n == len(world.test)
        assert rival.against.reference.value == pytest.approx(truth)
        assert rival.against.gain.value == pytest.approx(truth - rival.against.score.value)
        assert 0 <= rival.against.p_value <= 1


def test_training_from_scratch_took_its_time_and_no_more(known):
    _, record = known
    short, long = record.rivals[1:]
    for rival, seconds in ((short, 0.3), (long, 1.5)):
        assert rival.steps > 0 and rival.seconds < seconds + 3
        assert rival.epochs == rival.steps * 16 / len(known[0].train)
    assert long.steps > short.steps


def test_what_was_trained_from_scratch_began_at_random_and_saw_no_judged_example(known):
    world, _ = known
    assert world.seen[1:] == [("random", len(world.known)), *[("random", len(world.test))] * 2]
    assert not set(world.ground.known.ids) & set(world.model.ids)


def test_curves_have_nested_sizes_and_a_law_that_falls(known):
    world, record = known
    transfer, random = record.curves
    assert (transfer.key, random.key) == ("transfer", "random-network")
    for curve in record.curves:
        sizes = [point.n for point in curve.points]
        assert sizes == sorted(set(sizes)) and sizes[-1] == len(world.train)
        assert curve.points[-1].share == 1
        assert curve.law.drop >= 0 and curve.law.most == len(world.train)
    # with all labels the curve's point is the head that judged the model: same family, same rules, same rows
    assert transfer.points[-1].score.value == pytest.approx(record.rivals[0].against.reference.value)
    assert random.points[-1].score.value == pytest.approx(record.rivals[0].against.score.value)


def test_a_record_survives_its_file(known):
    _, record = known
    again = from_dict(ProofRecord, to_dict(record))
    assert again == record


def test_features_that_say_nothing_are_called_negative_transfer(pictures, cache):
    world = World(pictures, cache, test=True, X=ignorant)
    record = world.prove()
    assert any(s.startswith("Pretrained features are worse than those of random weights") for s in record.negative)
    assert not record.sentence.startswith("Transfer was worth at least")
    assert record.multiplier.times.value <= 1
    assert set(record.negative) <= set(world.said)


def test_a_tuned_model_below_its_probe_is_called_so(pictures, cache):
    """The 'model' says the opposite of what its probe says."""
    world = World(pictures, cache, test=True, X=knowing)
    probe = world.model
    world.model = replace(probe, scores=probe.scores[:, ::-1].copy())
    record = world.prove(probe=probe)
    assert any(s.startswith("Fine-tuning did harm") for s in record.negative)
    assert any(s.startswith("Transfer did harm") for s in record.negative)
    assert any("fine-tuning is not in them" in note for note in record.notes)


def test_few_examples_are_judged_by_cross_validation(tmp_path, cache):
    world = World(paint(tmp_path / "few", 12), cache, test=False, metric="log_loss")
    record = world.prove(augment="auto")
    assert record.how == "cross-validation" and record.n == 24
    scratch = [rival for rival in record.rivals if rival.against.key.startswith("scratch")]
    assert all(rival.worth is None and rival.against.n < 10 for rival in scratch)
    assert any("only the first of 5 parts was left out" in note for note in record.notes)
    assert record.rivals[0].against.score.n == 24


def test_values_are_proved_in_their_own_units(pictures, cache):
    record = World(pictures, cache, test=True, X=knowing, regression=True).prove()
    assert record.metric == "rmse"
    assert all(10 < rival.against.score.value < 100 for rival in record.rivals), "not 1,000 off: units were minded"
    assert record.curves[0].law.floor >= 0


@pytest.mark.parametrize("family", ["nearest-mean", "ridge", "lda", "logistic"])
def test_one_example_of_a_class_teaches_what_it_can(family):
    """Classes far apart: four labels are enough, if no head tries to learn a spread from single examples."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    X = (8 * np.eye(3)[y] @ rng.normal(size=(3, 20)) + rng.normal(size=(120, 20))).astype(np.float32)
    known = Known(X, y, np.arange(120), np.arange(120).astype(str).astype(object), Classification(("a", "b", "c")))
    contest = Contest(known, Rules(5, None, "none", 0, (family,)), np.arange(64), np.arange(64, 120))
    grown = _grown(contest, _parts(contest), X)
    assert grown.sizes[0] == 4, "two of one class, one of each other"
    for of_size in grown.said:
        assert all((p.predicted == p.targets).mean() > 0.95 for p in of_size)


# --- the plan


def test_from_scratch_means_that_everything_learns():
    from headstart.adapt.plan import HEAD, Budget

    plan = scratch_plan(["stem", "top"], Budget(40, 8, 100, 3), "none")
    assert set(plan.phases[0].lr) == {"stem", "top", HEAD}
    assert len(set(plan.phases[0].lr.values())) == 1
    assert plan.head.start == "random" and plan.phases[0].statistics == "moving" and plan.steps == 40


# --- sentences


def baseline(gain, low, high, key="scratch", what="the same network trained from scratch for 12 s"):
    score = Estimate(0.8, 0.75, 0.85, 200)
    return Baseline(key, what, score, replace(score, value=0.8 + gain), Estimate(gain, low, high, 200), 0.01, 480, 200)


@pytest.mark.parametrize(
    ("probing", "tuning", "scratch", "starts"),
    [
        (baseline(0.2, 0.1, 0.3), baseline(0.05, -0.01, 0.1), baseline(0.1, 0.05, 0.15), []),
        (baseline(0.02, -0.01, 0.05), None, baseline(0.1, 0.05, 0.15), ["Pretrained features are not shown"]),
        (baseline(-0.1, -0.2, -0.01), None, baseline(0.1, 0.05, 0.15), ["Pretrained features are worse"]),
        (baseline(0.2, 0.1, 0.3), baseline(-0.1, -0.2, -0.01), baseline(0.1, 0.0, 0.2), ["Fine-tuning did harm"]),
        (baseline(0.2, 0.1, 0.3), None, baseline(-0.1, -0.2, -0.01), ["Transfer did harm"]),
        (baseline(0.2, 0.1, 0.3), None, baseline(-0.1, -0.2, 0.01), []),
        (baseline(0.2, 0.1, 0.3), baseline(-0.1, -0.2, 0.01), baseline(0.1, 0.05, 0.15), []),
    ],
)
def test_every_way_to_fail_has_its_sentence_and_noise_has_none(probing, tuning, scratch, starts):
    found = negative_transfer("accuracy", probing, tuning, [scratch])
    assert len(found) == len(starts)
    assert all(sentence.startswith(start) for sentence, start in zip(found, starts, strict=True))


def test_a_sentence_of_harm_holds_both_scores_and_the_difference():
    (sentence,) = negative_transfer("accuracy", baseline(0.2, 0.1, 0.3), None, [baseline(-0.1, -0.2, -0.01)])
    assert "accuracy 0.700 is 0.100 [0.010, 0.200] behind the 0.800 of the same network trained" in sentence


def rival(value, low, high, kind, least=1 / 16, most=16.0):
    worth = Multiplier(Estimate(value, low, high, 200), least, most, kind)
    return Rival(baseline(0.1, 0.05, 0.15), 12.0, 300, 10.0, worth)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (rival(6.0, 3.1, 11.2, "measured"), "worth 6 times more labels [3.1, 11]: about 80 labels"),
        (rival(6.0, 3.1, 16.0, "measured"), "worth 6 times more labels [3.1, 16 or more]: about 80 labels"),
        (
            rival(16.0, 16.0, 16.0, "at least"),
            "worth at least 16 times the labels: 30 labels with it do better than 480",
        ),
        (rival(16.0, 9.0, 16.0, "at least"), "worth 16 times or more [9, 16 or more] the labels"),
        (rival(16.7, 16.7, 16.7, "at least", most=16.7), "worth at least 16 times the labels"),
        (rival(1.3, 0.6, 2.5, "measured"), "not shown that transfer was worth labels: 1.3 times as many [0.6, 2.5]"),
        (rival(0.4, 0.2, 0.8, "measured"), "Transfer cost labels: about 192 labels do"),
        (rival(1.0, 1.0, 1.0, "at most", least=1.0), "worth no labels: the same network trained from scratch"),
        (rival(1.0, 1 / 16, 16.0, "cannot be told"), "cannot be told from 200 judged examples"),
        (None, "cannot be told: 480 examples give fewer than 3 subsets"),
    ],
)
def test_the_summary_says_what_was_measured_and_no_more(found, words):
    assert words in summary("accuracy", found, 480, 200)
