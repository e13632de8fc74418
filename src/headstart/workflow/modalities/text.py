"""Texts: tf-idf with logistic regression beside the network, and words marked by what their absence changes."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from headstart.data.dataset import Dataset
from headstart.data.decode import BadExample
from headstart.data.looks import Look
from headstart.data.survey import Survey
from headstart.inputs.spec import InputSpec
from headstart.records.predictions import Predictions
from headstart.workflow.judge import Contest, Plain
from headstart.workflow.modalities.evidence import Shown

LONGEST = 600  # characters of a text on the page
MARKED = 8  # worst mistakes whose words are marked
PARTS = 30  # parts at most that one text is divided into for that
SECONDS = 10.0  # after which no further mistake is looked into


class TextEvidence:
    def plain(self, dataset: Dataset, survey: Survey, rows: np.ndarray, look: Look) -> Plain:
        def judge(contest: Contest) -> Predictions:
            from headstart.workflow.modalities.tf_idf import judge as by_tf_idf

            texts = [look.value(dataset.content(int(row))[1], name=dataset.ids[int(row)]) for row in rows]
            return by_tf_idf(texts, contest)

        return Plain("tf-idf", "tf-idf of words and pairs of words with logistic regression, no network", judge)

    def shown(self, dataset: Dataset, shown: Shown, *, spec: InputSpec, look: Look) -> dict[str, dict[str, Any]]:
        row_of = {name: row for row, name in enumerate(dataset.ids)}
        texts: dict[str, str] = {}
        for name in dict.fromkeys([*shown.wanted, *shown.seen]):
            if name in row_of:
                try:
                    texts[name] = look.value(dataset.content(row_of[name])[1], name=name)
                except (BadExample, OSError):
                    continue
        found: dict[str, dict[str, Any]] = {name: {"text": clipped(text)} for name, text in texts.items()}
        start = time.monotonic()
        for name, output in list(shown.mistakes)[:MARKED]:
            if name in texts and time.monotonic() - start < SECONDS:
                found[name]["marks"] = marks(found[name]["text"], output, shown)
        return found


def clipped(text: str) -> str:
    """On one line, and not the whole of a long one."""
    line = " ".join(text[: 4 * LONGEST].split())
    return line if len(line) <= LONGEST else line[:LONGEST].rstrip() + " …"


def marks(text: str, output: int, shown: Shown) -> list[tuple[str, float]]:
    """The text in parts, each with how much the wrong answer's score falls without it; from -1 to 1.

    Words, or several words together where there are more than PARTS.
    """
    words = re.findall(r"\S+\s*", text) if _has_spaces(text) else list(text)
    size = -(-len(words) // PARTS)
    parts = ["".join(words[i : i + size]) for i in range(0, len(words), size)]
    if len(parts) < 2:
        return [(text, 0.0)]
    without = ["".join(parts[:i] + parts[i + 1 :]) for i in range(len(parts))]
    usable = [i for i, rest in enumerate(without) if rest.strip()]
    scores = shown.scores([text, *(without[i] for i in usable)])[:, output]
    falls = dict(zip(usable, (scores[0] - scores[1:]).tolist(), strict=True))
    return [(part, round(falls.get(i, 0.0), 4)) for i, part in enumerate(parts)]


def _has_spaces(text: str) -> bool:
    """Whether words are told by spaces; Chinese, Japanese and Thai write none."""
    return text.count(" ") >= len(text) / 25


def mostly_without_spaces(texts: Sequence[str]) -> bool:
    return sum(not _has_spaces(t) for t in texts) > len(texts) / 2
