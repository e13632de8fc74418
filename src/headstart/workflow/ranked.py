"""From the race to the lines of the table, best first, and the recommendation with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from headstart.base.errors import shown
from headstart.data.words import Words
from headstart.ranking.prior import Prior
from headstart.ranking.standing import Standing, cheapest_of_the_best, leader_of
from headstart.records.estimate import Estimate
from headstart.records.ranking import RankedCandidate, Status
from headstart.workflow.candidates import Candidate
from headstart.workflow.finalists import Trials
from headstart.workflow.race import LAST, Course, Failed, Lane, Result, prior_of, source_accuracy


def table(
    result: Result, trials: Trials, course: Course, own: frozenset[str]
) -> tuple[tuple[RankedCandidate, ...], str]:
    """(rows, best first; the recommendation with its reason)."""
    stands, lanes = result.standing, result.lanes
    # One alone cannot be compared; its score would stand in a column of dashes.
    tuned = dict(zip(trials.names, trials.scores(), strict=True)) if len(trials.names) > 1 else {}
    winner, why = _recommended(result, trials, course.words)
    order = sorted(range(len(lanes)), key=lambda i: -stands.combined[i])
    # Who was fine-tuned stands above who was not: that is the stronger evidence, and only the best were.
    order.sort(key=lambda i: -tuned[lanes[i].runner.name].value if _is_tuned(lanes[i], tuned) else 1)
    order.sort(key=lambda i: i != winner)
    rows = []
    for i in order:
        status: Status = "recommended" if i == winner else "finalist" if _is_tuned(lanes[i], tuned) else "kept"
        row = _row(lanes[i], i, stands, status, len(result.rounds), "", course, own)
        rows.append(replace(row, tuned=tuned[lanes[i].runner.name]) if _is_tuned(lanes[i], tuned) else row)
    gone = sorted(result.left, key=lambda left: (-left.rounds, -left.standing.combined[left.position]))
    rows += [_row(g.lane, g.position, g.standing, "dropped", g.rounds, g.why, course, own) for g in gone]
    rows += [_failed_row(f, course, own) for f in result.failed]
    return tuple(rows), why


def _is_tuned(lane: Lane, tuned: Mapping[str, Estimate]) -> bool:
    return lane.layer == LAST and lane.runner.name in tuned


def _row(
    lane: Lane, i: int, stands: Standing, status: Status, rounds: int, why: str, course: Course, own: frozenset[str]
) -> RankedCandidate:
    runner = lane.runner
    base = _facts(runner.candidate, course, own)
    return replace(
        base,
        layer=lane.layer,
        status=status,
        probe=stands.interval(i),
        chance=float(stands.chance[i]),
        combined=float(stands.combined[i]),
        scores={name: float(value) for name, value in runner.scores[lane.layer].items()},
        rounds=rounds,
        runner=runner.runner,
        images_per_s=runner.images_per_s,
        here=True,
        parameters=runner.card.parameters,
        weights_bytes=4 * runner.card.parameters,
        why=why,
    )


def _failed_row(failed: Failed, course: Course, own: frozenset[str]) -> RankedCandidate:
    base = _facts(failed.candidate, course, own)
    not_here = failed.candidate.card is not None and not failed.candidate.card.weights.here and not failed.tried
    status: Status = "failed" if failed.tried else "not fetched" if not_here else "dropped"
    return replace(base, status=status, why=failed.why, images_per_s=failed.images_per_s)


def _facts(candidate: Candidate, course: Course, own: frozenset[str]) -> RankedCandidate:
    """What is known before anything is measured."""
    card = candidate.card
    row = RankedCandidate(candidate.name, LAST, "failed", here=False)
    if card is None:
        return row
    return replace(
        row,
        prior=prior_of(candidate, course.prior),
        prior_from=_prior_from(candidate, course.prior, own),
        source_accuracy=source_accuracy(candidate, course.prior),
        parameters=card.parameters,
        weights_bytes=4 * card.parameters,
        licence=card.licence,
        here=card.weights.here,
        how_to_get="" if card.weights.here else card.weights.how_to_get,
    )


def _prior_from(candidate: Candidate, prior: Prior, own: frozenset[str]) -> str:
    if candidate.is_random:
        return "random weights"
    if candidate.name in own:
        return "own runs"
    if prior.standing(candidate.name) is not None:
        return "fine-tuned elsewhere"
    return "source accuracy" if not np.isnan(prior.z(candidate.name)) else ""


def _recommended(result: Result, trials: Trials, words: Words) -> tuple[int, str]:
    """(position in result.lanes, a sentence with the reason)."""
    lanes, stands = result.lanes, result.standing
    if len(trials.names) > 1:
        return _after_tuning(result, trials, words)
    cost = [lane.runner.ms for lane in lanes]
    # Random weights are there to lose; where they do not, the sentence must still name a network that was trained.
    among = [i for i, lane in enumerate(lanes) if not lane.runner.candidate.is_random] or list(range(len(lanes)))
    winner, leader = cheapest_of_the_best(stands, cost, among), leader_of(stands, among)
    name, score = _lane_name(lanes[winner]), stands.interval(winner)
    interval = f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"
    measured = f"its probe reaches {interval} on {score.n:,} left-out {words.many}"
    if len(among) == 1:
        return winner, f"Take {name}: {measured}, and no other candidate is left."
    if winner != leader:
        return winner, (
            f"Take {name}: {measured}; {_lane_name(lanes[leader])} ranks higher but not surely, and this one takes "
            f"{lanes[winner].runner.ms:.1f} instead of {lanes[leader].runner.ms:.1f} ms for {words.a}."
        )
    others = [i for i in among if i != winner and not stands.surely_better(winner, i)]
    second = leader_of(stands, [i for i in among if i != winner])
    if others:
        level = "they are" if len(others) > 1 else "it is"
        names = ", ".join(_lane_name(lanes[i]) for i in others[:3])
        return winner, f"Take {name}: {measured}; {names} could still be as good, but {level} not cheaper."
    return winner, (
        f"Take {name}: {measured}, and it is first in the combined rank of probe, source accuracy and prior, on "
        f"resampled {words.many} too; next comes {_lane_name(lanes[second])}."
    )


def _after_tuning(result: Result, trials: Trials, words: Words) -> tuple[int, str]:
    at = {lane.runner.name: i for i, lane in enumerate(result.lanes) if lane.layer == LAST}
    runners = [result.lanes[at[name]].runner for name in trials.names]
    scores = trials.scores()
    leader = max(range(len(scores)), key=lambda m: scores[m].value)
    level = [m for m in range(len(scores)) if m == leader or trials.margin(leader, m).low <= 0]
    winner = min(level, key=lambda m: (runners[m].ms, -scores[m].value))
    s = scores[winner]
    said = (
        f"Take {shown(trials.names[winner])}: {s.value:.3f} [{s.low:.3f}, {s.high:.3f}] on {s.n:,} held-back "
        f"{words.many} after a short fine-tuning"
    )
    if winner != leader:
        margin = trials.margin(leader, winner)
        return at[trials.names[winner]], (
            f"{said}; {shown(trials.names[leader])} is {margin.value:.3f} [{margin.low:.3f}, {margin.high:.3f}] "
            f"higher, which may be chance, and takes {runners[leader].ms:.1f} instead of {runners[winner].ms:.1f} ms "
            f"for {words.a}."
        )
    second = max((m for m in range(len(scores)) if m != leader), key=lambda m: scores[m].value)
    margin = trials.margin(leader, second)
    sure = "surely" if margin.low > 0 else "not surely, but no dearer,"
    return at[trials.names[winner]], f"{said}, {sure} ahead of {shown(trials.names[second])} by {margin.value:.3f}."


def _lane_name(lane: Lane) -> str:
    return shown(lane.runner.name if lane.layer == LAST else f"{lane.runner.name} {lane.layer}")
