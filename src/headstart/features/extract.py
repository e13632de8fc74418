"""Backbone × Dataset → Features: one pass over the files that also looks at them (see data.survey).

A shard is written every few thousand images, so an interrupted pass goes on from what is there. Features are stored
as float16 and always read back from the store: first run, second run and prediction see the same rounding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from headstart.base.errors import TrainingFault
from headstart.base.files import key_of
from headstart.base.progress import QUIET, Observer
from headstart.base.shards import ShardStore
from headstart.data.dataset import Dataset
from headstart.data.decode import BadExample, ImageLimits, decode_image
from headstart.data.survey import Pixels, Survey, facts_cache, survey
from headstart.features.choose import choose_runner
from headstart.features.runners.runner import Runner
from headstart.inputs.image import prepare
from headstart.records.audit import Quarantined
from headstart.records.run import FeatureRecord

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone

FORMAT = 1
FLUSH = 4096  # rows of a shard
LARGEST = 60_000.0  # float16 holds 65,504; beyond this on the first images the store is float32


@dataclass(frozen=True, eq=False)
class Features:
    """What a frozen network made of a dataset.

    X: (n, D) float32, the usable rows in order.  survey: the look at all rows; survey.rows are the n row numbers.
    """

    X: np.ndarray
    survey: Survey
    record: FeatureRecord


def extract(
    backbone: Backbone,
    dataset: Dataset,
    *,
    cache: Path,
    device: str = "auto",
    only_runner: str | None = None,
    limits: ImageLimits | None = None,
    observer: Observer = QUIET,
    what: str = "looking and embedding",
) -> Features:
    """Features of every usable image. Raises DataError when none is, TrainingFault when the network gives NaN.

    cache: folder of the feature and fact stores.  only_runner: the runner that must be used (as recorded earlier).
    """
    limits = limits or ImageLimits()
    start = time.perf_counter()
    choice = choose_runner(
        backbone,
        lambda: sample_pixels(backbone, dataset, limits),
        device=device,
        memory=cache / "runners",
        only=only_runner,
    )
    key = feature_key(backbone, choice.name)
    store = ShardStore(cache / "features" / key)
    sink = _Sink(choice.make, store)
    spec = backbone.spec
    wanted = Pixels(
        prepare=lambda image: prepare(image, spec),
        has=lambda content: content in store,
        take=sink.take,
        at_least=spec.resized,
    )
    try:
        seen = survey(dataset, facts_cache(cache, limits), limits=limits, pixels=wanted, observer=observer, what=what)
    finally:
        sink.finish()
    store.refresh()
    seen = _without_nonfinite(seen, sink.nonfinite, dataset.ids)
    keys = [seen.keys[row] for row in seen.rows]
    positions = store.find(keys)
    assert (positions >= 0).all(), "a feature that was just written is not in the store"
    record = FeatureRecord(
        key=key,
        runner=choice.name,
        trials=choice.trials,
        images=len(keys),
        from_cache=len(keys) - sink.computed,
        seconds=round(time.perf_counter() - start, 3),
        preprocessing=asdict(spec),
    )
    return Features(store.vectors(positions), seen, record)


def feature_key(backbone: Backbone, runner: str) -> str:
    """The store's name: everything the vectors depend on besides the content of the image."""
    from importlib.metadata import version

    library = "openvino" if runner.startswith("openvino") else "torch"
    weights = [backbone.record.weights_sha256, backbone.card.architecture, list(backbone.record.notes)]
    return key_of([FORMAT, weights, asdict(backbone.spec), runner, library, version(library), version("pillow")])


def sample_pixels(backbone: Backbone, dataset: Dataset, limits: ImageLimits, most: int = 16) -> np.ndarray:
    """(n, S, S, 3) uint8 of up to ``most`` usable images spread over the dataset; grey ones if none is usable."""
    spec = backbone.spec
    found: list[np.ndarray] = []
    for row in np.unique(np.linspace(0, len(dataset) - 1, 2 * most).astype(int)):
        if len(found) == most:
            break
        try:
            image, _ = decode_image(
                dataset.content(row)[1], name=dataset.ids[row], limits=limits, at_least=spec.resized
            )
        except (BadExample, OSError):
            continue  # the survey reports it
        found.append(prepare(image, spec))
    return np.stack(found) if found else np.full((1, spec.size, spec.size, 3), 128, np.uint8)


class _Sink:
    """Collects prepared images into batches, runs them, and writes shards of what comes out.

    The runner is made when the first image arrives: where everything is known already, nothing is converted.
    """

    def __init__(self, make: Callable[[], Runner], store: ShardStore) -> None:
        self.make, self.store = make, store
        self.runner: Runner | None = None
        self.computed = 0
        self.nonfinite: set[bytes] = set()
        self._keys: list[bytes] = []
        self._pixels: list[np.ndarray] = []
        self._ready: list[tuple[list[bytes], np.ndarray]] = []
        self._lock = Lock()

    def take(self, key: bytes, pixels: np.ndarray) -> None:
        self.runner = self.runner or self.make()
        self._keys.append(key)
        self._pixels.append(pixels)
        if len(self._keys) == self.runner.batch:
            self._send()
        if sum(len(keys) for keys, _ in self._ready) >= FLUSH:
            self._write()

    def _send(self) -> None:
        if self._keys and self.runner:
            self.runner.submit(np.stack(self._pixels), _Arrival(self._keys, self._ready, self._lock))
            self._keys, self._pixels = [], []

    def finish(self) -> None:
        self._send()
        if self.runner:
            self.runner.finish()
        self._write()

    def _write(self) -> None:
        import pyarrow as pa

        with self._lock:
            ready, self._ready[:] = list(self._ready), []
        if not ready:
            return
        # Streams deliver in any order; sorted by content the shard has the same bytes in every run.
        keys = [key for keys, _ in ready for key in keys]
        X = np.concatenate([x for _, x in ready])
        order = sorted(range(len(keys)), key=keys.__getitem__)
        X, keys = X[order], [keys[i] for i in order]
        fine = np.asarray(np.isfinite(X).all(axis=1))
        self.nonfinite.update(key for key, ok in zip(keys, fine, strict=True) if not ok)
        self.computed += len(keys)
        for dtype, rows in _by_precision(X, fine):
            values = pa.array(X[rows].astype(dtype).ravel())
            vectors = pa.FixedSizeListArray.from_arrays(values, X.shape[1])
            self.store.append([keys[i] for i in rows], {"vector": vectors})


def _by_precision(X: np.ndarray, fine: np.ndarray) -> list[tuple[type, np.ndarray]]:
    """Rows that float16 can hold, and the rare rows that need float32."""
    small = np.abs(np.where(fine[:, None], X, 0)).max(axis=1, initial=0) <= LARGEST
    parts = [(np.float16, np.flatnonzero(fine & small)), (np.float32, np.flatnonzero(fine & ~small))]
    return [(dtype, rows) for dtype, rows in parts if len(rows)]


class _Arrival:
    def __init__(self, keys: list[bytes], ready: list[tuple[list[bytes], np.ndarray]], lock: Lock) -> None:
        self.keys, self.ready, self.lock = keys, ready, lock

    def __call__(self, features: np.ndarray) -> None:
        with self.lock:
            self.ready.append((self.keys, features))


def _without_nonfinite(seen: Survey, bad: set[bytes], ids: Sequence[str]) -> Survey:
    """Images for which the network gives NaN or infinity are quarantined; if all do, the weights are to blame."""
    if not bad:
        return seen
    rows = [int(row) for row in seen.rows if seen.keys[row] in bad]
    if len(rows) == len(seen.rows):
        raise TrainingFault("CK10 the network gives NaN or infinite features for every image. Its weights are damaged.")
    usable = seen.usable.copy()
    usable[rows] = False
    reason = "the network's features for this image are NaN or infinite"
    problems = dict(seen.problems) | {row: Quarantined(ids[row], "FE01", reason) for row in rows}
    return replace(seen, usable=usable, problems=problems)


def rounded(features: np.ndarray) -> np.ndarray:
    """Features as the store would give them back: through float16 where it can hold them."""
    X = features.astype(np.float32)
    for dtype, rows in _by_precision(X, np.asarray(np.isfinite(X).all(axis=1))):
        X[rows] = X[rows].astype(dtype)
    return X
