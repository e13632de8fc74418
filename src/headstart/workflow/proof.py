"""Proof of transfer: what the same network reaches without pretrained weights, and how many labels those were worth.

Two questions. Is the model better than its own architecture trained from scratch, in the same time and in five times
that? And with how few labels does the pretrained network do what the other needs all of them for? Everything is judged
on the examples that judged the model, paired.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from headstart.adapt.calibration import fit_temperature
from headstart.adapt.heads.choose import HEADS, Chosen
from headstart.adapt.heads.head import LinearHead
from headstart.adapt.heads.rotated import rotate
from headstart.adapt.plan import HEAD, Budget, Head, Phase, Plan, default_budget
from headstart.base.errors import TrainingFault
from headstart.base.progress import QUIET, Observer, Said, track
from headstart.base.seeds import number, stream
from headstart.data.split import folds
from headstart.evaluation.baselines import compare
from headstart.evaluation.curves import (
    FEWEST_SIZES,
    SHARES,
    PowerLaws,
    error_of,
    fit_power_laws,
    multiplier,
    nested_subsets,
    worth,
)
from headstart.evaluation.intervals import Resamples, estimate, independent, wilson
from headstart.evaluation.scores import resampled, score
from headstart.records.estimate import Estimate
from headstart.records.evaluation import Baseline
from headstart.records.predictions import Predictions
from headstart.records.proof import CurvePoint, LearningCurve, Multiplier, ProofRecord, Rival
from headstart.workflow.judge import Contest, Known, Rules, choose_head, judgement
from headstart.workflow.tuning import Ground, Tuned, logits_of, tune

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone
    from headstart.features.extract import Features

Parts = Sequence[tuple[np.ndarray, np.ndarray]]  # (learn, judge) positions

SEEDS = 3  # draws of the subsets
LEAST_S = 10.0  # of a training from scratch, however fast the adaptation was
LONGER = 5  # times the adaptation, for the second training from scratch
RATE = 1e-3  # of all stages and the head, with AdamW
STEP_SHARE = 0.95  # of the time that planned steps may take, so that the rate comes down to 0 before it is over
TRIAL = 20  # steps that are timed at most, in TRIAL_SHARE of the time
TRIAL_SHARE = 0.1
GOOD = 0.75  # share of the time, and of the planned steps, that a training must have used; else it is begun once more
FEW_EPOCHS = 10  # of the longer training from scratch, below which it says little
HELD = 7  # one part in so many sets the temperature, where the score asks for probabilities
OF_PROBABILITIES = ("log_loss", "brier")
TRANSFER, RANDOM, SCRATCH, SCRATCH_LONG = "transfer", "random-network", "scratch", "scratch-long"
WHAT = {
    TRANSFER: "the pretrained network, frozen, under the chosen kind of head",
    RANDOM: "the same network with random weights, frozen, under the same kind of head",
}


def prove(
    model: Predictions,
    contest: Contest,
    ground: Ground,
    *,
    random_features: Callable[[np.ndarray], Features],
    features_by: Callable[[Backbone, np.ndarray], Features],
    seconds: float,
    probe: Predictions | None = None,
    augment: str = "auto",
    resamples: int = 1000,
    least_s: float = LEAST_S,
) -> ProofRecord:
    """The evidence that pretrained weights helped, or that they did not.

    model: the final model's predictions for the judged examples.  contest: all usable examples as the frozen pretrained
    network sees them, who learns and who judges, and rules that name one family of heads.
    ground: its examples are those of contest.train, in that order.  random_features: positions in contest.known → their
    features by a random copy; all of them are asked for.  features_by: the same by a network that was trained here.
    seconds: that the model took, from loaded network to last weights; training from scratch gets as much, and five
    times that, but at least ``least_s``.  probe: what the frozen network says of the same examples, where the model is
    a tuned one.  augment: policy of the trainings from scratch; 'auto' is what is allowed on this ground.

    Takes about six times ``seconds`` (more where a training is begun again, because the first guess of a step's cost
    was off), and one pass of the random network over all examples.
    """
    began = time.monotonic()
    known, rules, observer = contest.known, contest.rules, ground.observer
    bench = _Bench(model, rules.metric or known.task.headline, resamples, rules.seed)
    parts = _parts(contest)
    eyes = [(TRANSFER, known.X), (RANDOM, random_features(np.arange(len(known))).X)]
    grown = {key: _grown(contest, parts, X) for key, X in track(eyes, observer, "label efficiency", unit="networks")}
    curves = _Curves(bench.metric, grown, resamples, rules.seed)

    frozen, n = grown[RANDOM].of_all, contest.learnt_from
    untrained = Rival(bench.against(RANDOM, WHAT[RANDOM], frozen, n), 0.0, 0, 0.0, curves.worth_against_random())
    scratch = _Scratch(contest, ground, parts[0], features_by, augment)
    trained, failures = _trained(scratch, bench, None if contest.by_folds else curves, max(least_s, seconds))
    rivals = (untrained, *trained)
    hardest = _hardest(rivals)

    probing = replace(bench, model=grown[TRANSFER].of_all).against(RANDOM, WHAT[RANDOM], frozen, n)
    tuning = bench.against("probe", WHAT[TRANSFER], probe, n) if probe is not None else None
    record = ProofRecord(
        metric=bench.metric,
        how="cross-validation" if contest.by_folds else "held-out",
        n=len(model),
        learnt_from=n,
        adaptation_s=seconds,
        rivals=rivals,
        curves=curves.records(),
        seeds=SEEDS,
        multiplier=hardest.worth if hardest else None,
        against=hardest.against.key if hardest else "",
        negative=negative_transfer(bench.metric, probing, tuning, [r.against for r in trained]),
        sentence=summary(bench.metric, hardest, n, len(model)),
        notes=(*_notes(contest, parts, curves, trained, is_tuned=probe is not None), *failures),
        seconds=time.monotonic() - began,
    )
    observer(Said(record.sentence, "result"))
    for sentence in record.negative:
        observer(Said(sentence, "warning"))
    return record


@dataclass(frozen=True, eq=False)
class _Bench:
    """Where others meet the model: its predictions, the score, and the resamples."""

    model: Predictions
    metric: str
    resamples: int
    seed: int

    def against(self, key: str, what: str, theirs: Predictions, n: int) -> Baseline:
        """On the examples that both judged.  n: examples that ``theirs`` learnt from."""
        ours, theirs = _shared(self.model, theirs)
        return compare(
            ours,
            theirs,
            key=key,
            what=what,
            trained_on=n,
            metric=self.metric,
            resamples=self.resamples,
            seed=self.seed,
        )


def _shared(model: Predictions, other: Predictions) -> tuple[Predictions, Predictions]:
    """Both on the examples that both judged, in the order of the other."""
    place = {name: i for i, name in enumerate(model.ids.tolist())}
    rows = np.array([i for i, name in enumerate(other.ids.tolist()) if name in place], np.int64)
    return model.take(np.array([place[name] for name in other.ids[rows].tolist()], np.int64)), other.take(rows)


# --- label efficiency


@dataclass(frozen=True, eq=False)
class Grown:
    """What heads from growing subsets say of the judged examples. sizes: (S,) labels.  said: [size][seed]."""

    sizes: np.ndarray
    said: Sequence[Sequence[Predictions]]

    @property
    def of_all(self) -> Predictions:
        """By the head from all training examples."""
        return self.said[-1][0]


def _parts(contest: Contest) -> Parts:
    """(learn, judge) positions in contest.known: the division, or the folds by which heads were judged."""
    if not contest.by_folds:
        return [(contest.train, contest.test)]
    known, rules = contest.known, contest.rules
    return folds(known.task.strata(known.y), known.groups, k=rules.folds, repeats=1, seed=rules.seed + 1)


def _grown(contest: Contest, parts: Parts, X: np.ndarray) -> Grown:
    """Heads of one kind from nested subsets of the training examples, as ``X`` shows them; equal sizes once.

    Nested cross-validation where there is no test part: each subset is a part of a fold's training rows.
    """
    seen = contest.known.seeing(X)
    logits = np.full((len(SHARES), SEEDS, len(seen), seen.task.outputs), np.nan)
    sizes = np.zeros(len(SHARES))
    simplest = replace(contest.rules, families=("nearest-mean",))
    for train, rest in parts:
        learnt, judged = seen.take(train), X[rest]
        strata = seen.task.strata(learnt.y)
        whole = choose_head(learnt, contest.rules)
        spare = whole if seen.task.name != "classification" else choose_head(learnt, simplest)
        for seed in range(SEEDS):
            subsets = nested_subsets(strata, learnt.groups, seed=number(contest.rules.seed, "subsets", seed))
            for i, rows in enumerate(subsets):
                head = _head(learnt.take(rows), contest.rules, spare) if len(rows) < len(train) else _calibrated(whole)
                logits[i, seed, rest] = head.logits(judged)
                sizes[i] += len(rows)
    sizes /= SEEDS * len(parts)
    grows = [i for i in range(len(SHARES)) if i == 0 or sizes[i] > sizes[i - 1]]
    rows = contest.test if not contest.by_folds else np.sort(np.concatenate([rest for _, rest in parts]))
    judged_rows = contest.known.take(rows)
    said = [[judgement(judged_rows, z[rows], z[rows]).after for z in logits[i]] for i in grows]
    return Grown(sizes[grows], said)


def _head(known: Known, rules: Rules, spare: Chosen) -> LinearHead:
    """The head of these few examples: chosen on them, or the kind and settings of ``spare`` where that cannot be done.

    With one example of a class there is no spread within it to learn, and nothing to hold out: LDA then gives nonsense
    where the nearest class mean is at its best (METHODS C).
    """
    if _can_choose(known.task.strata(known.y), known.groups):
        return _calibrated(choose_head(known, rules))
    family = next(f for f in HEADS if f.name == spare.family)
    return family.fit(rotate(known.X), known.y, known.task, spare.setting).scaled(spare.temperature)


def _calibrated(chosen: Chosen) -> LinearHead:
    return chosen.head.scaled(chosen.temperature)


def _can_choose(strata: np.ndarray, groups: np.ndarray) -> bool:
    """Whether cross-validation can hold something out of most strata, and there are two groups for it."""
    pairs = np.unique(np.stack([strata, groups]), axis=1)
    kinds, in_groups = np.unique(pairs[0], return_counts=True)
    bound = np.isin(pairs[0], kinds[in_groups == 1])  # a stratum in a single group must be learnt from
    free = np.setdiff1d(pairs[1], pairs[1][bound])
    return len(free) >= 2 and float((in_groups == 1).mean()) < 0.5


class _Curves:
    """Scores of both networks by number of labels, on shared resamples of judged examples and of seeds."""

    def __init__(self, metric: str, grown: dict[str, Grown], resamples: int, seed: int) -> None:
        self.metric, self.grown = metric, grown
        self.sizes = grown[TRANSFER].sizes
        self.some = grown[TRANSFER].of_all
        self.resamples = Resamples(len(self.some), resamples, seed, self.some.groups)
        self.seeds = stream(seed, "curve-seeds").integers(0, SEEDS, (resamples, SEEDS))
        self.scores = {key: self._scores(g) for key, g in grown.items()}
        self._finite = np.all([np.isfinite(drawn).all(axis=(0, 1)) for _, drawn in self.scores.values()], axis=0)
        self.laws = {key: self._laws(*both) for key, both in self.scores.items()} if self.are_known else {}

    @property
    def are_known(self) -> bool:
        """Whether there are sizes enough for a curve, and a score that is defined at each."""
        defined = all(np.isfinite(value).all() for value, _ in self.scores.values())
        return len(self.sizes) >= FEWEST_SIZES and defined and bool(self._finite.any())

    def worth_against_random(self) -> Multiplier | None:
        if not self.are_known:
            return None
        pairs = zip(self.laws[TRANSFER], self.laws[RANDOM], strict=True)
        found, many = (worth(own, theirs, least=self.sizes[0]) for own, theirs in pairs)
        return self._multiplier(found, many, 1 / self._reach)

    def worth_against(self, rival: Predictions) -> Multiplier | None:
        """Of a rival that was measured with all labels only, on the same examples."""
        if not self.are_known:
            return None
        value, drawn = self._of(rival)
        kept = np.isfinite(drawn[self._finite])
        if not math.isfinite(value) or not kept.any():
            return None
        law, laws = self.laws[TRANSFER]
        found = worth(law, error_of(self.metric, np.array([value])), least=self.sizes[0])
        many = worth(laws, error_of(self.metric, drawn[self._finite]), least=self.sizes[0])[kept]
        return self._multiplier(found, many, 1.0)

    def records(self) -> tuple[LearningCurve, ...]:
        made = []
        for key, (values, drawn) in self.scores.items():
            points = [
                CurvePoint(float(n / self.sizes[-1]), float(n), self._score(float(v.mean()), d.mean(axis=0)))
                for n, v, d in zip(self.sizes, values, drawn, strict=True)
            ]
            law = self.laws[key][0].first() if self.are_known else None
            made.append(LearningCurve(key, WHAT[key], tuple(points), law))
        return tuple(made)

    # -- numbers

    def _score(self, value: float, drawn: np.ndarray) -> Estimate:
        """Over examples and seeds; a share of right answers is no surer than Wilson's interval, also where all are."""
        n = len(self.some)
        found = estimate(value, drawn, n=n, units=self.resamples.units)
        if self.metric != "accuracy" or not independent(self.some.groups):
            return found
        low, high = wilson(value * n, n)
        return replace(found, low=min(low, found.low), high=max(high, found.high))

    def _of(self, said: Predictions) -> tuple[float, np.ndarray]:
        """(score, (R,) on the resamples)."""
        assert said.targets is not None, "judged examples have targets"
        names = [self.metric]
        value = score(said.task, said.targets, said.scores, names)[self.metric][0]
        return float(value), resampled(said.task, said.targets, said.scores, names, self.resamples)[self.metric]

    def _scores(self, grown: Grown) -> tuple[np.ndarray, np.ndarray]:
        """((S, seeds) scores, (S, seeds, R) on the resamples, seeds drawn again in each of them)."""
        last = [self._of(grown.of_all)] * SEEDS  # all training examples, whatever the seed
        found = [[self._of(said) for said in of_size] for of_size in grown.said[:-1]] + [last]
        values = np.array([[value for value, _ in of_size] for of_size in found])
        drawn = np.array([[d for _, d in of_size] for of_size in found])
        return values, np.take_along_axis(drawn, self.seeds.T[None], axis=1)

    def _laws(self, values: np.ndarray, drawn: np.ndarray) -> tuple[PowerLaws, PowerLaws]:
        """(the curve, its resamples)."""
        n = np.repeat(self.sizes, SEEDS)
        many = drawn.reshape(len(n), -1).T[self._finite]
        every = (values.reshape(1, -1), many)
        fitted = [fit_power_laws(n, error_of(self.metric, errors)) for errors in every]
        return fitted[0], fitted[1]

    @property
    def _reach(self) -> float:
        return float(self.sizes[-1] / self.sizes[0])

    def _multiplier(self, value: np.ndarray, drawn: np.ndarray, least: float) -> Multiplier:
        n, units = len(self.some), self.resamples.units
        return multiplier(float(value[0]), drawn, least=least, most=self._reach, n=n, units=units)


# --- from scratch


class _Scratch:
    """The architecture of ``ground`` from random weights, everything learning; the start is that of the random rival.

    Learns from all rows of one part, and judges the others of it.
    """

    def __init__(
        self,
        contest: Contest,
        ground: Ground,
        part: tuple[np.ndarray, np.ndarray],
        features_by: Callable[[Backbone, np.ndarray], Features],
        augment: str,
    ) -> None:
        self.ground = _from_random(ground, augment)
        place = {int(row): i for i, row in enumerate(contest.train)}
        self.learn = np.array([place[int(row)] for row in part[0]], np.int64)  # positions in ground.known
        self.held = np.zeros(0, np.int64)
        if (contest.rules.metric or contest.known.task.headline) in OF_PROBABILITIES:
            self._hold_back()
        self.known, self.judge, self.features_by, self.augment = contest.known, part[1], features_by, augment
        self.usual = default_budget(len(self.learn), self.known.task.outputs)

    def _hold_back(self) -> None:
        known = self.ground.known.take(self.learn)
        learn, held = folds(known.task.strata(known.y), known.groups, k=HELD, seed=self.ground.seed + 3)[0]
        self.learn, self.held = self.learn[learn], self.learn[held]

    def within(self, seconds: float) -> tuple[Tuned, Predictions]:
        """Trained for so long, with what it then says of the judged examples."""
        cost = self._train(TRIAL, TRIAL_SHARE * seconds, QUIET)[1]
        for _ in range(2):  # again where the guess of a step's cost was off
            steps = max(1, int(STEP_SHARE * seconds / cost))
            self.ground.observer(Said(f"from scratch for {_span(seconds)}: {steps} steps of {self.usual.batch_size}"))
            tuned, cost = self._train(steps, seconds, self.ground.observer)
            history = tuned.history
            assert history is not None, "a training has a history"
            if history.seconds > GOOD * seconds and len(history.steps) > GOOD * steps:
                break
        logits = tuned.head.logits(self.features_by(tuned.backbone, self.judge).X)
        logits = logits / self._temperature(tuned)
        return tuned, judgement(self.known.take(self.judge), logits, logits).after

    def _train(self, steps: int, seconds: float, observer: Observer) -> tuple[Tuned, float]:
        """(the network after so many steps, or fewer where the time is over; seconds of a step, without the first)."""
        stages = [s.name for s in self.ground.backbone.stages]
        plan = scratch_plan(stages, replace(self.usual, steps=steps), self.augment)
        tuned = tune(self.ground, plan, self.learn, None, seconds=seconds, observer=observer)
        assert tuned.history is not None, "a training has a history"
        spent = [row.seconds for row in tuned.history.steps]
        cost = (spent[-1] - spent[0]) / (len(spent) - 1) if len(spent) > 1 else spent[0]
        return tuned, max(1e-6, cost)

    def _temperature(self, tuned: Tuned) -> float:
        if not len(self.held):
            return 1.0
        known = self.ground.known
        return fit_temperature(logits_of(self.ground, tuned, self.held), known.y[self.held], known.task)


def _from_random(ground: Ground, augment: str) -> Ground:
    """The same ground under the same architecture with random weights."""
    made = replace(ground, backbone=ground.backbone.random_copy(ground.seed))
    if augment == "auto":
        # Kept from the pretrained network: random weights cannot tell which changes alter the class.
        made.__dict__["verdicts"] = ground.verdicts
    return made


def scratch_plan(stages: Sequence[str], budget: Budget, augment: str = "auto") -> Plan:
    """Everything from random weights: AdamW at one rate for all, warm-up, then a cosine to 0.

    The rate is a usual one and not tuned. BatchNorm collects its own statistics, for there are none to keep.
    """
    phase = Phase("from scratch", budget.steps, dict.fromkeys([*stages, HEAD], RATE), statistics="moving")
    return Plan("scratch", (phase,), budget.batch_size, head=Head(start="random"), augment=augment)


def _trained(scratch: _Scratch, bench: _Bench, curves: _Curves | None, seconds: float) -> tuple[list[Rival], list[str]]:
    """The two trainings, and a sentence for each that failed.  curves: None where their examples are others."""
    rivals, failures = [], []
    for key, span in ((SCRATCH, seconds), (SCRATCH_LONG, LONGER * seconds)):
        try:
            tuned, theirs = scratch.within(span)
        except TrainingFault as fault:
            failures.append(f"training from scratch for {_span(span)} failed: {fault}")
            scratch.ground.observer(Said(failures[-1], "warning"))
            continue
        history, n = tuned.history, len(scratch.learn)
        assert history is not None, "a training has a history"
        against = bench.against(key, f"the same network trained from scratch for {_span(history.seconds)}", theirs, n)
        steps = len(history.steps)
        worth_ = curves.worth_against(theirs) if curves is not None else None
        rivals.append(Rival(against, history.seconds, steps, steps * history.batch_size / n, worth_))
        scratch.ground.observer(Said(_in_words(against, bench.metric)))
    return rivals, failures


# --- in words


def negative_transfer(
    metric: str, probing: Baseline, tuning: Baseline | None, scratch: Sequence[Baseline]
) -> tuple[str, ...]:
    """A sentence for each way in which transfer failed (METHODS F); two standard errors are the 95 % interval's ends.

    probing: the frozen pretrained network against the random one, both under a head.  tuning: the tuned model against
    the frozen one.  scratch: the model against trainings from scratch.
    """
    found = []
    if not probing.gain.low > 0:
        behind = "worse than" if probing.gain.high < 0 else "not shown to be better than"
        found.append(f"Pretrained features are {behind} those of random weights: {_scores(metric, probing)}.")
    if tuning is not None and tuning.gain.high < 0:
        found.append(
            f"Fine-tuning did harm: {_scores(metric, tuning)} of the frozen network under its head, whose features it "
            "distorted."
        )
    found += [
        f"Transfer did harm: {_scores(metric, b)} of {b.what}, on the same {b.n} examples."
        for b in scratch
        if b.gain.high < 0
    ]
    return tuple(found)


def summary(metric: str, hardest: Rival | None, learnt_from: int, n: int) -> str:
    """How many labels transfer was worth, in one sentence."""
    if hardest is None or hardest.worth is None:
        return (
            f"How many labels transfer was worth cannot be told: {learnt_from} examples give fewer than {FEWEST_SIZES} "
            "subsets that hold every class, or the score is not defined on them."
        )
    m, rival = hardest.worth, hardest.against
    low, high = _end(m.times.low, m), _end(m.times.high, m)
    times, few = _times(m.times.value), max(1, round(learnt_from / m.times.value))
    level = f"{_name(metric)} {rival.score.value:.3f}"
    if m.kind == "cannot be told":
        return (
            f"How many labels transfer was worth cannot be told from {n} judged examples: "
            f"the interval reaches from {low} to {high} times."
        )
    if m.kind == "at least":
        times = _times(_rounded_down(m.most))
        span = f"at least {times} times" if low == high else f"{times} times or more [{low}, {high}]"
        what = f"{few} labels with it do better than {learnt_from} do for {rival.what} ({level})"
        return f"Transfer was worth {span} the labels: {what}."
    if m.times.low > 1:
        return (
            f"Transfer was worth {times} times more labels [{low}, {high}]: about {few} labels with it do what "
            f"{learnt_from} do for {rival.what} ({level})."
        )
    if m.times.high <= 1 <= max(m.least, m.times.low):
        return f"Transfer was worth no labels: {rival.what} is no worse with the same {learnt_from} ({level})."
    if m.times.high < 1:
        return (
            f"Transfer cost labels: about {round(learnt_from * m.times.value)} labels do for {rival.what} what "
            f"{learnt_from} do with transfer ({times} times [{low}, {high}])."
        )
    return (
        f"It is not shown that transfer was worth labels: {times} times as many [{low}, {high}] "
        f"would do for {rival.what} ({level}), and 1 is within the interval."
    )


def _hardest(rivals: Sequence[Rival]) -> Rival | None:
    """The rival against which transfer was worth least."""
    told = [(r.worth.times.value, r.worth.times.low, i) for i, r in enumerate(rivals) if r.worth is not None]
    return rivals[min(told)[2]] if told else None


def _notes(contest: Contest, parts: Parts, curves: _Curves, trained: Sequence[Rival], *, is_tuned: bool) -> list[str]:
    """What one must know to read the numbers."""
    notes = [f"each subset was drawn {SEEDS} times; the random weights are one draw"]
    if contest.known.task.name == "classification":
        notes.append("where most classes have a single example, the head is the nearest class mean")
    if is_tuned:
        notes.append("the curves are those of the frozen network under its head; fine-tuning is not in them")
    if contest.by_folds:
        notes.append(
            f"judged by cross-validation; from scratch only the first of {len(parts)} parts was left out, so that "
            f"{len(parts[0][0])} examples taught and {len(parts[0][1])} judged, too few for a multiplier"
        )
    if len(curves.sizes) < len(SHARES):
        sizes = " and ".join(f"{n:.0f}" for n in (curves.sizes[0], curves.sizes[-1]))
        notes.append(f"{len(curves.sizes)} sizes between {sizes} labels: smaller subsets do not hold every class")
    if trained and trained[-1].epochs < FEW_EPOCHS:
        notes.append(
            f"in its time the longest training from scratch saw each example {trained[-1].epochs:.1f} times, which "
            "says little about training from scratch without a limit"
        )
    return notes


def _in_words(rival: Baseline, metric: str) -> str:
    return f"{rival.what}: {_name(metric)} {rival.score.value:.3f}, the model's {rival.reference.value:.3f}"


def _scores(metric: str, b: Baseline) -> str:
    """'accuracy 0.700 is 0.100 [0.040, 0.160] behind 0.800'; the first is ours."""
    ahead = b.gain.value >= 0
    low, high = (b.gain.low, b.gain.high) if ahead else (-b.gain.high, -b.gain.low)
    side = "ahead of" if ahead else "behind"
    return (
        f"{_name(metric)} {b.reference.value:.3f} is {abs(b.gain.value):.3f} [{_three(low)}, {_three(high)}] {side} "
        f"the {b.score.value:.3f}"
    )


def _three(x: float) -> str:
    """Three decimals, and no negative zero."""
    return f"{round(x, 3) + 0.0:.3f}"


def _name(metric: str) -> str:
    return metric.replace("_", "-").replace("rmse", "RMSE").replace("mae", "MAE")


def _span(seconds: float) -> str:
    if seconds >= 90:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def _end(x: float, m: Multiplier) -> str:
    """An end of the interval; the ends of what can be told are open."""
    if x >= m.most:
        return f"{_times(_rounded_down(x))} or more"
    return f"{_times(x)} or less" if x <= m.least else _times(x)


def _rounded_down(x: float) -> float:
    """To what is shown of it: 16.7 are 'at least 16'."""
    return float(math.floor(x)) if x >= 10 else math.floor(10 * x) / 10


def _times(x: float) -> str:
    """'0.4', '1.3', '6', '11'; below a tenth '0.06'."""
    if x >= 10 or abs(x - round(x)) < 0.05 <= x:
        return f"{x:.0f}"
    return f"{x:.1f}" if x >= 0.1 else f"{x:.2f}"
