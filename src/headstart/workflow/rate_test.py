"""A short training, thrown away, whose rate rises until learning suffers: how fast may this network learn here?

Smith 2017 (arXiv:1506.01186, section 3.3). A tenth of the rate at which the smoothed loss was lowest is taken, as
fastai's lr_find suggests. Ours moves the rates of a plan, which suit most data, and keeps them where the loss never
fell below where it began.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headstart.adapt.heads.head import LinearHead
from headstart.adapt.plan import Plan, Schedule
from headstart.adapt.strategies.options import scaled
from headstart.base.errors import TrainingFault
from headstart.records.history import History
from headstart.workflow.tuning import Ground, tune

STEPS = 48
LOWEST, HIGHEST = 1 / 30, 30.0  # of the rates of the plan; times TENTH, from 1/300 to 3 of them can be chosen
MILDER = 10.0  # by which the test is milder when the first ended in NaN
TENTH = 0.1
MEMORY = 0.8  # of the running mean of the losses


def find_rates(ground: Ground, plan: Plan, rows: np.ndarray, probe: LinearHead | None) -> tuple[float, str]:
    """(by what all rates of ``plan`` should be multiplied, the sentence that says why).

    The last phase is tried, in which most of the network learns. rows: positions in ground.known.
    """
    for highest in (HIGHEST, HIGHEST / MILDER):
        try:
            history = tune(ground, rising(plan, highest), rows, probe).history
        except TrainingFault:
            continue
        assert history is not None, "a training has a history"
        share = best_share(history)
        if share is None:
            return 1.0, f"rate test: in {STEPS} steps the loss did not fall at any rate; the usual rates are kept"
        factor = share * highest * TENTH
        words = (
            f"rate test: in {STEPS} steps the loss was lowest at {share * highest:.2g} times the usual rates; a tenth "
            f"of that is taken, {factor:.2g} times the usual ones"
        )
        return factor, words
    return 1.0, f"rate test: {HIGHEST / MILDER:g} times the usual rates end in NaN; the usual rates are kept"


def rising(plan: Plan, highest: float) -> Plan:
    """The last phase of ``plan`` in STEPS steps, its rates rising evenly on a log scale up to ``highest`` times."""
    phase = replace(
        plan.phases[-1], steps=STEPS, schedule=Schedule("rising", warmup=0.0, floor=LOWEST / HIGHEST), penalties=()
    )
    return scaled(replace(plan, phases=(phase,), ema=None, patience=None, validations=0), highest)


def best_share(history: History) -> float | None:
    """Share of the highest rate at which the smoothed loss was lowest; None where it never fell below its beginning."""
    losses = smoothed([row.loss for row in history.steps])
    lowest = int(np.argmin(losses))
    return history.steps[lowest].share if lowest and losses[lowest] < losses[0] else None


def smoothed(losses: list[float]) -> np.ndarray:
    """Running mean with MEMORY, without the pull towards 0 at the beginning (Kingma & Ba 2015, section 3)."""
    means, mean = [], 0.0
    for step, loss in enumerate(losses, start=1):
        mean = MEMORY * mean + (1 - MEMORY) * loss
        means.append(mean / (1 - MEMORY**step))
    return np.asarray(means)
