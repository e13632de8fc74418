import json
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

from headstart.base.errors import DataError, EnvironmentFault
from headstart.records.audit import Audit, Cluster, Finding, SplitRecord
from headstart.records.estimate import Estimate
from headstart.records.evaluation import Baseline, ClassScores, Evaluation, Verdict
from headstart.records.heads import HeadRecord, HeadTrial
from headstart.records.run import Ownership, RunFolder, RunRecord, Timing

E = Estimate(0.5, 0.4, 0.6, 10)
RECORDS = [
    RunRecord(
        1, "headstart fit x", {"seed": 0}, {"torch": "2"}, {"cores": "2"}, 0, "now", timing=Timing((("a", 1.5),))
    ),
    Audit(
        "x",
        3,
        2,
        "single-label",
        "strings",
        {"a": 1, "b": 1},
        clusters=(Cluster(("p", "q"), "near", ("a", "b"), 0.99),),
        findings=(Finding("DA44", "warning", "two labels", ("p",)),),
        sizes=((2, 3, 1),),
    ),
    SplitRecord("held-out", "why", ("a",), ("b",), {"x": 1}, {"x": 1}),
    HeadRecord(
        "accuracy",
        "5 folds",
        10,
        (HeadTrial("ridge", {"lambda": 1.0}, {"accuracy": E}, E, 1, 0.1, True, True),),
        "ridge",
        "it won",
    ),
    Evaluation(
        "classification",
        ("a", "b"),
        10,
        "accuracy",
        {"accuracy": E},
        (ClassScores("a", 5, E, E, E),),
        ((4, 1), (2, 3)),
        baselines=(Baseline("majority", "w", E, E, E, 0.5, 3, 4),),
        verdict=Verdict("yes", "it did", "pixels"),
    ),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: type(r).__name__)
def test_a_record_survives_the_disk(tmp_path, record):
    folder = RunFolder(tmp_path)
    folder.save(record)
    assert folder.load(type(record)) == record


def test_an_undefined_estimate_survives_as_nan(tmp_path):
    nan = float("nan")
    folder = RunFolder(tmp_path)
    folder.save(Evaluation("classification", ("a",), 0, "accuracy", {"accuracy": Estimate(nan, nan, nan, 0)}))
    read = folder.load(Evaluation).score
    assert read.value != read.value
    assert str(read) == "–"


def test_a_folder_that_is_no_run_is_told_so(tmp_path):
    with pytest.raises(DataError, match="is not a finished run"):
        RunFolder(tmp_path).load(RunRecord)


def test_a_run_of_a_newer_headstart_is_not_guessed_at(tmp_path):
    folder = RunFolder(tmp_path)
    folder.save(RECORDS[0])
    values = json.loads(folder.run.read_text()) | {"schema": 99}
    folder.run.write_text(json.dumps(values))
    with pytest.raises(DataError, match="newer headstart"):
        folder.load(RunRecord)


def test_a_second_owner_is_refused_and_named(tmp_path):
    folder = RunFolder(tmp_path)
    with Ownership(folder), pytest.raises(EnvironmentFault, match=f"EN70 .* in use by process {os.getpid()}"):
        Ownership(folder).__enter__()
    with Ownership(folder):
        pass
    assert not folder.owner.exists()


def test_a_dead_owner_is_taken_over(tmp_path):
    code = textwrap.dedent(f"""
        import os
        from pathlib import Path
        from headstart.records.run import Ownership, RunFolder
        Ownership(RunFolder(Path({str(tmp_path)!r}))).__enter__()
        os._exit(9)
    """)
    subprocess.run([sys.executable, "-c", code], check=False)
    folder = RunFolder(tmp_path)
    assert folder.owner.exists()
    with Ownership(folder) as ownership:
        assert "is gone; taking over" in ownership.took_over


def test_a_reused_pid_is_not_taken_for_the_owner(tmp_path):
    folder = RunFolder(tmp_path)
    import socket

    folder.owner.write_text(
        json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started": "1", "since": "x"})
    )
    with Ownership(folder) as ownership:
        assert ownership.took_over


def test_of_eight_that_start_together_one_owns(tmp_path):
    folder = RunFolder(tmp_path)

    def attempt(_):
        try:
            return Ownership(folder).__enter__()
        except EnvironmentFault:
            return None

    for _ in range(10):
        with ThreadPoolExecutor(8) as pool:
            owners = [o for o in pool.map(attempt, range(8)) if o]
        assert len(owners) == 1
        owners[0].__exit__(None, None, None)
