"""Short fine-tunes of the best few: what a probe cannot tell, as far as the time goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from headstart.adapt.strategies import Options
from headstart.base.errors import HeadstartError, Stopped, shown
from headstart.base.progress import Said
from headstart.data.split import folds
from headstart.evaluation.intervals import estimate, independent, proportion
from headstart.ranking.combine import resampled
from headstart.records.estimate import Estimate
from headstart.workflow.config import FitConfig, TuneConfig
from headstart.workflow.judge import Known, Rules, choose_head
from headstart.workflow.race import Course, Runner, features_by, load

if TYPE_CHECKING:
    from headstart.workflow.tuning import Ground

STRATEGY = "full"
SHORT = 0.2  # of the steps that a whole training would take
FEWEST_STEPS = 12  # below, a network has hardly moved
FOLDS = 4  # a quarter of the rows is held back
TIME_FOR_STEPS = 0.7  # of a finalist's share; decoding, the head and judging need the rest
TIME_FOR_COSTING = 0.2  # of a finalist's share, in which its steps are timed
FORWARD_PASSES = 3  # that a step costs at least


@dataclass(frozen=True, eq=False)
class Trials:
    """names: finalists that were fine-tuned.  by_example: (M, n) how each held-back row fares.  groups: (n,)."""

    names: tuple[str, ...]
    by_example: np.ndarray
    groups: np.ndarray
    notes: tuple[str, ...]
    seed: int

    def scores(self) -> list[Estimate]:
        if not self.names:
            return []
        n = self.by_example.shape[1]
        means = self.by_example.mean(axis=1)
        if independent(self.groups) and np.isin(self.by_example, (0, 1)).all():
            return [proportion(round(float(m) * n), n) for m in means]
        draws = self._draws()
        return [estimate(float(m), draws[:, i], n=n) for i, m in enumerate(means)]

    def margin(self, a: int, b: int) -> Estimate:
        """Paired: a minus b on the same held-back rows."""
        draws = self._draws()
        value = float(self.by_example[a].mean() - self.by_example[b].mean())
        return estimate(value, draws[:, a] - draws[:, b], n=self.by_example.shape[1])

    def _draws(self) -> np.ndarray:
        return resampled(self.by_example, groups=self.groups, resamples=1000, seed=self.seed)


def short_fine_tunes(runners: Sequence[Runner], rows: np.ndarray, course: Course) -> Trials:
    """Each of ``runners`` on the same rows with a share of the time that is left; judged on rows held back from all."""
    from headstart.training.interrupt import Interruption

    known = course.known.take(rows)
    train, held = folds(known.task.strata(known.y), known.groups, k=FOLDS, repeats=1, seed=course.seed + 5)[0]
    names, found, notes = [], [], []
    for number, runner in enumerate(runners):
        seconds = course.deadline.left / (len(runners) - number)
        if seconds <= 0:
            notes.append(f"no time was left to fine-tune {', '.join(shown(r.name) for r in runners[number:])}")
            break
        with Interruption() as interruption:
            try:
                trial = fine_tuned(runner, rows, train, held, seconds, course)
            except HeadstartError as problem:
                if isinstance(problem, Stopped):
                    raise
                notes.append(f"{shown(runner.name)} could not be fine-tuned: {shown(problem)}")
                continue
        if interruption.asked:
            raise Stopped(f"{interruption.asked}: stopped. Go on with the same command: features are in the cache.")
        if isinstance(trial, str):
            notes.append(trial)
            continue
        names.append(runner.name)
        found.append(trial)
        course.observer(
            Said(f"fine-tuned {runner.name}: {trial.mean():.3f} on {len(held)} held-back {course.words.many}")
        )
    matrix = np.stack(found) if found else np.zeros((0, len(held)))
    return Trials(tuple(names), matrix, known.groups[held], tuple(notes), course.seed)


def fine_tuned(
    runner: Runner,
    rows: np.ndarray,
    train: np.ndarray,
    held: np.ndarray,
    seconds: float,
    course: Course,
    *,
    share: float = SHORT,
) -> np.ndarray | str:
    """(n,) how each held-back row fares after a training within ``seconds``, or why there was none.

    train, held: positions in ``rows``.  share: of the steps that a whole training would take, at most.
    """
    from headstart.data.looks import ImageLook
    from headstart.workflow.clock import Deadline
    from headstart.workflow.finetuning import make_ground, plan_of
    from headstart.workflow.tuning import COSTED, logits_of, step_seconds, tune

    deadline = Deadline(seconds)
    plain = replace(course, layers=False)
    assert isinstance(course.look, ImageLook), "only networks for images are fine-tuned"
    config = FitConfig(
        tuning=TuneConfig(strategy=STRATEGY, options=Options(augment="none")), seed=course.seed, device=course.device
    )
    backbone = load(runner.candidate, plain, {"loading": 0.0})
    whole = plan_of(backbone, config.tuning, len(train), course.known.task.outputs)
    fewest = min(FEWEST_STEPS, whole.steps)
    least = FORWARD_PASSES * whole.batch_size / runner.images_per_s
    if fewest * least > TIME_FOR_STEPS * seconds:
        return _too_short(runner, f"at least {least:.1f}", seconds, fewest)
    features = features_by(backbone, runner, rows, course)
    known = course.known.take(rows).seeing(features.X)
    keys = [features.survey.keys[i] for i in range(len(rows))]
    ground = make_ground(
        backbone,
        known,
        course.usable.take(rows),
        runner.runner,
        config,
        keys=keys,
        cache=course.cache,
        look=course.look,
        observer=course.observer,
    )
    chosen = choose_head(known.take(train), Rules(FOLDS, None, "none", course.seed, ("ridge",)))
    probe = chosen.head.scaled(chosen.temperature)

    def of(steps: int) -> TuneConfig:
        return replace(config.tuning, epochs=steps * whole.batch_size / len(train), batch_size=whole.batch_size)

    few = plan_of(backbone, of(COSTED), len(train), known.task.outputs)
    costing = tune(ground, few, train, probe, seconds=TIME_FOR_COSTING * seconds)
    assert costing.history is not None, "a training has a history"
    cost = step_seconds(costing.history)
    steps = min(round(share * whole.steps), int(TIME_FOR_STEPS * deadline.left / max(cost, 1e-6)))
    if steps < fewest:
        return _too_short(runner, f"{cost:.1f}", deadline.left, fewest)
    plan = plan_of(backbone, of(steps), len(train), known.task.outputs)
    tuned = tune(ground, plan, train, probe, seconds=max(1.0, deadline.left))
    return _fares(ground, logits_of(ground, tuned, held), held)


def _too_short(runner: Runner, cost: str, left: float, steps: int) -> str:
    return (
        f"{shown(runner.name)} was not fine-tuned: a step takes {cost} s, so {max(0.0, left):.0f} s are too few for "
        f"{steps} of them"
    )


def _fares(ground: Ground, logits: np.ndarray, held: np.ndarray) -> np.ndarray:
    """1 where a class is right; for labels and values 1 − squared error / variance, as the probe counts."""
    known: Known = ground.known
    y = known.y[held]
    if known.task.name == "classification":
        return np.asarray(logits.argmax(axis=1) == y, np.float64)
    said = known.task.decode(logits).reshape(len(held), -1)
    truth = y.reshape(len(held), -1).astype(np.float64)
    scale = np.maximum(truth.var(axis=0), 1e-12)
    return np.asarray(1 - ((said - truth) ** 2 / scale).mean(axis=1), np.float64)
