"""Which augmentations leave the class as it is: changed copies of training pictures are embedded, and a probe says.

A mirrored "b" is a "d". Where a kind of change costs right answers, it is switched off, with the numbers that say why.
A probe that has learnt a picture also knows its mirror image and would hide the harm, so each copy is judged without
its original. What the network cannot tell apart before it has learnt, the test cannot see.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from headstart.base.errors import shown
from headstart.base.seeds import stream
from headstart.evaluation.intervals import Resamples, mcnemar_exact, paired_difference
from headstart.inputs.augment import STRONG, VIVID, Policy, View, apply_view, augment
from headstart.inputs.decoded import Pictures
from headstart.inputs.operations import TILT, Kind
from headstart.records.estimate import Estimate
from headstart.tasks.task import Task

MOST_TRIED = 256  # pictures that are changed
LEAST_TRIED = 8  # below which every interval is too narrow
MOST_LEARNT = 1000  # rows that the probe learns from: its cost grows with their cube
STRENGTHS = tuple(10.0 ** (k / 2) for k in range(-8, 5))  # of the ridge, for a kernel that is 1 on the diagonal
STRONG_CROP = 0.35  # share of the picture, as in the presets
TOLERANCE: Mapping[Kind, float] = {  # accuracy that may be lost: what hides or bends a part still teaches
    "horizontal-flip": 0.05,
    "vertical-flip": 0.05,
    "tilt": 0.1,
    "turn": 0.05,
    "crop": 0.1,
    "strong-crop": 0.15,
    "colour": 0.1,
    "strong-colour": 0.15,
}
IN_ONE_CLASS = 0.25  # recall that one label may lose
WORDS: Mapping[Kind, str] = {
    "horizontal-flip": "left-right flips",
    "vertical-flip": "upside-down flips",
    "tilt": "tilts",
    "turn": "quarter turns",
    "crop": "crops",
    "strong-crop": "strong crops",
    "colour": "changes of light and colour",
    "strong-colour": "strong changes of light and colour",
}
SCORES = {
    "classification": "accuracy",
    "multilabel": "mean Jaccard index",
    "regression": "share of answers within twice the usual error",
}


@dataclass(frozen=True)
class Verdict:
    """What one kind of change does to the answers.

    lost: score of the pictures as they are minus that of their copies (see SCORES), with its paired interval.
    suffers: the label for which it is switched off, '' where there is none.  why: a sentence.
    """

    kind: Kind
    allowed: bool
    lost: Estimate
    suffers: str
    why: str


# --------------------------------------------------------------------------------------------------------- copies


def rows_to_try(strata: np.ndarray, *, seed: int, most: int = MOST_TRIED) -> np.ndarray:
    """Up to ``most`` positions, ascending, as evenly over the strata (n,) as their sizes allow."""
    order = stream(seed, "safety").permutation(len(strata))
    turn = np.zeros(len(strata), np.int64)
    for stratum in np.unique(strata):
        members = order[strata[order] == stratum]
        turn[members] = np.arange(len(members))
    return np.sort(order[np.argsort(turn[order], kind="stable")][:most])


def copies(pictures: Pictures, rows: np.ndarray, kind: Kind, *, batch: int = 32) -> Iterator[np.ndarray]:
    """(b, S, S, 3) uint8: ``rows`` of ``pictures`` with one kind of change at its full strength.

    Directions take turns: every second picture is turned, tilted and recoloured the other way.
    Policy.kinds says which kinds a policy makes, and so which copies are worth embedding.
    """
    for start in range(0, len(rows), batch):
        yield np.stack([_copy(pictures, int(row), kind) for row in rows[start : start + batch]])


def _copy(pictures: Pictures, row: int, kind: Kind) -> np.ndarray:
    if kind in ("crop", "strong-crop"):
        share = STRONG if kind == "crop" else STRONG_CROP
        only = Policy(kind, crop=(share, share))
        return augment(pictures.picture(row), only, pictures.spec, seed=0, row=row, visit=0)
    prepared, way = pictures.prepared(row), 1 if row % 2 else -1
    if kind == "turn":
        return np.rot90(prepared, way)
    return np.asarray(apply_view(Image.fromarray(prepared), _change(kind, way), pictures.spec))


def _change(kind: Kind, way: int) -> View:
    return {
        "horizontal-flip": View(mirrored=True),
        "vertical-flip": View(upside_down=True),
        "tilt": View(angle=way * TILT / 2),  # the middle of what a policy draws
        "colour": View(colour=(1 + way * VIVID, 1 + way * VIVID, 1 - way * VIVID)),
        "strong-colour": View(colour=(1.0, 1.0, 0.0)),  # grey
    }[kind]


# -------------------------------------------------------------------------------------------------------- verdicts


def judge(
    X: np.ndarray,
    y: np.ndarray,
    rows: np.ndarray,
    copies: Mapping[Kind, np.ndarray],
    *,
    task: Task,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[Verdict, ...]:
    """A verdict for each kind of change.

    X: (n, D) features of the training rows.  y: as task.encode gives it.  rows: (m,) positions in X of the pictures
    that were changed.  copies: kind → (m, D) features of their copies.  groups: (n,) rows that belong together: all of
    a group is unknown to the probe that judges its members, and the group counts once.

    A kind is switched off when it costs more than its TOLERANCE beyond noise (the 95 % interval of the paired
    difference lies above it), or when one label loses more than IN_ONE_CLASS of its recall and McNemar's exact test
    says, at 5 % over all labels, that it is no accident. Where neither can be shown it stays, as with few pictures.
    """
    probe = _Probe.of(X, y, rows, task, groups, seed)
    before = probe.answers(X[rows])
    return tuple(_verdict(kind, probe, before, probe.answers(changed), seed) for kind, changed in copies.items())


def safe_policy(policy: Policy, verdicts: Sequence[Verdict]) -> tuple[Policy, tuple[str, ...]]:
    """The policy without what was switched off, and one sentence for each kind of change that it would have made."""
    mattering = [verdict for verdict in verdicts if verdict.kind in policy.kinds]
    off = {verdict.kind for verdict in mattering if not verdict.allowed}
    return policy.without(off), tuple(verdict.why for verdict in mattering)


def _verdict(kind: Kind, probe: _Probe, before: np.ndarray, after: np.ndarray, seed: int) -> Verdict:
    """before, after: (m, K) answers for the pictures and for their copies."""
    first, second = probe.scores(before), probe.scores(after)
    lost = _paired(first, second, probe.groups_of_rows, seed)
    label, recall = _label_that_suffers(probe, before, after)
    allowed = lost.low <= TOLERANCE[kind] and not label
    score = SCORES[probe.task.name]
    if len(np.unique(probe.groups_of_rows)) < LEAST_TRIED:
        why = f"{WORDS[kind]} are kept: {lost.n} pictures are too few to tell what they do."
        return Verdict(kind, True, lost, "", why)
    why = (
        f"{WORDS[kind]} are {'kept' if allowed else 'switched off'}: {score} of the probe {first.mean():.3f} "
        f"on pictures as they are, {second.mean():.3f} on changed copies "
        f"({lost.value:+.3f} lost [{lost.low:+.3f}, {lost.high:+.3f}], n = {lost.n})"
    )
    if label:
        why += f"; of '{shown(label)}' it finds {recall[0]:.2f}, then {recall[1]:.2f}"
    return Verdict(kind, allowed, lost, label, why + ".")


def _paired(first: np.ndarray, second: np.ndarray, groups: np.ndarray, seed: int) -> Estimate:
    resamples = Resamples(len(first), seed=seed, groups=groups)
    weights = resamples.matrix()
    total = weights.sum(axis=1)
    value = float(first.mean() - second.mean())
    return paired_difference(
        value, weights @ first / total, weights @ second / total, n=len(first), units=resamples.units
    )


def _label_that_suffers(probe: _Probe, before: np.ndarray, after: np.ndarray) -> tuple[str, tuple[float, float]]:
    """(name, recalls) of the label that loses most, where that is too much and no accident; ('', …) otherwise."""
    found = ("", (0.0, 0.0))
    worst = IN_ONE_CLASS
    for k, label in enumerate(probe.task.labels):
        has = probe.has_label(k)
        if not has.any():
            continue
        first, second = probe.says_label(before, k)[has], probe.says_label(after, k)[has]
        p = mcnemar_exact(int((first & ~second).sum()), int((~first & second).sum()))
        if first.mean() - second.mean() > worst and p < 0.05 / len(probe.task.labels):
            worst = float(first.mean() - second.mean())
            found = (label, (float(first.mean()), float(second.mean())))
    return found


# ----------------------------------------------------------------------------------------------------------- probe


@dataclass(frozen=True, eq=False)
class _Probe:
    """Kernel ridge regression that answers for a row as if it had not learnt the row's group.

    gram_inverse: (N, N) (K + λI)⁻¹ of the rows it learnt from.  weights: (N, K) gram_inverse @ targets.
    places: (m,) where in them the tried rows are.  groups: (N,).  y: (m, …) targets of the tried rows.
    usual: (K,) root mean square of its errors on rows that it has not learnt.
    """

    X: np.ndarray
    scale: float
    gram_inverse: np.ndarray
    weights: np.ndarray
    places: np.ndarray
    groups: np.ndarray
    y: np.ndarray
    usual: np.ndarray
    task: Task

    @classmethod
    def of(
        cls, X: np.ndarray, y: np.ndarray, rows: np.ndarray, task: Task, groups: np.ndarray | None, seed: int
    ) -> _Probe:
        groups = np.arange(len(X)) if groups is None else np.unique(groups, return_inverse=True)[1].ravel()
        learnt = np.union1d(rows, rows_to_try(task.strata(y), seed=seed, most=MOST_LEARNT))
        A = np.asarray(X[learnt], np.float64)
        scale = max(float(((A - A.mean(axis=0)) ** 2).sum(axis=1).mean()), 1e-30)
        targets = np.asarray(task.regress_on(y[learnt]), np.float64)
        gram_inverse, weights = _fitted(_kernel(A, A, A.mean(axis=0), scale), targets)
        usual = np.sqrt(np.mean((weights / np.diag(gram_inverse)[:, None]) ** 2, axis=0))
        places = np.searchsorted(learnt, rows)
        return cls(A, scale, gram_inverse, weights, places, groups[learnt], y[rows], usual, task)

    def answers(self, features: np.ndarray) -> np.ndarray:
        """(m, K) for one picture of each tried row, (m, D).

        Leaving a block g out of kernel ridge changes the weights w to w − G[:, g] G[g, g]⁻¹ w[g], with G the inverse:
        the block form of the formula for one row (Rifkin & Lippert 2007, MIT-CSAIL-TR-2007-025).
        """
        kernel = _kernel(np.asarray(features, np.float64), self.X, self.X.mean(axis=0), self.scale)
        answers, reach = kernel @ self.weights, kernel @ self.gram_inverse
        for i, place in enumerate(self.places):
            block = np.flatnonzero(self.groups == self.groups[place])
            answers[i] -= reach[i, block] @ np.linalg.solve(
                self.gram_inverse[np.ix_(block, block)], self.weights[block]
            )
        return answers

    @property
    def groups_of_rows(self) -> np.ndarray:
        return self.groups[self.places]

    def scores(self, answers: np.ndarray) -> np.ndarray:
        """(m,) in [0, 1]: how right each answer is."""
        if self.task.name == "classification":
            return (answers.argmax(axis=1) == self.y).astype(np.float64)
        if self.task.name == "multilabel":
            said, true = answers > 0, self.y > 0
            either = (said | true).sum(axis=1)
            return np.where(either > 0, (said & true).sum(axis=1) / np.maximum(either, 1), 1.0)
        return (np.abs(answers - self.y) <= 2 * self.usual).all(axis=1).astype(np.float64)

    def has_label(self, k: int) -> np.ndarray:
        """(m,) bool; none of a number's."""
        if self.task.name == "classification":
            return self.y == k
        return self.y[:, k] > 0 if self.task.name == "multilabel" else np.zeros(len(self.y), bool)

    def says_label(self, answers: np.ndarray, k: int) -> np.ndarray:
        return answers.argmax(axis=1) == k if self.task.name == "classification" else answers[:, k] > 0


def _kernel(A: np.ndarray, B: np.ndarray, centre: np.ndarray, scale: float) -> np.ndarray:
    """Linear, around 1 on the diagonal, and a constant for the intercept."""
    return (A - centre) @ (B - centre).T / scale + 1.0


def _fitted(kernel: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((K + λI)⁻¹, (K + λI)⁻¹ targets) with the λ of the least squared error on rows left out one at a time."""
    values, vectors = np.linalg.eigh(kernel)
    rotated = vectors.T @ targets
    best, least = STRENGTHS[0], np.inf
    for strength in STRENGTHS:
        shrunk = 1 / (np.maximum(values, 0) + strength)
        left_out = (vectors @ (shrunk[:, None] * rotated)) / ((vectors**2) @ shrunk)[:, None]
        if float((left_out**2).sum()) < least:
            best, least = strength, float((left_out**2).sum())
    inverse = (vectors / (np.maximum(values, 0) + best)) @ vectors.T
    return inverse, inverse @ targets
