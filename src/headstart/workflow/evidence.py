"""Whether a rung is better than the one below, on rows from which neither has learnt.

The rows come in parts, and after each part one may look. All looks together keep a rung without merit at most once in
twenty times: each look that may be followed by another spends its share of that error, the last one all that is left.
When a look is the last is known before its numbers are (no part is left, or no time), so nothing is chosen by them.

Accuracy moves in steps of whole rows: on 200 rows a gain of three points is six rows, which paired resampling cannot
tell from chance. So where accuracy decides, the evidence is the Brier score of calibrated probabilities on the same
rows, which counts how sure both are, and accuracy itself must have risen besides. In simulations of a true gain (see
tests/workflow/test_workflow_evidence.py) that keeps a good rung about twice as often on 200 rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headstart.adapt.calibration import fit_temperature
from headstart.evaluation.intervals import Resamples, estimate, independent, undefined
from headstart.evaluation.scores import LOWER_IS_BETTER, is_better, is_worse, resampled, score
from headstart.records.estimate import Estimate
from headstart.workflow.judge import Known

ERROR = 0.05  # probability of keeping a rung that is as good as the one below, all looks together
# What the intervals are given of it. Temperatures are fitted on the rows that judge, which resampling does not see: in
# simulations a nominal 0.05 was 0.058 to 0.064 (60 to 600 rows). This is 0.049 with 60 rows in three looks and 0.054
# with 200 rows in one (3,000 climbs each).
NOMINAL = 0.04
FINER = {"accuracy": "brier"}  # scores that move in whole rows → what is looked at in their place


@dataclass(frozen=True, eq=False)
class Verdict:
    """A rung against the one below. now: its deciding score.  gain: over the one below, paired.

    finer: the same of the score that was looked at in its place; None where the deciding score was.
    share: of the tuned weights.  logits: (N, K), NaN for rows not judged.  words: the numbers, for the user.
    """

    now: Estimate
    gain: Estimate
    finer: Estimate | None
    share: float
    logits: np.ndarray
    is_better: bool
    is_worse: bool
    words: str


class Judge:
    """Looks at one part of the rows after another.

    parts: (rows that learnt, rows held back) of each.  below: (N, K) logits of the rung below, made in the same way.
    metric: the deciding score.  resamples: of the bootstrap.
    """

    def __init__(
        self,
        known: Known,
        parts: Sequence[tuple[np.ndarray, np.ndarray]],
        below: np.ndarray,
        *,
        metric: str,
        resamples: int,
        seed: int,
    ) -> None:
        self._known, self._parts, self._below = known, parts, below
        self._metric, self._resamples, self._seed = metric, resamples, seed
        self._evidence = FINER.get(metric, metric) if known.task.name == "classification" else metric
        self._found: list[Mapping[float, np.ndarray]] = []
        self._spent = 0.0

    def look(self, found: Mapping[float, np.ndarray], *, last: bool) -> Verdict:
        """At the next part. found: share of the tuned weights → logits of its held rows.  last: no look will follow."""
        assert len(self._found) < len(self._parts), "every part has been looked at"
        self._found.append(found)
        error = NOMINAL - self._spent if last else NOMINAL / len(self._parts)
        self._spent += error
        mixed = self._mixed()
        share = self._best_share(mixed)
        rows = np.flatnonzero(np.isfinite(mixed[share]).all(axis=1) & np.isfinite(self._below).all(axis=1))
        names = list(dict.fromkeys((self._metric, self._evidence)))
        resamples = resamples_of(self._known, rows, self._resamples, self._seed)
        below = self._scored(self._below, rows, names, resamples)
        scored = {s: self._scored(logits, rows, names, resamples) for s, logits in mixed.items() if s > 0 or s == share}
        gains = {
            name: _gain(
                [scored[s][name] for s in scored],
                list(scored).index(share),
                below[name],
                error,
                n=len(rows),
                units=resamples.units,
                lower=name in LOWER_IS_BETTER,
            )
            for name in names
        }
        gain, evidence = gains[self._metric], gains[self._evidence]
        value, drawn = scored[share][self._metric]
        has_risen = gain.value < 0 if self._metric in LOWER_IS_BETTER else gain.value > 0
        return Verdict(
            estimate(value, drawn, n=len(rows), units=resamples.units),
            gain,
            evidence if self._evidence != self._metric else None,
            share,
            mixed[share],
            share > 0 and has_risen and is_better(evidence, self._evidence),
            is_worse(evidence, self._evidence),
            ", ".join(_in_words(name, gain) for name, gain in gains.items()),
        )

    def _mixed(self) -> dict[float, np.ndarray]:
        """Share → (N, K) logits of the rows seen so far."""
        seen = self._parts[: len(self._found)]
        return {s: held_logits(self._known, seen, [found[s] for found in self._found]) for s in sorted(self._found[0])}

    def _best_share(self, mixed: Mapping[float, np.ndarray]) -> float:
        """The share with the least loss on the rows seen so far; ties go to the smaller."""
        rows = np.concatenate([held for _, held in self._parts[: len(self._found)]])
        losses = {s: round(calibrated_loss(self._known, logits[rows], rows), 4) for s, logits in mixed.items()}
        return min(losses, key=lambda s: (losses[s], s))

    def _scored(
        self, logits: np.ndarray, rows: np.ndarray, names: Sequence[str], resamples: Resamples
    ) -> dict[str, tuple[float, np.ndarray]]:
        """Name → (score, score of each resample) of calibrated answers for ``rows``."""
        task, y = self._known.task, self._known.y[rows]
        scores = task.decode(logits[rows] / fit_temperature(logits[rows], y, task))
        values = score(task.name, y, scores, names)
        drawn = resampled(task.name, y, scores, names, resamples)
        return {name: (float(values[name][0]), drawn[name]) for name in names}


def _gain(
    tried: Sequence[tuple[float, np.ndarray]],
    chosen: int,
    below: tuple[float, np.ndarray],
    error: float,
    *,
    n: int,
    units: int,
    lower: bool,
) -> Estimate:
    """tried[chosen] − below, paired; each end is wrong with probability ``error`` though the best of several was taken.

    (score, resamples) each. The largest of the studentised deviations of all that were tried takes the place of one
    of them (White 2000, reality check; Romano & Wolf 2005), and Student's t that of the normal distribution.
    """
    from scipy.special import ndtri, stdtrit

    values = np.array([value - below[0] for value, _ in tried])
    drawn = np.stack([resamples - below[1] for _, resamples in tried])  # (tried, R)
    drawn = drawn[:, np.isfinite(drawn).all(axis=0)]
    level = round(1 - 2 * error, 6)
    if not np.isfinite(values).all() or not drawn.shape[1] or units < 2:
        return undefined(n, level)
    spread = np.maximum(drawn.std(axis=1), 1e-12)
    apart = (drawn - values[:, None]) / spread[:, None]
    far = np.quantile((-apart if lower else apart).max(axis=0), 1 - error)
    far *= stdtrit(units - 1, 1 - error) / ndtri(1 - error) * math.sqrt(units / (units - 1))
    value, half = float(values[chosen]), float(max(far, 0.0) * spread[chosen])
    return Estimate(value, value - half, value + half, n, level)


def _in_words(name: str, gain: Estimate) -> str:
    name = "Brier score" if name == "brier" else name.replace("_", "-")
    return f"{name} {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"


def held_logits(
    known: Known, parts: Sequence[tuple[np.ndarray, np.ndarray]], logits: Sequence[np.ndarray]
) -> np.ndarray:
    """(N, K): the answers for each part's held rows in their places, NaN elsewhere."""
    total = np.full((len(known), known.task.outputs), np.nan)
    for found, (_, held) in zip(logits, parts, strict=True):
        total[held] = found
    return total


def calibrated_loss(known: Known, logits: np.ndarray, rows: np.ndarray) -> float:
    """Of the answers for ``rows`` after the best temperature."""
    task, y = known.task, known.y[rows]
    name = "rmse" if task.name == "regression" else "log_loss"
    scores = task.decode(logits / fit_temperature(logits, y, task))
    return float(score(task.name, y, scores, [name])[name][0])


def resamples_of(known: Known, rows: np.ndarray, count: int, seed: int) -> Resamples:
    """Groups are drawn together. Classes are not held at their sizes: of two rows of a class, drawing within it would
    see half of the variance."""
    groups: np.ndarray | None = known.groups[rows]
    return Resamples(len(rows), count, seed, None if independent(groups) else groups)
