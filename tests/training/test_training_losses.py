"""Losses against closed forms in numpy, torch's own functions and finite differences."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from headstart.adapt.heads.head import LinearHead
from headstart.adapt.plan import Loss
from headstart.base.errors import PlanError
from headstart.base.seeds import stream
from headstart.tasks.classification import Classification
from headstart.tasks.multilabel import MultiLabel
from headstart.tasks.regression import Regression
from headstart.training.losses import Mixup, Units, as_targets, check_loss, loss_for

CLASSES = Classification(("ant", "bee", "cat", "dog"))
LABELS = MultiLabel(("a", "b", "c"))
VALUES = Regression(("u", "v"))

Y_CLASSES = np.array([0, 0, 0, 0, 1, 1, 2, 3, 3, 3])
Y_LABELS = np.array([[1, 0, 1], [0, 0, 1], [0, 1, 1], [0, 0, 1], [1, 0, 0]], np.int8)
Y_VALUES = stream(0, "values").normal(3.0, 5.0, (12, 2))

EVERY = [
    (CLASSES, Y_CLASSES, Loss()),
    (CLASSES, Y_CLASSES, Loss(label_smoothing=0.2)),
    (CLASSES, Y_CLASSES, Loss(balanced="weights", label_smoothing=0.1)),
    (CLASSES, Y_CLASSES, Loss(balanced="softmax")),
    (CLASSES, Y_CLASSES, Loss(balanced="softmax", label_smoothing=0.1)),
    (LABELS, Y_LABELS, Loss()),
    (LABELS, Y_LABELS, Loss(balanced="weights", label_smoothing=0.1)),
    (VALUES, Y_VALUES, Loss()),
    (VALUES, Y_VALUES, Loss("mae")),
    (VALUES, Y_VALUES, Loss("huber")),
]
IDS = [f"{task.name}-{spec.kind}-{spec.balanced}-{spec.label_smoothing}" for task, _, spec in EVERY]
every_loss = pytest.mark.parametrize(("task", "y", "spec"), EVERY, ids=IDS)


def logits_of(task, n, dtype=torch.float32, scale=2.0):
    return torch.as_tensor(stream(1, "logits", n).normal(0, scale, (n, task.outputs)), dtype=dtype)


def soft(logits, offset=0.0):
    """log softmax in float64, written out."""
    z = np.asarray(logits, np.float64) + offset
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


# --- what holds for every loss --------------------------------------------------------------------------------------


@every_loss
def test_gradient_agrees_with_finite_differences(task, y, spec):
    loss, targets = loss_for(task, spec, y=y), as_targets(task, y)
    logits = logits_of(task, len(y), torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, targets), (logits,), atol=1e-6, rtol=1e-5)


@every_loss
def test_one_float32_number_for_each_example_also_under_autocast(task, y, spec):
    loss, targets, logits = loss_for(task, spec, y=y), as_targets(task, y), logits_of(task, len(y))
    plain = loss(logits, targets)
    assert plain.shape == (len(y),) and plain.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(logits, targets), plain)
    for narrow in (torch.bfloat16, torch.float16):
        assert torch.equal(loss(logits.to(narrow), targets), loss(logits.to(narrow).float(), targets))


@every_loss
def test_an_example_does_not_depend_on_its_neighbours_or_their_order(task, y, spec):
    loss, targets, logits = loss_for(task, spec, y=y), as_targets(task, y), logits_of(task, len(y))
    whole = loss(logits, targets)
    order = torch.as_tensor(stream(0, "order").permutation(len(y)))
    assert torch.equal(loss(logits[order], targets[order]), whole[order])
    torch.testing.assert_close(torch.cat([loss(logits[i : i + 1], targets[i : i + 1]) for i in range(len(y))]), whole)


@every_loss
def test_no_loss_overflows_with_confident_logits(task, y, spec):
    loss, targets = loss_for(task, spec, y=y), as_targets(task, y)
    logits = (1e4 * logits_of(task, len(y))).requires_grad_()
    value = loss(logits, targets)
    value.sum().backward()
    assert torch.isfinite(value).all() and torch.isfinite(logits.grad).all()


# --- classification -------------------------------------------------------------------------------------------------


def test_cross_entropy_is_minus_the_log_probability_of_the_class():
    logits = logits_of(CLASSES, 10)
    value = loss_for(CLASSES, Loss(), y=Y_CLASSES)(logits, as_targets(CLASSES, Y_CLASSES))
    np.testing.assert_allclose(value, -soft(logits)[np.arange(10), Y_CLASSES], rtol=1e-5)


def test_smoothing_moves_its_share_of_the_target_to_all_classes():
    logits = logits_of(CLASSES, 10)
    value = loss_for(CLASSES, Loss(label_smoothing=0.3), y=Y_CLASSES)(logits, as_targets(CLASSES, Y_CLASSES))
    target = 0.7 * np.eye(4)[Y_CLASSES] + 0.3 / 4
    np.testing.assert_allclose(value, -(target * soft(logits)).sum(axis=1), rtol=1e-5)


def test_smoothing_of_nearly_one_forgets_the_target():
    logits = logits_of(CLASSES, 10)
    loss = loss_for(CLASSES, Loss(label_smoothing=1 - 1e-7), y=Y_CLASSES)
    targets = as_targets(CLASSES, Y_CLASSES)
    torch.testing.assert_close(loss(logits, targets), loss(logits, targets.flip(0)))


def test_class_weights_count_classes_alike_and_average_to_one():
    loss = loss_for(CLASSES, Loss(balanced="weights"), y=Y_CLASSES)
    uniform = torch.zeros(10, 4)
    value = loss(uniform, as_targets(CLASSES, Y_CLASSES)).numpy() / np.log(4)  # the weight of each example
    assert value.mean() == pytest.approx(1, abs=1e-6)
    of_class = [value[Y_CLASSES == c].sum() for c in range(4)]
    np.testing.assert_allclose(of_class, 2.5, rtol=1e-6)


def test_class_weights_average_to_one_with_a_class_that_does_not_occur():
    y = np.array([0, 0, 0, 1, 3])
    value = loss_for(CLASSES, Loss(balanced="weights"), y=y)(torch.zeros(5, 4), as_targets(CLASSES, y))
    assert value.mean() == pytest.approx(np.log(4), rel=1e-6)


def test_balanced_softmax_adds_log_shares_to_the_logits():
    logits, targets = logits_of(CLASSES, 10), as_targets(CLASSES, Y_CLASSES)
    value = loss_for(CLASSES, Loss(balanced="softmax"), y=Y_CLASSES)(logits, targets)
    expected = -soft(logits, np.log(np.array([4, 2, 1, 3]) / 10))[np.arange(10), Y_CLASSES]
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize("balanced", ["weights", "softmax"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equal_classes_need_no_balance(balanced, smoothing):
    y = np.tile(np.arange(4), 3)
    logits, targets = logits_of(CLASSES, 12), as_targets(CLASSES, y)
    plain = loss_for(CLASSES, Loss(label_smoothing=smoothing), y=y)(logits, targets)
    even = loss_for(CLASSES, Loss(label_smoothing=smoothing, balanced=balanced), y=y)(logits, targets)
    torch.testing.assert_close(even, plain)


@pytest.mark.parametrize("balanced", ["none", "weights", "softmax"])
def test_a_class_without_training_examples_gives_finite_losses(balanced):
    y = np.array([0, 0, 1, 3])
    loss = loss_for(CLASSES, Loss(balanced=balanced, label_smoothing=0.1), y=y)
    assert torch.isfinite(loss(logits_of(CLASSES, 4), as_targets(CLASSES, y))).all()


# --- multi-label ----------------------------------------------------------------------------------------------------


def test_binary_cross_entropy_is_torchs():
    logits, targets = logits_of(LABELS, 5), as_targets(LABELS, Y_LABELS)
    value = loss_for(LABELS, Loss(), y=Y_LABELS)(logits, targets)
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)
    torch.testing.assert_close(value, expected)


def test_label_weights_are_torchs_pos_weight_scaled_to_a_mean_of_one():
    y = Y_LABELS[:, :2]  # carried by 2 and 1 of 5
    task = MultiLabel(("a", "b"))
    logits, targets = logits_of(task, 5), as_targets(task, y)
    value = loss_for(task, Loss(balanced="weights"), y=y)(logits, targets)
    positive = np.array([2, 1])
    ratio = torch.as_tensor((5 - positive) / positive, dtype=torch.float32)
    each = F.binary_cross_entropy_with_logits(logits, targets, reduction="none", pos_weight=ratio)
    torch.testing.assert_close(value, (each * torch.as_tensor(5 / (2 * (5 - positive))).float()).mean(dim=1))
    weights = loss_for(task, Loss(balanced="weights"), y=y)(torch.zeros(5, 2), targets) / np.log(2)
    assert weights.mean() == pytest.approx(1, abs=1e-6)


def test_a_label_that_everyone_or_no_one_carries_is_not_balanced():
    y = np.array([[1, 0], [1, 0], [1, 0]], np.int8)
    task = MultiLabel(("always", "never"))
    logits, targets = logits_of(task, 3), as_targets(task, y)
    balanced = loss_for(task, Loss(balanced="weights"), y=y)(logits, targets)
    torch.testing.assert_close(balanced, loss_for(task, Loss(), y=y)(logits, targets))


def test_binary_smoothing_moves_targets_towards_one_half():
    logits, targets = logits_of(LABELS, 5), as_targets(LABELS, Y_LABELS)
    value = loss_for(LABELS, Loss(label_smoothing=0.2), y=Y_LABELS)(logits, targets)
    expected = F.binary_cross_entropy_with_logits(logits, targets * 0.8 + 0.1, reduction="none").mean(dim=1)
    torch.testing.assert_close(value, expected)


# --- regression -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "of"),
    [
        ("mse", lambda r: r**2),
        ("mae", np.abs),
        ("huber", lambda r: np.where(np.abs(r) < 1, r**2 / 2, np.abs(r) - 0.5)),
    ],
)
def test_residuals_are_counted_in_standard_deviations(kind, of):
    predicted = stream(2, "predicted").normal(3, 9, (12, 2))
    value = loss_for(VALUES, Loss(kind), y=Y_VALUES)(torch.as_tensor(predicted), as_targets(VALUES, Y_VALUES))
    expected = of((predicted - Y_VALUES.astype(np.float32)) / Y_VALUES.std(axis=0)).mean(axis=1)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["mse", "mae", "huber"])
@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_the_unit_of_measurement_changes_neither_loss_nor_gradient_in_learnt_units(kind, unit):
    logits = logits_of(VALUES, 12)
    found = []
    for y in (Y_VALUES, Y_VALUES * unit + 200 * unit):
        learnt = Units.of(VALUES, y).learnt(y)
        z = logits.clone().requires_grad_()
        value = loss_for(VALUES, Loss(kind), y=learnt)(z, as_targets(VALUES, learnt))
        value.sum().backward()
        found.append((value.detach(), z.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_in_learnt_units_the_targets_have_mean_zero_and_the_loss_of_the_mean_is_one():
    y = Y_VALUES * 1e5 + 2e5
    learnt = Units.of(VALUES, y).learnt(y)
    np.testing.assert_allclose([learnt.mean(axis=0), learnt.std(axis=0)], [[0, 0], [1, 1]], atol=1e-12)
    value = loss_for(VALUES, Loss(), y=learnt)(torch.zeros(12, 2), as_targets(VALUES, learnt))
    assert value.mean() == pytest.approx(1, rel=1e-5)


def test_a_head_learns_in_its_units_and_answers_in_raw_values():
    rng = stream(0, "head")
    X, y = rng.normal(size=(12, 3)), Y_VALUES * 1e5 + 2e5
    units, head = Units.of(VALUES, y), LinearHead(rng.normal(size=(2, 3)) * 1e5, rng.normal(size=2) * 1e5)
    learning = units.learnt_head(head)
    np.testing.assert_allclose(units.raw(learning.logits(X)), head.logits(X), rtol=1e-12)
    np.testing.assert_allclose(learning.logits(X), units.learnt(head.logits(X)), rtol=1e-9, atol=1e-12)
    back = units.raw_head(learning)
    np.testing.assert_allclose(back.weight, head.weight, rtol=1e-14)
    np.testing.assert_allclose(back.bias, head.bias, rtol=1e-10)


@pytest.mark.parametrize(("task", "y"), [(CLASSES, Y_CLASSES), (LABELS, Y_LABELS)])
def test_classes_and_labels_have_no_units(task, y):
    units = Units.of(task, y)
    head = LinearHead(stream(0).normal(size=(task.outputs, 3)), np.ones(task.outputs))
    assert units.learnt(y) is y
    assert np.array_equal(units.learnt_head(head).weight, head.weight)
    assert np.array_equal(units.raw_head(head).bias, head.bias)


def test_a_constant_column_keeps_its_unit():
    y = np.stack([np.full(7, 0.1), np.arange(7.0)], axis=1)
    assert y[:, 0].std() > 0  # rounding noise, which must not become a unit
    units = Units.of(VALUES, y)
    assert units.spread[0] == 1 and units.spread[1] == pytest.approx(2)
    assert torch.isfinite(loss_for(VALUES, Loss(), y=y)(torch.zeros(7, 2), as_targets(VALUES, y))).all()


@pytest.mark.parametrize("unit", [1.0, 2e5])
def test_a_head_that_starts_at_random_arrives_at_large_values(unit):
    """The reason for Units: in raw values the same rate would move this head by less than a thousandth of the way."""
    rng = stream(0, "far")
    X = rng.normal(size=(64, 4))
    y = (X @ rng.normal(size=(4, 1)) + 3) * unit
    task = Regression(("price",))
    units = Units.of(task, y)
    learnt = units.learnt(y)
    loss, targets = loss_for(task, Loss(), y=learnt), as_targets(task, learnt)
    layer = torch.nn.Linear(4, 1)
    with torch.no_grad():
        layer.weight.fill_(0.1), layer.bias.zero_()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        loss(layer(torch.as_tensor(X).float()), targets).mean().backward()
        optimizer.step()
    head = units.raw_head(LinearHead(layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()))
    assert np.abs(head.logits(X) - y).max() < 1e-3 * unit


# --- targets and errors ---------------------------------------------------------------------------------------------


def test_targets_have_the_types_that_the_losses_take():
    assert as_targets(CLASSES, Y_CLASSES).dtype == torch.int64
    assert as_targets(LABELS, Y_LABELS).dtype == torch.float32
    assert as_targets(VALUES, Y_VALUES).dtype == torch.float32


@pytest.mark.parametrize(
    ("task", "spec", "words"),
    [
        (CLASSES, Loss("mse"), "kind 'mse' is for another task; what fits: 'auto', 'cross-entropy'"),
        (LABELS, Loss("cross-entropy"), "what fits: 'auto', 'binary-cross-entropy'"),
        (VALUES, Loss("cross-entropy"), "what fits: 'auto', 'mse', 'mae', 'huber'"),
        (LABELS, Loss(balanced="softmax"), "what fits: 'none', 'weights'"),
        (VALUES, Loss(balanced="weights"), "what fits: 'none'"),
        (VALUES, Loss(label_smoothing=0.1), "label_smoothing is for classes and labels"),
        (VALUES, Loss(mixup=0.2), "mixup is for classes and labels"),
        (CLASSES, Loss(label_smoothing=1.0), "label_smoothing is a share of the target in [0, 1), got 1.0"),
        (CLASSES, Loss(mixup=-0.1), "mixup is the α of a Beta distribution, 0 (off) or more, got -0.1"),
        (CLASSES, Loss(mixup=float("nan")), "got nan"),
    ],
)
def test_a_loss_that_does_not_fit_the_task_is_refused_with_what_fits(task, spec, words):
    with pytest.raises(PlanError, match=f"PL50 .*{re.escape(words)}"):
        check_loss(task, spec)
    with pytest.raises(PlanError, match="PL50"):
        loss_for(task, spec, y=np.zeros(1))


def test_all_problems_of_a_loss_come_together():
    with pytest.raises(PlanError) as caught:
        check_loss(VALUES, Loss("cross-entropy", label_smoothing=2.0, balanced="softmax", mixup=-1.0))
    assert str(caught.value).count(";") >= 5


# --- mixup ----------------------------------------------------------------------------------------------------------


def batch_of(task, y, seed=0):
    pixels = stream(seed, "pixels").integers(0, 256, (len(y), 4, 4, 3), dtype=np.uint8)
    return torch.as_tensor(pixels), as_targets(task, y)


@pytest.mark.parametrize(("task", "y", "spec"), EVERY[:7], ids=IDS[:7])
@pytest.mark.parametrize("step", [0, 7])
def test_the_loss_of_a_mixed_target_is_the_mixture_of_the_losses(task, y, spec, step):
    mixup, (inputs, targets) = Mixup(0.8, task.outputs, seed=3), batch_of(task, y)
    share, partners = mixup.drawn(step, len(y))
    loss, logits = loss_for(task, spec, y=y), logits_of(task, len(y))
    _, mixed = mixup(step, inputs, targets)
    expected = share * loss(logits, targets) + (1 - share) * loss(logits, targets[torch.as_tensor(partners)])
    torch.testing.assert_close(loss(logits, mixed), expected)


def test_pictures_are_mixed_with_the_same_share_and_partners_as_targets():
    mixup, (inputs, targets) = Mixup(0.4, 4, seed=0), batch_of(CLASSES, Y_CLASSES)
    share, partners = mixup.drawn(5, 10)
    mixed, _ = mixup(5, inputs, targets)
    assert mixed.dtype == torch.float32 and 0 <= mixed.min() and mixed.max() <= 255
    expected = share * inputs.numpy().astype(float) + (1 - share) * inputs.numpy()[partners]
    np.testing.assert_allclose(mixed, expected, rtol=1e-5, atol=1e-4)


def test_activations_at_a_border_keep_their_type():
    mixup = Mixup(0.4, 4, seed=0)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        inputs = torch.as_tensor(stream(0, "border").normal(size=(10, 6)), dtype=dtype)
        mixed, _ = mixup(2, inputs, as_targets(CLASSES, Y_CLASSES))
        share, partners = mixup.drawn(2, 10)
        assert mixed.dtype == dtype
        wide = inputs.double().numpy()
        eps = torch.finfo(dtype).eps
        np.testing.assert_allclose(mixed.double(), share * wide + (1 - share) * wide[partners], rtol=eps, atol=1e-6)


def test_mixup_of_zero_gives_back_what_it_got():
    inputs, targets = batch_of(CLASSES, Y_CLASSES)
    mixed = Mixup(0.0, 4, seed=0)(3, inputs, targets)
    assert mixed[0] is inputs and mixed[1] is targets


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), step=st.integers(0, 10**6), alpha=st.floats(0.01, 10))
def test_mixup_depends_on_seed_and_step_alone(seed, step, alpha):
    inputs, targets = batch_of(CLASSES, Y_CLASSES)
    mixup = Mixup(alpha, 4, seed)
    first = mixup(step, inputs, targets)
    mixup(step + 1, inputs, targets)
    second = Mixup(alpha, 4, seed)(step, inputs, targets)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    torch.testing.assert_close(first[1].sum(dim=1), torch.ones(10))
    share, partners = mixup.drawn(step, 10)
    assert 0 <= share <= 1 and sorted(partners) == list(range(10))


def test_steps_and_seeds_draw_differently():
    shares = {Mixup(0.5, 4, seed).drawn(step, 8)[0] for seed in range(3) for step in range(20)}
    assert len(shares) == 60


def test_a_share_of_one_is_the_picture_itself_to_the_last_bit():
    """Small α draws shares that round to 0 or 1; interpolation must then be exact at both ends."""
    inputs, targets = batch_of(CLASSES, Y_CLASSES)
    mixup = Mixup(1e-6, 4, seed=0)
    for step in range(20):
        share, partners = mixup.drawn(step, 10)
        if share in (0.0, 1.0):
            mixed, soft_targets = mixup(step, inputs, targets)
            rows = torch.as_tensor(partners) if share == 0 else torch.arange(10)
            assert torch.equal(mixed, inputs[rows].float())
            assert torch.equal(soft_targets, F.one_hot(targets[rows], 4).float())


@pytest.mark.parametrize("alpha", [-1.0, float("inf"), float("nan")])
def test_an_alpha_that_is_none_is_refused(alpha):
    with pytest.raises(PlanError, match="PL51 mixup"):
        Mixup(alpha, 3, 0)
