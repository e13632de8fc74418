"""The promises C1, C5, C6, C7, C11, C12 and A2 of RELIABILITY for the files of a checkpoint."""

import ast
import errno
import itertools
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_child import (
    EVERY,
    Child,
    NoComplete,
    PlainOverwrite,
    commit_for_ever,
    commit_under_a_limit,
    die_at,
    is_as_of,
    memory_of_a_commit,
    state_at,
    tensors_at,
)
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from safetensors.torch import load_file

import headstart.training
from headstart.base.errors import CheckpointMismatch, EnvironmentFault, HeadstartError, Refused
from headstart.base.files import content_hash
from headstart.records.run import Ownership, RunFolder
from headstart.training.checkpoint import (
    COMPLETE,
    MANIFEST,
    POINTS,
    STATE,
    TENSORS,
    Checkpoints,
    NoCheckpoints,
)

FILES = (TENSORS, STATE, MANIFEST, COMPLETE)
SMALL = 1000  # numbers in a tensor where size does not matter


class Heard(list):
    """An observer that remembers."""

    def __call__(self, event):
        self.append(event)


def opened(folder, **more):
    return Checkpoints(folder, run_id="r", **more)


def committed(folder, *steps, best=(), width=SMALL, **more):
    checkpoints = opened(folder, **more)
    for step in steps:
        checkpoints.commit(step, tensors_at(step, width), state_at(step), best=step in best)
    return checkpoints


def steps_in(folder):
    return sorted(json.loads((path / MANIFEST).read_text())["step"] for path in Path(folder).glob("ckpt-*"))


def leftovers(folder):
    return [str(path) for path in Path(folder).rglob("*") if ".tmp-" in path.name]


# -- what is saved comes back ------------------------------------------------------------------------------------------

ALL_DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)


def test_tensors_of_every_kind_come_back_bit_for_bit(tmp_path):
    base = torch.arange(48, dtype=torch.float32).reshape(1, 3, 4, 4)
    saved = {str(dtype): torch.arange(-3, 8).to(dtype) for dtype in ALL_DTYPES}
    saved |= {
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "turned": base[0, 0].T,
        "shared": base[0, 0],
        "tied": base,
        "channels last": base.to(memory_format=torch.channels_last),
        "every other": torch.arange(10, dtype=torch.bfloat16)[::2],
        "stretched": torch.ones(1).expand(5),
        "learns": torch.nn.Parameter(torch.tensor([0.1, float("nan"), float("-inf"), -0.0])),
        "../../escape\n\ud800": torch.tensor(True),
    }
    checkpoints = opened(tmp_path / "c")
    checkpoints.commit(3, saved, {}, best=False)
    loaded = checkpoints.newest().tensors
    assert loaded.keys() == saved.keys()
    for name, tensor in saved.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        assert bits(loaded[name]) == bits(tensor)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c"]


def bits(tensor):
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def test_another_library_reads_the_tensors(tmp_path):
    committed(tmp_path, 2)
    theirs = load_file(tmp_path / "ckpt-000002" / TENSORS)
    assert theirs.keys() == tensors_at(2).keys()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in tensors_at(2, SMALL).items())


def test_state_comes_back_to_the_last_bit(tmp_path):
    state = {
        "floats": [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, float("inf"), float("-inf"), float("nan")],
        "generator": np.random.default_rng(3).bit_generator.state,
        "names": ["caf\udce9.jpg", "a\nb", "ünï", ""],
        "nested": {"b": (1, [True, None]), "a": {}},
        "numpy": np.float64(0.1),
    }
    checkpoints = opened(tmp_path)
    checkpoints.commit(1, {}, state, best=False)
    loaded = checkpoints.newest().state
    assert [x.hex() for x in loaded["floats"]] == [x.hex() for x in state["floats"]]
    assert loaded["generator"] == state["generator"]
    assert loaded["names"] == state["names"]
    assert loaded["nested"] == {"b": [1, [True, None]], "a": {}}
    assert list(loaded["nested"]) == ["b", "a"]
    assert loaded["numpy"] == 0.1


@pytest.mark.parametrize(
    "value", [{1: 2}, np.float32(1), torch.ones(1), b"x", {1, 2}, object(), {"__float__": "nan"}, np.int64(1)]
)
def test_what_json_cannot_hold_is_refused_by_name_before_anything_is_written(tmp_path, value):
    checkpoints = committed(tmp_path, 2)
    with pytest.raises(TypeError, match=r"state\.rates"):
        checkpoints.commit(4, {}, {"rates": value}, best=False)
    assert steps_in(tmp_path) == [2]


def test_what_could_not_be_read_back_is_refused_before_anything_is_written(tmp_path):
    deep = []
    for _ in range(70):
        deep = [deep]
    checkpoints = committed(tmp_path, 2)
    with pytest.raises(HeadstartError, match="deeper"):
        checkpoints.commit(4, {}, {"deep": deep}, best=False)
    for tensor in (torch.ones(2).to_sparse(), torch.ones(1, dtype=torch.complex64), torch.ones(1, device="meta")):
        with pytest.raises(TypeError, match="'odd'"):
            checkpoints.commit(4, {"odd": tensor}, {}, best=False)
    assert steps_in(tmp_path) == [2]


def test_a_loaded_tensor_may_be_changed_and_the_file_stays(tmp_path):
    checkpoints = committed(tmp_path, 2)
    checkpoints.newest().tensors["weights"].zero_()
    assert is_as_of(checkpoints.newest(), 2, SMALL)


def test_a_large_checkpoint_is_not_held_twice(tmp_path):
    rise, read = Child(memory_of_a_commit, tmp_path, 96).first()
    assert rise < 16 * 2**20
    assert read < 16 * 2**20


# -- which one is newest, which stay -----------------------------------------------------------------------------------


def test_nothing_yet_is_none(tmp_path):
    assert opened(tmp_path / "new").newest() is None
    assert opened(tmp_path / "new").best() is None


def test_the_newest_two_and_the_best_stay(tmp_path):
    checkpoints = committed(tmp_path, 2, 4, 6, 8, 10, best=(2, 4))
    assert steps_in(tmp_path) == [4, 8, 10]
    assert is_as_of(checkpoints.newest(), 10, SMALL)
    assert is_as_of(checkpoints.best(), 4, SMALL)
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("keep", [1, 3])
def test_keep_is_the_number_of_newest(tmp_path, keep):
    committed(tmp_path, *range(1, 8), keep=keep)
    assert steps_in(tmp_path) == list(range(8 - keep, 8))


def test_a_later_best_takes_the_place_of_the_earlier(tmp_path):
    checkpoints = committed(tmp_path, 1, 2, 3, 4, 5, 6, best=(1, 3))
    assert checkpoints.best().step == 3
    assert steps_in(tmp_path) == [3, 5, 6]


def test_newest_goes_by_step_and_not_by_time_or_name(tmp_path):
    committed(tmp_path, 2, 4, 6, keep=3)
    for number, (name, when) in enumerate(itertools.product(("ckpt-000002", "ckpt-000006"), (0, 1, 4e9, 1e10))):
        for path in (tmp_path / name, *(tmp_path / name).iterdir()):
            os.utime(path, (when, when))
        assert opened(tmp_path).newest().step == 6, number
    (tmp_path / "ckpt-000006").rename(tmp_path / "ckpt-000001")
    (tmp_path / "ckpt-000002").rename(tmp_path / "ckpt-999999")
    assert opened(tmp_path).newest().step == 6


def test_a_step_saved_twice_gives_the_later_one(tmp_path):
    checkpoints = committed(tmp_path, 2, 4)
    checkpoints.commit(4, tensors_at(9, SMALL), {"again": True}, best=True)
    assert checkpoints.newest().state == {"again": True}
    assert checkpoints.best().state == {"again": True}


def test_a_step_before_the_newest_is_refused(tmp_path):
    committed(tmp_path, 2, 4)
    with pytest.raises(CheckpointMismatch, match=r"CK28 .*already holds step 4.*--resume"):
        committed(tmp_path, 2)
    assert steps_in(tmp_path) == [2, 4]


def test_a_training_taken_back_by_damage_may_save_before_the_damaged_step(tmp_path):
    committed(tmp_path, 2, 4, 6)
    DAMAGES["flipped bit at 0.5"](tmp_path / "ckpt-000006" / TENSORS, None)
    checkpoints = opened(tmp_path)
    assert checkpoints.newest().step == 4
    checkpoints.commit(5, tensors_at(5, SMALL), state_at(5), best=False)
    assert is_as_of(opened(tmp_path).newest(), 5, SMALL)
    assert steps_in(tmp_path) == [4, 5]


def test_another_run_is_named_and_left_alone(tmp_path):
    committed(tmp_path, 2, 4, best=(2,))
    other = Checkpoints(tmp_path, run_id="roses\n")
    for use in (other.newest, other.best, lambda: other.commit(6, {}, {}, best=False)):
        with pytest.raises(CheckpointMismatch, match=r"CK27 .*run 'r', not to this run 'roses\\n'"):
            use()
    assert steps_in(tmp_path) == [2, 4]


def test_a_newer_headstart_is_not_guessed_at(tmp_path):
    committed(tmp_path, 2, 4)
    manifest = tmp_path / "ckpt-000004" / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"schema": 99, "new": 1}))
    seal(manifest.parent)
    with pytest.raises(CheckpointMismatch, match="newer headstart"):
        opened(tmp_path).newest()


def seal(place):
    (place / COMPLETE).write_bytes(content_hash((place / MANIFEST).read_bytes()).hex().encode())


def test_each_manifest_names_the_one_before_it(tmp_path):
    committed(tmp_path, 2, 4, 6, keep=3)
    seals = [content_hash((tmp_path / f"ckpt-{s:06d}" / MANIFEST).read_bytes()).hex() for s in (2, 4, 6)]
    parents = [json.loads((tmp_path / f"ckpt-{s:06d}" / MANIFEST).read_text())["parent"] for s in (2, 4, 6)]
    assert parents == ["", *seals[:2]]


def test_the_null_object_saves_and_finds_nothing():
    nothing = NoCheckpoints()
    nothing.commit(1, {}, {}, best=True)
    nothing.check_room(2**60)
    assert nothing.newest() is None
    assert nothing.best() is None
    assert not nothing.skipped


# -- C1: kill -9 -------------------------------------------------------------------------------------------------------

SOAK = [pytest.mark.slow, pytest.mark.timeout(3600)]


def kill_many_times(folder, store, kills):
    """Kill a committing process ``kills`` times; '' or what went wrong first."""
    dice = random.Random(0)
    for kill in range(kills):
        child = Child(commit_for_ever, folder, store)
        try:
            start = child.first()
        except EOFError:
            return f"kill {kill}: the next process cannot go on"
        sent = [start, *child.kill_after(dice.uniform(0, 0.4))]
        if store == "protocol" and len(leftovers(folder)) > 1:
            return f"kill {kill}: {leftovers(folder)}"
        checkpoints = store_of(store)(folder, run_id="r")
        if leftovers(folder):
            return f"kill {kill}: stale {leftovers(folder)}"
        try:
            newest = checkpoints.newest()
        except Exception as error:  # a mutant's reader may fail in any way
            return f"kill {kill}: {error}"
        found = newest.step if newest else 0
        if newest and not is_as_of(newest, found):
            return f"kill {kill}: step {found} holds something else"
        if not sent[-1] <= found <= sent[-1] + EVERY:
            return f"kill {kill}: committed {sent[-1]}, found {found}"
    return ""


def store_of(name):
    return {"protocol": Checkpoints, "plain overwrite": PlainOverwrite, "no COMPLETE": NoComplete}[name]


@pytest.mark.parametrize("kills", [24, pytest.param(200, marks=SOAK)])
def test_kill_9_at_any_moment_loses_at_most_one_interval(tmp_path, kills):
    assert kill_many_times(tmp_path / "c", "protocol", kills) == ""


@pytest.mark.parametrize("mutant", ["plain overwrite", "no COMPLETE"])
def test_the_kill_test_notices_a_protocol_that_is_not_safe(tmp_path, mutant):
    assert kill_many_times(tmp_path / "c", mutant, 60) != ""


PUBLISHED = POINTS.index("after-complete")


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("commits_before", [0, 3])
def test_a_kill_at_each_step_of_the_protocol_leaves_what_that_step_should_hold(tmp_path, point, commits_before):
    if commits_before:
        committed(tmp_path, *range(EVERY, commits_before * EVERY + 1, EVERY), best=(EVERY,))
    last = commits_before * EVERY
    if point == "mid-sweep":
        junk = tmp_path / "ckpt-000099.tmp-1-abcd"
        junk.mkdir()
        for name in FILES:
            (junk / name).write_bytes(b"half")
    if point == "mid-prune" and not commits_before:
        pytest.skip("a first commit prunes nothing")
    child = Child(die_at, tmp_path, point, 1, last + EVERY, SMALL)
    assert child.rest() == []
    assert child.process.exitcode == -9
    checkpoints = opened(tmp_path)
    assert not leftovers(tmp_path)
    expected = last + EVERY if PUBLISHED <= POINTS.index(point) <= POINTS.index("mid-prune") else last
    newest = checkpoints.newest()
    assert newest is None if expected == 0 else is_as_of(newest, expected, SMALL)
    if commits_before:
        assert is_as_of(checkpoints.best(), EVERY, SMALL)
    follow_up = committed(tmp_path, *range(last + EVERY, last + 4 * EVERY, EVERY))
    assert is_as_of(follow_up.newest(), last + 3 * EVERY, SMALL)
    assert len(steps_in(tmp_path)) == 2 + (follow_up.best() is not None)


def test_a_process_killed_again_while_it_takes_up_the_run_loses_nothing(tmp_path):
    committed(tmp_path, 2, 4, 6)
    for visit in (1, 2, 3):
        for point in ("after-rename", "mid-sweep", "written-50"):
            Child(die_at, tmp_path, point, visit, 8, SMALL).rest()
    newest = opened(tmp_path).newest()
    assert newest.step in (6, 8)
    assert is_as_of(newest, newest.step, SMALL)


def test_a_first_commit_that_was_never_finished_is_no_damage(tmp_path):
    Child(die_at, tmp_path, "before-complete", 1, 2, SMALL).rest()
    heard = Heard()
    checkpoints = opened(tmp_path, observer=heard)
    assert checkpoints.newest() is None
    assert "never finished" in checkpoints.skipped[0]
    assert [event.kind for event in heard] == ["warning"]


# -- C5: damage --------------------------------------------------------------------------------------------------------


def flip(share):
    def damage(path, older):
        content = bytearray(path.read_bytes())
        content[int(share * (len(content) - 1))] ^= 0x10
        path.write_bytes(content)

    return damage


def truncate(path, older):
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 2)


def zero_page(path, older):
    content = bytearray(path.read_bytes())
    start = min(4096, len(content) // 3) if len(content) > 8192 else len(content) // 3
    content[start : start + 4096] = bytes(len(content[start : start + 4096]))
    path.write_bytes(content)


def delete(path, older):
    path.unlink()


def empty(path, older):
    path.write_bytes(b"")


def folder_instead(path, older):
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("x")


def mix_in_older(path, older):
    shutil.copyfile(older, path)


def lengthen(path, older):
    path.write_bytes(path.read_bytes() + b"\0")


def dangle(path, older):
    path.unlink()
    path.symlink_to("nowhere")


def forbid(path, older):
    path.chmod(0)


DAMAGES = {
    **{f"flipped bit at {share}": flip(share) for share in (0, 0.001, 0.03, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.99, 1)},
    "truncated": truncate,
    "zero page": zero_page,
    "deleted": delete,
    "0 bytes": empty,
    "directory instead of file": folder_instead,
    "older file mixed in": mix_in_older,
    "longer": lengthen,
    "dangling link": dangle,
}


@pytest.fixture(scope="module")
def good_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good") / "c"
    committed(folder, 2, 4, 6, best=(4,), width=5000)
    return folder


def damaged_copy(good_folder, tmp_path, files, damage, places=("ckpt-000006",)):
    folder = tmp_path / "c"
    shutil.copytree(good_folder, folder)
    for place, file in itertools.product(places, files):
        DAMAGES[damage](folder / place / file, good_folder / "ckpt-000004" / file)
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_newest_checkpoint_is_skipped_loudly(good_folder, tmp_path, file, damage):
    folder = damaged_copy(good_folder, tmp_path, [file], damage)
    heard = Heard()
    checkpoints = opened(folder, observer=heard)
    assert is_as_of(checkpoints.newest(), 4, 5000)
    assert is_as_of(checkpoints.best(), 4, 5000)
    assert len(checkpoints.skipped) == 1
    assert "CK25" in checkpoints.skipped[0]
    assert "ckpt-000006" in checkpoints.skipped[0]
    assert [(event.kind, event.text) for event in heard] == [("warning", checkpoints.skipped[0])]
    checkpoints.commit(6, tensors_at(6, 5000), state_at(6), best=False)
    again = opened(folder)
    assert is_as_of(again.newest(), 6, 5000)
    assert again.skipped == []
    assert steps_in(folder) == [4, 6]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("file", FILES)
def test_an_unreadable_newest_checkpoint_is_skipped(good_folder, tmp_path, file):
    folder = tmp_path / "c"
    shutil.copytree(good_folder, folder)
    forbid(folder / "ckpt-000006" / file, None)
    checkpoints = opened(folder)
    assert checkpoints.newest().step == 4
    assert "Permission denied" in checkpoints.skipped[0]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", FILES)
def test_when_all_are_damaged_the_run_does_not_start_from_nothing(good_folder, tmp_path, file, damage):
    if damage == "older file mixed in":
        pytest.skip("the older file is at home in the older checkpoint")
    folder = damaged_copy(good_folder, tmp_path, [file], damage, ("ckpt-000004", "ckpt-000006"))
    with pytest.raises(Refused, match=r"CK25 .*ckpt-000006: .*ckpt-000004: .*delete that folder") as refused:
        opened(folder).newest()
    assert refused.value.exit_code == 3


def test_a_whole_older_checkpoint_under_the_newer_name_is_what_it_is(good_folder, tmp_path):
    folder = damaged_copy(good_folder, tmp_path, FILES, "older file mixed in")
    assert is_as_of(opened(folder).newest(), 4, 5000)


def test_a_file_where_a_checkpoint_should_be_is_skipped(good_folder, tmp_path):
    folder = tmp_path / "c"
    shutil.copytree(good_folder, folder)
    (folder / "ckpt-000009").write_text("x")
    checkpoints = opened(folder)
    assert checkpoints.newest().step == 6
    committed(folder, 10, 12)
    assert steps_in(folder) == [4, 10, 12]


def test_the_manifest_is_what_notices_a_flipped_bit(good_folder, tmp_path):
    """The mutant: with the manifest's hashes made to fit, the damage loads. So the hashes are what protects us."""
    folder = damaged_copy(good_folder, tmp_path, [TENSORS], "flipped bit at 0.5")
    place = folder / "ckpt-000006"
    manifest = json.loads((place / MANIFEST).read_text())
    manifest["files"][TENSORS]["sha256"] = content_hash((place / TENSORS).read_bytes()).hex()
    (place / MANIFEST).write_text(json.dumps(manifest))
    seal(place)
    newest = opened(folder).newest()
    assert newest.step == 6
    assert not is_as_of(newest, 6, 5000)


# -- A2: hostile files -------------------------------------------------------------------------------------------------


class Gadget:
    """Unpickled, it calls ``function(*arguments)``."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def gadgets(canary):
    touch = f"open({str(canary)!r}, 'w').close()"
    return [
        Gadget(os.system, f"touch {canary}"),
        Gadget(os.mkdir, str(canary)),
        Gadget(eval, touch),
        Gadget(exec, touch),
        Gadget(subprocess.Popen, ["touch", str(canary)]),
        Gadget(subprocess.check_call, ["touch", str(canary)]),
        Gadget(open, str(canary), "w"),
        Gadget(os.open, str(canary), os.O_CREAT),
        Gadget(shutil.copyfile, __file__, str(canary)),
        Gadget(Path.touch, canary),
        Gadget(torch.save, 1, str(canary)),
        Gadget(__import__, "antigravity"),
    ]


@pytest.mark.parametrize("consistent", [False, True], ids=["file replaced", "file and hashes replaced"])
@pytest.mark.parametrize("file", FILES)
def test_a_checkpoint_replaced_by_pickles_runs_nothing(good_folder, tmp_path, file, consistent):
    canary = tmp_path / "canary"
    for number, gadget in enumerate(gadgets(canary)):
        for form, content in enumerate((pickle.dumps(gadget), torch_archive(gadget))):
            folder = tmp_path / f"{number}-{form}"
            shutil.copytree(good_folder, folder)
            place = folder / "ckpt-000006"
            (place / file).write_bytes(content)
            if consistent and file in (TENSORS, STATE):
                manifest = json.loads((place / MANIFEST).read_text())
                manifest["files"][file] = {"sha256": content_hash(content).hex(), "size": len(content)}
                (place / MANIFEST).write_text(json.dumps(manifest))
            if consistent and file != COMPLETE:
                seal(place)
            with nothing_runs():
                checkpoints = opened(folder)
                assert checkpoints.newest().step == 4
            assert len(checkpoints.skipped) == 1
            shutil.rmtree(folder)
    assert not canary.exists()
    assert "antigravity" not in sys.modules


def torch_archive(gadget):
    import io

    buffer = io.BytesIO()
    torch.save({"x": gadget}, buffer)
    return buffer.getvalue()


EVENTS = {"os.system", "subprocess.Popen", "exec", "compile", "pickle.find_class", "socket.connect", "os.exec"}
heard_events: list[str] = []
listening = False


def audit(event, arguments):
    if listening and event in EVENTS:
        heard_events.append(event)


@contextmanager
def nothing_runs():
    """No process, socket, compilation or unpickling happens inside."""
    global listening  # noqa: PLW0603 - an audit hook cannot be taken away again
    if audit not in installed:
        sys.addaudithook(audit)
        installed.append(audit)
    import headstart.backbones.formats.safetensors_file  # noqa: F401 - loading a module is an exec of its own

    heard_events.clear()
    listening = True
    try:
        yield
    finally:
        listening = False
    assert heard_events == []


installed: list = []


def test_the_room_neither_pickles_nor_unpickles():
    for path in Path(headstart.training.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", "")}
                assert not names & {"pickle", "joblib", "cloudpickle", "dill", "shelve", "marshal"}, path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in {("torch", "load"), ("torch", "save"), ("np", "load")}, path


# -- C6, C7: disks that are full, fail, or cannot be written -----------------------------------------------------------


def check_told(message, folder, step):
    assert message.startswith("4 EN69")
    assert str(folder) in message
    assert f"step {step}" in message
    assert "it needs" in message
    assert "are free" in message


@pytest.mark.parametrize("padding", [0, 50_000], ids=["in the tensors", "in the state"])
def test_a_quota_leaves_the_checkpoint_before_it(tmp_path, padding):
    committed(tmp_path, 2, 4)
    limits = (1, 63, 300, 4096, 7999, 8000) if not padding else (8500, 20_000, 50_000)
    for limit in limits:
        message = Child(commit_under_a_limit, tmp_path, 6, limit, padding, SMALL).first()
        check_told(message, tmp_path, 6)
        assert not leftovers(tmp_path)
        assert is_as_of(opened(tmp_path).newest(), 4, SMALL)
    assert Child(commit_under_a_limit, tmp_path, 6, 2**20, padding, SMALL).first() == ""
    assert opened(tmp_path).newest().step == 6


@contextmanager
def tmpfs(folder, size):
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no right to mount a file system here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=False)


def test_a_full_disk_leaves_the_checkpoint_before_it(tmp_path):
    width = 2**17  # 1 MiB
    with tmpfs(tmp_path / "disk", "80m") as disk:
        committed(disk / "c", 2, 4, width=width)
        for level in range(0, 109, 9):  # percent of the tensors; the last leaves room for them but not for the rest
            room = min(level * 2**20 // 100, 2**20 + 4096) // 4096 * 4096
            junk = disk / "junk"

            def fill(point, room=room, junk=junk):
                if point == "before-temp":
                    free = shutil.disk_usage(disk).free
                    with open(junk, "wb") as file:
                        os.posix_fallocate(file.fileno(), 0, free - room)

            with pytest.raises(EnvironmentFault) as told:
                committed(disk / "c", 6, width=width, at=fill)
            check_told(f"4 {told.value}", disk, 6)
            junk.unlink()
            assert not leftovers(disk)
            assert is_as_of(opened(disk / "c").newest(), 4, width)
        committed(disk / "c", 6, width=width)


def test_too_little_room_is_told_before_a_byte_is_written(tmp_path):
    with tmpfs(tmp_path / "disk", "65m") as disk:
        checkpoints = committed(disk / "c", 2, 4)
        with pytest.raises(EnvironmentFault, match=r"EN69 .*step 6.*needs 72\.\d MiB .*are free") as told:
            checkpoints.commit(6, tensors_at(6, 2**19), state_at(6), best=False)
        assert told.value.exit_code == 4
        assert is_as_of(checkpoints.newest(), 4, SMALL)
        with pytest.raises(EnvironmentFault, match=r"EN69 .*needs about .* for 3 checkpoints"):
            checkpoints.check_room(2**19)
        checkpoints.check_room(1)


@pytest.mark.parametrize("code", [errno.EIO, errno.EDQUOT, errno.ENOSPC])
def test_an_error_at_any_write_leaves_the_checkpoint_before_it(tmp_path, code):
    for n in range(1, 51):
        folder = tmp_path / str(n)
        committed(folder, 2, 4)
        count = itertools.count(1)

        def fail(point, count=count, n=n):
            if point in ("write", "before-fsync", "before-rename", "after-rename") and next(count) == n:
                raise OSError(code, os.strerror(code))

        try:
            committed(folder, 6, at=fail)
        except EnvironmentFault as told:
            assert str(folder) in str(told)
            assert os.strerror(code) in str(told)
            assert not leftovers(folder)
            assert is_as_of(opened(folder).newest(), 4, SMALL)
            committed(folder, 6)
        else:
            assert n > 8, "there are at least eight places where a commit can fail"
            break
        assert is_as_of(opened(folder).newest(), 6, SMALL)
    else:
        pytest.fail("a commit of three tensors cannot have fifty writes")


def test_a_disk_that_gives_back_something_else_is_noticed_at_once(tmp_path):
    committed(tmp_path, 2, 4)

    def decay(point):
        if point == "after-complete":
            DAMAGES["flipped bit at 0.5"](tmp_path / "ckpt-000006" / TENSORS, None)

    with pytest.raises(EnvironmentFault, match=r"EN67 .*ckpt-000006 reads back differently"):
        committed(tmp_path, 6, at=decay)
    assert is_as_of(opened(tmp_path).newest(), 4, SMALL)
    assert steps_in(tmp_path) == [2, 4]


def test_a_read_only_folder_is_told_at_once(tmp_path):
    with tmpfs(tmp_path / "disk", "1m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for folder in (disk, disk / "c"):
            with pytest.raises(EnvironmentFault, match=r"EN68 .*cannot be written"):
                opened(folder)


def test_a_folder_that_becomes_read_only_stops_the_run_clearly(tmp_path):
    with tmpfs(tmp_path / "disk", "80m") as disk:
        checkpoints = committed(disk / "c", 2, 4)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(EnvironmentFault, match="EN68"):
            checkpoints.commit(6, tensors_at(6, SMALL), {}, best=False)
        assert checkpoints.newest().step == 4


def test_a_folder_that_vanishes_stops_the_run_clearly(tmp_path):
    checkpoints = committed(tmp_path / "c", 2)
    shutil.rmtree(tmp_path / "c")
    with pytest.raises(EnvironmentFault, match=r"EN67 .*No such file"):
        checkpoints.commit(4, {}, {}, best=False)
    assert not (tmp_path / "c").exists()


def test_a_file_in_the_folders_place_is_told(tmp_path):
    (tmp_path / "c").write_text("x")
    with pytest.raises(HeadstartError, match="EN66"):
        opened(tmp_path / "c")


# -- who may write -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before-temp", "written-50", "before-manifest", "after-rename"])
def test_a_process_robbed_of_its_folder_publishes_nothing(tmp_path, moment):
    run = RunFolder(tmp_path)
    robbed = False

    def steal(point):
        nonlocal robbed
        if point == moment and not robbed:
            robbed = True
            run.owner.write_text('{"host": "another", "pid": 1, "since": "later"}')

    with Ownership(run) as ownership:
        checkpoints = committed(tmp_path / "c", 2, ownership=ownership)
        sleeper = opened(tmp_path / "c", ownership=ownership, at=steal)
        with pytest.raises(EnvironmentFault, match=r"EN70 .*taken over"):
            sleeper.commit(4, tensors_at(4, SMALL), {}, best=False)
        assert checkpoints.newest().step == 2
        assert steps_in(tmp_path / "c") == [2]


# -- C11: pruning ------------------------------------------------------------------------------------------------------


def test_nothing_is_pruned_before_two_are_verified(tmp_path):
    committed(tmp_path, 2, 4, 6)
    DAMAGES["flipped bit at 0.5"](tmp_path / "ckpt-000006" / TENSORS, None)
    checkpoints = opened(tmp_path)
    checkpoints.commit(8, tensors_at(8, SMALL), state_at(8), best=False)
    assert steps_in(tmp_path) == [4, 8]
    DAMAGES["flipped bit at 0.5"](tmp_path / "ckpt-000004" / TENSORS, None)
    DAMAGES["truncated"](tmp_path / "ckpt-000008" / STATE, None)
    checkpoints.commit(10, tensors_at(10, SMALL), state_at(10), best=False)
    assert steps_in(tmp_path) == [4, 8, 10]
    checkpoints.commit(12, tensors_at(12, SMALL), state_at(12), best=False)
    assert steps_in(tmp_path) == [10, 12]


def test_a_checkpoint_that_cannot_be_deleted_is_told_and_deleted_later(tmp_path):
    def fail(point):
        if point == "mid-prune":
            raise OSError(errno.EBUSY, "busy")

    heard = Heard()
    committed(tmp_path, 2, 4, 6, at=fail, observer=heard)
    assert any("could not be deleted (busy)" in event.text for event in heard)
    assert leftovers(tmp_path)
    committed(tmp_path, 8)
    assert steps_in(tmp_path) == [6, 8]
    assert not leftovers(tmp_path)


class Saving(RuleBasedStateMachine):
    """Saves, failures, damage and restarts in any order; at every moment something verified and the best are there."""

    @initialize(keep=st.sampled_from([1, 2, 3]))
    def open(self, keep):
        import tempfile

        self.folder = Path(tempfile.mkdtemp())
        self.keep, self.step, self.whole, self.best = keep, 0, {}, None
        self.failing = ""
        self.store = self.opened()

    def opened(self):
        return Checkpoints(self.folder, run_id="r", keep=self.keep, at=self.at)

    def at(self, point):
        if point == self.failing:
            raise OSError(errno.EIO, "failed")

    def commit(self, best):
        before, step = self.places(), self.step + 1
        self.store.commit(step, tensors_at(step, 50), state_at(step), best=best)
        self.step = step
        (self.whole[step],) = self.places() - before
        self.best = step if best else self.best

    def places(self):
        return {path for path in self.folder.glob("ckpt-*") if ".tmp-" not in path.name}

    def present(self):
        """Steps that are whole by our own book-keeping and still on the disk."""
        return [step for step, place in self.whole.items() if place in self.places()]

    @rule(best=st.booleans())
    def save(self, best):
        self.failing = ""
        self.commit(best)

    @rule(best=st.booleans())
    def save_but_fail_to_prune(self, best):
        self.failing = "mid-prune"
        self.commit(best)

    @rule(point=st.sampled_from([p for p in POINTS if p not in ("mid-prune", "mid-sweep", "before-temp")] + ["write"]))
    def fail_to_save(self, point):
        self.failing = point
        with pytest.raises(EnvironmentFault):
            self.commit(best=True)

    @rule()
    def start_again(self):
        self.failing = ""
        self.store = self.opened()
        self.step = self.store.newest().step if self.whole else 0  # a damaged one takes the training back
        assert not leftovers(self.folder)

    @precondition(lambda self: len(self.present()) > 1)
    @rule(data=st.data(), file=st.sampled_from(FILES), damage=st.sampled_from(["truncated", "deleted", "zero page"]))
    def corrupt(self, data, file, damage):
        candidates = [step for step in self.present() if step != self.best]
        assume(candidates and len(self.present()) > 1)
        step = data.draw(st.sampled_from(candidates))
        DAMAGES[damage](self.whole.pop(step) / file, None)

    @invariant()
    def the_newest_whole_one_and_the_best_are_there(self):
        if self.whole:
            assert is_as_of(self.store.newest(), max(self.present()), 50)
        if self.best:
            assert is_as_of(self.store.best(), self.best, 50)

    def teardown(self):
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


TestSaving = Saving.TestCase
TestSaving.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
