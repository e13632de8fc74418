"""Two processes learn what one learns, and stay equal to the last bit."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.training import torchrun_child

from headstart.base.errors import EnvironmentFault
from headstart.training.engines.local import LocalEngine
from headstart.training.engines.torchrun import TorchrunEngine

ROOT = Path(__file__).parents[2]
RANKS = 2


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two gloo processes found."""
    out = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.training.torchrun_child", str(out)],
            cwd=ROOT,
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(RANKS)
    ]
    try:
        errors = [process.communicate(timeout=240)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [p.returncode for p in processes] == [0, 0], "\n".join(errors)
    return [json.loads((out / f"rank{rank}.json").read_text()) for rank in range(RANKS)]


@pytest.fixture(scope="module")
def alone():
    return torchrun_child.alone()


def test_two_processes_have_the_loss_curve_of_one(ranks, alone):
    for name in ("vit", "tight"):
        for key in ("losses", "scores"):
            assert ranks[0][name][key] == pytest.approx(alone[name][key], rel=1e-4), (name, key)
        assert ranks[0][name]["norm"] == pytest.approx(alone[name]["norm"], rel=1e-6)
    assert len(ranks[0]["vit"]["losses"]) == 10 and len(set(ranks[0]["vit"]["losses"])) == 10


@pytest.mark.parametrize("name", ["vit", "conv", "tight"])
def test_gradients_weights_and_statistics_are_equal_on_all_processes(ranks, name):
    a, b = (rank[name] for rank in ranks)
    assert a["gradients"] == b["gradients"] and a["weights"] == b["weights"] and a["losses"] == b["losses"]
    learning = [count for count, _ in a["gradients"]]
    assert learning[:3] == [2, 2, 2] and min(learning[3:7]) > 10 and learning[7:] == [2, 2, 2]


@pytest.mark.parametrize("name", ["vit", "conv"])
def test_frozen_is_frozen_in_every_phase(ranks, name):
    for rank in ranks:
        head, everything, again = rank[name]["moved"]
        assert sorted(head) == sorted(again) == ["head.bias", "head.weight"]
        assert len(everything) > 10


def test_memory_that_one_process_lacks_halves_the_micro_batch_of_all(ranks, alone):
    assert [rank["tight"]["micro_batch"] for rank in ranks] == [2, 2] and alone["tight"]["micro_batch"] == 8


def test_a_signal_to_one_process_stops_all_and_resume_is_exact(ranks):
    messages = [rank["stopped"]["message"] for rank in ranks]
    assert all("stopped after step 4 of 10" in message for message in messages)
    assert messages[1].startswith("SIGTERM")
    for rank in ranks:
        assert rank["stopped"]["weights"] == ranks[0]["vit"]["weights"]
        assert rank["stopped"]["losses"] == ranks[0]["vit"]["losses"]


def test_outside_torchrun_it_says_how_to_start():
    with pytest.raises(EnvironmentFault, match=r"EN80 .*RANK.*torchrun --nproc-per-node"):
        TorchrunEngine()


def test_one_process_is_all_there_is():
    engine = LocalEngine()
    assert (engine.rank, engine.world_size, engine.device.type) == (0, 1, "cpu")
    assert engine.total([1.5, True]) == [1.5, True]
