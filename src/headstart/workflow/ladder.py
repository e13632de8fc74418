"""The ladder: from the frozen probe upwards, one rung at a time, while a rung beats the one below by more than noise.

Each rung is compared with the one below on the same rows of the training part, none of which a judged model has learnt
from. The test rows are never seen here. Fine-tuning starts from the probe's head (LP-FT), ways and rates are screened
by successive halving at equal time, and what is kept may lie between the loaded and the tuned weights (WiSE-FT). A rung
that is kept is then trained once more on all rows. The mean of the members' weights would have cost nothing, and was
tried: on 600 textiles the members gained 0.058 on held-back rows and their mean lost all of it (0.779 on the test set,
the probe 0.782).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from headstart.adapt.calibration import fit_temperature
from headstart.adapt.heads.choose import HEADS, Chosen
from headstart.adapt.heads.head import LinearHead
from headstart.adapt.heads.rotated import rotate
from headstart.adapt.plan import Budget, Plan, default_budget
from headstart.adapt.strategies import Options, by_name, planned
from headstart.adapt.strategies.last_stages import LastStages
from headstart.adapt.strategies.options import scaled
from headstart.adapt.strategies.strategy import Strategy
from headstart.base.config import to_dict
from headstart.base.progress import QUIET, Said
from headstart.data.split import folds
from headstart.evaluation.intervals import Resamples, estimate, independent, paired_difference
from headstart.evaluation.scores import LOWER_IS_BETTER, resampled, score
from headstart.records.estimate import Estimate
from headstart.records.ladder import Candidate, LadderRecord, Rung
from headstart.workflow.clock import Deadline
from headstart.workflow.judge import Known
from headstart.workflow.tuning import COSTED, Ground, Tuned, features_of, mixed, step_seconds, tune

ENOUGH = 1000  # training rows from which one held-back part tells rungs apart; below, FOLDS are looked at in turn
FOLDS = 3
HELD_SHARE, LEAST_HELD, MOST_HELD = 0.2, 200, 5000
ROUNDS = (0.1, 0.3)  # shares of the steps after which half of the candidates are dropped
LEAST_EPOCHS = 3.0  # of one training, below which a rung is not tried
MOST_EPOCHS = 60.0
LOOKS = 2  # parts that a rung is given time to judge; a third look is taken where trainings were shorter than that
MOST_KEPT_BACK = 0.5  # share of the time left that a rung may leave to those above it
SMALL = 8  # examples of the steps by which an expensive way is costed
SHARES = (0.0, 0.5, 1.0)  # of the tuned weights
LEVEL = 0.9  # of the paired interval that decides, all looks together: 95 % on the side that matters
FEW_PER_CLASS = 30  # examples of a class below which pulling towards the loaded weights is tried, too (METHODS B.2)
NO_ERRORS = 2.0  # errors on the held-back rows below which nothing can be gained


@dataclass(frozen=True)
class Wish:
    """What the user asked of the ladder. metric: the score that decides.  resamples: of the bootstrap."""

    options: Options
    metric: str
    resamples: int
    batch_size: int | None = None
    epochs: float | None = None


@dataclass(frozen=True, eq=False)
class Climbed:
    """tuned: the model of the highest rung that was kept; None where that is the probe."""

    tuned: Tuned | None
    record: LadderRecord
    temperature: float


@dataclass(frozen=True)
class _Way:
    """One way to fine-tune. cost: seconds of a step.  is_cheap: most of the network is frozen, and runs once."""

    name: str
    strategy: Strategy
    options: Options
    factor: float
    is_cheap: bool
    cost: float = math.nan

    def plan(self, stages: Sequence[str], budget: Budget) -> Plan:
        return scaled(planned(self.strategy, stages, budget, self.options), self.factor)


@dataclass(frozen=True, eq=False)
class _Verdict:
    """A rung against the one below. now: its score.  share: of the tuned weights.  logits: NaN for rows not judged.

    plan: what each of the judged trainings carried out.
    """

    now: Estimate
    gain: Estimate
    share: float
    logits: np.ndarray
    is_better: bool
    plan: Plan


def climb(ground: Ground, rows: np.ndarray, chosen: Chosen, wish: Wish, deadline: Deadline) -> Climbed:
    """The highest rung that pays for ``rows`` (positions in ground.known), within the deadline.

    chosen: the head that won on these rows.
    """
    return _Climb(ground, rows, chosen, wish, deadline).result()


class _Climb:
    """State of one climb: folds, the best model so far, and the rows of the record."""

    def __init__(self, ground: Ground, rows: np.ndarray, chosen: Chosen, wish: Wish, deadline: Deadline) -> None:
        self.ground, self.rows, self.chosen, self.wish, self.deadline = ground, rows, chosen, wish, deadline
        self.known = ground.known.take(rows)
        self.parts = _parts(self.known, ground.seed)
        self.judged = np.unique(np.concatenate([held for _, held in self.parts]))
        self.rungs: list[Rung] = []
        self._costs: dict[str, float] = {}
        self._between: list[dict[float, np.ndarray]] = []  # of each member: share → logits of the rows held back
        self.probes = [self._probe(train) for train, _ in self.parts]
        self.logits = self._probed()
        self.tuned: Tuned | None = None
        self.kept = "probe"

    def result(self) -> Climbed:
        estimate_, _ = self._scored(self.logits, self.judged, self._resamples(self.judged))
        self.rungs.append(
            Rung("probe", f"{self.chosen.family} on frozen features", estimate_, None, True, "where the climb starts")
        )
        stopped = self._nothing_to_gain(estimate_) or self._try_rungs()
        temperature = self.chosen.temperature
        if self.tuned is not None:
            temperature = fit_temperature(self.logits, self.known.y, self.known.task)
        record = LadderRecord(
            metric=self.wish.metric,
            folds=self._folds_in_words(),
            rungs=tuple(self.rungs),
            kept=self.kept,
            stopped=stopped,
            budget_s=self.deadline.seconds,
            seconds=self.deadline.spent,
            notes=self.ground.notes,
            history=self.tuned.history if self.tuned is not None else None,
        )
        return Climbed(self.tuned, record, temperature)

    # -- rungs -------------------------------------------------------------------------------------------------------

    def _try_rungs(self) -> str:
        """Try them from the cheapest up; the sentence that says why the climb ended."""
        rungs = self._rungs()
        for number, (name, ways) in enumerate(rungs):
            later = sum(self._needed(ways) for _, ways in rungs[number + 1 :])
            # What a higher rung could not use anyway is not kept for it.
            kept_back = later if later <= MOST_KEPT_BACK * self.deadline.left else 0.0
            refusal = self._try(name, ways, self.deadline.left - kept_back)
            if refusal:
                return f"{name}: {refusal}"
        return "every rung was tried"

    def _rungs(self) -> list[tuple[str, list[_Way]]]:
        stages = [s.name for s in self.ground.backbone.stages]
        third = max(1, round(len(stages) / 3))
        options = self.wish.options
        few = len(self.known) / max(1, self.known.task.outputs) < FEW_PER_CLASS
        # No lower rate among them: in a short screening it always leads, and then learns too little (textiles, 208
        # steps: +0.020 at a third of the rate, +0.058 at the rate).
        cheap: list[tuple[str, Strategy, Options, float]] = [
            (f"last {third} stages", LastStages(third), options, 1.0),
            (f"last {third} stages, 3 times the rate", LastStages(third), options, 3.0),
        ]
        if 2 * third < len(stages):
            cheap.append((f"last {2 * third} stages", LastStages(2 * third), options, 1.0))
        if few and options.penalty is None:
            cheap.append((f"last {third} stages, L2-SP", LastStages(third), replace(options, penalty="l2-sp"), 1.0))
        full: list[tuple[str, Strategy, Options, float]] = [("full", by_name("full"), options, 1.0)]
        if options.lr is not None:  # the user's rate is not swept
            cheap = [c for c in cheap if c[3] == 1.0]
        return [
            ("last stages", [_Way(*c, is_cheap=True) for c in cheap]),
            ("full", [_Way(*c, is_cheap=False) for c in full]),
        ]

    def _try(self, name: str, ways: list[_Way], seconds: float) -> str:
        """One rung; a sentence where it could not be tried or did not pay, '' where it was kept."""
        began = time.monotonic()
        fits = self._fits(ways)
        ways = [replace(way, cost=self._cost(way)) for way in ways]
        each = (seconds - (time.monotonic() - began)) / fits
        if math.isinf(each):  # no time was given: what suits the number of examples, and shares of that to screen
            each = max(way.cost for way in ways) * self._usual(len(self.parts[0][0])).steps
        affordable = [way for way in ways if self._epochs(way, each) >= LEAST_EPOCHS]
        if not affordable:
            most = max((self._epochs(way, each) for way in ways), default=0.0)
            need = min((self._seconds_for(way, LEAST_EPOCHS) for way in ways), default=0.0) * fits
            asked = 1.2 * (self.deadline.spent + need)
            reason = (
                f"not tried: the time left is enough for {max(0.0, most):.1f} epochs of each of {fits:.1f} trainings, "
                f"and fewer than {LEAST_EPOCHS:g} teach little. Give at least {_span(asked)} with --time"
            )
            self.rungs.append(Rung(name, ways[0].name, None, None, False, reason, time.monotonic() - began))
            self.ground.observer(Said(f"{name}: {reason}"))
            return reason
        way, candidates = self._screened(affordable, each)
        # A look may also use what was left to higher rungs: they are not tried unless this one is kept.
        for_looks = time.monotonic() - began + self.deadline.left - each * self._again(len(self.parts[0][0]))
        verdict = self._judged(way, name, each, Deadline(for_looks, began))
        now, gain, share, logits = verdict.now, verdict.gain, verdict.share, verdict.logits
        words = f"{self.wish.metric.replace('_', '-')} {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
        kept = verdict.is_better and share > 0
        reason = f"{words} over {self.kept}: " + ("more than noise" if kept else f"within noise, so {self.kept} stays")
        self.rungs.append(
            Rung(
                name,
                way.name,
                now,
                gain,
                kept,
                reason,
                time.monotonic() - began,
                share,
                to_dict(verdict.plan),
                tuple(candidates),
            )
        )
        self.ground.observer(Said(f"{name}: {reason}"))
        if not kept:
            return reason
        self.logits, self.kept = logits, name
        everything = np.arange(len(self.known))
        start = self._start(everything)
        # What the parts left over, because the evidence was clear before the last of them, goes into this training.
        left = seconds - (time.monotonic() - began)
        whole = self._train(way, everything, start.head, left, f"{name}: training on all {len(self.known)}")
        self.tuned = mixed(start, whole, share) if share < 1 else whole
        return ""

    def _judged(self, way: _Way, name: str, each: float, until: Deadline) -> _Verdict:
        """Train without one part after another, until the rows judged so far tell this rung from the one below.

        Or until the time for another look would be missing in the training on all rows. Each look may be the last, so
        each has its share of the error that LEVEL allows (Bonferroni).
        """
        members: list[Tuned] = []
        self._between = []
        level = round(1 - (1 - LEVEL) / len(self.parts), 3)
        for (train, held), probe in zip(self.parts, self.probes, strict=True):
            words = f"{name}: training {len(members) + 1} of at most {len(self.parts)}, {len(held)} rows judge"
            members.append(self._train(way, train, probe, each, words))
            share, logits = self._interpolated(members)
            rows = np.flatnonzero(np.isfinite(logits).all(axis=1) & np.isfinite(self.logits).all(axis=1))
            resamples = self._resamples(rows)
            now, drawn = self._scored(logits, rows, resamples)
            before, drawn_before = self._scored(self.logits, rows, resamples)
            difference = now.value - before.value
            gain = paired_difference(difference, drawn, drawn_before, n=len(rows), units=resamples.units, level=level)
            better = gain.low > 0 if self._sign > 0 else gain.high < 0
            worse = gain.high < 0 if self._sign > 0 else gain.low > 0
            if better or worse or until.left < each:
                break
        return _Verdict(now, gain, share, logits, better, members[0].plan)

    # -- screening ---------------------------------------------------------------------------------------------------

    def _screened(self, ways: list[_Way], each: float) -> tuple[_Way, list[Candidate]]:
        """Successive halving at equal time, on the first part: the way with the least loss on held-back rows."""
        record: list[Candidate] = []
        train, held = self.parts[0]
        for share in ROUNDS:
            if len(ways) == 1:
                break
            losses = {}
            for way in ways:
                began = time.monotonic()
                tuned = self._train(way, train, self.probes[0], share * each, f"screening: {way.name}")
                logits = tuned.head.logits(features_of(self.ground, tuned.backbone, self.rows[held]))
                loss, value = self._loss(logits, held)
                losses[way.name] = loss
                steps = tuned.plan.steps
                record.append(
                    Candidate(way.name, way.factor, steps, loss, value, time.monotonic() - began, dropped=False)
                )
            keep = sorted(ways, key=lambda way: losses[way.name])[: max(1, len(ways) // 2)]
            dropped = {way.name for way in ways} - {way.name for way in keep}
            record = [replace(c, dropped=True) if c.name in dropped else c for c in record]
            ways = [way for way in ways if way.name not in dropped]
        best = min(ways, key=lambda way: losses[way.name]) if len(ways) > 1 else ways[0]
        return best, [replace(c, dropped=c.dropped or c.name != best.name) for c in record]

    # -- one training ------------------------------------------------------------------------------------------------

    def _budget(self, way: _Way, n: int, seconds: float) -> Budget:
        """As many steps as the time allows, and no more than suit ``n`` examples."""
        usual = self._usual(n)
        if self.wish.epochs is not None:
            return usual
        most = round(MOST_EPOCHS * n / usual.batch_size)
        steps = int(seconds / way.cost) if way.cost > 0 and math.isfinite(seconds) else usual.steps
        return replace(usual, steps=max(1, min(steps, max(usual.steps, most))))

    def _train(self, way: _Way, train: np.ndarray, probe: LinearHead, seconds: float, what: str) -> Tuned:
        budget = self._budget(way, len(train), seconds)
        plan = way.plan([s.name for s in self.ground.backbone.stages], budget)
        self.ground.observer(Said(f"{what}, {plan.steps} steps of {plan.batch_size}"))
        return tune(self.ground, plan, self.rows[train], probe, observer=QUIET)

    def _needed(self, ways: Sequence[_Way]) -> float:
        """Seconds below which a rung with these ways is not tried."""
        cheapest = min(self._seconds_for(replace(way, cost=self._cost(way)), LEAST_EPOCHS) for way in ways)
        return cheapest * self._fits(ways)

    def _fits(self, ways: Sequence[_Way]) -> float:
        """Trainings that a rung is given time for, in units of one of a part: LOOKS, the screening, the last one."""
        return min(LOOKS, len(self.parts)) + (len(ways) > 1) + self._again(len(self.parts[0][0]))

    def _again(self, n: int) -> float:
        """Cost of training on all rows, with as many passes as a part of ``n`` had."""
        return len(self.known) / n

    def _cost(self, way: _Way) -> float:
        """Seconds of one step, from a few of them; the activations at its border are made on the way, once."""
        if way.name not in self._costs:
            train, _ = self.parts[0]
            usual = self._usual(len(train))
            few = usual.batch_size if way.is_cheap else min(SMALL, usual.batch_size)
            budget = replace(usual, steps=COSTED, batch_size=few)
            plan = way.plan([s.name for s in self.ground.backbone.stages], budget)
            quiet = replace(self.ground, observer=QUIET)
            tuned = tune(quiet, replace(plan, augment="none"), self.rows[train], self.probes[0], observer=QUIET)
            assert tuned.history is not None, "a training has a history"
            self._costs[way.name] = step_seconds(tuned.history) * usual.batch_size / few
        return self._costs[way.name]

    def _epochs(self, way: _Way, seconds: float) -> float:
        n = len(self.parts[0][0])
        budget = self._budget(way, n, seconds) if seconds > 0 else None
        return budget.steps * budget.batch_size / n if budget is not None else 0.0

    def _seconds_for(self, way: _Way, epochs: float) -> float:
        n = len(self.parts[0][0])
        return epochs * n / self._usual(n).batch_size * way.cost

    def _usual(self, n: int) -> Budget:
        """What suits ``n`` examples; a batch that was asked for is no larger than they are many."""
        asked = None if self.wish.batch_size is None else min(self.wish.batch_size, n)
        return default_budget(n, self.known.task.outputs, epochs=self.wish.epochs, batch_size=asked)

    # -- judging -----------------------------------------------------------------------------------------------------

    def _probe(self, train: np.ndarray) -> LinearHead:
        """The chosen kind of head from these rows, calibrated."""
        family = {f.name: f for f in HEADS}[self.chosen.family]
        rotated = rotate(self.known.X[train])
        head = family.fit(rotated, self.known.y[train], self.known.task, self.chosen.setting)
        return head.scaled(self.chosen.temperature)

    def _start(self, rows: np.ndarray) -> Tuned:
        """The loaded network with the probe: the other end of the interpolation."""
        none = Plan("probe", ())
        return Tuned(self.ground.backbone, self._probe(rows), none)

    def _interpolated(self, members: Sequence[Tuned]) -> tuple[float, np.ndarray]:
        """The share of the tuned weights with the least loss on the rows held back from the members, and the logits.

        Ties go to the smaller share. What was computed for earlier members is not computed again.
        """
        for member, probe, (_, held) in list(zip(members, self.probes, self.parts, strict=False))[len(self._between) :]:
            start = Tuned(self.ground.backbone, probe, member.plan)
            at = {share: mixed(start, member, share) if share < 1 else member for share in SHARES if share > 0}
            found = {
                share: t.head.logits(features_of(self.ground, t.backbone, self.rows[held])) for share, t in at.items()
            }
            self._between.append(found | {0.0: probe.logits(self.known.X[held])})
        logits = {share: self._held_logits([found[share] for found in self._between]) for share in SHARES}
        rows = np.concatenate([held for _, held in self.parts[: len(members)]])
        losses = {share: self._loss(values[rows], rows)[0] for share, values in logits.items()}
        best = min(SHARES, key=lambda share: (round(losses[share], 4), share))
        return best, logits[best]

    def _probed(self) -> np.ndarray:
        """What the probe says of rows that it did not learn from."""
        pairs = zip(self.probes, self.parts, strict=True)
        return self._held_logits([probe.logits(self.known.X[held]) for probe, (_, held) in pairs])

    def _held_logits(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        total = np.full((len(self.known), self.known.task.outputs), np.nan)
        for logits, (_, held) in zip(parts, self.parts, strict=False):
            total[held] = logits
        return total

    def _resamples(self, rows: np.ndarray) -> Resamples:
        groups: np.ndarray | None = self.known.groups[rows]
        groups = None if independent(groups) else groups
        strata = self.known.y[rows] if self.known.task.name == "classification" else None
        return Resamples(len(rows), self.wish.resamples, self.ground.seed, groups, strata)

    def _scored(self, logits: np.ndarray, rows: np.ndarray, resamples: Resamples) -> tuple[Estimate, np.ndarray]:
        task, name = self.known.task, self.wish.metric
        y, scores = self.known.y[rows], task.decode(logits[rows])
        value = float(score(task.name, y, scores, [name])[name][0])
        drawn = resampled(task.name, y, scores, [name], resamples)[name]
        return estimate(value, drawn, n=len(rows), units=resamples.units), drawn

    def _loss(self, logits: np.ndarray, held: np.ndarray) -> tuple[float, float]:
        """(loss after the best temperature, deciding score) of logits for the rows ``held``."""
        task, y = self.known.task, self.known.y[held]
        name = "rmse" if task.name == "regression" else "log_loss"
        scores = task.decode(logits / fit_temperature(logits, y, task))
        found = score(task.name, y, scores, [name, self.wish.metric])
        return float(found[name][0]), float(found[self.wish.metric][0])

    @property
    def _sign(self) -> int:
        return -1 if self.wish.metric in LOWER_IS_BETTER else 1

    def _nothing_to_gain(self, probe: Estimate) -> str:
        if self.wish.metric == "accuracy" and (1 - probe.value) * len(self.judged) < NO_ERRORS:
            return f"the probe makes fewer than {NO_ERRORS:g} errors on {len(self.judged)} rows: nothing to gain"
        return ""

    def _folds_in_words(self) -> str:
        if len(self.parts) == 1:
            return f"{len(self.judged)} of the {len(self.known)} training rows held back"
        return f"{len(self.parts)} parts of the {len(self.known)} training rows, held back one after another as needed"


def _parts(known: Known, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(learn, held back) positions: three parts for few rows, one part for many."""
    n, strata = len(known), known.task.strata(known.y)
    if n < ENOUGH:
        return list(folds(strata, known.groups, k=FOLDS, repeats=1, seed=seed + 2))
    held = min(MOST_HELD, max(LEAST_HELD, round(HELD_SHARE * n)))
    return list(folds(strata, known.groups, k=max(2, round(n / held)), repeats=1, seed=seed + 2))[:1]


def _span(seconds: float) -> str:
    return f"{math.ceil(seconds)} s" if seconds < 90 else f"{math.ceil(seconds / 60)} min"
