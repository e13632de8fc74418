"""What a modality adds to the evidence: something plain beside the network, and examples that a reader can look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from headstart.data.dataset import Dataset
from headstart.data.looks import Look
from headstart.data.survey import Survey
from headstart.inputs.spec import InputSpec
from headstart.workflow.judge import Plain

Scores = Callable[[list[Any]], np.ndarray]


@dataclass(frozen=True, eq=False)
class Shown:
    """What the report shows examples by.

    wanted: ids that appear somewhere.  seen: those of which it shows how the network sees them.
    mistakes: ids of the worst mistakes, the worst first, with the position of the output that was wrong.
    scores: (n, K) scores of new values by the model, to find out what in an example moved it.
    """

    wanted: Iterable[str]
    seen: Iterable[str]
    mistakes: Iterable[tuple[str, int]]
    scores: Scores


class Evidence(Protocol):
    def plain(self, dataset: Dataset, survey: Survey, rows: np.ndarray, look: Look) -> Plain:
        """The best that is done without any network. rows: of ``dataset``, which a contest holds in that order."""
        ...

    def shown(self, dataset: Dataset, shown: Shown, *, spec: InputSpec, look: Look) -> dict[str, dict[str, Any]]:
        """id → what pictures.json holds of it; ids that cannot be shown are left out."""
        ...
