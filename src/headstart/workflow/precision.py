"""How training computes fastest here: told by a few steps, not by belief, and remembered for the next run."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from headstart.adapt.plan import Budget, Head
from headstart.adapt.strategies import by_name
from headstart.base.errors import DataError
from headstart.base.files import key_of, make_folder, read_json, write_json
from headstart.base.progress import QUIET
from headstart.features.choose import circumstances, cpu_has_bf16
from headstart.training.loop import LoopSettings
from headstart.workflow.tuning import Ground, tune

TIMED = 8  # examples of a step; three steps are timed, the first is not counted
PAYS = 0.9  # bfloat16 must take at most this share of float32's time


def fastest_settings(ground: Ground, precision: Literal["auto", "float32", "bf16"], memory: Path) -> LoopSettings:
    """Channels last always (faster for convolutions, the same for the rest); bfloat16 where it pays or is asked for.

    memory: folder of earlier answers, so that a second run trains in the same precision.
    """
    wide = LoopSettings("float32", channels_last=True)
    narrow = replace(wide, precision="bf16")
    if precision != "auto":
        return narrow if precision == "bf16" else wide
    if ground.device.startswith("cuda"):
        return narrow
    if ground.device != "cpu" or not cpu_has_bf16():
        return wide
    place = memory / f"{key_of(circumstances(ground.backbone, ground.device))}.json"
    pays = _remembered(place)
    if pays is None:
        pays = _seconds(ground, narrow) < PAYS * _seconds(ground, wide)
        make_folder(memory)
        write_json(place, {"bf16_pays": pays})
    return narrow if pays else wide


def _remembered(place: Path) -> bool | None:
    try:
        known = read_json(place).get("bf16_pays") if place.exists() else None
    except (DataError, AttributeError):
        return None  # a damaged note costs one more timing
    return known if isinstance(known, bool) else None


def _seconds(ground: Ground, settings: LoopSettings) -> float:
    """Of the fastest of two steps of the whole network."""
    rows = np.arange(min(len(ground.known), TIMED))
    budget = Budget(3, len(rows), len(rows), ground.known.task.outputs)
    plan = by_name("full").plan(ground.backbone.tunable, budget)
    plan = replace(plan, head=Head(start="random"), augment="none")
    history = tune(replace(ground, settings=settings), plan, rows, None, observer=QUIET).history
    assert history is not None, "a training has a history"
    return min(b - a for a, b in pairwise([row.seconds for row in history.steps]))
