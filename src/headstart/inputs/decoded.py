"""Training pictures, decoded once: what every later epoch and every later strategy reads from.

Each picture is kept in two forms. ``prepared`` is what the network sees at prediction, bit for bit. ``picture`` is what
crops are cut from: shrunk so that its short side is √2 times the network's, which leaves half of its area as sharp as
the network can see, or the original where that is smaller. Of tiny pictures only the original is kept.
The first pictures stay in memory, the rest in a file without a name: nothing is left behind, however the process ends.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from headstart.base.errors import DataError, shown
from headstart.base.files import disk_fault, make_folder
from headstart.base.progress import QUIET, Observer, track
from headstart.data.dataset import Dataset
from headstart.data.decode import ImageLimits, decode_image
from headstart.inputs.image import prepare
from headstart.inputs.spec import ImageSpec

IN_MEMORY = 2**30  # bytes
IN_FLIGHT = 64  # decoded pictures that may wait to be put away
DETAIL = math.sqrt(2)
TINY = 4  # pictures of less than this part of the network's pixels are quickly prepared again
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class Pictures:
    """The pictures of a dataset's rows, ready to be cropped; read from many threads. Made by decode_pictures.

    ids: as in the dataset.  in_memory, on_disk: bytes.
    """

    def __init__(self, ids: Sequence[str], spec: ImageSpec, store: _Store, forms: Sequence[_Forms]) -> None:
        self.ids, self.spec = ids, spec
        self._store, self._forms = store, forms

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def in_memory(self) -> int:
        return self._store.in_memory

    @property
    def on_disk(self) -> int:
        return self._store.on_disk

    def prepared(self, row: int) -> np.ndarray:
        """(S, S, 3) uint8, equal to prepare() of the decoded picture."""
        forms = self._forms[row]
        if forms.prepared is not None:
            return self._store.read(forms.prepared)
        return prepare(Image.fromarray(self.picture(row)), self.spec)

    def picture(self, row: int) -> np.ndarray:
        """(H, W, 3) uint8, to crop from; sizes differ from row to row."""
        place = self._forms[row].picture
        assert place is not None, "this store was made without pictures to crop from"
        return self._store.read(place)

    def close(self) -> None:
        """Give the space back; views of pictures that are still held keep theirs."""
        self._store.close()


def decode_pictures(
    dataset: Dataset,
    spec: ImageSpec,
    *,
    keys: Sequence[bytes] | None = None,
    limits: ImageLimits | None = None,
    to_crop: bool = True,
    folder: Path | None = None,
    in_memory: int = IN_MEMORY,
    workers: int | None = None,
    observer: Observer = QUIET,
    what: str = "decoding the training images",
) -> Pictures:
    """Every row of ``dataset``, decoded as features.extract does; the same bits whatever the number of workers.

    keys: the content keys that a survey found, row by row; DataError where a file has another content now, or none.
    to_crop: False keeps only what prepared() needs, about a third of the space.  in_memory: bytes held before the rest
    goes to a file in ``folder`` (the system's temporary one where None), which is deleted while it is open.
    Raises DataError for a picture that cannot be used, EnvironmentFault when the disk is full.
    """
    workers = workers or min(16, os.cpu_count() or 1)
    look = _Look(dataset, spec, keys, limits or ImageLimits(), to_crop)
    store = _Store(in_memory, folder)
    forms: list[_Forms] = []
    try:
        with ThreadPoolExecutor(workers, thread_name_prefix="headstart-decode") as pool:
            waiting: deque[Future[_Decoded]] = deque()
            rows = iter(range(len(dataset)))
            try:
                for _ in track(range(len(dataset)), observer, what, unit="images"):
                    while len(waiting) < IN_FLIGHT and (row := next(rows, None)) is not None:
                        waiting.append(pool.submit(look, row))
                    forms.append(_put_away(waiting.popleft().result(), store))
            finally:
                pool.shutdown(wait=True, cancel_futures=True)  # after an error the rest need not be decoded
        store.seal()
    except BaseException:
        store.close()
        raise
    return Pictures(tuple(dataset.ids), spec, store, forms)


# ------------------------------------------------------------------------------------------------------- decoding


@dataclass(frozen=True, eq=False)
class _Decoded:
    """What is kept of one row, uint8; ``prepared`` may be missing where ``picture`` is the original."""

    prepared: np.ndarray | None
    picture: np.ndarray | None


@dataclass(frozen=True)
class _Look:
    """What a thread does with one row."""

    dataset: Dataset
    spec: ImageSpec
    keys: Sequence[bytes] | None
    limits: ImageLimits
    to_crop: bool

    def __call__(self, row: int) -> _Decoded:
        name = self.dataset.ids[row]
        try:
            key, content = self.dataset.content(row)
        except OSError as error:
            raise DataError(
                f"DA52 {shown(name)} could be read when the data was looked at, and cannot be read now "
                f"({shown(error.strerror or error)}). Put it back, or start again: headstart fit reads the data anew."
            ) from error
        if self.keys is not None and key != self.keys[row]:
            raise DataError(
                f"DA52 {shown(name)} has changed since the data was looked at. Split and features belong to the old "
                "picture; put it back, or start again: headstart fit reads the data anew."
            )
        image, _ = decode_image(content, name=name, limits=self.limits, at_least=self.spec.resized)
        return self._forms(image)

    def _forms(self, image: Image.Image) -> _Decoded:
        if image.width * image.height <= self.spec.size**2 / TINY:
            return _Decoded(None, np.asarray(image))
        prepared = prepare(image, self.spec)
        return _Decoded(prepared, np.asarray(self._shrunk(image)) if self.to_crop else None)

    def _shrunk(self, image: Image.Image) -> Image.Image:
        if min(image.size) <= self._side:
            return image
        share = self._side / min(image.size)
        size = max(self._side, round(image.width * share)), max(self._side, round(image.height * share))
        return image.resize(size, _FILTERS[self.spec.interpolation])

    @property
    def _side(self) -> int:
        # Never more than decode_image's at_least allows: JPEGs may arrive with short sides of 2 × resized.
        return max(self.spec.resized, math.ceil(DETAIL * self.spec.size))


# -------------------------------------------------------------------------------------------------------- keeping


@dataclass(frozen=True)
class _Place:
    """An array in the store: number of the array in memory, or offset in the file."""

    at: int
    shape: tuple[int, int, int]
    in_file: bool


@dataclass(frozen=True)
class _Forms:
    prepared: _Place | None
    picture: _Place | None


def _put_away(decoded: _Decoded, store: _Store) -> _Forms:
    prepared, picture = (None if a is None else store.add(a) for a in (decoded.prepared, decoded.picture))
    return _Forms(prepared, picture)


class _Store:
    """uint8 arrays of any shapes: in memory up to a limit, then in a file without a name."""

    def __init__(self, limit: int, folder: Path | None) -> None:
        self.in_memory = self.on_disk = 0
        self._limit, self._folder = limit, folder
        self._arrays: list[np.ndarray] = []
        self._file: BinaryIO | None = None
        self._mapped: np.ndarray | None = None

    def add(self, array: np.ndarray) -> _Place:
        height, width, channels = array.shape
        if self._file is None and self.in_memory + array.nbytes <= self._limit:
            array = np.ascontiguousarray(array)
            array.flags.writeable = False
            self._arrays.append(array)
            self.in_memory += array.nbytes
            return _Place(len(self._arrays) - 1, (height, width, channels), in_file=False)
        place = _Place(self.on_disk, (height, width, channels), in_file=True)
        self._write(array)
        return place

    def _write(self, array: np.ndarray) -> None:
        folder = Path(tempfile.gettempdir()) if self._folder is None else make_folder(self._folder)
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as the store
            self._file.write(np.ascontiguousarray(array).data)
        except OSError as error:
            raise disk_fault(error, folder) from error
        self.on_disk += array.nbytes

    def seal(self) -> None:
        """After the last add: what is in the file can be read."""
        if self._file is None:
            return
        try:
            self._file.flush()
        except OSError as error:
            raise disk_fault(error, self._folder or Path(tempfile.gettempdir())) from error
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self._mapped = np.frombuffer(mapped, np.uint8)

    def read(self, place: _Place) -> np.ndarray:
        if not place.in_file:
            return self._arrays[place.at]
        assert self._mapped is not None, "the store is sealed before it is read"
        height, width, channels = place.shape
        return self._mapped[place.at : place.at + height * width * channels].reshape(place.shape)

    def close(self) -> None:
        self._arrays.clear()
        self._mapped = None
        if self._file is not None:
            with suppress(OSError):  # a full disk again: what was not written yet is not wanted any more
                self._file.close()
