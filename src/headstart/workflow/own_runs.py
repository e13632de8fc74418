"""The user's own finished runs on this machine, as evidence on networks."""

from __future__ import annotations

from pathlib import Path

from headstart.base.errors import HeadstartError
from headstart.ranking.prior import Finished
from headstart.records.evaluation import Evaluation
from headstart.records.ladder import LadderRecord
from headstart.records.run import RunFolder, RunRecord


def finished_runs(runs: Path, *, without: str = "") -> list[Finished]:
    """One for each finished classification run in the folder ``runs``; nothing leaves the machine.

    Runs are compared where they had the same data, seed and way of tuning. without: fingerprint of the data that is
    ranked now: its own test scores must have no say in what is chosen for it. Folders that are no run, or a damaged
    one, are passed over.
    """
    found = []
    for folder in sorted(p.parent for p in runs.glob("*/run.json")) if runs.is_dir() else ():
        try:
            run = _finished(RunFolder(folder), without)
        except HeadstartError:
            continue
        if run is not None:
            found.append(run)
    return found


def _finished(folder: RunFolder, without: str) -> Finished | None:
    record = folder.load(RunRecord)
    unlike = record.status != "done" or record.backbone is None or bool(record.config.get("weights"))
    if unlike or record.data_fingerprint == without:
        return None
    assert record.backbone is not None
    accuracy = folder.load(Evaluation).metrics.get("accuracy")
    if accuracy is None:
        return None
    tuned = folder.load(LadderRecord).kept if folder.ladder.exists() else "probe"
    data = f"{record.data_fingerprint} {record.seed} {tuned} {accuracy.n}"
    return Finished(data, {record.backbone.name: 100 * accuracy.value})
