"""The race: every candidate on a few examples, the hopeful on more, and their standing after each round.

METHODS A.5. All candidates see the same rows, drawn from those that may be learnt from; the draw of a later round
contains that of the earlier one. Features go to the ordinary cache, so that a race that was interrupted goes on where
it was, and ``fit`` finds what was computed here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headstart.backbones.card import BackboneCard
from headstart.backbones.catalogue import Catalogue
from headstart.base.errors import DataError, HeadstartError, PlanError, Stopped, shown
from headstart.base.progress import QUIET, Observer, Said
from headstart.base.seeds import stream
from headstart.data.dataset import Dataset
from headstart.data.looks import Look
from headstart.data.words import Words, words_of
from headstart.ranking.prior import Prior
from headstart.ranking.scores.checks import targets_of
from headstart.ranking.scores.hscore import HScore
from headstart.ranking.scores.logme import LogME
from headstart.ranking.scores.ridge_loo import RidgeLoo
from headstart.ranking.scores.score import Score
from headstart.ranking.scores.spectrum import spectrum
from headstart.ranking.standing import Beliefs, Standing, standing, survivors
from headstart.records.ranking import RankRound
from headstart.workflow.candidates import NO_FILTERS, RANDOM, Candidate, Filters, none_left
from headstart.workflow.clock import Deadline
from headstart.workflow.judge import Known

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone
    from headstart.features.choose import RunnerChoice
    from headstart.features.extract import Features

FIRST = 1000  # examples of the first round, and ten of each class at least
DEAREST = 0.1  # share of the time that one candidate's first pass may take
UNTRAINED = -4.0  # prior of random weights, in standard deviations: below every pretrained network of the tables
STAND_INS = ("logme", "hscore")
HELD = 300_000_000  # parameters of all networks that are held in memory, 1.2 GB
DISK = ("EN67", "EN68", "EN69")
LAST = "features"  # the network's own output, as in backbones.taps


@dataclass(frozen=True, eq=False)
class Course:
    """What all candidates run on.

    usable: the examples that may be learnt from, and no others.  look: how they are read.
    known: their targets and groups, without features.
    layers: also what the inner stages give.  scores: further ones to compute, beside the probe.
    stand_ins: of STAND_INS, those that stand in where a source accuracy is not known; set by the race.
    """

    usable: Dataset
    known: Known
    prior: Prior
    catalogue: Catalogue
    cache: Path
    look: Look
    deadline: Deadline
    filters: Filters = NO_FILTERS
    layers: bool = False
    scores: tuple[Score, ...] = ()
    stand_ins: tuple[str, ...] = ()
    k: int = 3
    first: int = FIRST
    most_rounds: int = 10
    device: str = "auto"
    offline: bool = False
    seed: int = 0
    observer: Observer = QUIET

    @property
    def words(self) -> Words:
        return words_of(self.usable.modality)


@dataclass
class Runner:
    """A candidate in the race; what is learnt of it is written down here.

    layers: names of what it is judged by, still in the race.  by_example: layer → (n,) of the last round.
    loaded: the network, where there is room to hold it from round to round.  choice: how it is run, made at most once.
    """

    candidate: Candidate
    card: BackboneCard
    runner: str
    images_per_s: float
    layers: list[str]
    by_example: dict[str, np.ndarray] = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    loaded: Backbone | None = None
    choice: RunnerChoice | None = None
    forward_s: float = 0.0
    computed: int = 0
    from_cache: int = 0

    @property
    def name(self) -> str:
        return self.candidate.name

    @property
    def ms(self) -> float:
        return 1000 / self.images_per_s


@dataclass(frozen=True)
class Lane:
    """One line of the table: a network, or one layer of it."""

    runner: Runner
    layer: str


@dataclass(frozen=True, eq=False)
class Left:
    """A lane that left the race, with its standing then. why: the reason."""

    lane: Lane
    position: int
    standing: Standing
    rounds: int
    why: str


@dataclass(frozen=True)
class Failed:
    """A candidate that was never in the race. tried: False where it is only not here."""

    candidate: Candidate
    why: str
    tried: bool = True
    images_per_s: float = float("nan")


@dataclass
class Result:
    """lanes, standing: of the last round.  rows: those it was run on.  seconds: of each kind of work.

    computed, from_cache: feature vectors.
    """

    lanes: list[Lane]
    standing: Standing
    beliefs: Beliefs
    rows: np.ndarray
    left: list[Left]
    failed: list[Failed]
    rounds: list[RankRound]
    seconds: dict[str, float]
    computed: int
    from_cache: int


def race(candidates: Sequence[Candidate], course: Course) -> Result:
    """Run it. PlanError RK13 where the time is not enough for one pass, DataError where no candidate can be ranked."""
    order = drawing_order(course)
    n = min(len(order), max(course.first, 10 * course.known.task.outputs))
    failed: list[Failed] = []
    seconds = dict.fromkeys(("loading", "timing", "forward", "scoring"), 0.0)
    entered = _enter(candidates, course, n, failed, seconds)
    if any(np.isnan(source_accuracy(r.candidate, course.prior)) for r in entered):
        names = STAND_INS if course.known.task.name == "classification" else STAND_INS[:1]
        course = replace(course, stand_ins=names)
    left: list[Left] = []
    rounds: list[RankRound] = []
    lanes: list[Lane] = []
    while True:
        started, rows = time.perf_counter(), order[:n]
        runners = entered if not rounds else list({id(lane.runner): lane.runner for lane in lanes}.values())
        for runner in runners:
            try:
                _run(runner, rows, course, seconds)
            except (HeadstartError, MemoryError) as problem:
                _pass_on(problem)
                failed.append(Failed(runner.candidate, _reason(problem), images_per_s=runner.images_per_s))
        ran = {id(r) for r in runners} - {id(r) for r in runners for f in failed if f.candidate is r.candidate}
        before = lanes or [Lane(r, layer) for r in entered for layer in r.layers]
        lanes = [lane for lane in before if id(lane.runner) in ran and lane.layer in lane.runner.layers]
        if not lanes:
            raise DataError(
                "RK14 no candidate could be ranked:\n"
                + "\n".join(f"{shown(f.candidate.name)}: {f.why}" for f in failed)
            )
        beliefs = beliefs_of(lanes, course.prior, course.stand_ins)
        by_example = np.stack([lane.runner.by_example[lane.layer] for lane in lanes])
        stands = standing(by_example, beliefs, k=course.k, groups=course.known.groups[rows], seed=course.seed)
        last = n == len(order) or len(lanes) == 1 or len(rounds) + 1 >= course.most_rounds
        kept = np.arange(len(lanes)) if last else survivors(stands, beliefs.prior)
        more = min(len(order), 2 * n)
        if not last and not _affordable([lanes[i].runner for i in kept], more - n, course.deadline):
            course.observer(Said(f"the race ends with {n:,} examples: a further round would take the time of the rest"))
            last, kept = True, np.arange(len(lanes))
        gone = [i for i in range(len(lanes)) if i not in set(kept.tolist())]
        took = time.perf_counter() - started
        rounds.append(RankRound(n, len(lanes), len(gone), round(took, 3)))
        course.observer(Said(_round_in_words(rounds[-1], len(rounds), lanes, stands, course.k)))
        if last:
            return Result(lanes, stands, beliefs, rows, left, failed, rounds, seconds, *_vectors(entered))
        why = f"after {n:,} examples its chance to be in the top {course.k} was {{:.2f}}"
        left += [Left(lanes[i], i, stands, len(rounds), why.format(stands.chance[i])) for i in gone]
        lanes, n = [lanes[i] for i in kept], more


def _vectors(runners: Sequence[Runner]) -> tuple[int, int]:
    return sum(r.computed for r in runners), sum(r.from_cache for r in runners)


def _round_in_words(this: RankRound, number: int, lanes: Sequence[Lane], stands: Standing, k: int) -> str:
    ahead = int(np.argmax(stands.combined))
    leader = lanes[ahead].runner.name
    dropped = f", {this.dropped} dropped" if this.dropped else ""
    return f"round {number}: {this.entered} on {this.n:,} examples{dropped}; ahead: {shown(leader)}"


# ------------------------------------------------------------------------------------------------------------ the rows


def drawing_order(course: Course) -> np.ndarray:
    """Positions that can be ranked on, such that every beginning is a stratified draw.

    Of each group one row comes before the second of any: copies of a picture would make leaving one out too easy.
    Classes with one example are left out, since no head could know them.
    """
    known = course.known
    strata = np.unique(known.task.strata(known.y), return_inverse=True)[1].ravel()
    n = len(strata)
    shuffled = stream(course.seed, "ranking", "rows").permutation(n)
    place_in_group = np.zeros(n, np.int64)
    _, group = np.unique(known.groups[shuffled], return_inverse=True)
    place_in_group[shuffled] = _places(group.ravel())
    order = np.lexsort((np.argsort(shuffled), place_in_group, strata))  # by stratum: first rows of groups first
    counts = np.bincount(strata)
    share = _places(strata[order]) / counts[strata[order]]
    # A row's share is the part of its class that comes before it; ties (the first of each class) by the draw.
    found = order[np.lexsort((np.argsort(shuffled)[order], share))]
    if known.task.name == "classification":
        found = found[counts[strata[found]] > 1]
    return found


def _places(labels: np.ndarray) -> np.ndarray:
    """For each entry how many equal ones stand before it."""
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    starts = np.cumsum(counts) - counts
    out = np.empty(len(labels), np.int64)
    out[order] = np.arange(len(labels)) - np.repeat(starts, counts)
    return out


# ---------------------------------------------------------------------------------------------------------- the start


def _enter(
    candidates: Sequence[Candidate], course: Course, n: int, failed: list[Failed], seconds: dict[str, float]
) -> list[Runner]:
    """Everyone who can be loaded and timed, cheapest first, as far as the time goes."""
    entered: list[Runner] = []
    for candidate in candidates:
        if candidate.card is None:
            failed.append(Failed(candidate, candidate.why))
        elif not candidate.card.weights.here and not candidate.fetch:
            failed.append(Failed(candidate, "not on this machine", tried=False))
        elif entered and course.deadline.left <= 0:
            failed.append(Failed(candidate, "not tried: the time was over"))
        else:
            try:
                entered.append(_timed(candidate, course, seconds))
                if sum(r.card.parameters for r in entered if r.loaded is not None) > HELD:
                    entered[-1].loaded = entered[-1].choice = None
            except (HeadstartError, MemoryError) as problem:
                _pass_on(problem)
                failed.append(Failed(candidate, _reason(problem)))
                course.observer(Said(f"{candidate.name}: {failed[-1].why}", "warning"))
    entered = _fast_enough(entered, course, failed)
    return _within_time(entered, course, n, failed)


def _timed(candidate: Candidate, course: Course, seconds: dict[str, float]) -> Runner:
    from headstart.backbones.taps import columns_of
    from headstart.features.choose import choose_runner
    from headstart.features.extract import sample
    from headstart.features.feeds import feed_for

    backbone = load(candidate, course, seconds)
    started = time.perf_counter()
    choice = choose_runner(
        backbone,
        lambda most: sample(feed_for(backbone), course.usable, course.look, most),
        device=course.device,
        memory=course.cache / "runners",
    )
    seconds["timing"] += time.perf_counter() - started
    speed = next((t.images_per_s for t in choice.trials if t.name == choice.name), float("nan"))
    once = replace(choice, make=cache(choice.make))  # rounds share what one of them converted
    columns = list(columns_of(backbone))
    return Runner(candidate, backbone.card, choice.name, speed, columns, loaded=backbone, choice=once)


def load(candidate: Candidate, course: Course, seconds: dict[str, float]) -> Backbone:
    """The network, with its weights or random ones, listened to at every stage where layers are ranked."""
    started = time.perf_counter()
    name = candidate.name.removeprefix(RANDOM)
    backbone = course.catalogue.load(name, offline=course.offline)
    if candidate.is_random:
        backbone = backbone.random_copy(course.seed)
    if course.layers:
        from headstart.backbones.taps import tapped

        # Early stages tell edges and colours apart and are wide; the upper half is where transfer is decided.
        stages = [s.name for s in backbone.stages]
        backbone = tapped(backbone, [*stages[len(stages) // 2 :], LAST])
    seconds["loading"] += time.perf_counter() - started
    return backbone


def _fast_enough(entered: list[Runner], course: Course, failed: list[Failed]) -> list[Runner]:
    most = course.filters.max_ms
    if most is None:
        return entered
    slow = [r for r in entered if r.ms > most]
    for runner in slow:
        why = f"{runner.ms:.1f} ms for {course.words.a}, more than --max-ms {most:g}"
        failed.append(Failed(runner.candidate, why, tried=False, images_per_s=runner.images_per_s))
    kept = [r for r in entered if r.ms <= most]
    if slow and not kept:
        fastest = min(slow, key=lambda r: r.ms)
        raise none_left(
            [f"--max-ms {most:g} removed {len(slow)} (the fastest here, {shown(fastest.name)}, takes {fastest.ms:.1f})"]
        )
    return kept


def _within_time(entered: list[Runner], course: Course, n: int, failed: list[Failed]) -> list[Runner]:
    """Those whose first pass the time allows, in the order they were named."""
    given = course.deadline.seconds
    if given is None or not entered:
        return entered
    cost = {id(r): n / r.images_per_s for r in entered}
    cheapest = min(entered, key=lambda r: cost[id(r)])
    needed = given - course.deadline.left + cost[id(cheapest)]
    if cost[id(cheapest)] > course.deadline.left:
        raise PlanError(
            f"RK13 {given:.0f} s are not enough: looking at the data and one pass of the cheapest network, "
            f"{shown(cheapest.name)}, over {n:,} examples take about {needed:.0f} s. Give --time {2 * needed:.0f}s."
        )
    left, kept = course.deadline.left, []
    for runner in sorted(entered, key=lambda r: cost[id(r)]):
        if runner is not cheapest and (cost[id(runner)] > max(DEAREST * given, 0.0) or cost[id(runner)] > left):
            why = f"not tried: one pass over {n:,} examples would take {cost[id(runner)]:.0f} of {given:.0f} s"
            failed.append(Failed(runner.candidate, why, tried=False, images_per_s=runner.images_per_s))
            continue
        left -= cost[id(runner)]
        kept.append(id(runner))
    return [r for r in entered if id(r) in kept]


def _affordable(runners: Sequence[Runner], rows: int, deadline: Deadline) -> bool:
    """A further round may take half of the time that is left: short fine-tunes tell more than more examples."""
    if deadline.seconds is None:
        return True
    return sum(rows / r.images_per_s for r in {id(r): r for r in runners}.values()) < deadline.left / 2


# ----------------------------------------------------------------------------------------------------------- one round


def _run(runner: Runner, rows: np.ndarray, course: Course, seconds: dict[str, float]) -> None:
    """One pass over ``rows`` (what is in the cache is not computed), and the scores of every layer."""
    from headstart.backbones.taps import columns_of

    backbone = runner.loaded or load(runner.candidate, course, seconds)
    started = time.perf_counter()
    features = features_by(backbone, runner, rows, course)
    took = time.perf_counter() - started
    seconds["forward"] += took
    runner.forward_s += took
    runner.computed += features.record.images - features.record.from_cache
    runner.from_cache += features.record.from_cache
    started = time.perf_counter()
    y, columns = course.known.y[rows], columns_of(backbone)
    runner.layers = [n for n in runner.layers if n == LAST or not _is_last(features.X, columns[n], columns[LAST])]
    for layer in runner.layers:
        _score(runner, layer, np.ascontiguousarray(features.X[:, columns[layer]]), y, course)
    seconds["scoring"] += time.perf_counter() - started


def features_by(backbone: Backbone, runner: Runner, rows: np.ndarray, course: Course) -> Features:
    """Of the rows at these positions; DataError where the network gives none for some of them."""
    from headstart.features.extract import extract

    features = extract(
        backbone,
        course.usable.take(rows),
        cache=course.cache,
        device=course.device,
        only_runner=runner.choice if runner.choice and backbone is runner.loaded else runner.runner,
        look=course.look,
        observer=course.observer,
        what=f"{runner.name} on {len(rows):,}",
    )
    if len(features.X) != len(rows):
        first = features.survey.problems[min(features.survey.problems)]
        raise DataError(
            f"gives no features for {len(rows) - len(features.X)} of {len(rows)} {course.words.many} "
            f"(first: {shown(first.id)}: {first.code} {shown(first.reason)})"
        )
    return features


def _is_last(X: np.ndarray, columns: slice, last: slice) -> bool:
    """Whether a stage gives the very vector that the network gives: one line of the table is enough for both."""
    return columns.stop - columns.start == last.stop - last.start and np.array_equal(X[:, columns], X[:, last])


def _score(runner: Runner, layer: str, X: np.ndarray, y: np.ndarray, course: Course) -> None:
    targets_of(X, y, RidgeLoo.about)  # constant or NaN features are said before they are decomposed
    parts = spectrum(X)
    runner.by_example[layer] = RidgeLoo().by_example(X, y, parts=parts)
    found: dict[str, float] = {}
    if "logme" in course.stand_ins:
        found["logme"] = LogME()(X, y)
    if "hscore" in course.stand_ins:
        found["hscore"] = HScore()(X, y, parts=parts)
    for score in course.scores:
        found.setdefault(score.about.name, score(X, y))
    runner.scores[layer] = found


# --------------------------------------------------------------------------------------------------- what else is known


def beliefs_of(lanes: Sequence[Lane], prior: Prior, stand_ins: Sequence[str]) -> Beliefs:
    """Prior and source accuracy of each lane; a layer inherits its network's."""
    names = [lane.runner.candidate for lane in lanes]
    return Beliefs(
        np.array([prior_of(c, prior) for c in names]),
        np.array([source_accuracy(c, prior) for c in names]),
        [np.array([lane.runner.scores[lane.layer][name] for lane in lanes]) for name in stand_ins],
    )


def prior_of(candidate: Candidate, prior: Prior) -> float:
    return UNTRAINED if candidate.is_random else prior.z(candidate.name)


def source_accuracy(candidate: Candidate, prior: Prior) -> float:
    """Per cent; one in a thousand for random weights."""
    return 0.1 if candidate.is_random else prior.accuracy(candidate.name)


def _reason(problem: Exception) -> str:
    if isinstance(problem, MemoryError):
        return "EN73 the machine has not enough memory for it"
    return shown(" ".join(str(problem).split()))


def _pass_on(problem: Exception) -> None:
    """A wish to stop and a disk that cannot be written end the race: they are not the candidate's fault."""
    if isinstance(problem, Stopped) or str(problem)[:4] in DISK:
        raise problem
