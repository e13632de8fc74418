"""Checkpoints of one run: there whole or not at all, checked by hash, never pickled.

A checkpoint is a folder ``ckpt-000400`` with tensors.safetensors, state.json, manifest.json and COMPLETE. The manifest
holds the sha256 and size of the other two, the step, the run and the manifest before it; COMPLETE is the sha256 of the
manifest and is written last. Everything else is written to a temporary folder beside it, synced and renamed, then read
back; only then are older ones pruned (RELIABILITY 7). Names are for people: what is newest is decided by the step in a
manifest that COMPLETE vouches for, never by a name, a pointer or a clock.

safetensors does not notice a flipped bit, and neither does torch (RELIABILITY 1.1); the manifest does.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.base.config import from_dict, to_dict
from headstart.base.errors import CheckpointMismatch, DataError, EnvironmentFault, Refused, listed, shown
from headstart.base.files import (
    content_hash,
    disk_fault,
    file_sha256,
    free_bytes,
    human_bytes,
    make_folder,
    parse_json,
    sync_folder,
    to_json,
    write_bytes,
)
from headstart.base.progress import QUIET, Observer, Said
from headstart.records.run import Ownership
from headstart.training.snapshot import Snapshot, read_state, read_tensors, state_bytes, tensor_header, tensor_pieces

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = 1
TENSORS, STATE, MANIFEST, COMPLETE = "tensors.safetensors", "state.json", "manifest.json", "COMPLETE"
RESERVE = 64 * 2**20  # bytes that a save leaves free
PIECE = 1 << 20  # bytes of one write
POINTS = (  # where a test may stop a commit; 'write' comes before every single write besides
    "before-temp",
    "written-1",  # percent of the tensors
    "written-50",
    "written-99",
    "before-fsync",
    "after-fsync",
    "before-manifest",
    "after-manifest",
    "before-rename",
    "after-rename",
    "before-complete",
    "after-complete",
    "mid-prune",
    "mid-sweep",
)
_TEMPORARY = ".tmp-"
_GONE = "gone"


@dataclass(frozen=True)
class FileFacts:
    sha256: str
    size: int


@dataclass(frozen=True)
class CheckpointManifest:
    """manifest.json.

    number: counts the commits of a run from 1 and decides between two of one step.  parent: sha256 of the manifest
    before, '' for the first.  owner: sha256 of the owner.json under which it was written, '' without.
    """

    schema: int
    run_id: str
    step: int
    number: int
    best: bool
    parent: str
    owner: str
    files: Mapping[str, FileFacts]


class NoCheckpoints:
    """The null object: saves nothing, finds nothing. farewell: what one who stops such a training is told."""

    skipped: tuple[str, ...] = ()
    farewell = "Nothing is saved, because this training keeps no checkpoints."

    def __init__(self, farewell: str = farewell) -> None:
        self.farewell = farewell

    def commit(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], *, best: bool) -> None:
        return None

    def newest(self) -> Snapshot | None:
        return None

    def best(self) -> Snapshot | None:
        return None

    def check_room(self, size: int) -> None:
        return None

    def beside(self, name: str) -> NoCheckpoints:
        return self


class Checkpoints:
    """The checkpoints in ``folder``, of which the newest ``keep`` and the best stay.

    There must be one writer at a time: hold the run's Ownership and hand it in, then a process that was frozen and
    robbed of its folder publishes nothing when it wakes. What a killed writer left half done is swept on opening.
    skipped: one sentence for each checkpoint that was damaged, for the report.
    at: called with each name of POINTS when that point of the protocol is reached; for tests.

    Raises EnvironmentFault (EN68) at once where the folder cannot be written.
    """

    farewell = "Everything is saved; go on with the same command and --resume."

    def __init__(
        self,
        folder: Path,
        *,
        run_id: str,
        keep: int = 2,
        ownership: Ownership | None = None,
        observer: Observer = QUIET,
        at: Callable[[str], None] = lambda point: None,
    ) -> None:
        assert keep >= 1, "a run keeps at least its newest checkpoint"
        self.folder = make_folder(Path(folder))
        self.run_id, self.keep = run_id, keep
        self.skipped: list[str] = []
        self._observer, self._at = observer, at
        self._ownership = ownership
        self._owner_file = ownership.path if ownership else None
        self._owner = self._owner_token()
        assert self._owner != _GONE, "enter the Ownership before the checkpoints are opened"
        self._check_writable()
        self._sweep()

    def beside(self, name: str) -> Checkpoints:
        """Those of another training of the same run, in a folder of their own inside this one."""
        return Checkpoints(
            self.folder / name,
            run_id=f"{self.run_id}/{name}",
            keep=self.keep,
            ownership=self._ownership,
            observer=self._observer,
            at=self._at,
        )

    # -- writing ------------------------------------------------------------------------------------------------

    def commit(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], *, best: bool) -> None:
        """Save ``tensors`` and ``state`` as of ``step``; when this returns they survive a power cut.

        tensors: of any layout and device; those that share memory are saved apart. Written piece by piece, so a
        checkpoint costs no second copy in memory.  state: str, int, float, bool, None, lists and dicts with str keys
        of them; floats come back exactly, NaN and infinities too.  best: marks it as the best so far.

        Raises EnvironmentFault where the disk is full or fails, TypeError for a value that cannot be saved,
        CheckpointMismatch where the folder holds a later step or another run. Older checkpoints are untouched then.
        """
        header, total = tensor_header(tensors)
        described = state_bytes(state)
        size = len(header) + total + len(described)
        before = self._last(step)
        self._check_owner(step)
        self._check_free(size, step)
        self._at("before-temp")
        temporary = self.folder / f"{_name(step)}{_TEMPORARY}{os.getpid()}-{uuid.uuid4().hex[:8]}"
        try:
            temporary.mkdir()
            files = {TENSORS: self._write(temporary / TENSORS, tensor_pieces(header, tensors), len(header) + total)}
            files[STATE] = self._write(temporary / STATE, [memoryview(described)])
            number, parent = (before.manifest.number + 1, before.seal) if before else (1, "")
            manifest = CheckpointManifest(SCHEMA, self.run_id, step, number, best, parent, self._owner, files)
            final = self._publish(temporary, manifest)
        except OSError as error:
            raise self._fault(error, temporary, step, size) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._prune(final)

    def _publish(self, temporary: Path, manifest: CheckpointManifest) -> Path:
        """Steps 4 to 7 of the protocol: manifest, rename, COMPLETE, read back."""
        self._at("before-manifest")
        content = to_json(to_dict(manifest), indent=1).encode()
        self._write(temporary / MANIFEST, [memoryview(content)])
        sync_folder(temporary)
        self._at("after-manifest")
        final = self._free_name(manifest.step)
        self._at("before-rename")
        os.rename(temporary, final)
        try:
            self._at("after-rename")
            sync_folder(self.folder)
            self._check_owner(manifest.step)
            self._at("before-complete")
            self._at("write")
            write_bytes(final / COMPLETE, content_hash(content).hex().encode())
            self._at("after-complete")
            _verify(_open(final))
        except _Damaged as damage:
            self._discard(final)
            raise EnvironmentFault(
                f"EN67 {shown(final)} reads back differently from what was written ({damage}). It was deleted; "
                "what was there before is untouched. Check the disk, or choose another folder with --out."
            ) from damage
        except (OSError, KeyboardInterrupt):
            self._discard(final)
            raise
        return final

    def _write(self, path: Path, pieces: Iterable[memoryview], expected: int | None = None) -> FileFacts:
        """Write and sync ``pieces``; every write is checked. expected: bytes, to announce how far it is."""
        digest, size = hashlib.sha256(), 0
        marks = [(expected * percent // 100, f"written-{percent}") for percent in (1, 50, 99)] if expected else []
        with open(path, "xb", buffering=0) as file:
            for piece in pieces:
                for start in range(0, len(piece), PIECE):
                    part = piece[start : start + PIECE]
                    digest.update(part)
                    self._write_all(file.fileno(), part)
                    size += len(part)
                    while marks and size >= marks[0][0]:
                        self._at(marks.pop(0)[1])
            if expected is not None:
                self._at("before-fsync")
            os.fsync(file.fileno())
            if os.fstat(file.fileno()).st_size != size:
                raise OSError(errno.EIO, "the file is shorter than what was written")
            if expected is not None:
                self._at("after-fsync")
        return FileFacts(digest.hexdigest(), size)

    def _write_all(self, descriptor: int, part: memoryview) -> None:
        while len(part):  # a write may be short near a quota; the next one then says why
            self._at("write")
            part = part[os.write(descriptor, part) :]

    def _free_name(self, step: int) -> Path:
        """``ckpt-000400``, or ``ckpt-000400-2`` where a damaged one of that name is in the way."""
        path, number = self.folder / _name(step), 1
        while path.exists() or path.is_symlink():
            number += 1
            path = self.folder / f"{_name(step)}-{number}"
        return path

    # -- before writing -----------------------------------------------------------------------------------------

    def check_room(self, size: int) -> None:
        """EnvironmentFault EN69 unless checkpoints of ``size`` bytes fit: those that are kept and one being written.

        For the start of a run, so that a disk that is too small is noticed before the first hour and not after it.
        """
        there = sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
        needed = (self.keep + 2) * size + RESERVE - there
        free = free_bytes(self.folder)
        if free is not None and free < needed:
            raise EnvironmentFault(
                f"EN69 {shown(self.folder)} needs about {human_bytes(needed)} for {self.keep + 1} checkpoints and one "
                f"being written, {human_bytes(free)} are free. Free some space or choose another folder with --out."
            )

    def _check_writable(self) -> None:
        probe = self.folder / f".probe{_TEMPORARY}{os.getpid()}-{uuid.uuid4().hex[:8]}"
        try:
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise disk_fault(error, self.folder) from error

    def _check_free(self, size: int, step: int) -> None:
        needed, free = 2 * size + RESERVE, free_bytes(self.folder)
        if free is not None and free < needed:
            raise self._no_room(self.folder, step, needed, free)

    def _check_owner(self, step: int) -> None:
        if self._owner_token() != self._owner:
            raise EnvironmentFault(
                f"EN70 {shown(self.folder.parent)} was taken over by another process; step {step} is not saved. "
                "This process was stopped for too long, and the other one goes on in its place."
            )

    def _owner_token(self) -> str:
        if self._owner_file is None:
            return ""
        try:
            return file_sha256(self._owner_file)
        except OSError:
            return _GONE

    def _last(self, step: int) -> _Entry | None:
        """The entry that a commit of ``step`` follows; CheckpointMismatch where it cannot follow."""
        entries = [entry for entry in self._entries() if isinstance(entry, _Entry)]
        for entry in entries:
            self._check_run(entry)
            if entry.manifest.step > step and _is_whole(entry):  # a damaged one may be behind us: we were taken back
                raise CheckpointMismatch(
                    f"CK28 {shown(self.folder)} already holds step {entry.manifest.step} of this run, so step {step} "
                    "cannot be saved there. Go on from it with --resume, or choose another folder with --out."
                )
        return next((entry for entry in entries if entry.manifest.step <= step), None)

    def _check_run(self, entry: _Entry) -> None:
        if entry.manifest.run_id != self.run_id:
            raise CheckpointMismatch(
                f"CK27 {shown(entry.path)} belongs to run '{shown(entry.manifest.run_id)}', not to this run "
                f"'{shown(self.run_id)}': its data, plan or settings differ. Repeat that run's settings to go on with "
                "it, or choose another folder with --out."
            )

    def _fault(self, error: OSError, path: Path, step: int, size: int) -> OSError:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        if cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return self._no_room(path, step, size, free_bytes(self.folder), os.strerror(cause.errno))
        return error if isinstance(error, EnvironmentFault) else disk_fault(error, path)

    @staticmethod
    def _no_room(path: Path, step: int, needed: int, free: int | None, why: str = "") -> EnvironmentFault:
        room = f"{human_bytes(free)} ({free:,} bytes) are free" if free is not None else "the free space is unknown"
        return EnvironmentFault(
            f"EN69 no room for the checkpoint of step {step} in {shown(path)}{f' ({why})' if why else ''}: it needs "
            f"{human_bytes(needed)} ({needed:,} bytes), {room}. The checkpoints before it are untouched. "
            "Free some space, then go on with --resume, or choose another folder with --out."
        )

    # -- reading ------------------------------------------------------------------------------------------------

    def newest(self) -> Snapshot | None:
        """The checkpoint of the highest step that is whole; None where none was ever finished.

        A damaged one is skipped with a warning. Raises Refused (CK25) where all are damaged, because starting again
        from nothing must be the user's decision; CheckpointMismatch (CK27) where it belongs to another run.
        """
        damages = []
        for entry in self._entries():
            try:
                return self._load(entry)
            except _Damaged as damage:
                damages.append(damage)
                self._skip(entry.path, damage)
        if all(damage.never_finished for damage in damages):
            return None
        raise Refused(
            f"CK25 {shown(self.folder)}: no checkpoint is what was written "
            f"({listed([f'{d.path.name}: {d}' for d in damages])}). Bring one back from a backup, or delete "
            "that folder to start again from step 0."
        )

    def best(self) -> Snapshot | None:
        """The newest whole checkpoint that was committed with ``best=True``; None where there is none."""
        for entry in self._entries():
            if isinstance(entry, _Entry) and entry.manifest.best:
                try:
                    return self._load(entry)
                except _Damaged as damage:
                    self._skip(entry.path, damage)
        return None

    def _entries(self) -> list[_Entry | _Broken]:
        """Every checkpoint, the newest first; of broken ones only the name can say how new they are."""
        entries: list[_Entry | _Broken] = []
        for path in self.folder.glob("ckpt-*"):
            if _TEMPORARY not in path.name:
                try:
                    entries.append(_open(path))
                except _Damaged as damage:
                    entries.append(_Broken(path, damage))
        return sorted(entries, key=lambda entry: entry.order, reverse=True)

    def _load(self, entry: _Entry | _Broken) -> Snapshot:
        if isinstance(entry, _Broken):
            raise entry.damage
        self._check_run(entry)
        _verify(entry)
        try:
            tensors = read_tensors(entry.path / TENSORS)
            state = read_state(entry.path / STATE)
        except (DataError, Refused, OSError) as error:  # the hashes are right, the content is not ours
            raise _Damaged(entry.path, shown(error)) from error
        return Snapshot(entry.manifest.step, tensors, state)

    def _skip(self, path: Path, damage: _Damaged) -> None:
        sentence = f"CK25 {shown(path)} is not what was written and is skipped: {damage}."
        if damage.never_finished:
            sentence = f"{shown(path)} was never finished and is skipped."
        if sentence not in self.skipped:
            self.skipped.append(sentence)
            self._observer(Said(sentence, "warning"))

    # -- tidying ------------------------------------------------------------------------------------------------

    def _prune(self, committed: Path) -> None:
        """Delete what is neither among the newest ``keep`` nor the best; nothing while fewer than that are verified."""
        kept: list[_Entry] = []
        best: _Entry | None = None
        rest: list[Path] = []
        for entry in self._entries():
            wanted = isinstance(entry, _Entry) and (len(kept) < self.keep or (entry.manifest.best and best is None))
            if not (wanted and isinstance(entry, _Entry) and (entry.path == committed or _is_whole(entry))):
                rest.append(entry.path)
                continue
            if len(kept) < self.keep:
                kept.append(entry)
            if entry.manifest.best and best is None:
                best = entry
        if len(kept) == self.keep:
            for path in reversed(rest):  # oldest first
                self._discard(path)
            self._sweep("mid-prune")

    def _discard(self, path: Path) -> None:
        """Take ``path`` away in one moment (a rename), so that it is never half there."""
        try:
            aside = path.with_name(f"{path.name}{_TEMPORARY}{os.getpid()}-{uuid.uuid4().hex[:8]}")
            os.rename(path, aside)
            self._remove(aside, "mid-prune")
        except OSError as error:
            self._observer(Said(f"{shown(path)} could not be deleted ({error.strerror}).", "warning"))

    def _sweep(self, point: str = "mid-sweep") -> None:
        """Delete what killed commits and failed deletions left behind."""
        leftovers = [*self.folder.glob(f"*{_TEMPORARY}*"), *self.folder.glob(f"ckpt-*/.*{_TEMPORARY}*")]
        for path in leftovers:
            try:
                self._remove(path, point)
            except OSError as error:
                self._observer(Said(f"{shown(path)} could not be deleted ({error.strerror}).", "warning"))

    def _remove(self, path: Path, point: str) -> None:
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            return
        for inner in sorted(path.iterdir()):
            if inner.is_dir() and not inner.is_symlink():
                shutil.rmtree(inner)
            else:
                inner.unlink()
            self._at(point)
        path.rmdir()


class _Damaged(Exception):
    """A checkpoint that is not what was written. never_finished: the first commit of a run, killed in its last step."""

    def __init__(self, path: Path, reason: str, *, never_finished: bool = False) -> None:
        super().__init__(reason)
        self.path, self.never_finished = path, never_finished


@dataclass(frozen=True)
class _Entry:
    """A checkpoint whose manifest is vouched for by COMPLETE. seal: the sha256 of that manifest."""

    path: Path
    manifest: CheckpointManifest
    seal: str

    @property
    def order(self) -> tuple[int, int]:
        return self.manifest.step, self.manifest.number


@dataclass(frozen=True)
class _Broken:
    path: Path
    damage: _Damaged

    @property
    def order(self) -> tuple[int, int]:
        number = self.path.name.split("-")[1]
        return (int(number) if number.isascii() and number.isdigit() else 0), 0


def _name(step: int) -> str:
    return f"ckpt-{step:06d}"


def _open(path: Path) -> _Entry:
    """The manifest of ``path``, checked against COMPLETE. Raises _Damaged; CheckpointMismatch for a newer schema."""
    try:
        content = (path / MANIFEST).read_bytes()
    except OSError as error:
        raise _Damaged(path, f"{MANIFEST} cannot be read ({error.strerror})") from error
    seal = content_hash(content).hex()
    try:
        complete = (path / COMPLETE).read_bytes()
    except FileNotFoundError as error:
        raise _Damaged(path, f"{COMPLETE} is missing", never_finished=_is_first(content)) from error
    except OSError as error:
        raise _Damaged(path, f"{COMPLETE} cannot be read ({error.strerror})") from error
    if complete != seal.encode():
        raise _Damaged(path, f"{COMPLETE} does not belong to {MANIFEST}")
    return _Entry(path, _parse_manifest(content, path), seal)


def _is_first(content: bytes) -> bool:
    """Whether a manifest without COMPLETE is that of a run's first commit: before it there was nothing to lose."""
    with suppress(_Damaged):
        return _parse_manifest(content, Path()).parent == ""
    return False


def _parse_manifest(content: bytes, path: Path) -> CheckpointManifest:
    try:
        values = parse_json(content.decode("utf-8"), where=MANIFEST)
        schema = values.get("schema") if isinstance(values, dict) else None
        if isinstance(schema, int) and schema > SCHEMA:
            raise CheckpointMismatch(
                f"{shown(path)} was written by a newer headstart (schema {schema}; this is {SCHEMA})."
            )
        manifest = from_dict(CheckpointManifest, values, where=MANIFEST)
    except (UnicodeDecodeError, DataError) as error:
        raise _Damaged(path, f"{MANIFEST} is no manifest ({shown(error)})") from error
    if set(manifest.files) != {TENSORS, STATE}:
        raise _Damaged(path, f"{MANIFEST} names other files ({listed(manifest.files)})")
    return manifest


def _verify(entry: _Entry) -> None:
    """_Damaged unless every file is byte for byte what the manifest says."""
    for name, facts in entry.manifest.files.items():
        path = entry.path / name
        try:
            size = path.stat().st_size
            sha256 = file_sha256(path) if size == facts.size else ""
        except OSError as error:
            raise _Damaged(entry.path, f"{name} cannot be read ({error.strerror})") from error
        if size != facts.size:
            raise _Damaged(entry.path, f"{name} has {size:,} bytes instead of {facts.size:,}")
        if sha256 != facts.sha256:
            raise _Damaged(entry.path, f"{name} is not what was written at step {entry.manifest.step} (sha256 differs)")


def _is_whole(entry: _Entry) -> bool:
    with suppress(_Damaged):
        _verify(entry)
        return True
    return False
