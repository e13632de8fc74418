"""A saved model at work: values in, Predictions out.

The way of an example is the one it had when the model was evaluated: decoded, prepared, through the network by the same
runner where this machine has it, features rounded as the store rounds them, then the linear head in float64.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.adapt.heads.head import LinearHead
from headstart.base.errors import DataError, EnvironmentFault, shown
from headstart.base.progress import QUIET, Observer, track
from headstart.bundle.manifest import Manifest
from headstart.bundle.tables import as_rows
from headstart.data.dataset import Dataset
from headstart.data.decode import BadExample
from headstart.data.looks import look_for
from headstart.data.sound import as_waveform
from headstart.features.choose import best_device, make_runner
from headstart.features.extract import rounded
from headstart.features.feeds import feed_for
from headstart.features.runners.runner import Runner, run_all
from headstart.features.runners.torch import TorchRunner
from headstart.inputs.spec import VectorSpec
from headstart.records.audit import Quarantined
from headstart.records.predictions import Predictions
from headstart.tasks.task import Task

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone

FLOAT32 = "torch-f32"
NOT_FINITE = "the network's features for this {} are NaN or infinite"
SORTED = 16  # batches of examples of any length that are sorted together


@dataclass(frozen=True)
class Answers(Predictions):
    """Predictions for the examples that could be read, and the others with their reasons."""

    quarantined: tuple[Quarantined, ...] = ()


@dataclass(frozen=True)
class _Item:
    """One example before it is decoded. value: Path | bytes | PIL.Image | ndarray, or a text."""

    id: str
    value: Any


class Predictor:
    """What load() gives back.

    manifest: everything known about the model.  task, labels: what the outputs mean, in order.
    backbone: the network up to its features.  head: the linear layer on them, temperature folded in.
    verified: the folder's hashes were compared before anything was opened.
    runner: name of the way to run the network; given as None it is that of the evaluation, or float32 where this
        machine does not offer that one (``note`` says so after the first example).
    """

    def __init__(
        self,
        manifest: Manifest,
        backbone: Backbone,
        head: LinearHead,
        *,
        verified: bool,
        device: str = "auto",
        runner: str | None = None,
    ) -> None:
        self.manifest = manifest
        self.task: Task = manifest.task.task()
        self.labels = self.task.labels
        self.backbone = backbone
        self.verified = verified
        self.device = best_device() if device == "auto" else device
        self.head = head
        self.runner = runner or manifest.runner
        self.note = ""
        self._is_asked_for = runner is not None
        self._made: dict[int, Runner] = {}
        self._look = look_for(backbone.card.modality)
        self._feed = feed_for(backbone)
        self._words = self._look.words

    def __repr__(self) -> str:
        checked = "verified" if self.verified else "unverified: integrity unknown"
        return f"Predictor({self.manifest.backbone.name}, {self.task.name}, {len(self.labels)} outputs, {checked})"

    def __call__(self, value: Any) -> dict[str, float]:
        """Label → probability (or value) for one example, largest first. DataError if it cannot be read."""
        scores = self.predict([value]).scores[0]
        order = np.argsort(-scores, kind="stable") if self.task.name != "regression" else range(len(scores))
        return {self.labels[k]: float(scores[k]) for k in order}

    def predict(
        self,
        values: Iterable[Any] | Dataset,
        *,
        batch_size: int = 64,
        with_targets: bool = False,
        observer: Observer = QUIET,
    ) -> Answers:
        """Scores for images (paths, bytes, PIL images, (H, W, 3) or (H, W) arrays), sounds (paths, bytes,
        (samples, rate)), texts (strings), rows (dicts, a frame, a table), or a Dataset.

        batch_size: examples that are decoded and run together; has no influence on the scores.
        with_targets: the Dataset's targets go with the scores, for an evaluation (DA41 if one was never learnt).
        Examples that cannot be read are left out and listed in ``.quarantined``; DataError if that is all of them.
        ids are the paths as given, or the position for values without a name.
        """
        values = self._as_given(values)
        items = self._items(values)
        kept, logits, bad = self._through(self.head.logits, items, batch_size, observer)
        if items and not kept:
            raise DataError(f"DA26 none of the {len(items)} {self._words.many} can be used. First: {named_bad(bad[0])}")
        targets = None
        if with_targets and isinstance(values, Dataset) and values.targets is not None:
            targets = self.task.encode([values.targets[row] for row in kept])
        return self._answers(logits, np.array([items[row].id for row in kept], object), targets, tuple(bad))

    def predict_features(self, X: np.ndarray) -> Answers:
        """Scores for (N, D) features, such as ``embed`` gives; ids are row numbers."""
        logits = self.head.logits(self._check_features(X))
        return self._answers(logits, np.array([str(i) for i in range(len(X))], object), None, ())

    def embed(self, values: Iterable[Any] | Dataset, *, batch_size: int = 64, observer: Observer = QUIET) -> np.ndarray:
        """(N, D) float32 features, row by row; DataError if an example cannot be read."""
        items = self._items(self._as_given(values))
        _, X, bad = self._through(lambda X: X, items, batch_size, observer)
        if bad:
            raise DataError(
                f"DA26 {len(bad)} of {len(items)} {self._words.many} cannot be used. First: {named_bad(bad[0])} "
                "Leave them out; predict() does so by itself and lists them."
            )
        return X

    def logits_of(
        self, values: Dataset, *, batch_size: int = 64, observer: Observer = QUIET
    ) -> tuple[list[int], np.ndarray, list[Quarantined]]:
        """(rows that could be used, their (n, K) calibrated logits, the others); none at all is no error."""
        return self._through(self.head.logits, self._items(values), batch_size, observer)

    def scores_of_prepared(self, examples: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """(n, K) scores of examples that are prepared already: (n, S, S, 3) uint8 pixels, or n arrays of tokens."""
        return self.task.decode(self.head.logits(self._run(examples)))

    # -- the way from values to features -----------------------------------------------------------------------------

    def _through(
        self, then: Callable[[np.ndarray], np.ndarray], items: Sequence[_Item], batch_size: int, observer: Observer
    ) -> tuple[list[int], np.ndarray, list[Quarantined]]:
        """(rows that could be used, ``then`` of their features, the others); the features are never all in memory."""
        if batch_size < 1:
            raise DataError(f"batch_size must be at least 1; got {batch_size}.")
        kept: list[int] = []
        bad: list[Quarantined] = []
        parts = [then(np.zeros((0, self.backbone.card.feature_dim), np.float32))]
        size = batch_size * (SORTED if self._feed.window else 1)
        for batch in _batches(self._prepared(items, 2 * size, observer), size, bad):
            arrays = [array for _, array in batch]
            X = self._run(arrays if self._feed.window else np.stack(arrays))
            fine = np.isfinite(X).all(axis=1)
            bad += [
                Quarantined(items[row].id, "FE01", NOT_FINITE.format(self._words.one))
                for (row, _), ok in zip(batch, fine, strict=True)
                if not ok
            ]
            kept += [row for (row, _), ok in zip(batch, fine, strict=True) if ok]
            parts.append(then(X[fine]))
        return kept, np.concatenate(parts), bad

    def _prepared(
        self, items: Sequence[_Item], ahead: int, observer: Observer
    ) -> Iterator[tuple[int, np.ndarray | Quarantined]]:
        """(row, the prepared example or why not), in order; at most ``ahead`` examples are in memory."""
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="headstart-decode") as pool:
            waiting: deque[Future[np.ndarray | Quarantined]] = deque()
            rest = iter(items)
            for row in track(range(len(items)), observer, "predicting", unit=self._words.many):
                while len(waiting) < ahead and (item := next(rest, None)) is not None:
                    waiting.append(pool.submit(self._prepare, item))
                yield row, waiting.popleft().result()

    def _prepare(self, item: _Item) -> np.ndarray | Quarantined:
        try:
            value = item.value.read_bytes() if isinstance(item.value, Path) else item.value
            # at_least as in features.extract: the same JPEG is decoded at the same scale.
            decoded = self._look.value(value, name=item.id, at_least=self._feed.at_least)
        except BadExample as error:
            return Quarantined(item.id, error.code, error.reason)
        except OSError as error:
            return Quarantined(item.id, "DA49", f"cannot be read ({error.strerror or error})")
        return self._feed.prepare([decoded])[0].array

    def _as_given(self, values: Any) -> Any:
        """``values``; rows of a table, in whatever form, as a Dataset of the columns that were learnt from."""
        if isinstance(values, Dataset) or not isinstance(self.manifest.input, VectorSpec):
            return values
        return as_rows(values, self.manifest.input)

    def _items(self, values: Iterable[Any] | Dataset) -> list[_Item]:
        if isinstance(values, Dataset):
            return [_Item(i, v) for i, v in zip(values.ids, values.values, strict=True)]
        if _is_one(values) or (self.backbone.card.modality == "audio" and as_waveform(values) is not None):
            values = [values]
        as_texts = self.backbone.card.modality == "text"
        return [
            _Item(str(row), value) if as_texts and isinstance(value, str) else _item(row, value)
            for row, value in enumerate(values)
        ]

    def _run(self, examples: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """(n, D) float32 features of prepared examples. The only place where the network is called."""
        X = run_all(self._runner(len(examples)), examples)
        return rounded(X) if self.manifest.rounded else X

    def _runner(self, examples: int) -> Runner:
        """The runner for a batch of this size; made on first use."""
        if self.runner != FLOAT32 and 0 not in self._made:
            self._make()
        if self.runner != FLOAT32:
            return self._made[0]
        batch = 1 if examples < 4 else 8 if examples <= 8 else 32  # a runner pads to its batch: few should not cost 32
        if batch not in self._made:
            self._made[batch] = TorchRunner(self.backbone, device=self.device, batch=batch)
        return self._made[batch]

    def _make(self) -> None:
        runner = make_runner(self.backbone, self.runner, self.device)
        if runner is not None:
            self._made[0] = runner
        elif self._is_asked_for:
            raise EnvironmentFault(
                f"EN72 the runner '{shown(self.runner)}' is not to be had on this machine ({self.device}). "
                "Load with precision=None to let headstart choose, or 'float32'."
            )
        else:
            self.note = f"evaluated with {self.runner}, which this machine does not offer: run in float32"
            self.runner = FLOAT32

    # -- the way from features to answers ----------------------------------------------------------------------------

    def _answers(
        self, logits: np.ndarray, ids: np.ndarray, targets: np.ndarray | None, bad: tuple[Quarantined, ...]
    ) -> Answers:
        return answers(self.manifest, self.task, logits, ids, targets, bad)

    def _check_features(self, X: np.ndarray) -> np.ndarray:
        X = np.asarray(X)
        if X.ndim != 2 or X.shape[1] != self.head.weight.shape[1]:
            raise DataError(f"features must be (N, {self.head.weight.shape[1]}); got {X.shape}.")
        if not np.isfinite(X).all():
            raise DataError(f"TB53 {int((~np.isfinite(X)).any(axis=1).sum())} of {len(X)} rows hold NaN or infinity.")
        return X


def answers(
    manifest: Manifest,
    task: Task,
    logits: np.ndarray,
    ids: np.ndarray,
    targets: np.ndarray | None,
    bad: tuple[Quarantined, ...],
) -> Answers:
    """Calibrated logits as answers."""
    scores = task.decode(logits) if len(logits) else logits
    # The record's logits are those before calibration.
    raw = None if task.name == "regression" else logits * manifest.head.temperature
    return Answers(ids, scores, targets, task.labels, task.name, raw, quarantined=bad)


def _batches(
    prepared: Iterable[tuple[int, np.ndarray | Quarantined]], size: int, bad: list[Quarantined]
) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Up to ``size`` (row, prepared example) at a time; what cannot be used goes to ``bad``."""
    batch: list[tuple[int, np.ndarray]] = []
    for row, pixels in prepared:
        if isinstance(pixels, Quarantined):
            bad.append(pixels)
            continue
        batch.append((row, pixels))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _is_one(values: Any) -> bool:
    """A single example where a list of them is expected: meant as a list of one."""
    if isinstance(values, np.ndarray):
        return values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (1, 3, 4))
    return isinstance(values, str | bytes | os.PathLike) or hasattr(values, "tobytes")


def _item(row: int, value: Any) -> _Item:
    if isinstance(value, str | os.PathLike):
        path = Path(value)
        if path.is_dir():
            raise DataError(
                f"{shown(path)} is a folder, not an image. Give its files, or headstart.open_dataset(…) of it; "
                "on the command line: headstart predict MODEL FOLDER"
            )
        return _Item(str(value), path)
    return _Item(str(row), value)


def named_bad(bad: Quarantined) -> str:
    return f"{bad.code} {shown(bad.id)}: {shown(bad.reason)}."
