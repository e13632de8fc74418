"""A saved model on mixed rows at work: each block through its own model, the outputs added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from headstart.base.errors import DataError
from headstart.base.progress import QUIET, Observer
from headstart.bundle.manifest import Manifest
from headstart.bundle.predictor import Answers, Predictor, answers, named_bad
from headstart.bundle.tables import as_mixed
from headstart.data.dataset import Dataset
from headstart.data.parts import parts_of
from headstart.inputs.spec import MixedSpec
from headstart.records.audit import Quarantined
from headstart.tasks.task import Task


class MixedPredictor:
    """What load() gives back for a model on several kinds of columns.

    manifest, task, labels, verified: as for Predictor.  parts: block → the Predictor whose outputs are added.
    """

    def __init__(self, manifest: Manifest, parts: Mapping[str, Predictor], *, verified: bool) -> None:
        assert isinstance(manifest.input, MixedSpec), "a model on mixed rows"
        self.manifest = manifest
        self.spec = manifest.input
        self.task: Task = manifest.task.task()
        self.labels = self.task.labels
        self.parts = parts
        self.verified = verified
        self.absent = {block.name: np.asarray(block.absent) for block in manifest.blocks}

    def __repr__(self) -> str:
        checked = "verified" if self.verified else "unverified: integrity unknown"
        return f"MixedPredictor({', '.join(self.parts)}, {self.task.name}, {len(self.labels)} outputs, {checked})"

    def __call__(self, row: Mapping[str, Any]) -> dict[str, float]:
        """Label → probability (or value) for one row, largest first. DataError if it cannot be read."""
        scores = self.predict(row).scores[0]
        order = np.argsort(-scores, kind="stable") if self.task.name != "regression" else range(len(scores))
        return {self.labels[k]: float(scores[k]) for k in order}

    def predict(
        self, values: Any, *, batch_size: int = 64, with_targets: bool = False, observer: Observer = QUIET
    ) -> Answers:
        """Scores for rows: dictionaries, a frame, a table, or a Dataset. Cells may be empty.

        Parameters and errors as for Predictor.predict. A row of which some block cannot be read is left out.
        """
        rows = values if isinstance(values, Dataset) else as_mixed(values, self.spec)
        added: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        bad: dict[str, Quarantined] = {}
        for part in parts_of(rows):
            if len(part.rows):
                kept, logits, left_out = self.parts[part.name].logits_of(
                    part.dataset, batch_size=batch_size, observer=observer
                )
                added[part.name] = part.rows[kept], logits
                for one in left_out:
                    bad.setdefault(one.id, Quarantined(one.id, one.code, f"{part.name}: {one.reason}"))
        usable = np.array([i for i, name in enumerate(rows.ids) if name not in bad], np.int64)
        if not len(usable) and len(rows):
            raise DataError(
                f"DA26 none of the {len(rows)} rows can be used. First: {named_bad(next(iter(bad.values())))}"
            )
        targets = None
        if with_targets and rows.targets is not None:
            targets = self.task.encode([rows.targets[i] for i in usable])
        ids = np.asarray([rows.ids[i] for i in usable], object)
        return self.answers(self.total(added, len(rows))[usable], ids, targets, tuple(bad.values()))

    def total(self, added: Mapping[str, tuple[np.ndarray, np.ndarray]], count: int) -> np.ndarray:
        """(count, K) logits. added: block → (rows that have it, its outputs for them); the others get its constant."""
        logits = np.zeros((count, len(self.labels)))
        for name, absent in self.absent.items():
            own = np.tile(absent, (count, 1))
            if name in added:
                rows, outputs = added[name]
                own[rows] = outputs
            logits += own
        return logits

    def answers(
        self, logits: np.ndarray, ids: np.ndarray, targets: np.ndarray | None, bad: tuple[Quarantined, ...]
    ) -> Answers:
        return answers(self.manifest, self.task, logits, ids, targets, bad)
