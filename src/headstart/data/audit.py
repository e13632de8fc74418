"""The checks before anything is learnt: what is broken, double, contradictory, leaking, or too easy.

Everything found about one data set is told together. A finding of severity 'stop' would make the scores wrong or
useless; the workflow turns it into an error unless the user accepted it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from headstart.base.errors import DataError
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
from headstart.data.split import UnionFind
from headstart.data.survey import Survey
from headstart.records.audit import Audit, Cluster, Leak


def audit(dataset: Dataset, survey: Survey, *, features: np.ndarray | None = None) -> Audit:
    """What ``survey`` saw of ``dataset``, judged.

    features: (len(survey.rows), D) float in the order of survey.rows, or None. They decide doubtful near-duplicates
    and give clusters their similarity.
    """
    rows = survey.rows
    if features is not None and len(features) != len(rows):
        raise DataError(f"audit: {len(features)} rows of features for {len(rows)} usable examples.")
    copies = exact_groups([survey.keys[r] for r in rows])
    look = look_for(dataset.modality)
    near = _near_pairs(look, survey, rows, copies, features)
    clusters = _clusters(dataset, rows, copies, near, features)
    conflicts = tuple(c for c in clusters if len(set(c.targets)) > 1) if _labelled(dataset) else ()
    leaks = _leaks(dataset, survey, rows, clusters)
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
    several = dataset.target_kind == "multi-label"
    labels = [label for r in rows for label in (dataset.targets[r] if several else (dataset.targets[r],))]
    return dict(sorted(Counter(str(label) for label in labels).items()))


# ---------------------------------------------------------------------------------------------------------- duplicates


def _near_pairs(
    look: Look, survey: Survey, rows: np.ndarray, copies: list[np.ndarray], features: np.ndarray | None
) -> Pairs:
    """Look-alikes by position in ``rows``; of identical ones only the first is compared."""
    kept = np.ones(len(rows), bool)
    for group in copies:
        kept[group[1:]] = False
    at = np.flatnonzero(kept)
    pairs = look.near_pairs(survey, rows[at], None if features is None else features[at])
    return replace(pairs, first=at[pairs.first], second=at[pairs.second])


def _clusters(
    dataset: Dataset, rows: np.ndarray, copies: list[np.ndarray], near: Pairs, features: np.ndarray | None
) -> tuple[Cluster, ...]:
    """Connected sets of copies and look-alikes, in the order of their first row."""
    union = UnionFind(len(rows))
    same = UnionFind(len(rows))
    for group in copies:
        for other in group[1:].tolist():
            union.join(int(group[0]), other)
            same.join(int(group[0]), other)
    for i, j in zip(near.first.tolist(), near.second.tolist(), strict=True):
        union.join(i, j)
    members: dict[int, list[int]] = defaultdict(list)
    roots = union.roots()
    for i in np.flatnonzero(np.bincount(roots, minlength=len(rows))[roots] > 1).tolist():
        members[int(roots[i])].append(i)
    clusters = []
    for group_members in members.values():
        kind = "exact" if len({same.find(i) for i in group_members}) == 1 else "near"
        ids = tuple(dataset.ids[rows[i]] for i in group_members)
        targets = tuple(_target_text(dataset, int(rows[i])) for i in group_members)
        clusters.append(Cluster(ids, kind, targets, _lowest_cosine(group_members, features)))
    return tuple(clusters)


def _target_text(dataset: Dataset, row: int) -> str:
    target = None if dataset.targets is None else dataset.targets[row]
    if target is None:
        return ""
    return "|".join(map(str, sorted(target))) if isinstance(target, tuple) else str(target)


def _lowest_cosine(members: Sequence[int], features: np.ndarray | None) -> float | None:
    """Of each member to the first; None without features."""
    if features is None:
        return None
    others = np.array(members[1:])
    return round(float(cosines(features, np.full(len(others), members[0]), others).min()), 4)


def _leaks(dataset: Dataset, survey: Survey, rows: np.ndarray, clusters: tuple[Cluster, ...]) -> tuple[Leak, ...]:
    """One leak for each example outside train that train (or, failing that, another side) holds too."""
    if not dataset.splits:
        return ()
    row_of = {dataset.ids[r]: int(r) for r in rows}
    rank = {"train": 0, None: 0, "validation": 1, "test": 2}
    leaks = []
    for cluster in clusters:
        members = sorted((row_of[i] for i in cluster.ids), key=lambda r: rank[dataset.splits[r]])
        for row in members:
            side = dataset.splits[row]
            earlier = [m for m in members if rank[dataset.splits[m]] < rank[side]]
            if earlier:
                twins = [m for m in earlier if survey.keys[m] == survey.keys[row]]
                first = (twins or earlier)[0]
                sides = (dataset.splits[first] or "train", side or "train")
                leaks.append(Leak(dataset.ids[first], dataset.ids[row], sides, "exact" if twins else "near"))
    return tuple(leaks)
