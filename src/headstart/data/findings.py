"""What the audit has to say, in sentences: one small function for each matter, each yielding none or a few findings."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from headstart.base.errors import listed, shown
from headstart.data.clusters import Clusters
from headstart.data.compact import counted
from headstart.data.dataset import Dataset
from headstart.data.duplicates import LEAST_CONTRAST
from headstart.data.survey import Survey
from headstart.data.words import IMAGES, Words
from headstart.data.words import counted as in_words
from headstart.records.audit import Finding, Leak

MOST_QUARANTINED = 0.05
FEW_IMAGES = 5
STRONG_IMBALANCE = 10
MANY_IDENTICAL = 10
SHOWN_IDS = 10


def finding(code: str, severity: str, text: str, ids: Sequence[str] = ()) -> Finding:
    return Finding(code, severity, text, tuple(ids[:SHOWN_IDS]))


def about_quarantine(dataset: Dataset, survey: Survey, words: Words) -> Iterator[Finding]:
    problems = [survey.problems[r] for r in sorted(survey.problems)]
    if not problems:
        return
    share = len(problems) / len(dataset)
    kinds = Counter(p.code for p in problems)
    by_kind = ", ".join(f"{n} × {code}" for code, n in sorted(kinds.items()))
    too_many = share > MOST_QUARANTINED
    advice = (
        f"That is more than {MOST_QUARANTINED:.0%}: look at them first; --accept-bad goes on without them."
        if too_many
        else "They are left out and listed."
    )
    yield finding(
        "DA26",
        "stop" if too_many else "note",
        f"{len(problems):,} of {len(dataset):,} {words.held} cannot be used ({share:.1%}: {by_kind}). "
        f"First: {shown(problems[0].id)}: {problems[0].reason}. {advice}",
        [p.id for p in problems],
    )


def about_leaks(leaks: tuple[Leak, ...], words: Words) -> Iterator[Finding]:
    for kind, code, severity in (("exact", "DA42", "stop"), ("near", "DA43", "warning")):
        by_sides: dict[tuple[str, str], list[Leak]] = defaultdict(list)
        for leak in leaks:
            if leak.kind == kind:
                by_sides[leak.sides].append(leak)
        for (first, second), found in sorted(by_sides.items()):
            one = words.held.removesuffix("s")
            files = f"1 {one} is" if len(found) == 1 else f"{len(found):,} {words.held} are"
            what = (
                f"{files} in both {first} and {second}"
                if kind == "exact"
                else f"{len(found):,} {words.same} in {second} look like one in {first} ({words.alike})"
            )
            advice = "--accept-leakage goes on and marks the score." if kind == "exact" else "Look at the pairs."
            yield finding(
                code,
                severity,
                f"{what} (first: {shown(found[0].first)} = {shown(found[0].second)}). "
                f"Scores would be too good. {advice}",
                [leak.second for leak in found],
            )


def about_conflicts(conflicts: Clusters, words: Words) -> Iterator[Finding]:
    for kind, problem in (("exact", "carry two labels"), ("near", "look the same but carry different labels")):
        found = conflicts.of_kind(kind)
        if len(found):
            images = len(found.groups.members)
            first = found[0]
            pair = next(i for i, t in enumerate(first.targets) if t != first.targets[0])
            yield finding(
                "DA44",
                "warning",
                f"{images:,} {words.many} {problem} (first: {shown(first.ids[0])} is '{shown(first.targets[0])}', "
                f"{shown(first.ids[pair])} is '{shown(first.targets[pair])}'). "
                "Decide which is right, or leave both out.",
                found.ids(SHOWN_IDS),
            )


def about_duplicates(clusters: Clusters, words: Words) -> Iterator[Finding]:
    if len(clusters):
        exact = int(clusters.exact.sum())
        surplus = len(clusters.groups.members) - len(clusters)
        yield finding(
            "DA37",
            "note",
            f"{in_words(surplus, words.one + ' repeats another', words.many + ' repeat others')}: "
            f"{in_words(exact, 'set')} of identical {words.held}, "
            f"{in_words(len(clusters) - exact, 'set')} that look the same. "
            "Each set is kept on one side of every split.",
            clusters.first_ids(SHOWN_IDS),
        )


def about_classes(dataset: Dataset, rows: np.ndarray, counts: dict[str, int], words: Words) -> Iterator[Finding]:
    if dataset.targets is None or dataset.target_kind != "single-label":
        return
    gone = sorted({str(t) for t in counted(dataset.targets)} - set(counts))
    if gone:
        yield finding("DA39", "warning", f"no usable {words.one} is left of: {listed(gone, most=5)}.")
    single = [name for name, n in counts.items() if n == 1]
    if single:
        whose = (
            f"class '{shown(single[0])}' has" if len(single) == 1 else f"{len(single)} classes ({listed(single)}) have"
        )
        yield finding(
            "DA40",
            "warning",
            f"{whose} 1 {words.one}; it cannot be in both train and test. "
            "Kept in train; its test score will be shown as “–”.",
        )
    few = [f"'{shown(name)}' ({n})" for name, n in counts.items() if 1 < n < FEW_IMAGES]
    if few:
        yield finding(
            "DA40",
            "warning",
            f"few {words.many} to learn from and to judge by: {', '.join(few[:5])}; add some if you can.",
        )
    if len(counts) > 1 and max(counts.values()) >= STRONG_IMBALANCE * min(counts.values()):
        most, least = max(counts, key=lambda c: counts[c]), min(counts, key=lambda c: counts[c])
        yield finding(
            "DA48",
            "note",
            f"'{shown(most)}' has {counts[most]:,} {words.many} and '{shown(least)}' {counts[least]:,}: look at "
            "balanced accuracy and at the scores of each class, not at accuracy alone.",
        )


def about_information(dataset: Dataset, survey: Survey, rows: np.ndarray, clusters: Clusters) -> Iterator[Finding]:
    plain = rows[survey.columns["std"][rows] < LEAST_CONTRAST]
    if len(plain):
        yield finding(
            "DA37",
            "warning",
            f"low information {len(plain):,}: images of (nearly) one colour (first: {shown(dataset.ids[plain[0]])}).",
            [dataset.ids[r] for r in plain[:SHOWN_IDS]],
        )
    yield from about_crowds(rows, clusters, IMAGES)


def about_crowds(rows: np.ndarray, clusters: Clusters, words: Words) -> Iterator[Finding]:
    big = clusters.groups.sizes >= max(MANY_IDENTICAL, len(rows) // 100)
    for at in np.flatnonzero(clusters.exact & big)[:3]:
        crowd = clusters.take(np.array([at]))
        yield finding(
            "DA37",
            "warning",
            f"duplicates {len(crowd.groups.members):,}: one and the same {words.same.removesuffix('s')} "
            f"(first: {shown(crowd.ids(1)[0])}); a placeholder?",
            crowd.ids(SHOWN_IDS),
        )


def about_notes(dataset: Dataset) -> Iterator[Finding]:
    for note in dataset.notes:
        code = re.match(r"[A-Z]{2}\d\d ", note)
        yield finding(code.group().strip() if code else "DA00", "note", note[code.end() :] if code else note)
