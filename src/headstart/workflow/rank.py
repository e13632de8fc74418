"""Which network will serve this data best: measured before any is trained, read top to bottom.

The files are looked at once, and divided as ``fit`` divides them; the rows that ``fit`` will seal are left alone. Then
the candidates race on the others (``workflow/race.py``), and where the time allows the best few are fine-tuned for a
short while (``workflow/finalists.py``).
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from headstart.base.errors import DataError, MissingExtra, did_you_mean, shown
from headstart.base.progress import QUIET, Observer, Said
from headstart.data.audit import audit
from headstart.data.dataset import Dataset
from headstart.data.split import group_rows
from headstart.data.words import words_of
from headstart.ranking.combine import finalists
from headstart.ranking.prior import Prior, shipped_prior, updated
from headstart.ranking.scores import SCORES
from headstart.ranking.scores.score import Score
from headstart.records.audit import SplitRecord
from headstart.records.ranking import RankCost, RankedCandidate, RankRecord
from headstart.records.run import RunFolder
from headstart.workflow.candidates import NO_FILTERS, Filters, candidates
from headstart.workflow.clock import Deadline
from headstart.workflow.config import DataConfig, FitConfig, cache_folder
from headstart.workflow.dividing import divide
from headstart.workflow.environment import machine, versions
from headstart.workflow.finalists import Trials, short_fine_tunes
from headstart.workflow.judge import Known
from headstart.workflow.own_runs import finished_runs
from headstart.workflow.race import FIRST, LAST, Course, Result, race
from headstart.workflow.ranked import table
from headstart.workflow.reading import check_one_kind, check_out, look_of, read, stop_or_go, task_of

SCHEMA = 1
FINALISTS = 3
PLAIN = DataConfig()
QUICK = 300  # examples on which fit ranks, and ten of each class
QUICK_S = 180.0  # seconds that may take


@dataclass(frozen=True)
class RankConfig:
    """What is ranked, on what, and for how long.

    candidates: names and patterns; none: every network on this machine.  candidates_in: a folder of model folders.
    with_random: also copies with random weights, which should lose.  layers: also what inner stages give.
    scores: names of further scores for the table.  time_s: for everything; None: no short fine-tunes, no limit.
    finalists: how many are fine-tuned for a short while, where there is time.  k: of the chance to be in the top k.
    own_runs: folder of finished runs that update the prior; '': none.
    first: examples of the first round (and ten of each class).  rounds: at most.
    """

    data: DataConfig = PLAIN
    candidates: tuple[str, ...] = ()
    candidates_in: str | None = None
    filters: Filters = NO_FILTERS
    with_random: bool = False
    layers: bool = False
    scores: tuple[str, ...] = ()
    time_s: float | None = None
    finalists: int = FINALISTS
    k: int = 3
    own_runs: str = "runs"
    test_share: float = 0.2
    first: int = FIRST
    rounds: int = 10
    seed: int = 0
    device: str = "auto"
    offline: bool = False

    def __post_init__(self) -> None:
        if self.time_s is not None and not self.time_s > 0:
            raise DataError(f"RK13 time_s is {self.time_s}; it must be above 0.")
        if self.k < 1:
            raise DataError(f"RK11 k is {self.k}; the top k holds one network at least.")
        for name in self.scores:
            _score_named(name)


@dataclass(frozen=True)
class Ranking:
    """What ``rank`` gives back. folder: where ranking.json and ranking.html were written, None if nowhere."""

    record: RankRecord
    folder: Path | None = None

    @property
    def best(self) -> list[str]:
        """Names of the networks that were ranked, best first."""
        ranked = [c.model for c in self.record.candidates if c.probe is not None]
        return list(dict.fromkeys(ranked))

    def to_frame(self) -> Any:
        """A pandas DataFrame, one row a candidate, best first. MissingExtra where pandas is not installed."""
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtra("to_frame needs pandas, which is not installed. pip install pandas") from error
        return pd.DataFrame([_flat(c) for c in self.record.candidates])

    def __str__(self) -> str:
        return self.record.sentence


@dataclass(frozen=True, eq=False)
class Looked:
    """The data after one look. usable: rows that may be learnt from; known: theirs, without features."""

    usable: Dataset
    known: Known
    split: SplitRecord
    sealed: int
    same_split: bool


def rank(
    data: Any,
    candidates: Sequence[str] | None = None,
    y: Sequence[Any] | None = None,
    *,
    config: RankConfig | None = None,
    out: str | Path | None = None,
    cache: str | Path | None = None,
    observer: Observer = QUIET,
    command: str = "",
) -> Ranking:
    """The candidates in the order in which they should serve ``data``, with intervals and costs.

    data, y: as for ``fit``.  candidates: names or patterns, in place of those in ``config``.  out: folder for
    ranking.json and ranking.html; None: nothing is written but the cache.
    Raises what ``fit`` raises for the data; DataError RK10 where filters leave no candidate, PlanError RK13 where the
    time is not enough for one pass. A candidate that cannot be used is a row with its reason.
    """
    config = config or RankConfig()
    if candidates is not None:
        names = (candidates,) if isinstance(candidates, str) else tuple(candidates)
        config = replace(config, candidates=names)
    with termination_as_interrupt():
        return _rank(data, y, config, Path(out) if out is not None else None, cache_folder(cache), observer, command)


def quick_choice(dataset: Dataset, config: FitConfig, folder: RunFolder, cache: Path, observer: Observer) -> str:
    """The network for ``fit --backbone auto``: one round on few examples, no training; written to ranking.json.

    A run that goes on takes what it chose before.
    """
    if folder.ranking.exists():
        return folder.load(RankRecord).recommended
    wishes = RankConfig(
        data=config.data,
        time_s=QUICK_S,
        finalists=0,
        test_share=config.test_share,
        first=QUICK,
        rounds=1,
        seed=config.seed,
        device=config.device,
        offline=config.offline,
    )
    found = _rank(dataset, None, wishes, None, cache, observer, "")
    folder.save(found.record)
    observer(Said(found.record.sentence))
    return found.record.recommended


def _rank(
    data: Any,
    y: Sequence[Any] | None,
    config: RankConfig,
    out: Path | None,
    cache: Path,
    observer: Observer,
    command: str,
) -> Ranking:
    from headstart.backbones.catalogue import catalogue
    from headstart.workflow.fit import content_fingerprint

    started, deadline = time.perf_counter(), Deadline(config.time_s)
    if out is not None:
        check_out(out)
    dataset = read(data, y, config.data)
    check_one_kind(dataset, "rank")
    if config.layers and dataset.modality != "image":
        raise DataError(
            f"RK11 --layers ranks stages of networks for images, and this data is {words_of(dataset.modality).many}. "
            "Leave it out."
        )
    task_of(dataset)  # one class, no labels, a wrong word: said before any work
    asked = candidates(
        catalogue,
        names=config.candidates,
        folder=Path(config.candidates_in) if config.candidates_in else None,
        filters=config.filters,
        with_random=config.with_random,
        modality=dataset.modality,
        offline=config.offline,
    )
    fingerprint = content_fingerprint(dataset)
    looked = look(dataset, config, cache, observer)
    looking = time.perf_counter() - started
    prior, own = known_prior(Path(config.own_runs) if config.own_runs else None, without=fingerprint)
    course = Course(
        usable=looked.usable,
        known=looked.known,
        prior=prior,
        catalogue=catalogue,
        cache=cache,
        look=look_of(dataset, config.data),
        deadline=deadline,
        filters=config.filters,
        layers=config.layers,
        scores=tuple(_score_named(name) for name in config.scores),
        k=config.k,
        first=config.first,
        most_rounds=config.rounds,
        device=config.device,
        offline=config.offline,
        seed=config.seed,
        observer=observer,
    )
    result = race(asked, course)
    began = time.perf_counter()
    trials = _fine_tuned(result, course, config.finalists)
    tuning = time.perf_counter() - began
    rows, verdict = table(result, trials, course, own)
    record = RankRecord(
        schema=SCHEMA,
        command=command or "headstart.rank(…)",
        data=dataset.origin,
        data_fingerprint=fingerprint,
        task=looked.known.task.name,
        score=_score_words(looked.known.task.name),
        k=config.k,
        seed=config.seed,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        learning=len(looked.known),
        sealed=looked.sealed,
        same_split=looked.same_split,
        split=_split_words(looked),
        candidates=rows,
        rounds=tuple(result.rounds),
        recommended=next(r.name for r in rows if r.status == "recommended"),
        sentence=verdict,
        budget_s=config.time_s,
        cost=RankCost(
            looking=looking,
            loading=result.seconds["loading"],
            timing=result.seconds["timing"],
            forward=result.seconds["forward"],
            scoring=result.seconds["scoring"],
            tuning=tuning,
            total=time.perf_counter() - started,
            computed=result.computed,
            from_cache=result.from_cache,
            of_model={r.name: round(r.forward_s, 3) for r in _runners(result)},
        ),
        versions=versions(),
        machine=machine(),
        notes=(*_notes(looked, own, catalogue.cards(), prior, rows), *trials.notes),
        modality=dataset.modality,
    )
    if out is not None:
        RunFolder(out).save(record)
        from headstart.report.ranking import write_ranking

        write_ranking(out, record)
    return Ranking(record, out)


# ------------------------------------------------------------------------------------------------------------ the data


def look(dataset: Dataset, config: RankConfig, cache: Path, observer: Observer) -> Looked:
    """Every file once, judged and divided as ``fit`` does; DataError as there."""
    seen = look_of(dataset, config.data).survey(dataset, cache, observer=observer)
    found = audit(dataset, seen)
    stop_or_go(found, config.data, observer)
    usable = dataset.take(seen.rows)
    task = task_of(usable)
    groups = group_rows(dataset, seen.rows, found.clusters, by=config.data.group_by)
    nothing = np.zeros((len(usable), 0), np.float32)
    known = Known(nothing, task.encode(usable.targets or ()), groups, np.asarray(usable.ids, object), task)
    fit_config = FitConfig(data=config.data, test_share=config.test_share, seed=config.seed)
    train, sealed, split = divide(known, usable, fit_config, found)
    # Features decide about doubtful look-alikes, so that fit may keep others together; with features that take all of
    # them for copies the clusters are the largest that any network could make.
    largest = audit(dataset, seen, features=np.ones((len(usable), 1), np.float32)).clusters
    same = {c.ids for c in largest} == {c.ids for c in found.clusters}
    observer(Said(split.reason))
    return Looked(usable.take(train.tolist()), known.take(train), split, sealed.count, same)


def _split_words(looked: Looked) -> str:
    if looked.split.how == "cross-validation":
        return "all examples were used: there are too few to seal some, so fit will judge by cross-validation"
    sealed = f"{looked.sealed} examples that fit seals (seed {looked.split.seed}) were not looked at"
    if looked.split.how == "given" or looked.same_split:
        return sealed
    return (
        f"{sealed}; some look-alikes are doubtful, and fit, which decides them by the features of its network, may "
        "seal a few others"
    )


def known_prior(runs: Path | None, *, without: str) -> tuple[Prior, frozenset[str]]:
    """The shipped prior after the user's own runs, and the networks these were about."""
    prior = shipped_prior()
    if runs is None:
        return prior, frozenset()
    own = finished_runs(runs, without=without)
    together: dict[str, set[str]] = {}
    for run in own:
        together.setdefault(run.data, set()).update(run.accuracy)
    compared = [models for models in together.values() if len(models) > 1]
    return updated(prior, own), frozenset().union(*compared)


# ----------------------------------------------------------------------------------------------------------- finalists


def _fine_tuned(result: Result, course: Course, most: int) -> Trials:
    """The best few by the combination, the probe and the prior, where there is time and more than one."""
    nothing = Trials((), np.zeros((0, 0)), np.zeros(0, np.int64), (), course.seed)
    if course.deadline.seconds is None or most < 2 or course.usable.modality != "image":  # others are not trained
        return nothing
    plain = [i for i, lane in enumerate(result.lanes) if lane.layer == LAST and not lane.runner.candidate.is_random]
    if len(plain) < 2:
        return nothing
    stands, beliefs = result.standing, result.beliefs
    best = finalists(stands.combined[plain], most, always=[stands.probe[plain], beliefs.prior[plain]])
    hopeful = [plain[i] for i in best if stands.chance[plain[i]] > 0]
    if len(hopeful) < 2 or course.deadline.left <= 0:
        return nothing
    return short_fine_tunes([result.lanes[i].runner for i in hopeful], result.rows, course)


# ----------------------------------------------------------------------------------------------------- what is written


def _notes(
    looked: Looked, own: frozenset[str], cards: Sequence[Any], prior: Prior, rows: Sequence[RankedCandidate]
) -> tuple[str, ...]:
    found = [f"split: {_split_words(looked)}"]
    if len(np.unique(looked.known.groups)) < len(looked.known):
        found.append(
            "several rows of one group are in the race, so that left-out scores are somewhat optimistic, for all alike"
        )
    if own:
        found.append(f"the prior holds your own finished runs with {', '.join(sorted(map(shown, own)))}")
    best = max(
        (r.prior for r in rows if r.probe is not None and r.prior_from not in ("", "random weights")), default=np.nan
    )
    away = [(prior.z(c.name), c.name) for c in cards if not c.weights.here and prior.standing(c.name) is not None]
    away = [pair for pair in away if pair[0] > best]
    if away:
        z, name = max(away)
        found.append(
            f"not on this machine, with a better record elsewhere: {shown(name)} (prior {z:+.2f}, here {best:+.2f})"
        )
    return tuple(found)


def _runners(result: Result) -> list[Any]:
    every = [lane.runner for lane in result.lanes] + [left.lane.runner for left in result.left]
    return list({id(r): r for r in every}.values())


def _score_words(task: str) -> str:
    return "left-out accuracy" if task == "classification" else "left-out R²"


def _score_named(name: str) -> Score:
    known = {s.about.name: s for s in SCORES if s.about.reads == "features"}
    if name not in known:
        raise DataError(f"RK11 no score '{shown(name)}'.{did_you_mean(name, known)} There are: {', '.join(known)}.")
    return known[name]


def _flat(row: RankedCandidate) -> dict[str, Any]:
    """One row of the frame: estimates as three columns each."""
    found: dict[str, Any] = {"model": row.model, "layer": row.layer, "status": row.status}
    for name, e in (("probe", row.probe), ("tuned", row.tuned)):
        found |= {name: e.value if e else np.nan, f"{name}_low": e.low if e else np.nan}
        found |= {f"{name}_high": e.high if e else np.nan}
    for name in ("chance", "prior", "prior_from", "source_accuracy", "combined", "images_per_s", "ms", "parameters"):
        found[name] = getattr(row, name)
    return (
        found
        | {"weights_bytes": row.weights_bytes, "licence": row.licence, "here": row.here, "why": row.why}
        | dict(row.scores)
    )


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does: what is being computed is written to the cache before the process ends."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
