"""The folder of a run: every file name in one place, who owns it, and what the run was."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from headstart.base.config import from_dict, to_dict
from headstart.base.errors import DataError, EnvironmentFault, shown
from headstart.base.files import disk_fault, make_folder, read_json, write_json
from headstart.records.audit import Audit, SplitRecord
from headstart.records.blocks import BlocksRecord
from headstart.records.columns import ColumnsRecord
from headstart.records.evaluation import Evaluation
from headstart.records.few_shot import FewShotRecord
from headstart.records.heads import HeadRecord
from headstart.records.ladder import LadderRecord
from headstart.records.predictions import Predictions
from headstart.records.proof import ProofRecord
from headstart.records.ranking import RankRecord

SCHEMA = 1
R = TypeVar("R")


@dataclass(frozen=True)
class BackboneRecord:
    """The network that made the features: facts of its card, and what was loaded."""

    name: str
    architecture: str
    parameters: int
    feature_dim: int
    licence: str
    trained_on: str
    weights_file: str  # name only, no path
    weights_sha256: str
    weights_size: int
    loader: str
    matched: int  # tensors of the network that were filled from the file
    expected: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunnerTrial:
    """One way to run the frozen network, timed on this machine.

    cosine: lowest of any image, to its float32 features.  centred: the same after the mean over the images is taken
    out, which is what heads see; a component that all images share would hide differences otherwise.
    """

    name: str
    images_per_s: float
    cosine: float
    accepted: bool
    centred: float = 1.0


@dataclass(frozen=True)
class FeatureRecord:
    """The one pass through the network. cut: examples that did not fit into the network's window."""

    key: str
    runner: str
    trials: tuple[RunnerTrial, ...]
    images: int
    from_cache: int
    seconds: float
    preprocessing: Mapping[str, Any]
    preprocessing_check: str = ""
    cut: int = 0


@dataclass(frozen=True)
class Timing:
    """Seconds by step of the story, in order."""

    steps: tuple[tuple[str, float], ...]

    @property
    def total(self) -> float:
        return sum(s for _, s in self.steps)


@dataclass(frozen=True)
class RunRecord:
    """run.json: what was asked, with which versions, on what, and how it ended."""

    schema: int
    command: str
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    seed: int
    created: str  # UTC, ISO 8601
    data_fingerprint: str = ""
    status: str = "running"  # "running" | "done"
    backbone: BackboneRecord | None = None
    features: FeatureRecord | None = None
    timing: Timing | None = None
    model_sha256: str = ""
    notes: tuple[str, ...] = field(default_factory=tuple)


@dataclass(frozen=True)
class RunFolder:
    """Paths and records of one run. Reading never changes anything."""

    path: Path

    @property
    def run(self) -> Path:
        return self.path / "run.json"

    @property
    def audit(self) -> Path:
        return self.path / "audit.json"

    @property
    def split(self) -> Path:
        return self.path / "split.json"

    @property
    def heads(self) -> Path:
        return self.path / "heads.json"

    @property
    def ladder(self) -> Path:
        """What came after the probe; not there where no network was trained."""
        return self.path / "ladder.json"

    @property
    def plan(self) -> Path:
        """What a strategy that was asked for by name carries out; a resumed run goes on with it."""
        return self.path / "plan.json"

    @property
    def proof(self) -> Path:
        """What it would have cost to do without transfer; there with --prove."""
        return self.path / "proof.json"

    @property
    def few_shot(self) -> Path:
        """What fewer labels would have given; not there where there is nothing between one example and all."""
        return self.path / "few_shot.json"

    @property
    def ranking(self) -> Path:
        """Which networks were compared before; there after rank, and after fit --backbone auto."""
        return self.path / "ranking.json"

    @property
    def columns(self) -> Path:
        """What the columns of a table were taken for; there where a table was learnt from."""
        return self.path / "columns.json"

    @property
    def blocks(self) -> Path:
        """What each kind of column is worth; there where several were learnt from at once."""
        return self.path / "blocks.json"

    @property
    def checkpoints(self) -> Path:
        """State of a training that is not over; removed when the run is done."""
        return self.path / "checkpoints"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.npz"

    @property
    def training_keys(self) -> Path:
        """16 bytes for each training example: its content key, by which a later evaluation notices what was learnt."""
        return self.path / "training_keys.bin"

    @property
    def pictures(self) -> Path:
        """Thumbnails for the report: pictures.json, {id: {'shown': data URI, 'seen': data URI}}."""
        return self.path / "pictures.json"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def owner(self) -> Path:
        return self.path / "owner.json"

    def save(
        self,
        record: RunRecord
        | Audit
        | SplitRecord
        | HeadRecord
        | LadderRecord
        | ProofRecord
        | FewShotRecord
        | RankRecord
        | BlocksRecord
        | ColumnsRecord
        | Evaluation,
    ) -> None:
        write_json(self._place(type(record)), to_dict(record))

    def load(self, cls: type[R]) -> R:
        path = self._place(cls)
        if not path.exists():
            raise DataError(
                f"{shown(path)} is not there: {shown(self.path)} is not a finished run. "
                "Name a folder that 'headstart fit … --out FOLDER' has written."
            )
        values = read_json(path)
        if cls is RunRecord and isinstance(values, dict) and values.get("schema", 0) > SCHEMA:
            raise DataError(
                f"{shown(path)} was written by a newer headstart (schema {values['schema']}; this is {SCHEMA})."
            )
        return from_dict(cls, values, where=path.name)

    def load_predictions(self) -> Predictions:
        return Predictions.load(self.predictions)

    def _place(self, cls: type) -> Path:
        return {
            RunRecord: self.run,
            Audit: self.audit,
            SplitRecord: self.split,
            HeadRecord: self.heads,
            LadderRecord: self.ladder,
            ProofRecord: self.proof,
            FewShotRecord: self.few_shot,
            RankRecord: self.ranking,
            BlocksRecord: self.blocks,
            ColumnsRecord: self.columns,
            Evaluation: self.evaluation,
        }[cls]


class Ownership:
    """One process at a time writes into a run folder.

    ``owner.json`` is created with O_EXCL and names host, pid and the start time of the process; a dead owner on this
    host is taken over. Use as a context manager.
    """

    def __init__(self, run: RunFolder) -> None:
        self.path = run.owner
        self.took_over = ""

    def __enter__(self) -> Ownership:
        make_folder(self.path.parent)
        for _ in range(2):
            try:
                descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                self._take_over_if_dead()
                continue
            except OSError as error:
                raise disk_fault(error, self.path) from error
            with os.fdopen(descriptor, "w") as file:
                json.dump(_myself(), file)
            return self
        raise EnvironmentFault(f"EN70 {shown(self.path.parent)} is being started by another process. Try again.")

    def _take_over_if_dead(self) -> None:
        try:
            owner = json.loads(self.path.read_text())
            host, pid, since = str(owner["host"]), int(owner["pid"]), str(owner["since"])
            started = str(owner.get("started", ""))
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError, OSError):
            host, pid, since, started = socket.gethostname(), -1, "an unknown time", ""
            if time.time() - self.path.stat().st_mtime < 5:  # just being written by its owner
                time.sleep(0.2)
                with suppress(OSError, ValueError, KeyError, TypeError):
                    owner = json.loads(self.path.read_text())
                    host, pid, started = str(owner["host"]), int(owner["pid"]), str(owner.get("started", ""))
        if host != socket.gethostname() or (_is_alive(pid) and _start_of(pid) == started):
            raise EnvironmentFault(
                f"EN70 {shown(self.path.parent)} is in use by process {pid} on {shown(host)} since {shown(since)}. "
                f"Choose another --out, wait for it, or delete {shown(self.path)} if that process is gone."
            )
        self.took_over = f"the process that owned this folder (pid {pid}, since {since}) is gone; taking over"
        with suppress(FileNotFoundError):
            self.path.unlink()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self.path.unlink()


def _myself() -> dict[str, Any]:
    pid = os.getpid()
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"host": socket.gethostname(), "pid": pid, "started": _start_of(pid), "since": since}


def _is_alive(pid: int) -> bool:
    if pid <= 0:
        return False
    if sys.platform == "win32":
        return True  # no harmless probe there; the message says what to delete
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _start_of(pid: int) -> str:
    """Start time of a process in clock ticks since boot, so that a reused pid is not taken for the old process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return ""
