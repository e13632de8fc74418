"""What a model said about some examples."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headstart.base.errors import DataError, shown
from headstart.base.files import write_bytes


@dataclass(frozen=True)
class Predictions:
    """Scores by example.

    ids: (N,) str.
    scores: (N, K) probabilities (classification: rows sum to 1; multi-label: each in [0, 1]), or (N, K) values.
    targets: (N,) class index int64, (N, K) 0/1, or (N, K) float; None where nothing is known.
    logits: (N, K) before calibration and softmax/sigmoid; None for regression.
    labels: the K names in column order.
    groups: (N,) int; rows of one group are resampled together by the bootstrap. None: every row for itself.
    """

    ids: np.ndarray
    scores: np.ndarray
    targets: np.ndarray | None
    labels: tuple[str, ...]
    task: str  # "classification" | "multilabel" | "regression"
    logits: np.ndarray | None = None
    groups: np.ndarray | None = None
    meta: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def predicted(self) -> np.ndarray:
        """(N,) class index; multi-label: (N, K) bool at 0.5; regression: the values."""
        if self.task == "classification":
            return self.scores.argmax(axis=1)
        return self.scores >= 0.5 if self.task == "multilabel" else self.scores

    @property
    def names(self) -> list[str]:
        """The predicted label of each row in words (multi-label: joined by '|'; regression: the number)."""
        if self.task == "classification":
            return [self.labels[i] for i in self.predicted]
        if self.task == "multilabel":
            return ["|".join(self.labels[k] for k in np.flatnonzero(row)) for row in self.predicted]
        return [" ".join(f"{v:.6g}" for v in row) for row in self.scores]

    def take(self, rows: np.ndarray) -> Predictions:
        return Predictions(
            self.ids[rows],
            self.scores[rows],
            None if self.targets is None else self.targets[rows],
            self.labels,
            self.task,
            None if self.logits is None else self.logits[rows],
            None if self.groups is None else self.groups[rows],
            {k: v[rows] for k, v in self.meta.items()},
        )

    def save(self, path: Path) -> None:
        """One .npz without pickle."""
        arrays: dict[str, Any] = {
            "ids": np.asarray([i.encode("utf-8", "surrogateescape") for i in self.ids], dtype=np.bytes_),
            "scores": self.scores,
            "labels": np.asarray([i.encode("utf-8", "surrogateescape") for i in self.labels], dtype=np.bytes_),
            "task": np.asarray(self.task.encode(), dtype=np.bytes_),
        }
        for name in ("targets", "logits", "groups"):
            if getattr(self, name) is not None:
                arrays[name] = getattr(self, name)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Predictions:
        try:
            with np.load(path, allow_pickle=False) as file:
                a = {name: file[name] for name in file.files}
            return cls(
                ids=np.asarray([i.decode("utf-8", "surrogateescape") for i in a["ids"].tolist()], dtype=object),
                scores=a["scores"],
                targets=a.get("targets"),
                labels=tuple(i.decode("utf-8", "surrogateescape") for i in a["labels"].tolist()),
                task=a["task"].item().decode(),
                logits=a.get("logits"),
                groups=a.get("groups"),
            )
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise DataError(f"{shown(path)} does not hold predictions that can be read ({error}).") from error
