"""Sounds: decoded once in threads, remembered by content, compared by their energy in bands over time."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headstart.base.errors import listed, shown
from headstart.base.files import key_of
from headstart.base.progress import QUIET, Observer
from headstart.data.clusters import Clusters
from headstart.data.dataset import Dataset
from headstart.data.decode import BadExample
from headstart.data.duplicates import Pairs, close_hashes, correlation
from headstart.data.facts import FactsStore, Schema
from headstart.data.findings import about_crowds, finding
from headstart.data.shortcuts import about_column_groups, about_series, about_telling_properties
from headstart.data.sound import BANDS, SLICES, SoundLimits, Waveform, as_waveform, decode_sound
from headstart.data.survey import Passenger, Survey, look_through
from headstart.data.words import SOUNDS, Words
from headstart.records.audit import Finding

FACTS_VERSION = 1  # raise it when decode_sound would say something else about the same bytes
FACTS = Schema(
    {"seconds": np.float32, "rate": np.int32, "channels": np.int32, "loudness": np.float32, "hash": np.uint64},
    ("format", "notes"),
    (BANDS, SLICES),
)
MOST_BITS = 6  # of 64 in which two that sound the same may differ
LEAST_CORRELATION = 0.98  # of their energies
SAME_LENGTH = 0.03  # relative


@dataclass(frozen=True)
class AudioLook:
    limits: SoundLimits = field(default_factory=SoundLimits)

    @property
    def words(self) -> Words:
        return SOUNDS

    def survey(
        self,
        dataset: Dataset,
        cache: Path,
        *,
        passenger: Passenger | None = None,
        observer: Observer = QUIET,
        what: str = "",
    ) -> Survey:
        folder = Path(cache) / "facts" / key_of(["sound", FACTS_VERSION, asdict(self.limits)])[:16]
        return look_through(
            dataset,
            FactsStore(folder, FACTS),
            self._see,
            SOUNDS,
            passenger=passenger,
            observer=observer,
            what=what or "listening to the sounds",
        )

    def _see(self, content: Any, *, name: str, at_least: int | None) -> tuple[Waveform, Mapping[str, Any]]:
        sound, facts = decode_sound(_given(content, name), name=name, limits=self.limits)
        return sound, asdict(facts)

    def value(self, content: Any, *, name: str, at_least: int | None = None) -> Waveform:
        """The sound with one channel, at its own sample rate."""
        return decode_sound(_given(content, name), name=name, limits=self.limits)[0]

    def near_pairs(self, survey: Survey, rows: np.ndarray, features: np.ndarray | None) -> Pairs:
        seconds, hashes = survey.columns["seconds"][rows], survey.columns["hash"][rows]
        pairs = close_hashes(hashes, hashes, most=MOST_BITS)
        first, second = pairs[:, 0], pairs[:, 1]
        longer, shorter = np.maximum(seconds[first], seconds[second]), np.minimum(seconds[first], seconds[second])
        alike = longer <= shorter * (1 + SAME_LENGTH)
        first, second = first[alike], second[alike]
        tiny = survey.tiny(rows).reshape(len(rows), -1).astype(np.float32)
        same = correlation(tiny[first], tiny[second]) >= LEAST_CORRELATION
        first, second = first[same], second[same]
        return Pairs(first, second, np.zeros(len(first), bool), None)

    def findings(self, dataset: Dataset, survey: Survey, rows: np.ndarray, clusters: Clusters) -> Iterator[Finding]:
        yield from _about_rates(survey, rows)
        yield from _about_clipping(dataset, survey, rows)
        yield from about_crowds(rows, clusters, SOUNDS)
        yield from about_telling_properties(
            dataset,
            rows,
            _properties(survey, rows),
            SOUNDS,
            "The model may learn how it was recorded instead of what is heard; save all classes in the same way.",
        )
        yield from about_column_groups(dataset, rows)
        yield from about_series(dataset, rows, "speaker")
        yield from _about_speakers(dataset, rows)

    def numbers(self, survey: Survey, rows: np.ndarray) -> Mapping[str, Any]:
        columns = survey.columns
        low, middle, most, top = np.quantile(columns["seconds"][rows], (0, 0.5, 0.95, 1)).tolist()
        ways = [
            f"{rate:,} Hz, {channels} channel{'s' * (channels > 1)}, {kind}"
            for rate, channels, kind in zip(
                columns["rate"][rows].tolist(), columns["channels"][rows].tolist(), columns["format"][rows], strict=True
            )
        ]
        return {
            "measures": {
                "seconds, fewest": round(low, 2),
                "seconds, middle": round(middle, 2),
                "seconds, 95 %": round(most, 2),
                "seconds, most": round(top, 2),
            },
            "modes": _counted(ways),
            "notes": _counted(n for text in columns["notes"][rows] for n in str(text).split("; ") if n),
        }


def _given(content: Any, name: str) -> bytes | Waveform:
    """Bytes of a file or samples with their rate; BadExample for what is neither."""
    if isinstance(content, bytes):
        return content
    found = as_waveform(content)
    if found is None:
        raise BadExample(
            "AU62", name, f"is a {shown(type(content).__name__)}; give bytes of a file, or samples and their rate"
        )
    return found


def _counted(values: Iterable[Any]) -> dict[str, int]:
    """How often each value occurs, the commonest first."""
    return dict(sorted(Counter(str(v) for v in values).items(), key=lambda c: (-c[1], c[0])))


def _properties(survey: Survey, rows: np.ndarray) -> dict[str, np.ndarray]:
    columns = survey.columns
    doublings = np.log2(columns["loudness"][rows].clip(1e-6)).round(0)
    return {
        "the sample rate": np.array([f"at {rate:,} Hz" for rate in columns["rate"][rows].tolist()]),
        "the number of channels": columns["channels"][rows].astype(str),
        "the file format": columns["format"][rows].astype(str),
        "the length": np.array([f"about {2**x:.2g} s long" for x in np.log2(columns["seconds"][rows]).round(0)]),
        "the loudness": np.array([f"at about {20 * np.log10(2) * x:.0f} dB" for x in doublings]),
    }


def _about_rates(survey: Survey, rows: np.ndarray) -> Iterator[Finding]:
    rates = Counter(survey.columns["rate"][rows].tolist())
    if len(rates) > 1:
        words = [f"{n:,} at {rate:,} Hz" for rate, n in rates.most_common()]
        yield finding(
            "AU64",
            "note",
            f"mixed sample rates: {listed(words, most=6)}. Each sound is resampled to the network's own rate.",
        )
    several = int((survey.columns["channels"][rows] > 1).sum())
    if several:
        verb = "has" if several == 1 else "have"
        yield finding("AU64", "note", f"{several:,} of {len(rows):,} sounds {verb} several channels, mixed to one.")


def _about_clipping(dataset: Dataset, survey: Survey, rows: np.ndarray) -> Iterator[Finding]:
    clipped = [int(r) for r in rows if "clipped" in str(survey.columns["notes"][r])]
    if clipped:
        verb = "is" if len(clipped) == 1 else "are"
        yield finding(
            "AU65",
            "warning",
            f"{len(clipped):,} of {len(rows):,} sounds {verb} clipped at full scale "
            f"(first: {shown(dataset.ids[clipped[0]])}): recorded too loud.",
            [dataset.ids[r] for r in clipped],
        )


_SPEAKER = re.compile(r"([^/]*?\d[^/]*?|[^/]*?)[_\-.]")


def _about_speakers(dataset: Dataset, rows: np.ndarray) -> Iterator[Finding]:
    """DA43: what file names begin with is heard on both sides of the user's own split: one speaker's recordings?"""
    sides: dict[str, set[str]] = defaultdict(set)
    members: Counter[str] = Counter()
    for row in rows:
        match = _SPEAKER.match(dataset.ids[row].rpartition("/")[2])
        if match and match.group(1):
            members[match.group(1)] += 1
            if dataset.splits:
                sides[match.group(1)].add(dataset.splits[row] or "train")
    crossing = sorted(s for s, on in sides.items() if len(on) > 1)
    if len(members) >= 3 and crossing and sum(members.values()) >= 0.8 * len(rows) and len(members) <= len(rows) / 3:
        yield finding(
            "DA43",
            "warning",
            f"{len(crossing):,} of {len(members):,} beginnings of file names ({listed(crossing, most=3)}) are on "
            "several sides of your split: if each is one speaker, the score is that of voices heard before. Divide by "
            "speaker for the score of new ones.",
        )
