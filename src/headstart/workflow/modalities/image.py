"""Pictures: 16 × 16 pixels beside the network, thumbnails for the page."""

from __future__ import annotations

from typing import Any

import numpy as np

from headstart.data.dataset import Dataset
from headstart.data.looks import Look
from headstart.data.survey import Survey
from headstart.inputs.spec import ImageSpec, InputSpec
from headstart.workflow.judge import Plain
from headstart.workflow.modalities.evidence import Shown
from headstart.workflow.pictures import pictures


class ImageEvidence:
    def plain(self, dataset: Dataset, survey: Survey, rows: np.ndarray, look: Look) -> Plain:
        pixels = survey.tiny(rows).reshape(len(rows), -1).astype(np.float32) / 255
        what = "the same kind of head on 16 × 16 pixels, no network"
        return Plain("pixels", what, lambda contest: contest.judge(pixels))

    def shown(self, dataset: Dataset, shown: Shown, *, spec: InputSpec, look: Look) -> dict[str, dict[str, Any]]:
        assert isinstance(spec, ImageSpec), "a network that takes pictures"
        return pictures(dataset, shown.wanted, shown.seen, spec=spec, look=look)
