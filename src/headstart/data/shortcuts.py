"""What a network might learn instead of what the pictures show: the kind of file, or which thing it was taken from."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.base.errors import listed, shown
from headstart.base.seeds import stream
from headstart.data.compact import Coded, numbered, taken
from headstart.data.dataset import Dataset
from headstart.data.duplicates import correlation
from headstart.data.findings import finding
from headstart.data.survey import Survey
from headstart.data.words import IMAGES, Words
from headstart.records.audit import Finding

# ------------------------------------------------------------------------------------------------- what gives it away


def about_give_aways(dataset: Dataset, survey: Survey, rows: np.ndarray) -> Iterator[Finding]:
    """DA38: a property of the file that tells the class, so that a network may learn it instead of the picture."""
    yield from about_telling_properties(
        dataset,
        rows,
        _properties(survey, rows),
        IMAGES,
        "The model may learn the file instead of what it shows; save all classes in the same way.",
    )


@dataclass(frozen=True, eq=False)
class Property:
    """codes: (n,) integers, equal where the property is.  named: what a position's property is, in words."""

    codes: np.ndarray
    named: Callable[[int], str]


def about_telling_properties(
    dataset: Dataset, rows: np.ndarray, properties: Mapping[str, np.ndarray | Property], words: Words, advice: str
) -> Iterator[Finding]:
    """DA38: one of the properties (name → (n,) values of ``rows``) tells the class much better than guessing."""
    if dataset.targets is None or dataset.target_kind != "single-label" or len(rows) < 20:
        return
    y, names = numbered(taken(dataset.targets, rows))
    if len(names) == 1:
        return
    majority = np.bincount(y).max() / len(y)
    for what, values in properties.items():
        found = values if isinstance(values, Property) else _property(values)
        right = left_out_accuracy(found.codes, y)
        if right - majority >= 0.1 and 1 - right <= 0.5 * (1 - majority):
            yield finding(
                "DA38",
                "warning",
                f"{what} alone tells the class of {right:.0%} of the {words.many} (guessing: {majority:.0%}): "
                f"{_by_class(found, y, names)}. {advice}",
            )


def _property(values: np.ndarray) -> Property:
    return Property(np.unique(values, return_inverse=True)[1], lambda at: str(values[at]))


def _properties(survey: Survey, rows: np.ndarray) -> dict[str, np.ndarray]:
    columns = survey.columns
    width, height = columns["width"][rows].astype(float), columns["height"][rows].astype(float)
    size = np.array([f"{w:.0f}×{h:.0f}" for w, h in zip(width, height, strict=True)])
    return {
        "the colour mode": columns["mode"][rows].astype(str),
        "the file format": columns["format"][rows].astype(str),
        "the image size": size,
        "the aspect ratio": np.array([f"{a:.1f}" for a in width / height]),
        "the number of pixels": np.array([f"2^{b:.0f}" for b in np.log2(width * height)]),
    }


def left_out_accuracy(x: np.ndarray, y: np.ndarray) -> float:
    """Share of rows whose class is the commonest among the *other* rows with the same x; ties count as wrong.

    x, y: (n,) non-negative integers. Leaving the row out keeps values that occur once from telling their class.
    """
    pairs, counts = np.unique(x.astype(np.int64) * (int(y.max()) + 1) + y, return_counts=True)
    of = pairs // (int(y.max()) + 1)
    order = np.lexsort((-counts, of))  # the commonest class of each x first
    of, counts = of[order], counts[order]
    is_first = np.r_[True, of[1:] != of[:-1]]
    second = np.where(np.r_[is_first[1:], True], 0, np.r_[counts[1:], 0])  # of the next class of this x, if any
    return float(counts[is_first & (counts - 1 > second)].sum() / len(x))


def _by_class(found: Property, y: np.ndarray, names: list[str]) -> str:
    words = []
    for number, name in enumerate(names[:4]):
        at = np.flatnonzero(y == number)
        _, first, counts = np.unique(found.codes[at], return_index=True, return_counts=True)
        most = int(np.lexsort((first, -counts))[0])  # of equally common ones that which comes first
        share = counts[most] / len(at)
        value = found.named(int(at[first[most]]))
        words.append(f"{'all' if share == 1 else f'{share:.0%} of'} '{shown(name)}' are {value}")
    return ", ".join(words) + (" …" if len(names) > 4 else "")


# ----------------------------------------------------------------------------------------------------- hidden groups

_GROUP_WORDS = re.compile(
    r"(^|[_\W])(patient|subject|person|speaker|animal|plant|group|session|video|scene|site|slide)", re.I
)
SERIES_PATTERN = r"regex:([^/]+?)[_\-. ]\d+\.[^./]+$"


def about_groups(dataset: Dataset, survey: Survey, rows: np.ndarray) -> Iterator[Finding]:
    """Columns and file names that look as if several images came from one thing."""
    yield from about_column_groups(dataset, rows)
    yield from about_series(dataset, rows, "thing")
    yield from _about_same_names(dataset, survey, rows)


def about_column_groups(dataset: Dataset, rows: np.ndarray) -> Iterator[Finding]:
    """DA43: columns whose names and values look as if several examples came from one thing."""
    for name, column in dataset.meta.items():
        if not _GROUP_WORDS.search(name):
            continue
        different = _different(taken(column, rows))
        if 1 < different < len(rows):
            yield finding(
                "DA43",
                "note",
                f"column '{shown(name)}' has {different:,} values in {len(rows):,} rows: if these belong together, "
                f"keep each on one side with --group-by {shown(name)}.",
            )


def _different(column: Sequence[Any]) -> int:
    """How many different values there are beside empty ones; told by hashes of eight bytes, which take less memory."""
    if isinstance(column, Coded):
        return len({str(v) for v in column.counts() if v not in (None, "")})
    return len(np.unique(np.fromiter((hash(str(v)) for v in column if v not in (None, "")), np.int64)))


def about_series(dataset: Dataset, rows: np.ndarray, thing: str) -> Iterator[Finding]:
    """DA43: names such as p017_03.jpg, p017_04.jpg: many prefixes, each with several numbers.

    thing: what a series may be of ('speaker').
    """
    found = [re.search(SERIES_PATTERN.removeprefix("regex:"), dataset.ids[r]) for r in rows]
    prefixes = Counter(m.group(1) for m in found if m)
    series = {p: n for p, n in prefixes.items() if n > 1 and re.search(r"\d", p)}
    if len(series) >= 5 and sum(series.values()) >= 0.8 * len(rows) and len(prefixes) <= len(rows) / 2:
        examples = listed(sorted(series), most=2)
        yield finding(
            "DA43",
            "note",
            f"the file names form {len(prefixes):,} numbered series (such as {examples}): if a series is of one "
            f"{thing}, keep it on one side with --group-by '{SERIES_PATTERN}'.",
        )


def _about_same_names(dataset: Dataset, survey: Survey, rows: np.ndarray) -> Iterator[Finding]:
    """The same file name under several classes: one thing before and after? Their thumbnails are compared."""
    if dataset.target_kind != "single-label" or dataset.targets is None or len(rows) < 20:
        return
    places: dict[str, list[int]] = defaultdict(list)
    for i, r in enumerate(rows):
        places[dataset.ids[r].rpartition("/")[2].rpartition(".")[0]].append(i)
    pairs = [
        (group[0], other)
        for group in places.values()
        for other in group[1:]
        if dataset.targets[rows[other]] != dataset.targets[rows[group[0]]]
    ]
    if len(pairs) < 0.25 * len(rows):
        return
    alike, usual, surely = _likeness(survey, rows, pairs)
    examples = shown(dataset.ids[rows[pairs[0][0]]].rpartition("/")[2])
    if surely:
        yield finding(
            "DA43",
            "warning",
            f"{len(pairs):,} file names (such as {examples}) occur under several classes, and such pictures are more "
            f"alike than others (correlation {alike:.2f} against {usual:.2f}): probably one thing seen twice. Keep "
            r"them on one side with --group-by 'regex:([^/]+)\.[^.]+$'.",
        )
    else:
        yield finding(
            "DA43",
            "note",
            f"{len(pairs):,} file names (such as {examples}) occur under several classes; such pictures are no more "
            f"alike than others (correlation {alike:.2f} against {usual:.2f}), so they are not kept together.",
        )


def _likeness(survey: Survey, rows: np.ndarray, pairs: list[tuple[int, int]]) -> tuple[float, float, bool]:
    """(median correlation of the pairs' thumbnails, of as many random pairs, whether the first is surely higher).

    From at most 500 pairs; surely: a pair beats its random counterpart more often than chance would by three sigma.
    """
    rng = stream(0, "same names")
    chosen = [pairs[i] for i in rng.permutation(len(pairs))[:500]]
    first, second = (np.array(side) for side in zip(*chosen, strict=True))
    thumbs = [survey.tiny(rows[at]).reshape(len(at), -1).astype(np.float32) for at in (first, second)]
    alike = correlation(thumbs[0], thumbs[1])
    usual = correlation(thumbs[0], thumbs[1][rng.permutation(len(second))])
    wins = (alike > usual).sum() - 0.5 * len(alike)
    difference = float(np.median(alike) - np.median(usual))
    surely = bool(wins > 1.5 * np.sqrt(len(alike)) and difference > 0.1)
    return float(np.median(alike)), float(np.median(usual)), surely
