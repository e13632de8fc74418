"""The records of all runs below a folder as one table: what was tried, how good it was, whether transfer helped.

    python examples/records_to_table.py [FOLDER] > runs.csv

No torch, no network: records are JSON.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from headstart.records.evaluation import Evaluation
from headstart.records.heads import HeadRecord
from headstart.records.run import RunFolder, RunRecord

COLUMNS = ("run", "network", "head", "balance", "metric", "value", "low", "high", "n", "judged by", "transfer helped")


def row(folder: RunFolder) -> tuple[object, ...]:
    """The values of COLUMNS for one finished run."""
    record, heads, found = folder.load(RunRecord), folder.load(HeadRecord), folder.load(Evaluation)
    score, network = found.score, record.backbone.name if record.backbone else ""
    numbers = (f"{score.value:.4f}", f"{score.low:.4f}", f"{score.high:.4f}", score.n)
    answer = found.verdict.answer if found.verdict else ""
    return (folder.path.name, network, heads.chosen, heads.balance, found.headline, *numbers, found.how, answer)


if __name__ == "__main__":
    runs = sorted(path.parent for path in Path(sys.argv[1] if len(sys.argv) > 1 else "runs").rglob("run.json"))
    table = csv.writer(sys.stdout)
    table.writerow(COLUMNS)
    for run in map(RunFolder, runs):
        if run.load(RunRecord).status == "done":
            table.writerow(row(run))
