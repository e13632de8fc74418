import os
import subprocess
import sys
import textwrap

import pytest

from headstart.base.errors import DataError, EnvironmentFault
from headstart.base.files import (
    human_bytes,
    key_of,
    make_folder,
    parse_json,
    read_json,
    to_json,
    write_bytes,
    write_json,
)

KILLED_WHILE_WRITING = """
import os, sys, threading, time

from headstart.base.files import write_bytes
target = Path(sys.argv[1])
print("ready", flush=True)
content = 0
while True:
    content += 1
    write_bytes(target, bytes([content % 256]) * 400_000)
"""


def test_a_write_is_there_whole_after_kill_9(tmp_path):
    target = tmp_path / "state.bin"
    write_bytes(target, b"\0" * 400_000)
    for pause in (0.0, 0.003, 0.007, 0.011, 0.02):
        child = subprocess.Popen([sys.executable, "-c", KILLED_WHILE_WRITING, str(target)], stdout=subprocess.PIPE)
        child.stdout.readline()
        try:
            child.wait(pause)
        except subprocess.TimeoutExpired:
            child.kill()
        child.wait()
        child.stdout.close()
        content = target.read_bytes()
        assert len(content) == 400_000
        assert len(set(content)) == 1


def test_a_full_disk_leaves_what_was_there_and_says_so(tmp_path):
    target = tmp_path / "weights.bin"
    write_bytes(target, b"old")
    code = textwrap.dedent(f"""
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        from pathlib import Path
        from headstart.base.errors import EnvironmentFault
        from headstart.base.files import write_bytes
        try:
            write_bytes(Path({str(target)!r}), b"x" * 5000)
        except EnvironmentFault as error:
            print(error)
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("EN69 no room to write")
    assert "free there" in done.stdout
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["weights.bin"]


def test_a_folder_in_place_of_a_file_is_an_environment_fault(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(EnvironmentFault):
        write_bytes(tmp_path / "x", b"")
    (tmp_path / "y").write_text("")
    with pytest.raises(DataError, match="EN66"):
        make_folder(tmp_path / "y")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"lr": 1, "lr": 2}', "duplicate key 'lr'"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": -Infinity}', "-Infinity is not JSON"),
        ('{\n"a" 1}', "line 2"),
        ("[" * 200_000 + "]" * 200_000, "nested deeper"),
        ('{"n": ' + "1" * 5000 + "}", "not valid JSON"),
    ],
)
def test_json_is_read_strictly(text, says):
    with pytest.raises(DataError, match="CF24") as caught:
        parse_json(text, where="run.json")
    assert says in str(caught.value)


def test_brackets_inside_strings_are_no_depth():
    assert parse_json('["' + "[" * 500 + '"]', where="x") == ["[" * 500]


def test_json_that_is_not_utf8_or_too_large_is_refused(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b'{"a": "\xe9"}')
    with pytest.raises(DataError, match="byte 7"):
        read_json(path)
    path.write_bytes(b"[" + b" " * 100 + b"]")
    with pytest.raises(DataError, match="at most 10 B"):
        read_json(path, largest=10)


def test_nan_is_written_as_null_and_keys_are_sorted(tmp_path):
    write_json(tmp_path / "a.json", {"b": float("nan"), "a": (1, 2.5), "c": b"\x01"})
    assert read_json(tmp_path / "a.json") == {"a": [1, 2.5], "b": None, "c": "01"}
    assert to_json({"b": 1, "a": 2}) == '{"a": 2, "b": 1}'


def test_equal_values_have_equal_keys_in_every_process():
    assert key_of({"b": 1, "a": (1, 2)}) == key_of({"a": [1, 2], "b": 1})
    assert key_of(["caf\udce9"]) != key_of(["café"])
    code = "from headstart.base.files import key_of; print(key_of({'x': 1.5, 'y': None}))"
    env = os.environ | {"PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == key_of({"y": None, "x": 1.5})


def test_sizes_are_said_in_units_people_read():
    assert human_bytes(0) == "0 B"
    assert human_bytes(1536) == "1.5 KiB"
    assert human_bytes(3 * 2**40) == "3072.0 GiB"
