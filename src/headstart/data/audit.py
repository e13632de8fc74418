"""The checks before anything is learnt: what is broken, double, contradictory, leaking, or too easy.

Everything found about one data set is told together. A finding of severity 'stop' would make the scores wrong or
useless; the workflow turns it into an error unless the user accepted it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from headstart.base.errors import DataError
from headstart.data.clusters import Clusters, Groups, joined
from headstart.data.compact import Keys, counted, taken
from headstart.data.dataset import Dataset
from headstart.data.duplicates import Pairs, cosines, exact_groups
from headstart.data.findings import (
    about_classes,
    about_conflicts,
    about_duplicates,
    about_leaks,
    about_notes,
    about_quarantine,
)
from headstart.data.looks import Look, look_for
from headstart.data.survey import Survey
from headstart.records.audit import Audit, Leak


def audit(dataset: Dataset, survey: Survey, *, features: np.ndarray | None = None) -> Audit:
    """What ``survey`` saw of ``dataset``, judged.

    features: (len(survey.rows), D) float in the order of survey.rows, or None. They decide doubtful near-duplicates
    and give clusters their similarity.
    """
    rows = survey.rows
    if features is not None and len(features) != len(rows):
        raise DataError(f"audit: {len(features)} rows of features for {len(rows)} usable examples.")
    copies = exact_groups(taken(Keys.of(survey.keys), rows))
    look = look_for(dataset.modality)
    near = _near_pairs(look, survey, rows, copies, features)
    clusters = _clusters(dataset, rows, copies, near, features)
    conflicts = clusters.with_several_targets() if _labelled(dataset) else clusters.take(np.zeros(0, np.int64))
    leaks = _leaks(dataset, survey, clusters)
    counts = class_counts(dataset, rows)
    findings = [
        *about_quarantine(dataset, survey, look.words),
        *about_leaks(leaks, look.words),
        *about_conflicts(conflicts, look.words),
        *about_classes(dataset, rows, counts, look.words),
        *look.findings(dataset, survey, rows, clusters),
        *about_duplicates(clusters, look.words),
        *about_notes(dataset),
    ]
    order = {"stop": 0, "warning": 1, "note": 2}
    return Audit(
        origin=dataset.origin,
        rows=len(dataset),
        usable=len(rows),
        target=dataset.target_kind or "",
        target_reason=dataset.target_reason,
        counts=counts,
        quarantined=tuple(survey.problems[r] for r in sorted(survey.problems)),
        skipped=dict(dataset.skipped),
        clusters=clusters,
        conflicts=conflicts,
        leaks=leaks,
        findings=tuple(sorted(findings, key=lambda f: order[f.severity])),
        fingerprint=dataset.fingerprint,
        modality=dataset.modality,
        **look.numbers(survey, rows),
    )


def _labelled(dataset: Dataset) -> bool:
    return dataset.targets is not None and dataset.target_kind is not None


def class_counts(dataset: Dataset, rows: np.ndarray) -> dict[str, int]:
    """Usable examples by class (by label for multi-label data), in sorted order; {} for regression and no targets."""
    if dataset.targets is None or dataset.target_kind not in ("single-label", "multi-label"):
        return {}
    counts: Counter[str] = Counter()
    for target, n in counted(taken(dataset.targets, rows)).items():
        for label in target if isinstance(target, tuple) else (target,):
            counts[str(label)] += n
    return dict(sorted(counts.items()))


# ---------------------------------------------------------------------------------------------------------- duplicates


def _near_pairs(look: Look, survey: Survey, rows: np.ndarray, copies: Groups, features: np.ndarray | None) -> Pairs:
    """Look-alikes by position in ``rows``; of identical ones only the first is compared."""
    kept = np.ones(len(rows), bool)
    kept[copies.members] = False
    kept[copies.members[copies.starts]] = True
    at = np.flatnonzero(kept)
    pairs = look.near_pairs(survey, rows[at], None if features is None else features[at])
    return replace(pairs, first=at[pairs.first], second=at[pairs.second])


def _clusters(dataset: Dataset, rows: np.ndarray, copies: Groups, near: Pairs, features: np.ndarray | None) -> Clusters:
    """Connected sets of copies and look-alikes, in the order of their first row."""
    n = len(rows)
    roots = joined(n, np.concatenate([copies.first, near.first]), np.concatenate([copies.members, near.second]))
    at = np.flatnonzero(np.bincount(roots, minlength=n)[roots] > 1)
    at = at[np.argsort(roots[at], kind="stable")]
    _, sizes = np.unique(roots[at], return_counts=True)
    groups = Groups(at, np.cumsum(sizes))
    content = np.arange(n)
    content[copies.members] = copies.first
    exact = np.zeros(0, bool)
    if len(groups):
        exact = np.minimum.reduceat(content[at], groups.starts) == np.maximum.reduceat(content[at], groups.starts)
    return Clusters(dataset, Groups(rows[at], groups.ends), exact, _lowest_cosines(groups, features))


def _lowest_cosines(groups: Groups, features: np.ndarray | None) -> np.ndarray | None:
    """Of each group's members to its first; None without features."""
    if features is None:
        return None
    if not len(groups):
        return np.zeros(0)
    is_first = np.zeros(len(groups.members), bool)
    is_first[groups.starts] = True
    cosine = cosines(features, groups.first, groups.members)
    cosine[is_first] = np.inf
    return np.round(np.minimum.reduceat(cosine, groups.starts), 4)


def _leaks(dataset: Dataset, survey: Survey, clusters: Clusters) -> tuple[Leak, ...]:
    """One leak for each example outside train that train (or, failing that, another side) holds too."""
    if not dataset.splits:
        return ()
    rank = {"train": 0, None: 0, "validation": 1, "test": 2}
    leaks = []
    for group in clusters.groups:
        members = sorted(group.tolist(), key=lambda r: rank[dataset.splits[r]])
        for row in members:
            side = dataset.splits[row]
            earlier = [m for m in members if rank[dataset.splits[m]] < rank[side]]
            if earlier:
                twins = [m for m in earlier if survey.keys[m] == survey.keys[row]]
                first = (twins or earlier)[0]
                sides = (dataset.splits[first] or "train", side or "train")
                leaks.append(Leak(dataset.ids[first], dataset.ids[row], sides, "exact" if twins else "near"))
    return tuple(leaks)
