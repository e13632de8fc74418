"""Activations at a frozen border: what is frozen of a network runs once over each view, not once in each epoch.

A file of activations is named by everything it depends on, so nothing in the folder expires or is updated; the least
recently used files go when newer ones need the room. A process that died half-way leaves a temporary file, which the
next one removes when it is a day old.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np

from headstart.base.errors import EnvironmentFault, TrainingFault, listed, shown
from headstart.base.files import content_hash, free_bytes, human_bytes, key_of, make_folder, write_with
from headstart.base.optional import is_installed
from headstart.base.progress import QUIET, Observer, Said, track
from headstart.features.choose import COMPARED, agreement_of, float32_features, make_runner, offered
from headstart.features.extract import LARGEST
from headstart.features.runners.runner import Runner, run_all
from headstart.inputs.augment import Policy
from headstart.inputs.batches import PixelBatches
from headstart.inputs.decoded import Pictures

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone
    from headstart.backbones.cut import Cut

FORMAT = 1
IN_MEMORY = 2**30  # bytes of activations that are held; what is larger is mapped from its file
ON_DISK = 8 * 2**30  # bytes of the files that are kept for later runs
SPARE = 2**30  # bytes of the disk that are left free
FEW = 128  # pictures up to which converting a network costs more than a faster one saves
STALE_S = 24 * 3600  # age from which a temporary file belongs to a process that is gone
WHAT = "running the frozen part once"

Precision = Literal["float16", "float32"]


@dataclass(frozen=True, eq=False)
class Sight:
    """All that the frozen part shall see: n pictures, once each, or in K views each.

    views: K, or 0 for the pictures alone.  key: names the pixels.  ids: (n,) for messages.
    blocks: at most so many pictures at once → (b, S, S, 3) uint8 blocks in order, one view after the other.
    """

    n: int
    views: int
    key: str
    ids: Sequence[str]
    blocks: Callable[[int], Iterator[np.ndarray]]

    @property
    def passes(self) -> int:
        return self.n * max(1, self.views)


def sight_of(pictures: Pictures, policy: Policy, views: int = 0, *, seed: int = 0) -> Sight:
    """The pictures, or ``views`` views of each: what PixelBatches shows with this seed on visits 0 … views − 1."""
    n = len(pictures)

    def blocks(most: int) -> Iterator[np.ndarray]:
        import torch

        batches = PixelBatches(
            pictures, torch.zeros(n), np.arange(n), policy=policy, batch_size=min(most, n), seed=seed, views=views
        )
        for number in range(max(1, views)):
            for batch in batches.view(number):
                yield batch.inputs.numpy()

    drawn = [] if policy.changes_nothing else [asdict(policy), views, seed]
    return Sight(n, views, key_of([_contents(pictures, policy), drawn]), pictures.ids, blocks)


def sight_of_pixels(pixels: np.ndarray) -> Sight:
    """Of (n, S, S, 3) uint8 pixels."""

    def blocks(most: int) -> Iterator[np.ndarray]:
        return (pixels[start : start + most] for start in range(0, len(pixels), most))

    key = key_of([pixels.shape, content_hash(np.ascontiguousarray(pixels).data)])
    return Sight(len(pixels), 0, key, [f"row {i}" for i in range(len(pixels))], blocks)


def border_bytes(cut: Cut, n: int, views: int = 0, precision: Precision = "float16") -> int:
    """Room that the activations of ``n`` pictures take."""
    return n * max(1, views) * int(np.prod(cut.shape)) * np.dtype(precision).itemsize


class Border:
    """Activations at the borders of the networks of one fit; each set of them is made once.

    folder: of the files.  device, runner: where the frozen part runs and how; by default the first way this machine
    offers, likely the fastest, whose activations agree with float32 (features.choose). No timing decides, so that a
    resumed run computes the same bits.  precision: how they are kept; float32 is taken where float16 cannot hold them.
    seed: of the views, as for PixelBatches.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str = "cpu",
        runner: str | None = None,
        precision: Precision = "float16",
        seed: int = 0,
        in_memory: int = IN_MEMORY,
        on_disk: int = ON_DISK,
    ) -> None:
        self._folder, self._device, self._runner = folder, device, runner
        self._precision, self._seed = precision, seed
        self._in_memory, self._on_disk = in_memory, on_disk
        self._held: OrderedDict[str, np.ndarray] = OrderedDict()
        self._sights: dict[tuple[int, Policy, int], Sight] = {}  # by id(): a sight keeps its pictures alive

    def activations(
        self, cut: Cut, pictures: Pictures, policy: Policy, views: int = 0, observer: Observer = QUIET
    ) -> np.ndarray | None:
        """(n, *cut.shape) of all pictures, or (views, n, *cut.shape); as inputs.batches.ArrayBatches takes them.

        In memory, or mapped where that is too small. None where neither memory nor disk has the room: then each step
        runs the whole network, which ``observer`` is told. TrainingFault for activations that are NaN or infinite.
        """
        known = (id(pictures), policy, views)
        if known not in self._sights:
            self._sights[known] = sight_of(pictures, policy, views, seed=self._seed)
        return self.activations_of(cut, self._sights[known], observer)

    def activations_of(self, cut: Cut, sight: Sight, observer: Observer = QUIET) -> np.ndarray | None:
        """``activations`` of whatever the frozen part shall see."""
        key = self._key(cut, sight)
        shape = (*((sight.views,) if sight.views else ()), sight.n, *cut.shape)
        flat = self._held.get(key)
        if flat is None:
            flat = self._read(key, (sight.passes, *cut.shape), observer)
        if flat is None:
            flat = self._made(key, cut, sight, observer)
        if flat is None:
            return None
        self._hold(key, flat)
        return flat.reshape(shape)

    def _key(self, cut: Cut, sight: Sight) -> str:
        """Everything that the numbers depend on."""
        from importlib.metadata import version

        from headstart.backbones.backbone import tensors_sha256

        libraries = [f"{name} {version(name)}" for name in ("torch", "openvino", "pillow") if is_installed(name)]
        frozen = [tensors_sha256(cut.frozen.network), str(cut.frozen.architecture), asdict(cut.frozen.spec)]
        way = [self._runner, offered(self._device), self._precision]
        return key_of([FORMAT, frozen, cut.stage, cut.shape, way, libraries, sight.key])

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.npy"

    def _hold(self, key: str, flat: np.ndarray) -> None:
        """Keep for the next phase; the least recently used go where all together are too much."""
        if isinstance(flat, np.memmap):
            with contextlib.suppress(OSError):
                os.utime(self._path(key))
            return
        self._held[key] = flat
        self._held.move_to_end(key)
        while sum(a.nbytes for a in self._held.values()) > self._in_memory and len(self._held) > 1:
            self._held.popitem(last=False)

    # ---------------------------------------------------------------------------------------------------- on disk

    def _read(self, key: str, shape: tuple[int, ...], observer: Observer) -> np.ndarray | None:
        """What an earlier run left, None where there is nothing sound."""
        path = self._path(key)
        if not path.exists():
            return None
        try:
            found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
            sound = found.shape == shape and found.dtype in (np.float16, np.float32)
        except (OSError, ValueError, EOFError):
            sound = False
        if not sound:
            observer(Said(f"{shown(path)} is damaged; its activations are computed again.", "warning"))
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return np.array(found) if found.nbytes <= self._in_memory else found

    def _has_room(self, needed: int) -> bool:
        """Whether the disk can take a file; older ones go for it, as far as ``on_disk`` asks for that."""
        make_folder(self._folder)
        self._sweep(needed)
        free = free_bytes(self._folder)
        return free is not None and free >= needed + SPARE

    def _sweep(self, needed: int) -> None:
        with contextlib.suppress(OSError):  # another process may be sweeping, too
            for left in self._folder.glob(".*.npy.tmp-*"):
                if time.time() - left.stat().st_mtime > STALE_S:
                    left.unlink()
            files = sorted(self._folder.glob("*.npy"), key=lambda p: p.stat().st_mtime)
            total = sum(p.stat().st_size for p in files)
            while files and total + needed > self._on_disk:
                total -= files[0].stat().st_size
                files.pop(0).unlink()

    # ---------------------------------------------------------------------------------------------------- computing

    def _made(self, key: str, cut: Cut, sight: Sight, observer: Observer) -> np.ndarray | None:
        """Computed, and written for later runs; None where there is no room."""
        from headstart.backbones.cut import evaluating

        if self._room(cut, sight, self._precision) is None:
            observer(Said(_no_room(cut, sight, self._precision, self._folder), "warning"))
            return None
        with evaluating(cut.frozen):
            frozen = _on_cpu(cut.frozen)
            runner = self._agreeing(frozen, next(sight.blocks(COMPARED)), few=sight.passes <= FEW)
            for precision in dict.fromkeys((self._precision, "float32")):
                room = self._room(cut, sight, precision)
                if room is None:
                    observer(Said(_no_room(cut, sight, precision, self._folder), "warning"))
                    return None
                with contextlib.suppress(_TooLargeForFloat16):
                    if room == "disk":
                        return self._to_disk(key, cut, sight, runner, precision, observer)
                    return self._to_memory(key, cut, sight, runner, precision, observer)
        raise AssertionError("float32 holds what a float32 network gives")

    def _room(self, cut: Cut, sight: Sight, precision: Precision) -> Literal["memory", "disk"] | None:
        needed = border_bytes(cut, sight.n, sight.views, precision)
        if needed <= self._in_memory:
            return "memory"
        return "disk" if self._has_room(needed) else None

    def _agreeing(self, frozen: Backbone, pixels: np.ndarray, *, few: bool) -> Runner:
        """The runner that was asked for, else the first that this machine offers, if it agrees with float32."""
        reference = float32_features(frozen, pixels)
        names = sorted(offered(self._device), key=lambda name: few and name.startswith("openvino"))
        for name in dict.fromkeys((*([self._runner] if self._runner else []), *names)):
            runner = make_runner(frozen, name, self._device)
            if runner is not None and agreement_of(run_all(runner, pixels), reference).holds:
                return runner
        raise TrainingFault(f"no runner agrees with float32 on {frozen.card.name}")  # torch-f32 always does

    def _to_memory(
        self, key: str, cut: Cut, sight: Sight, runner: Runner, precision: Precision, observer: Observer
    ) -> np.ndarray:
        flat = np.empty((sight.passes, *cut.shape), precision)
        for first, block in _computed(runner, sight, cut.shape, precision, observer):
            flat[first : first + len(block)] = block
        try:
            if self._has_room(flat.nbytes):
                write_with(self._path(key), partial(np.lib.format.write_array, array=flat, allow_pickle=False))
        except EnvironmentFault as fault:  # the run needs no file: it has the numbers
            observer(Said(f"The activations are not kept for later runs: {fault}", "warning"))
        return flat

    def _to_disk(
        self, key: str, cut: Cut, sight: Sight, runner: Runner, precision: Precision, observer: Observer
    ) -> np.ndarray:
        shape = (sight.passes, *cut.shape)
        header = {"descr": np.dtype(precision).str, "fortran_order": False, "shape": shape}

        def write(file: BinaryIO) -> None:
            np.lib.format.write_array_header_1_0(file, header)
            start, row = file.tell(), border_bytes(cut, 1, precision=precision)
            for first, block in _computed(runner, sight, cut.shape, precision, observer):
                file.seek(start + first * row)
                file.write(np.ascontiguousarray(block).data)

        write_with(self._path(key), write)
        mapped: np.ndarray = np.load(self._path(key), mmap_mode="r", allow_pickle=False)
        return mapped


class _TooLargeForFloat16(Exception):
    """No error: float32 is taken instead."""


def _no_room(cut: Cut, sight: Sight, precision: Precision, folder: Path) -> str:
    needed = human_bytes(border_bytes(cut, sight.n, sight.views, precision))
    free = free_bytes(folder)
    left = (
        f"only {human_bytes(free)} are free in {shown(folder)}" if free is not None else f"no disk at {shown(folder)}"
    )
    what = f"{sight.n} pictures" + (f" in {sight.views} views each" if sight.views else "")
    return (
        f"The activations of {what} before '{cut.stage}' would take {needed}, and {left}: "
        "each step runs the whole network instead, which gives the same and takes longer."
    )


def _on_cpu(frozen: Backbone) -> Backbone:
    """Itself, or a copy: runners take a network from the CPU to where they work."""
    device = next((t.device.type for t in frozen.network.state_dict().values()), "cpu")
    return frozen if device == "cpu" else copy.deepcopy(frozen).cpu()


def _computed(
    runner: Runner, sight: Sight, shape: tuple[int, ...], precision: Precision, observer: Observer
) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, activations (b, *shape)) of all blocks, in the order in which they are ready."""
    ready: SimpleQueue[tuple[int, np.ndarray]] = SimpleQueue()
    first = 0
    total = max(1, sight.views) * -(-sight.n // runner.batch)
    for pixels in track(sight.blocks(runner.batch), observer, WHAT, total=total, unit="batches"):
        runner.submit(pixels, partial(_put, ready, first))
        first += len(pixels)
        while not ready.empty():
            yield _kept(*ready.get(), sight, shape, precision)
    runner.finish()
    while not ready.empty():
        yield _kept(*ready.get(), sight, shape, precision)
    assert first == sight.passes, f"{first} of {sight.passes} pictures were seen"


def _put(ready: SimpleQueue[tuple[int, np.ndarray]], first: int, features: np.ndarray) -> None:
    ready.put((first, features))


def _kept(
    first: int, features: np.ndarray, sight: Sight, shape: tuple[int, ...], precision: Precision
) -> tuple[int, np.ndarray]:
    """The block in the precision in which it is kept."""
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        bad = [sight.ids[(first + int(i)) % sight.n] for i in np.flatnonzero(~finite)]
        raise TrainingFault(
            f"CK10 the frozen part of the network gives NaN or infinite numbers for {listed(bad)}. "
            "Its weights are damaged, or these pictures are; leave them out."
        )
    if precision == "float16" and np.abs(features).max(initial=0) > LARGEST:
        raise _TooLargeForFloat16
    return first, features.reshape(-1, *shape).astype(precision, copy=False)


def _contents(pictures: Pictures, policy: Policy) -> str:
    """One hash of what the views are made from."""
    look = pictures.picture if policy.crop is not None else pictures.prepared
    digest = hashlib.sha256()
    for row in range(len(pictures)):
        pixels = np.ascontiguousarray(look(row))
        digest.update(f"{pixels.shape};".encode())
        digest.update(pixels.data)
    return digest.hexdigest()
