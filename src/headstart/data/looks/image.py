"""Pictures: decoded once in threads, remembered by content, compared by what the eye sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headstart.base.progress import QUIET, Observer
from headstart.data.clusters import Clusters
from headstart.data.dataset import Dataset
from headstart.data.decode import ImageLimits, decode_image
from headstart.data.duplicates import Pairs, near_pairs
from headstart.data.facts import FactsStore, facts_folder
from headstart.data.findings import about_information
from headstart.data.shortcuts import about_give_aways, about_groups
from headstart.data.survey import Passenger, Survey, look_through
from headstart.data.words import IMAGES, Words
from headstart.records.audit import Finding


@dataclass(frozen=True)
class ImageLook:
    limits: ImageLimits = field(default_factory=ImageLimits)

    @property
    def words(self) -> Words:
        return IMAGES

    def survey(
        self,
        dataset: Dataset,
        cache: Path,
        *,
        passenger: Passenger | None = None,
        observer: Observer = QUIET,
        what: str = "",
        workers: int | None = None,
    ) -> Survey:
        return look_through(
            dataset,
            FactsStore(facts_folder(cache, self.limits)),
            self._see,
            IMAGES,
            passenger=passenger,
            observer=observer,
            workers=workers,
            what=what or "looking at the images",
        )

    def _see(self, content: Any, *, name: str, at_least: int | None) -> tuple[Any, Mapping[str, Any]]:
        image, facts = decode_image(content, name=name, limits=self.limits, at_least=at_least)
        return image, asdict(facts)

    def value(self, content: Any, *, name: str, at_least: int | None = None) -> Any:
        return decode_image(content, name=name, limits=self.limits, at_least=at_least)[0]

    def near_pairs(self, survey: Survey, rows: np.ndarray, features: np.ndarray | None) -> Pairs:
        columns = {name: survey.columns[name][rows] for name in ("phash", "phash_mirrored", "std")}
        return near_pairs(columns["phash"], columns["phash_mirrored"], survey.tiny(rows), columns["std"], features)

    def findings(self, dataset: Dataset, survey: Survey, rows: np.ndarray, clusters: Clusters) -> Iterator[Finding]:
        yield from about_information(dataset, survey, rows, clusters)
        yield from about_give_aways(dataset, survey, rows)
        yield from about_groups(dataset, survey, rows)

    def numbers(self, survey: Survey, rows: np.ndarray) -> Mapping[str, Any]:
        columns = survey.columns
        sizes = Counter(zip(columns["width"][rows].tolist(), columns["height"][rows].tolist(), strict=True))
        return {
            "sizes": tuple((w, h, n) for (w, h), n in sorted(sizes.items(), key=lambda c: (-c[1], c[0]))),
            "modes": _counted(columns["mode"][rows]),
            "notes": _counted(n for text in columns["notes"][rows] for n in str(text).split("; ") if n),
        }


def _counted(values: Any) -> dict[str, int]:
    """How often each value occurs, the commonest first."""
    return dict(sorted(Counter(str(v) for v in values).items(), key=lambda c: (-c[1], c[0])))
