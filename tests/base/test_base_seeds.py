import subprocess
import sys

from headstart.base.seeds import number, stream


def test_a_stream_does_not_depend_on_what_else_was_drawn():
    first = stream(0, "split").integers(1 << 40, size=5).tolist()
    stream(0, "bootstrap").random(1000)
    assert stream(0, "split").integers(1 << 40, size=5).tolist() == first


def test_streams_differ_by_seed_and_name():
    draws = {stream(s, n).integers(1 << 60).item() for s in range(10) for n in ("a", "b", 1, "1 ")}
    assert len(draws) == 40


def test_a_stream_is_the_same_in_another_process():
    code = "from headstart.base.seeds import stream; print(stream(3, 'x', 1).integers(1 << 60))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == stream(3, "x", 1).integers(1 << 60)


def test_numbers_fit_into_what_libraries_take():
    assert all(0 <= number(s, "torch") < 2**63 for s in range(100))
