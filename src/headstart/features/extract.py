"""Backbone × Dataset → Features: one pass over the files that also looks at them (see data.survey).

A shard is written every few thousand examples, so an interrupted pass goes on from what is there. Features are stored
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

from headstart.base.errors import PlanError, TrainingFault, shown
from headstart.base.files import key_of
from headstart.base.progress import QUIET, Observer, Said
from headstart.base.shards import ShardStore
from headstart.data.dataset import Dataset
from headstart.data.decode import BadExample, ImageLimits
from headstart.data.looks import ImageLook, Look, look_for
from headstart.data.rows import Row
from headstart.data.survey import Passenger, Survey
from headstart.data.words import Words, words_of
from headstart.features.choose import Disagreement, RunnerChoice, choose_runner
from headstart.features.feeds import Feed, feed_for
from headstart.features.runners.runner import Runner, run_all
from headstart.inputs.columns import encode
from headstart.inputs.prepared import Prepared, by_length, stacked
from headstart.inputs.spec import VectorSpec
from headstart.records.audit import Quarantined
from headstart.records.run import FeatureRecord

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone
    from headstart.backbones.card import BackboneCard

FORMAT = 1
FLUSH = 4096  # rows of a shard
ROWS_AT_ONCE = 2048  # of a table, in one pass through its network
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
    only_runner: str | RunnerChoice | None = None,
    look: Look | None = None,
    observer: Observer = QUIET,
    what: str = "looking and embedding",
) -> Features:
    """Features of every usable example. Raises DataError when none is, TrainingFault when the network gives NaN.

    cache: folder of the feature and fact stores.  only_runner: the runner that must be used: its name
    (as recorded earlier), or the choice of it for this network.
    look: how examples are read; None: with the modality's usual limits.  PlanError PL80 for a network that takes
    examples of another modality.
    """
    check_modality(backbone.card, dataset.modality)
    look, start = look or look_for(dataset.modality), time.perf_counter()
    if isinstance(backbone.card.input, VectorSpec):
        seen = look.survey(dataset, cache, observer=observer)
        return of_rows(backbone, [dataset.values[row] for row in seen.rows], seen, start)
    feed = feed_for(backbone)

    def chosen(*, anew: bool) -> RunnerChoice:
        return choose_runner(
            backbone,
            lambda most: sample(feed, dataset, look, most),
            device=device,
            memory=cache / "runners",
            only=only_runner,
            anew=anew,
        )

    def through(choice: RunnerChoice) -> Features:
        key = feature_key(backbone, choice.name)
        store = ShardStore(cache / "features" / key)
        sink = _Sink(choice.make, store, feed.window)
        wanted = Passenger(
            prepare=feed.prepare,
            has=lambda contents: store.find(contents) >= 0,
            take=sink.take,
            at_least=feed.at_least,
        )
        try:
            seen = look.survey(dataset, cache, passenger=wanted, observer=observer, what=what)
        finally:
            sink.finish()
        store.refresh()
        seen = _without_nonfinite(seen, sink.nonfinite, dataset.ids, look.words)
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
            preprocessing=asdict(backbone.card.input),
            cut=int(np.count_nonzero(_column(store, positions, "cut"))) if feed.window else 0,
        )
        return Features(store.vectors(positions), seen, record)

    try:
        return through(chosen(anew=False))
    except Disagreement as disagreement:
        if only_runner is not None:
            raise
        observer(Said(f"{disagreement.of}; the ways to run it are timed anew"))
        return through(chosen(anew=True))


def of_rows(backbone: Backbone, rows: Sequence[Row], seen: Survey, start: float) -> Features:
    """Features of rows of a table. They cost less than finding them in a store would: none is kept."""
    X = features_of_rows(backbone, rows)
    record = FeatureRecord(
        key="",
        runner="torch-f32",
        trials=(),
        images=len(rows),
        from_cache=0,
        seconds=round(time.perf_counter() - start, 3),
        preprocessing={},
    )
    return Features(X, seen, record)


def features_of_rows(backbone: Backbone, rows: Sequence[Row]) -> np.ndarray:
    """(n, D) float32 of rows of a table."""
    assert isinstance(backbone.card.input, VectorSpec), "a network for rows"
    return through_network(backbone, encode(rows, backbone.card.input.columns))


def through_network(backbone: Backbone, encoded: np.ndarray) -> np.ndarray:
    """(n, D) float32 of (n, E) rows that are encoded already."""
    from headstart.features.runners.torch import TorchRunner

    if not len(encoded):
        return np.zeros((0, backbone.card.feature_dim), np.float32)
    return run_all(TorchRunner(backbone, batch=ROWS_AT_ONCE), encoded)


def check_modality(card: BackboneCard, modality: str) -> None:
    """PlanError PL80 where the network cannot take such examples."""
    if card.modality != modality:
        raise PlanError(
            f"PL80 {shown(card.name)} takes {words_of(card.modality).many}, and this data is "
            f"{words_of(modality).many}. Choose another with --backbone: headstart models lists them."
        )


def _column(store: ShardStore, positions: np.ndarray, name: str) -> np.ndarray:
    return np.asarray(store.read(positions, name).to_numpy()) if len(positions) else np.zeros(0)


def feature_key(backbone: Backbone, runner: str) -> str:
    """The store's name: everything the vectors depend on besides the content of the example."""
    from importlib.metadata import version

    library = "openvino" if runner.startswith("openvino") else "torch"
    weights = [backbone.record.weights_sha256, backbone.card.architecture, list(backbone.record.notes)]
    reader = [version(package) for package in feed_for(backbone).versions]
    return key_of([FORMAT, weights, asdict(backbone.card.input), runner, library, version(library), *reader])


def sample(feed: Feed, dataset: Dataset, look: Look, most: int | None = None) -> list[np.ndarray]:
    """Up to ``most`` usable examples spread over the dataset, prepared; a plain one if none is usable."""
    most = most or feed.timed
    found: list[np.ndarray] = []
    for row in np.unique(np.linspace(0, len(dataset) - 1, 2 * most).astype(int)):
        if len(found) == most:
            break
        try:
            value = look.value(dataset.content(row)[1], name=dataset.ids[row], at_least=feed.at_least)
        except (BadExample, OSError):
            continue  # the survey reports it
        found.append(feed.prepare([value])[0].array)
    return found or [feed.nothing().array]


def sample_pixels(backbone: Backbone, dataset: Dataset, limits: ImageLimits, most: int = 16) -> np.ndarray:
    """(n, S, S, 3) uint8 of up to ``most`` usable images spread over the dataset; a grey one if none is usable."""
    return np.stack(sample(feed_for(backbone), dataset, ImageLook(limits), most))


class _Sink:
    """Collects prepared examples into batches, runs them, and writes shards of what comes out.

    window: examples that are sorted by length before they are cut into batches; None: batches in the order of arrival.
    The runner is made when the first example arrives: where everything is known already, nothing is converted.
    """

    def __init__(self, make: Callable[[], Runner], store: ShardStore, window: int | None) -> None:
        self.make, self.store, self.window = make, store, window
        self.runner: Runner | None = None
        self.computed = 0
        self.nonfinite: set[bytes] = set()
        self._waiting: list[tuple[bytes, Prepared]] = []
        self._ready: list[_Done] = []
        self._lock = Lock()

    def take(self, key: bytes, example: Prepared) -> None:
        self.runner = self.runner or self.make()
        self._waiting.append((key, example))
        if len(self._waiting) >= (self.window or self.runner.batch):
            self._send()
        if sum(len(done.keys) for done in self._ready) >= FLUSH:
            self._write()

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting or self.runner is None:
            return
        order = by_length([example.array for _, example in waiting]) if self.window else np.arange(len(waiting))
        for start in range(0, len(order), self.runner.batch):
            part = [waiting[i] for i in order[start : start + self.runner.batch]]
            arrival = _Arrival(
                [key for key, _ in part], [example.is_cut for _, example in part], self._ready, self._lock
            )
            self.runner.submit(stacked([example.array for _, example in part]), arrival)

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
        keys = [key for done in ready for key in done.keys]
        cut = [is_cut for done in ready for is_cut in done.cut]
        X = np.concatenate([done.X for done in ready])
        order = sorted(range(len(keys)), key=keys.__getitem__)
        X, keys, cut = X[order], [keys[i] for i in order], [cut[i] for i in order]
        fine = np.asarray(np.isfinite(X).all(axis=1))
        self.nonfinite.update(key for key, ok in zip(keys, fine, strict=True) if not ok)
        self.computed += len(keys)
        for dtype, rows in _by_precision(X, fine):
            values = pa.array(X[rows].astype(dtype).ravel())
            vectors = pa.FixedSizeListArray.from_arrays(values, X.shape[1])
            columns: dict[str, pa.Array] = {"vector": vectors}
            if self.window:
                columns["cut"] = pa.array([cut[i] for i in rows], pa.bool_())
            self.store.append([keys[i] for i in rows], columns)


def _by_precision(X: np.ndarray, fine: np.ndarray) -> list[tuple[type, np.ndarray]]:
    """Rows that float16 can hold, and the rare rows that need float32."""
    small = np.abs(np.where(fine[:, None], X, 0)).max(axis=1, initial=0) <= LARGEST
    parts = [(np.float16, np.flatnonzero(fine & small)), (np.float32, np.flatnonzero(fine & ~small))]
    return [(dtype, rows) for dtype, rows in parts if len(rows)]


@dataclass(frozen=True, eq=False)
class _Done:
    keys: list[bytes]
    cut: list[bool]
    X: np.ndarray


class _Arrival:
    def __init__(self, keys: list[bytes], cut: list[bool], ready: list[_Done], lock: Lock) -> None:
        self.keys, self.cut, self.ready, self.lock = keys, cut, ready, lock

    def __call__(self, features: np.ndarray) -> None:
        with self.lock:
            self.ready.append(_Done(self.keys, self.cut, features))


def _without_nonfinite(seen: Survey, bad: set[bytes], ids: Sequence[str], words: Words) -> Survey:
    """Examples for which the network gives NaN or infinity are quarantined; if all do, the weights are to blame."""
    if not bad:
        return seen
    rows = [int(row) for row in seen.rows if seen.keys[row] in bad]
    if len(rows) == len(seen.rows):
        raise TrainingFault(
            f"CK10 the network gives NaN or infinite features for every {words.one}. Its weights are damaged."
        )
    usable = seen.usable.copy()
    usable[rows] = False
    reason = f"the network's features for this {words.one} are NaN or infinite"
    problems = dict(seen.problems) | {row: Quarantined(ids[row], "FE01", reason) for row in rows}
    return replace(seen, usable=usable, problems=problems)


def rounded(features: np.ndarray) -> np.ndarray:
    """Features as the store would give them back: through float16 where it can hold them."""
    X = features.astype(np.float32)
    for dtype, rows in _by_precision(X, np.asarray(np.isfinite(X).all(axis=1))):
        X[rows] = X[rows].astype(dtype)
    return X
