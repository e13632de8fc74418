"""The ladder: from the frozen probe upwards, one rung at a time, while a rung beats the one below by more than noise.

Each rung is compared with the one below on the same rows of the training part, none of which a judged model has learnt
from. The test rows are never seen here. Fine-tuning starts from the probe's head (LP-FT), ways and rates are screened
by successive halving at equal time, and what is kept may lie between the loaded and the tuned weights (WiSE-FT). A rung
that is kept is then trained once more on all rows, or, where time is short, its judged network goes on. The mean of the
members' weights would have cost nothing, and was tried: on 600 textiles the members gained 0.058 on held-back rows and
their mean lost all of it (0.779 on the test set, the probe 0.782).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from headstart.adapt.calibration import fit_temperature
from headstart.adapt.heads.choose import Chosen
from headstart.adapt.heads.head import LinearHead
from headstart.adapt.plan import Budget, Plan
from headstart.adapt.strategies import Options
from headstart.base.config import from_dict, to_dict
from headstart.base.progress import QUIET, Event, Measured, Observer, Said
from headstart.data.split import folds
from headstart.evaluation.intervals import estimate
from headstart.evaluation.scores import resampled, score
from headstart.records.estimate import Estimate
from headstart.records.ladder import Candidate, LadderRecord, Rung
from headstart.training.checkpoint import NoCheckpoints
from headstart.workflow.clock import Deadline
from headstart.workflow.diary import Diary, NoDiary, Page
from headstart.workflow.evidence import Judge, Verdict, calibrated_loss, held_logits, resamples_of
from headstart.workflow.judge import Known
from headstart.workflow.tuning import (
    COSTED,
    Ground,
    Tuned,
    features_of,
    has_structure_of,
    head_like,
    mixed,
    opened,
    packed,
    step_seconds,
    tune,
)
from headstart.workflow.ways import Way, budget_of, most_steps, rungs_of

ENOUGH = 1000  # training rows from which one held-back part tells rungs apart; below, FOLDS are looked at in turn
FOLDS = 3
HELD_SHARE, LEAST_HELD, MOST_HELD = 0.2, 200, 5000
ROUNDS = (0.1, 0.3)  # shares of the steps after which half of the candidates are dropped
LEAST_EPOCHS = 3.0  # of one training, below which a rung is not tried
DIRECT_EPOCHS = 5.0  # of one training of all stages, from which it is worth more than a choice between the rungs below
LOOKS = 2  # parts that a rung is given time to judge; a third look is taken where trainings were shorter than that
LEAST_LOOK = 0.6  # share of the time of the first look that suffices for another
LAST = 0.5  # share of a training on all rows, with as many passes as a part had, that a rung keeps time for
MOST_KEPT_BACK = 0.5  # share of the time left that a rung may leave to those above it
SMALL = 8  # examples of the steps by which an expensive way is costed
SHARES = (0.0, 0.5, 1.0)  # of the tuned weights
FEW_PER_CLASS = 30  # examples of a class below which pulling towards the loaded weights is tried, too (METHODS B.2)
MOST_PAIRED = 64  # examples of a class up to which learning from pairs is tried (METHODS B.4)
NO_ERRORS = 2.0  # errors on the held-back rows below which nothing can be gained
Part = tuple[np.ndarray, np.ndarray]  # positions of the rows that learn, and of those held back


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
class _Opening:
    """What a rung begins with. time: seconds of one training, None where steps alone are counted.

    kept_back: seconds for the rungs above.  costs: name of a way → seconds of a step.  spent: seconds before the rung.
    """

    time: float | None
    kept_back: float
    costs: Mapping[str, float]
    spent: float

    @property
    def each(self) -> float:
        return math.inf if self.time is None else self.time


def climb(
    ground: Ground, rows: np.ndarray, chosen: Chosen, wish: Wish, deadline: Deadline, diary: Diary | NoDiary
) -> Climbed:
    """The highest rung that pays for ``rows`` (positions in ground.known), within the deadline.

    chosen: the head that won on these rows.  diary: of this climb; what an earlier start finished is not made again,
    and its time counts. Without a deadline all is counted in steps, and a resumed climb decides as one never stopped.
    """
    return _Climb(ground, rows, chosen, wish, deadline, diary).result()


@dataclass(frozen=True)
class OnlyNumbers:
    """Passes on what a training measures, under its own name; its bars and sentences would bury those of the climb."""

    name: str
    observer: Observer

    def __call__(self, event: Event) -> None:
        if isinstance(event, Measured):
            self.observer(replace(event, what=self.name))


class _Climb:
    """State of one climb: parts, the best model so far, and the rows of the record."""

    def __init__(
        self,
        ground: Ground,
        rows: np.ndarray,
        chosen: Chosen,
        wish: Wish,
        deadline: Deadline,
        diary: Diary | NoDiary,
    ) -> None:
        self.ground, self.rows, self.chosen, self.wish, self.diary = ground, rows, chosen, wish, diary
        self.deadline = deadline.earlier(diary.spent)
        self.known = ground.known.take(rows)
        # Candidates are screened on rows that judge last or not at all: chosen for them, they would look too good.
        self.parts, self.screen = _parts(self.known, ground.seed)
        self.rungs: list[Rung] = []
        self._costs: dict[str, float] = {}
        self.probes = [self._probe(train) for train, _ in self.parts]
        probed = [probe.logits(self.known.X[held]) for probe, (_, held) in zip(self.probes, self.parts, strict=True)]
        self.logits = held_logits(self.known, self.parts, probed)
        self.tuned: Tuned | None = None
        self.kept = "probe"

    def result(self) -> Climbed:
        first = self._probe_score()
        self.rungs.append(
            Rung("probe", f"{self.chosen.family} on frozen features", first, None, True, "where the climb starts")
        )
        stopped = self._nothing_to_gain(first) or self._try_rungs()
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
            notes=(*self.ground.notes, *(self.tuned.notes if self.tuned is not None else ())),
            history=self.tuned.history if self.tuned is not None else None,
        )
        return Climbed(self.tuned, record, temperature)

    # -- rungs -------------------------------------------------------------------------------------------------------

    def _try_rungs(self) -> str:
        """Try them from the cheapest up; the sentence that says why the climb ended."""
        few = len(self.known) / max(1, self.known.task.outputs) < FEW_PER_CLASS
        pairs = self.known.task.name == "classification" and len(self.known) <= MOST_PAIRED * self.known.task.outputs
        rungs = rungs_of(self.ground.backbone, self.wish.options, few=few, pairs=pairs)
        rungs = self._direct(rungs) or rungs
        for number, (name, ways) in enumerate(rungs):
            refusal = self._try(name, ways, [above for _, above in rungs[number + 1 :]])
            if refusal:
                return f"{name}: {refusal}"
        return "every rung was tried"

    def _direct(self, rungs: Sequence[tuple[str, list[Way]]]) -> list[tuple[str, list[Way]]]:
        """The first way of the highest rung alone, where the time suffices for it but not for the rungs below as well.

        Choosing between ways and climbing over a rung on the way would take the time that makes it better than they
        are: on four small sets in three minutes, LP-FT of all stages is the best single way (benchmarks, strategies).
        """
        name, ways = rungs[-1]
        if len(rungs) == 1 or self.deadline.seconds is None or not self.ground.steps_alike:
            return []
        page = self.diary.read("direct")
        if page is None:
            first = replace(ways[0], cost=self._cost(ways[0]))
            each = self.deadline.left / self._fits([first])
            is_direct = self._is_short(first, each) and self._epochs(first, each) >= DIRECT_EPOCHS
            page = Page({"direct": is_direct})
            self._remember("direct", page)
        return [(name, ways[:1])] if page.values["direct"] else []

    def _try(self, name: str, ways: list[Way], above: list[list[Way]]) -> str:
        """One rung; a sentence where it could not be tried or did not pay, '' where it was kept."""
        opening = self._open(name, ways, above)
        ways = [replace(way, cost=opening.costs.get(way.name, math.nan)) for way in ways]
        affordable = [way for way in ways if self._epochs(way, opening.each) >= LEAST_EPOCHS]
        if not affordable:
            reason = self._too_short(ways, opening)
            self.rungs.append(Rung(name, ways[0].name, None, None, False, reason, self.deadline.spent - opening.spent))
            self.ground.observer(Said(f"{name}: {reason}"))
            return reason
        way, candidates = self._screened(name, affordable, opening)
        verdict, plan, judged = self._judged(name, way, opening)
        kept = verdict.is_better
        reason = f"{verdict.words} over {self.kept}: " + (
            "more than noise" if kept else f"within noise, so {self.kept} stays"
        )
        self.rungs.append(
            Rung(
                name,
                way.name,
                verdict.now,
                verdict.gain,
                kept,
                reason,
                self.deadline.spent - opening.spent,
                verdict.share,
                to_dict(plan),
                tuple(candidates),
                verdict.finer,
            )
        )
        self.ground.observer(Said(f"{name}: {reason}"))
        if not kept:
            return reason
        self.logits, self.kept = verdict.logits, name
        # What the parts left over, because the evidence was clear before the last of them, goes into this training.
        left = self.deadline.left - opening.kept_back
        everything = np.arange(len(self.known))
        start = self._start(everything)
        way = _costed(way, judged) if judged is not None else way
        begin = judged if self._is_short(way, left) else None
        words = f"{name}: training on all {len(self.known)}" + (", from the network judged last" if begin else "")
        whole = self._train(f"{name}/all", way, everything, start.head, left, words, begin=begin)
        if begin is not None:
            note = (
                f"{name}: the time was short of a training of its own on all rows, so the network judged last went on"
            )
            whole = replace(whole, notes=(*whole.notes, note))
        self.tuned = mixed(start, whole, verdict.share) if verdict.share < 1 else whole
        return ""

    def _open(self, name: str, ways: list[Way], above: list[list[Way]]) -> _Opening:
        """The time of a rung, measured once: a resumed climb goes by what the first start found."""
        page = self.diary.read(f"{name}/opening")
        if page is not None:
            return from_dict(_Opening, page.values, where=f"opening of {name}")
        spent = self.deadline.spent
        if self.deadline.seconds is None:
            opening = _Opening(None, 0.0, {}, spent)
        else:
            later = sum(self._needed(higher) for higher in above)
            # What a higher rung could not use anyway is not kept for it.
            kept_back = later if later <= MOST_KEPT_BACK * self.deadline.left else 0.0
            costs = {way.name: self._cost(way) for way in ways}
            opening = _Opening((self.deadline.left - kept_back) / self._fits(ways), kept_back, costs, spent)
        self._remember(f"{name}/opening", Page(to_dict(opening)))
        return opening

    def _too_short(self, ways: Sequence[Way], opening: _Opening) -> str:
        fits = self._fits(ways)
        most = max(self._epochs(way, opening.each) for way in ways)
        need = min(self._seconds_for(way, LEAST_EPOCHS) for way in ways) * fits
        asked = 1.2 * (self.deadline.spent + need)
        return (
            f"not tried: the time left is enough for {max(0.0, most):.1f} epochs of each of {fits:.1f} trainings, "
            f"and fewer than {LEAST_EPOCHS:g} teach little. Give at least {_span(asked)} with --time"
        )

    def _judged(self, name: str, way: Way, opening: _Opening) -> tuple[Verdict, Plan, Tuned | None]:
        """Train without one part after another, until the rows judged so far tell this rung from the one below.

        Or until the time for another look would be missing in the training on all rows. Also the first of these plans,
        and the last of these networks where more can be learnt into it.
        """
        judge = Judge(
            self.known,
            self.parts,
            self.logits,
            metric=self.wish.metric,
            resamples=self.wish.resamples,
            seed=self.ground.seed,
        )
        plan: Plan | None = None
        tuned: Tuned | None = None
        for number, (train, held) in enumerate(self.parts, start=1):
            page = self.diary.read(f"{name}/look {number}")
            if page is None:
                words = f"{name}: training {number} of at most {len(self.parts)}, {len(held)} rows judge"
                kept = f"{name}/network {number}" if self.deadline.seconds is not None else ""
                last_one = opening.each * self._last(len(train))
                seconds = opening.each if number == 1 else min(opening.each, self.deadline.left - last_one)
                tuned = self._train(kept, way, train, self.probes[number - 1], seconds, words)
                found = self._between(tuned, self.probes[number - 1], held)
                # Time that is left to higher rungs may be used, too: they are not tried unless this one is kept.
                last = number == len(self.parts) or self.deadline.left - last_one < LEAST_LOOK * opening.each
                way = _costed(way, tuned)
                tensors = {str(share): torch.from_numpy(logits) for share, logits in found.items()}
                page = Page({"last": last, "plan": to_dict(tuned.plan)}, tensors)
                self._remember(f"{name}/look {number}", page)
            plan = plan or from_dict(Plan, page.values["plan"], where="plan")
            found = {float(share): tensor.numpy() for share, tensor in page.tensors.items()}
            verdict = judge.look(found, last=page.values["last"])
            if verdict.is_better or verdict.is_worse or page.values["last"]:
                break
        assert plan is not None, "there is at least one part"
        if tuned is None and (page := self.diary.read(f"{name}/network {number}")) is not None:
            tuned = opened(page.values, page.tensors, self.ground.backbone)
        if tuned is not None and not has_structure_of(tuned.backbone, self.ground.backbone):
            tuned = None
        return verdict, plan, tuned

    # -- screening ---------------------------------------------------------------------------------------------------

    def _screened(self, name: str, ways: list[Way], opening: _Opening) -> tuple[Way, list[Candidate]]:
        """Successive halving at equal time (equal steps without a deadline): the least loss on held-back rows wins."""
        record: list[Candidate] = []
        for share in ROUNDS:
            if len(ways) == 1:
                break
            tried = {way.name: self._tried(name, way, share, opening) for way in ways}
            record += tried.values()
            keep = sorted(ways, key=lambda way: tried[way.name].loss)[: max(1, len(ways) // 2)]
            dropped = {way.name for way in ways} - {way.name for way in keep}
            record = [replace(c, dropped=True) if c.name in dropped else c for c in record]
            ways = keep
        best = ways[0]  # the least loss of the last round comes first
        return best, [replace(c, dropped=c.dropped or c.name != best.name) for c in record]

    def _tried(self, name: str, way: Way, share: float, opening: _Opening) -> Candidate:
        """A training of a share of the length, judged on the rows that screen."""
        page = self.diary.read(f"{name}/screening {share} {way.name}")
        if page is not None:
            return from_dict(Candidate, page.values, where="candidate")
        began = self.deadline.spent
        train, held = self.screen
        tuned = self._train("", way, train, self._probe(train), opening.each, f"screening: {way.name}", share=share)
        logits = tuned.head.logits(features_of(self.ground, tuned.backbone, self.rows[held]))
        task, y = self.known.task, self.known.y[held]
        value = score(task.name, y, task.decode(logits), [self.wish.metric])[self.wish.metric]
        candidate = Candidate(
            way.name,
            way.factor,
            tuned.plan.steps,
            calibrated_loss(self.known, logits, held),
            float(value[0]),
            self.deadline.spent - began,
            dropped=False,
        )
        self._remember(f"{name}/screening {share} {way.name}", Page(to_dict(candidate)))
        return candidate

    # -- one training ------------------------------------------------------------------------------------------------

    def _budget(self, way: Way, n: int, seconds: float, share: float = 1.0) -> Budget:
        """As many steps as the time allows, and no more than suit ``n`` examples; a share of the steps without time."""
        usual = self._usual(way, n)
        if math.isinf(seconds):
            return replace(usual, steps=max(1, round(share * usual.steps)))
        most = usual.steps if self.wish.epochs is not None else most_steps(usual, way.strategy.name)
        steps = int(share * seconds / self._step(way, n)) if way.cost > 0 else usual.steps
        return replace(usual, steps=max(1, min(steps, most)))

    def _train(
        self,
        page_name: str,
        way: Way,
        train: np.ndarray,
        probe: LinearHead,
        seconds: float,
        what: str,
        *,
        share: float = 1.0,
        begin: Tuned | None = None,
    ) -> Tuned:
        """page_name: where the model itself is kept for a resumed climb, '' where what it says is enough."""
        page = self.diary.read(page_name) if page_name else None
        if page is not None:
            return opened(page.values, page.tensors, self.ground.backbone)
        budget = self._budget(way, len(train), seconds, share)
        plan = way.plan(self.ground.backbone.tunable, budget)
        self.ground.observer(Said(f"{what}, {plan.steps} steps of {plan.batch_size}"))
        nothing = NoCheckpoints(self.diary.farewell)
        numbers = OnlyNumbers(what if share == 1 else f"{what}, {share:.0%}", self.ground.observer)
        tuned = tune(
            self.ground,
            plan,
            self.rows[train],
            probe,
            begin=begin,
            usual=self.chosen,
            checkpoints=nothing,
            observer=numbers,
        )
        if page_name and has_structure_of(tuned.backbone, self.ground.backbone):
            self._remember(page_name, Page(*packed(tuned)))
        return tuned

    def _remember(self, name: str, page: Page) -> None:
        self.diary.write(name, replace(page, spent=self.deadline.spent))

    def _needed(self, ways: Sequence[Way]) -> float:
        """Seconds below which a rung with these ways is not tried."""
        cheapest = min(self._seconds_for(replace(way, cost=self._cost(way)), LEAST_EPOCHS) for way in ways)
        return cheapest * self._fits(ways)

    def _fits(self, ways: Sequence[Way]) -> float:
        """Trainings that a rung is given time for, in units of one of a part: LOOKS, the screening, the last one."""
        screening = sum(share * max(1, len(ways) // 2**i) for i, share in enumerate(ROUNDS)) if len(ways) > 1 else 0.0
        return min(LOOKS, len(self.parts)) + screening + self._last(len(self.parts[0][0]))

    def _last(self, n: int) -> float:
        """Time for the training on all rows, in units of one on a part of ``n``: a share of as many passes as that had.

        Where a share is all that there is, the network judged last goes on.
        """
        return LAST * len(self.known) / n

    def _is_short(self, way: Way, seconds: float) -> bool:
        """Whether these seconds are too few for the usual training on all rows."""
        n = len(self.known)
        return self._usual(way, n).steps * self._step(way, n) > seconds

    def _cost(self, way: Way) -> float:
        """Seconds of one step, from a few of them; the activations at its border are made on the way, once.

        Ways that go through the whole network cost what 'full' does, which is measured first, or a little less.
        """
        key = way.name if way.is_cheap else "full"
        if key not in self._costs:
            train, _ = self.parts[0]
            usual = self._usual(way, len(train))
            few = usual.batch_size if way.is_cheap else min(SMALL, usual.batch_size)
            budget = replace(usual, steps=COSTED, batch_size=few)
            plan = way.plan(self.ground.backbone.tunable, budget)
            quiet = replace(self.ground, observer=QUIET)
            nothing = NoCheckpoints(self.diary.farewell)
            plain = replace(plan, augment="none")
            tuned = tune(
                quiet,
                plain,
                self.rows[train],
                self.probes[0],
                usual=self.chosen,
                checkpoints=nothing,
                observer=QUIET,
            )
            assert tuned.history is not None, "a training has a history"
            self._costs[key] = step_seconds(tuned.history, alike=self.ground.steps_alike) * usual.batch_size / few
        return self._costs[key]

    def _epochs(self, way: Way, seconds: float) -> float:
        """Passes over a part; what was asked for with --epochs is always enough."""
        if math.isinf(seconds):
            return math.inf
        n = len(self.parts[0][0])
        budget = self._budget(way, n, seconds) if seconds > 0 else None
        return budget.steps * budget.batch_size / n if budget is not None else 0.0

    def _seconds_for(self, way: Way, epochs: float) -> float:
        n = len(self.parts[0][0])
        return epochs * n / self._usual(way, n).batch_size * way.cost

    def _step(self, way: Way, n: int) -> float:
        """Seconds of a step on the batch that suits ``n`` examples; way.cost is of one that suits a part."""
        return way.cost * self._usual(way, n).batch_size / self._usual(way, len(self.parts[0][0])).batch_size

    def _usual(self, way: Way, n: int) -> Budget:
        """What suits ``n`` examples; a batch that was asked for is no larger than they are many."""
        asked = None if self.wish.batch_size is None else min(self.wish.batch_size, n)
        classes = self.known.task.outputs
        return budget_of(
            self.ground.backbone,
            n,
            classes,
            strategy=way.strategy.name,
            epochs=self.wish.epochs,
            batch_size=asked,
        )

    # -- models ------------------------------------------------------------------------------------------------------

    def _probe(self, train: np.ndarray) -> LinearHead:
        """The chosen kind of head from these rows, calibrated."""
        return head_like(self.chosen, self.known.X[train], self.known.y[train], self.known.task)

    def _start(self, rows: np.ndarray) -> Tuned:
        """The loaded network with the probe: the other end of the interpolation."""
        none = Plan("probe", ())
        return Tuned(self.ground.backbone, self._probe(rows), none)

    def _between(self, tuned: Tuned, probe: LinearHead, held: np.ndarray) -> dict[float, np.ndarray]:
        """Share of the tuned weights → logits of the rows held back from them."""
        start = Tuned(self.ground.backbone, probe, tuned.plan)
        at = {1.0: tuned}
        if has_structure_of(tuned.backbone, start.backbone):
            at |= {share: mixed(start, tuned, share) for share in SHARES if 0 < share < 1}
        found = {s: t.head.logits(features_of(self.ground, t.backbone, self.rows[held])) for s, t in at.items()}
        return found | {0.0: probe.logits(self.known.X[held])}

    # -- words -------------------------------------------------------------------------------------------------------

    def _probe_score(self) -> Estimate:
        rows = np.unique(np.concatenate([held for _, held in self.parts]))
        resamples = resamples_of(self.known, rows, self.wish.resamples, self.ground.seed)
        task, name, y = self.known.task, self.wish.metric, self.known.y[rows]
        scores = task.decode(self.logits[rows])
        value = float(score(task.name, y, scores, [name])[name][0])
        drawn = resampled(task.name, y, scores, [name], resamples)[name]
        return estimate(value, drawn, n=len(rows), units=resamples.units)

    def _nothing_to_gain(self, probe: Estimate) -> str:
        if self.wish.metric == "accuracy" and (1 - probe.value) * probe.n < NO_ERRORS:
            return f"the probe makes fewer than {NO_ERRORS:g} errors on {probe.n} rows: nothing to gain"
        return ""

    def _folds_in_words(self) -> str:
        if len(self.parts) == 1:
            return f"{len(self.parts[0][1])} of the {len(self.known)} training rows held back"
        return f"{len(self.parts)} parts of the {len(self.known)} training rows, held back one after another as needed"


def _costed(way: Way, tuned: Tuned) -> Way:
    """With the cost of a step that a whole training had, instead of the few steps before it."""
    assert tuned.history is not None, "a training has a history"
    return replace(way, cost=tuned.history.seconds / len(tuned.history.steps))


def _parts(known: Known, seed: int) -> tuple[list[Part], Part]:
    """The parts that judge, and the one that screens: three for few rows, of which the last screens; one and another
    for many."""
    n, strata = len(known), known.task.strata(known.y)
    if n < ENOUGH:
        parts = list(folds(strata, known.groups, k=FOLDS, repeats=1, seed=seed + 2))
        return parts, parts[-1]
    held = min(MOST_HELD, max(LEAST_HELD, round(HELD_SHARE * n)))
    parts = list(folds(strata, known.groups, k=max(2, round(n / held)), repeats=1, seed=seed + 2))
    return parts[:1], parts[1]


def _span(seconds: float) -> str:
    return f"{math.ceil(seconds)} s" if seconds < 90 else f"{math.ceil(seconds / 60)} min"
