"""What a modality must tell about its examples before anything is learnt from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from headstart.base.progress import QUIET, Observer
from headstart.data.clusters import Clusters
from headstart.data.dataset import Dataset
from headstart.data.duplicates import Pairs
from headstart.data.survey import Passenger, Survey
from headstart.data.words import Words
from headstart.records.audit import Finding


class Look(Protocol):
    """One modality's eyes. Implementations are frozen dataclasses that hold the limits of what is still read.

    ``survey`` and ``value`` obey the limits; the rest depends on what was seen alone.
    """

    @property
    def words(self) -> Words: ...

    def survey(
        self,
        dataset: Dataset,
        cache: Path,
        *,
        passenger: Passenger | None = None,
        observer: Observer = QUIET,
        what: str = "",
    ) -> Survey:
        """One look at every row; ``passenger`` gets the values on the way. DataError when no row is usable.

        cache: folder for what was seen, where looking is slow enough to be worth remembering.
        """
        ...

    def value(self, content: Any, *, name: str, at_least: int | None = None) -> Any:
        """The example in ``content`` (bytes of a file, or a value as given), decoded. Raises BadExample."""
        ...

    def near_pairs(self, survey: Survey, rows: np.ndarray, features: np.ndarray | None) -> Pairs:
        """Pairs of positions in ``rows`` whose examples are the same to a reader, though not byte for byte."""
        ...

    def findings(self, dataset: Dataset, survey: Survey, rows: np.ndarray, clusters: Clusters) -> Iterator[Finding]:
        """What only this modality can find wrong or too easy."""
        ...

    def numbers(self, survey: Survey, rows: np.ndarray) -> Mapping[str, Any]:
        """Fields of records.audit.Audit that only this modality fills."""
        ...
