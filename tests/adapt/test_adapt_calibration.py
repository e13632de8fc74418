import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from headstart.adapt.calibration import COLDEST, HOTTEST, fit_temperature
from headstart.base.seeds import stream
from headstart.tasks.classification import Classification
from headstart.tasks.multilabel import MultiLabel
from headstart.tasks.regression import Regression


def calibrated(task, n=4000, seed=0):
    """Logits whose probabilities are the truth by construction."""
    rng = stream(seed, "calibrated")
    z = rng.standard_normal((n, task.outputs)) * 2
    p = task.decode(z)
    if task.name == "multilabel":
        return z, (rng.random(p.shape) < p).astype(np.int8)
    return z, (rng.random(n)[:, None] > p.cumsum(axis=1)).sum(axis=1)


TASKS = [Classification(tuple("abcd")), Classification(("a", "b")), MultiLabel(tuple("abc"))]


@pytest.mark.parametrize("task", TASKS, ids=["classes", "two classes", "labels"])
def test_calibrated_logits_need_no_temperature_and_scaled_ones_give_the_scale_back(task):
    z, y = calibrated(task)
    assert fit_temperature(z, y, task) == pytest.approx(1.0, abs=0.06)
    for k in (0.2, 5.0):
        assert fit_temperature(k * z, y, task) == pytest.approx(k * fit_temperature(z, y, task), rel=1e-6)


@pytest.mark.parametrize("task", TASKS, ids=["classes", "two classes", "labels"])
def test_it_is_the_minimum_of_the_log_loss(task):
    z, y = calibrated(task, 300)
    soft = 1 / 302

    def loss(t):
        p = np.clip(task.decode(z / t), 1e-15, 1 - 1e-15)
        if task.name == "multilabel":
            q = (1 - soft) * y + soft / 2
            return -(q * np.log(p) + (1 - q) * np.log1p(-p)).sum()
        q = (1 - soft) * (y[:, None] == np.arange(task.outputs)) + soft / task.outputs
        return -(q * np.log(p)).sum()

    best = minimize_scalar(loss, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-9}).x
    assert fit_temperature(z, y, task) == pytest.approx(best, abs=1e-5)


def test_perfect_answers_do_not_become_certain():
    task = Classification(("a", "b"))
    y = np.tile([0, 1], 10)
    z = np.where(y[:, None] == np.arange(2), 1.0, -1.0)
    t = fit_temperature(z, y, task)
    assert COLDEST < t < 1
    assert task.decode(z / t).max() == pytest.approx(1 - 0.5 / 22, abs=1e-6)


def test_wrong_answers_go_to_the_hot_end_and_stay_in_bounds():
    task = Classification(("a", "b"))
    y = np.tile([0, 1], 10)
    assert fit_temperature(np.where(y[:, None] == np.arange(2), -1.0, 1.0), y, task) == pytest.approx(HOTTEST)
    z = np.where(y[:, None] == np.arange(2), 1e-3, -1e-3)
    assert fit_temperature(z, y, task) == pytest.approx(COLDEST)


def test_rows_never_held_out_are_left_out_and_regression_has_no_temperature():
    task = Classification(tuple("abcd"))
    z, y = calibrated(task, 500)
    gaps = z.copy()
    gaps[::2] = np.nan
    assert fit_temperature(gaps, y, task) == fit_temperature(z[1::2], y[1::2], task)
    assert fit_temperature(np.full_like(z, np.nan), y, task) == 1.0
    assert fit_temperature(np.ones((3, 1)), np.ones((3, 1)), Regression()) == 1.0
