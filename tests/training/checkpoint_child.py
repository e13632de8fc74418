"""A process that commits checkpoints until it is killed, the stores it can use, and what they must hold."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import shutil
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from headstart.base.errors import HeadstartError
from headstart.training.checkpoint import Checkpoints
from headstart.training.snapshot import Snapshot

PRELOADED = [
    *("safetensors.torch", "timm", "headstart.training.loop", "headstart.training.losses"),
    *("headstart.backbones.sources.toy", "headstart.backbones.catalogue", "headstart.tasks.classification"),
]
EVERY = 2  # steps between two commits
WIDE = 4 * 2**20  # float32 and as many int32: 32 MiB, so that kills land inside writes


def tensors_at(step: int, width: int = WIDE) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    noise = torch.randint(-(2**31), 2**31 - 1, (min(width, 2**16),), dtype=torch.int32, generator=generator)
    bits = noise.repeat(-(-width // len(noise)))[:width]
    return {"weights": bits.to(torch.float32), "moments": bits, "count": torch.tensor(step)}


def state_at(step: int) -> dict[str, object]:
    return {"step": step, "losses": [1 / (n + 3) for n in range(step)], "best": float("-inf")}


def is_as_of(snapshot: Snapshot, step: int, width: int = WIDE) -> bool:
    """Whether ``snapshot`` is bit for bit what was committed at ``step``."""
    expected = tensors_at(step, width)
    return (
        snapshot.step == step
        and snapshot.state == state_at(step)
        and snapshot.tensors.keys() == expected.keys()
        and all(torch.equal(snapshot.tensors[name], tensor) for name, tensor in expected.items())
    )


class PlainOverwrite:
    """A mutant: one file, written over."""

    def __init__(self, folder: Path, **_: object) -> None:
        self.path = Path(folder) / "last.safetensors"
        self.path.parent.mkdir(exist_ok=True)

    def commit(self, step, tensors, state, *, best):
        save = self.path.with_name("last.safetensors")
        content = save_file_bytes(tensors)
        with open(save, "wb", buffering=0) as file:
            for start in range(0, len(content), 2**20):
                file.write(content[start : start + 2**20])

    def newest(self):
        if not self.path.exists():
            return None
        tensors = load_file(self.path)
        step = int(tensors["count"])
        return Snapshot(step, tensors, state_at(step))


def save_file_bytes(tensors) -> bytes:
    from safetensors.torch import save

    return save(dict(tensors))


class NoComplete:
    """A mutant: a folder for each step, believed in because it is there."""

    def __init__(self, folder: Path, **_: object) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(exist_ok=True)

    def commit(self, step, tensors, state, *, best):
        place = self.folder / f"ckpt-{step:06d}"
        place.mkdir(exist_ok=True)
        save_file(dict(tensors), place / "tensors.safetensors")
        for old in sorted(self.folder.glob("ckpt-*"))[:-2]:
            shutil.rmtree(old)

    def newest(self):
        places = sorted(self.folder.glob("ckpt-*"))
        if not places:
            return None
        tensors = load_file(places[-1] / "tensors.safetensors")
        step = int(places[-1].name[5:])
        return Snapshot(step, tensors, state_at(step))


STORES = {"protocol": Checkpoints, "plain overwrite": PlainOverwrite, "no COMPLETE": NoComplete}


def commit_for_ever(pipe, folder: Path, store: str, last: int = 10**6) -> None:
    """Take up the newest checkpoint, check it, go on; ``pipe`` gets each step when its commit has returned."""
    torch.set_num_threads(1)
    checkpoints = STORES[store](folder, run_id="r")
    newest = checkpoints.newest()
    step = newest.step if newest else 0
    assert newest is None or is_as_of(newest, step)
    pipe.send(step)
    while step < last:
        step += EVERY
        checkpoints.commit(step, tensors_at(step), state_at(step), best=step % 6 == 0)
        pipe.send(step)


def die_at(pipe, folder: Path, point: str, visit: int, last: int, width: int) -> None:
    """Commit up to ``last`` and kill this process when ``point`` is reached for the ``visit``-th time."""
    torch.set_num_threads(1)
    seen = 0

    def at(reached: str) -> None:
        nonlocal seen
        seen += reached == point
        if seen == visit:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoints = Checkpoints(folder, run_id="r", at=at)
    newest = checkpoints.newest()
    for step in range((newest.step if newest else 0) + EVERY, last + 1, EVERY):
        checkpoints.commit(step, tensors_at(step, width), state_at(step), best=step == EVERY)
        pipe.send(step)


def commit_under_a_limit(pipe, folder: Path, step: int, limit: int, padding: int, width: int) -> None:
    """Commit with files limited to ``limit`` bytes; ``pipe`` gets the error's message, or ''."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    checkpoints = Checkpoints(folder, run_id="r")
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        checkpoints.commit(step, tensors_at(step, width), state_at(step) | {"padding": "x" * padding}, best=False)
        pipe.send("")
    except HeadstartError as error:
        pipe.send(f"{error.exit_code} {error}")


def memory_of_a_commit(pipe, folder: Path, megabytes: int) -> None:
    """``pipe`` gets (rise of the peak while committing, anonymous memory that newest() adds), both in bytes."""
    torch.set_num_threads(1)
    tensors = {f"t{n}": torch.full((megabytes * 2**14,), float(n)) for n in range(16)}
    checkpoints = Checkpoints(folder, run_id="r")
    checkpoints.commit(1, {"small": torch.zeros(3)}, {}, best=False)
    before = _status("VmHWM")
    checkpoints.commit(2, tensors, {}, best=False)
    rise = _status("VmHWM") - before
    before = _status("RssAnon")
    snapshot = checkpoints.newest()
    total = sum(float(tensor[-1]) for tensor in snapshot.tensors.values())
    assert total == sum(range(16))
    pipe.send((rise, _status("RssAnon") - before))


def _status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


class Child:
    """A process made by a fork server that has torch loaded already: 30 ms instead of 3 s."""

    def __init__(self, target, *arguments) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self.pipe, end = context.Pipe(duplex=False)
        self.process = context.Process(target=target, args=(end, *arguments), daemon=True)
        self.process.start()
        end.close()

    def first(self, timeout_s: float = 60):
        assert self.pipe.poll(timeout_s), "the child says nothing"
        return self.pipe.recv()

    def kill_after(self, seconds: float) -> list:
        """Kill -9 after ``seconds`` (None: let it end); everything that it has sent since first()."""
        self.process.join(seconds)
        self.process.kill()
        return self.rest()

    def rest(self) -> list:
        sent = []
        with contextlib.suppress(EOFError):
            while self.pipe.poll(60):
                sent.append(self.pipe.recv())
        self.process.join(60)
        self.pipe.close()
        return sent


assert sys.platform != "win32", "these tests need fork"
