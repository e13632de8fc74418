"""How the process of a command ends: quickly, and with everything done that was promised for the end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ENDING = """
import atexit, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from headstart.cli.main import end

class Slow:
    def __del__(self):
        print("taken apart", flush=True)

kept = Slow()
kept.itself = kept  # only a search for cycles would find it
atexit.register(lambda: Path(sys.argv[1]).write_text("registered"))
threading.Thread(target=lambda: (time.sleep(0.2), print("thread over"))).start()
ThreadPoolExecutor(1).submit(print, "pool over").result()  # its idle thread must not hold the end up
print("written", end="")
end(int(sys.argv[2]))
"""


def test_threads_registered_work_and_output_are_waited_for_and_nothing_else(tmp_path: Path) -> None:
    note = tmp_path / "note"
    done = subprocess.run(
        [sys.executable, "-c", ENDING, note, "75"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 75, done.stderr
    assert note.read_text() == "registered"
    assert done.stdout == "pool over\nwrittenthread over\n"


def test_a_command_ends_with_its_exit_code_and_its_words(tmp_path: Path) -> None:
    def headstart(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "headstart", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert headstart("--version").stdout.startswith("headstart ")
    missing = headstart("inspect", tmp_path / "nothing")
    assert missing.returncode == 2 and "nothing" in missing.stderr
