import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from headstart.base.seeds import stream
from headstart.data.dataset import Dataset
from headstart.evaluation.intervals import Resamples
from headstart.features.choose import make_runner
from headstart.features.runners.runner import run_all
from headstart.features.safety import TOLERANCE, WORDS, Verdict, _Probe, copies, judge, rows_to_try, safe_policy
from headstart.inputs.augment import KINDS, POLICIES, Policy, policy_named
from headstart.inputs.decoded import decode_pictures
from headstart.records.estimate import Estimate
from headstart.tasks.classification import Classification
from headstart.tasks.multilabel import MultiLabel
from headstart.tasks.regression import Regression

NONE, LIGHT, STANDARD, STRONG, STRONG_RAND = POLICIES


def arrow(direction, *names):
    """A dark arrow on a light ground; tone, size and place vary."""
    rng = stream(0, "arrow", *names)
    tone = tuple(int(v) for v in rng.integers(0, 90, 3))
    image = Image.new("RGB", (64, 64), tuple(int(v) for v in rng.integers(170, 256, 3)))
    half = int(rng.integers(16, 24))
    x, y = (32 + int(v) for v in rng.integers(-5, 6, 2))
    draw = ImageDraw.Draw(image)
    draw.rectangle((x - 4, y - half, x + 4, y + half), fill=tone)
    draw.polygon([(x - 14, y - half + 14), (x + 14, y - half + 14), (x, y - half - 6)], fill=tone)
    return image.rotate({"up": 0, "left": 90, "down": 180, "right": 270}[direction])


def blob(colour, *names):
    """Round dots of one colour anywhere: no side is up."""
    rng = stream(0, "blob", *names)
    image = Image.new("RGB", (64, 64), tuple(int(v) for v in rng.integers(100, 156, 3)))
    draw = ImageDraw.Draw(image)
    tone = {"red": (200, 40, 40), "green": (40, 190, 40), "blue": (50, 50, 210)}[colour]
    for x, y in rng.integers(8, 56, (9, 2)):
        draw.ellipse((x - 6, y - 6, x + 6, y + 6), fill=tone)
    return image


def drawn(kinds, make, each):
    labels = [kind for kind in kinds for _ in range(each)]
    values = [make(label, label, i) for i, label in enumerate(labels)]
    return Dataset("image", [f"{i}.png" for i in range(len(labels))], values, labels)


def verdicts_for(toy, dataset, kinds=KINDS):
    task = Classification.from_targets(dataset.targets)
    y = task.encode(dataset.targets)
    pictures = decode_pictures(dataset, toy.spec)
    runner = make_runner(toy, "torch-f32", "cpu")
    X = run_all(runner, np.stack([pictures.prepared(row) for row in range(len(dataset))]))
    rows = rows_to_try(task.strata(y), seed=0)
    changed = {kind: np.concatenate([run_all(runner, b) for b in copies(pictures, rows, kind)]) for kind in kinds}
    return {verdict.kind: verdict for verdict in judge(X, y, rows, changed, task=task)}


@pytest.fixture(scope="module")
def arrows(toy):
    return verdicts_for(toy, drawn(["up", "down", "left", "right"], arrow, 40))


@pytest.fixture(scope="module")
def blobs(toy):
    return verdicts_for(toy, drawn(["red", "green", "blue"], blob, 40))


# ------------------------------------------------------------------------------------------- pictures and a network


def test_where_the_direction_is_the_class_flips_and_turns_are_switched_off(arrows):
    for kind in ("horizontal-flip", "vertical-flip", "turn"):
        assert not arrows[kind].allowed and arrows[kind].lost.low > 0.3
    assert arrows["horizontal-flip"].suffers in ("left", "right")
    assert arrows["vertical-flip"].suffers in ("up", "down")
    assert arrows["horizontal-flip"].why.startswith("left-right flips are switched off: accuracy of the probe 0.9")
    safe, sentences = safe_policy(STANDARD, list(arrows.values()))
    assert safe.flips == () and "horizontal-flip" in safe.off and "turn" not in safe.off
    assert len(sentences) == len(STANDARD.kinds)


def test_where_no_side_is_up_flips_and_turns_are_kept(blobs):
    for kind in ("horizontal-flip", "vertical-flip", "turn", "tilt", "crop", "strong-crop"):
        assert blobs[kind].allowed and blobs[kind].suffers == ""
    everything = Policy("mine", flips=("horizontal", "vertical"), rotation=180, crop=(0.35, 1.0))
    safe, sentences = safe_policy(everything, list(blobs.values()))
    assert safe == everything and all("are kept" in sentence for sentence in sentences)


def test_where_the_colour_is_the_class_colour_is_kept_as_it_is(blobs):
    assert not blobs["strong-colour"].allowed and blobs["strong-colour"].lost.low > 0.3
    safe, _ = safe_policy(STRONG, list(blobs.values()))
    assert "strong-colour" in safe.off and STRONG.kinds == ("horizontal-flip", *KINDS[2:])


def test_copies_are_the_changes_they_are_named_after(toy):
    pictures = decode_pictures(drawn(["up"], arrow, 5), toy.spec)
    rows = np.array([3, 0, 4, 1])
    as_they_are = np.stack([pictures.prepared(row) for row in rows])
    made = {kind: np.concatenate(list(copies(pictures, rows, kind, batch=3))) for kind in KINDS}
    assert all(c.shape == (4, 64, 64, 3) and c.dtype == np.uint8 for c in made.values())
    assert np.array_equal(made["horizontal-flip"], as_they_are[:, :, ::-1])
    assert np.array_equal(made["vertical-flip"], as_they_are[:, ::-1])
    for copy, original, row in zip(made["turn"], as_they_are, rows, strict=True):
        assert np.array_equal(copy, np.rot90(original, 1 if row % 2 else -1))
    grey = made["strong-colour"].astype(int)
    assert np.ptp(grey, axis=3).max() <= 1
    light, dark = made["colour"][0].mean() - as_they_are[0].mean(), made["colour"][1].mean() - as_they_are[1].mean()
    assert light > 0 > dark


# ------------------------------------------------------------------------------------------------- arrays only


def separable(classes, each, width=32, *names, apart=3.0):
    rng = stream(0, "safety", classes, each, *names)
    y = np.repeat(np.arange(classes), each)
    centres = rng.normal(size=(classes, width)) * apart
    return centres[y] + rng.normal(size=(len(y), width)), y, centres


def names(classes):
    return Classification(tuple(f"c{i:02}" for i in range(classes)))


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=25, deadline=None)
def test_the_probe_answers_as_if_it_had_never_learnt_the_group(seed, in_groups):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(24, 5)), rng.integers(0, 3, 24)
    groups = rng.integers(0, 9, 24) if in_groups else np.arange(24)
    rows = np.sort(rng.permutation(24)[:7])
    probe = _Probe.of(X, y, rows, names(3), groups, seed=0)
    changed = X[rows] + rng.normal(size=(7, 5))
    answers = probe.answers(changed)
    centre, targets = X.mean(axis=0), np.where(y[:, None] == np.arange(3), 1.0, -1.0)
    kernel = (X - centre) @ (X - centre).T / probe.scale + 1
    strength = (np.linalg.inv(probe.gram_inverse) - kernel)[0, 0]
    for answer, picture, row in zip(answers, changed, rows, strict=True):
        kept = groups != groups[row]
        weights = np.linalg.solve(kernel[np.ix_(kept, kept)] + strength * np.eye(kept.sum()), targets[kept])
        slow = ((X[kept] - centre) @ (picture - centre) / probe.scale + 1) @ weights
        np.testing.assert_allclose(answer, slow, rtol=1e-5, atol=1e-6)


def test_a_copy_is_judged_without_its_original():
    """With labels that mean nothing, only having learnt the very picture could give right answers."""
    rng = stream(0, "noise")
    X, y = rng.normal(size=(200, 400)), rng.integers(0, 4, 200)
    rows = np.arange(200)
    probe = _Probe.of(X, y, rows, names(4), None, seed=0)
    assert probe.scores(probe.answers(X)).mean() < 0.4
    twins = np.concatenate([X, X])
    pairs = _Probe.of(twins, np.tile(y, 2), rows, names(4), np.tile(rows, 2), seed=0)
    assert pairs.scores(pairs.answers(X)).mean() < 0.4
    alone = _Probe.of(twins, np.tile(y, 2), rows, names(4), None, seed=0)
    assert alone.scores(alone.answers(X)).mean() > 0.9  # what the groups are for


def test_copies_like_their_originals_lose_nothing():
    X, y, _ = separable(3, 20)
    rows = np.arange(0, 60, 2)
    (verdict,) = judge(X, y, rows, {"turn": X[rows]}, task=names(3))
    assert verdict.allowed and (verdict.lost.value, verdict.lost.low, verdict.lost.high) == (0, 0, 0)
    assert verdict.lost.n == 30 and verdict.suffers == ""


def test_what_is_lost_has_the_paired_interval_of_the_resamples():
    X, y, _ = separable(4, 25)
    rows = np.arange(100)
    changed = np.where((rows % 3 == 0)[:, None], -X, X)
    (verdict,) = judge(X, y, rows, {"turn": changed}, task=names(4), seed=5)
    probe = _Probe.of(X, y, rows, names(4), None, seed=5)
    lost = probe.scores(probe.answers(X)) - probe.scores(probe.answers(changed))
    drawn_means = Resamples(100, seed=5).matrix() @ lost / 100
    assert verdict.lost.value == pytest.approx(lost.mean())
    assert np.quantile(drawn_means, 0.02) <= verdict.lost.low <= np.quantile(drawn_means, 0.03)


def test_new_pictures_of_the_same_kind_are_no_reason_to_switch_off():
    """Copies that lie as far apart as pictures of a class do, where the probe is often wrong."""
    alarms, losses = 0, []
    for seed in range(60):
        X, y, centres = separable(5, 12, 16, seed, apart=0.5)
        fresh = centres[y] + stream(seed, "fresh").normal(size=X.shape)
        (verdict,) = judge(X, y, np.arange(60), {"horizontal-flip": fresh}, task=names(5))
        alarms += not verdict.allowed
        losses.append(verdict.lost)
    assert np.mean([lost.high for lost in losses]) > 0.15  # the answers do change, to and fro
    assert abs(np.mean([lost.value for lost in losses])) < 0.03
    assert alarms <= 3  # 2.5 % by the interval, less what is tolerated, and at most 5 % over the labels


def test_one_label_that_turns_into_another_is_enough():
    X, y, centres = separable(20, 12, 64)
    rows = np.arange(240)
    swapped = y.copy()
    swapped[y == 3], swapped[y == 7] = 7, 7
    changed = X + centres[swapped] - centres[y]
    (verdict,) = judge(X, y, rows, {"strong-crop": changed}, task=names(20))
    assert verdict.lost.high < TOLERANCE["strong-crop"]
    assert not verdict.allowed and verdict.suffers == "c03"
    assert verdict.why.endswith("of 'c03' it finds 1.00, then 0.00.")


def test_too_few_pictures_prove_nothing():
    X, y, _ = separable(2, 10)
    for rows, groups in ((np.arange(7, 14), None), (np.arange(20), np.arange(20) // 3)):
        (verdict,) = judge(X, y, rows, {"horizontal-flip": -X[rows]}, task=names(2), groups=groups)
        assert verdict.allowed and verdict.lost.value > 0.9
        assert verdict.why == f"left-right flips are kept: {len(rows)} pictures are too few to tell what they do."
    (verdict,) = judge(X, y, np.arange(20), {"horizontal-flip": -X}, task=names(2))
    assert not verdict.allowed


def test_copies_of_one_group_count_once():
    X, y, _ = separable(2, 40)
    rows, groups = np.arange(80), np.repeat(np.arange(16), 5)
    changed = np.where((groups < 4)[:, None], -X, X)
    (apart,) = judge(X, y, rows, {"turn": changed}, task=names(2))
    (together,) = judge(X, y, rows, {"turn": changed}, task=names(2), groups=groups)
    assert together.lost.high - together.lost.low > 1.5 * (apart.lost.high - apart.lost.low)


def test_several_labels_are_judged_label_by_label():
    rng = stream(0, "labels")
    y = rng.integers(0, 2, (120, 3)).astype(np.int8)
    X = y @ rng.normal(size=(3, 24)) * 3 + rng.normal(size=(120, 24)) * 0.3
    task, rows = MultiLabel(("a", "b", "c")), np.arange(120)
    only_c = y @ np.diag([0, 0, 1])
    directions = np.linalg.lstsq(y.astype(float), X, rcond=None)[0]
    gone = X - only_c @ directions
    same, without_c = judge(X, y, rows, {"turn": X, "tilt": gone}, task=task)
    assert same.allowed and not without_c.allowed and without_c.suffers == "c"
    assert "mean Jaccard index" in same.why


def test_numbers_are_judged_by_the_usual_error():
    rng = stream(0, "numbers")
    X = rng.normal(size=(150, 6))
    y = (X @ rng.normal(size=6) + rng.normal(size=150) * 0.1)[:, None] * 100
    kept, off = judge(X, y, np.arange(100), {"tilt": X[:100], "turn": -X[:100]}, task=Regression())
    assert kept.allowed and not off.allowed and off.suffers == ""


@given(st.lists(st.integers(0, 5), min_size=1, max_size=200), st.integers(1, 100), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_rows_are_tried_as_evenly_as_the_classes_allow(strata, most, seed):
    strata = np.array(strata)
    rows = rows_to_try(strata, seed=seed, most=most)
    assert len(rows) == min(most, len(strata)) and (np.diff(rows) > 0).all()
    taken, there = np.bincount(strata[rows], minlength=6), np.bincount(strata, minlength=6)
    for a in range(6):
        for b in range(6):
            assert taken[a] == there[a] or taken[a] >= taken[b] - 1
    assert np.array_equal(rows, rows_to_try(strata, seed=seed, most=most))


def test_large_data_is_learnt_in_part():
    X, y, _ = separable(2, 700, 8)
    rows = rows_to_try(y, seed=0)
    probe = _Probe.of(X, y, rows, names(2), None, seed=0)
    assert len(rows) == 256 and len(probe.X) <= 1256
    assert np.array_equal(probe.X[probe.places], X[rows])


def test_only_what_a_policy_does_matters():
    off = {kind: Verdict(kind, False, Estimate(0.5, 0.4, 0.6, 9), "", f"{WORDS[kind]} off.") for kind in KINDS}
    assert safe_policy(NONE, list(off.values())) == (NONE, ())
    light, said = safe_policy(LIGHT, list(off.values()))
    assert light.changes_nothing and said == ("left-right flips off.", "crops off.")
    assert safe_policy(policy_named("auto"), [off["vertical-flip"]]) == (STANDARD, ())
    assert set(off) == set(TOLERANCE) == set(WORDS) == set(KINDS)


def test_labels_in_sentences_are_escaped():
    X, y, _ = separable(2, 30)
    (verdict,) = judge(X, y, np.arange(60), {"turn": -X}, task=Classification(("a\n", "b\x1b[2J")))
    assert "of 'a\\n' it finds" in verdict.why or "of 'b\\x1b[2J' it finds" in verdict.why
