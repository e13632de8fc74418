"""A model folder is written whole or not at all, and says what it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundle_cases import FACTS, TASKS, noise, random_head

import headstart.bundle.save as saving
from headstart.backbones.backbone import Backbone
from headstart.base.errors import BundleError, DataError, EnvironmentFault
from headstart.base.seeds import stream
from headstart.bundle.load import find_model, load
from headstart.bundle.manifest import MANIFEST, WEIGHTS, read_manifest
from headstart.bundle.save import folded, save, verify_opens_alike, write_whole


@pytest.fixture(scope="module")
def head(toy):
    return random_head(3, toy.card.feature_dim)


def save_toy(folder, toy, head, **changes):
    task = TASKS["classification"]
    return save(folder, backbone=toy, head=head, task=task, temperature=1.7, facts=replace(FACTS, **changes))


# -- what is written -------------------------------------------------------------------------------------------------


def test_the_folder_holds_exactly_the_files_of_its_manifest(toy, head, tmp_path):
    manifest = save_toy(tmp_path / "m", toy, head)
    assert set(os.listdir(tmp_path / "m")) == {*manifest.files, MANIFEST}
    assert os.listdir(tmp_path) == ["m"]
    assert read_manifest(tmp_path / "m") == manifest


def test_equal_input_gives_equal_bytes(toy, head, tmp_path):
    first, second = (save_toy(tmp_path / name, toy, head) for name in "ab")
    assert first.seal == second.seal
    for name in os.listdir(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_the_folded_head_equals_head_and_temperature(toy, tmp_path, task):
    head, task = random_head(3, toy.card.feature_dim), TASKS[task]
    save(tmp_path / "m", backbone=toy, head=head, task=task, temperature=2.5, facts=FACTS)
    X = stream(1, "features").normal(size=(200, toy.card.feature_dim)).astype(np.float32)
    answers = load(tmp_path / "m").predict_features(X)
    np.testing.assert_allclose(answers.scores, task.decode(head.logits(X) / 2.5), atol=1e-6)
    np.testing.assert_allclose(answers.logits, head.logits(X), atol=1e-5)  # before calibration


def test_a_regression_head_is_kept_as_it_is(toy, tmp_path):
    head = random_head(3, toy.card.feature_dim)
    save(tmp_path / "m", backbone=toy, head=head, task=TASKS["regression"], facts=FACTS)
    X = stream(1, "features").normal(size=(20, toy.card.feature_dim))
    answers = load(tmp_path / "m").predict_features(X)
    np.testing.assert_allclose(answers.scores, head.logits(X), atol=1e-5)
    assert answers.logits is None and answers.names[0].count(" ") == 2


def test_no_text_of_the_folder_tells_where_it_was_made(toy, head, tmp_path):
    place = "file:/home/somebody/secret/weights.pth"
    card = replace(toy.card, name=place, weights=replace(toy.card.weights, where=place[5:]))
    record = replace(toy.record, name=place, weights_file=place[5:])
    save_toy(tmp_path / "m", Backbone(card, toy.network, toy.architecture, record), head)
    for name in os.listdir(tmp_path / "m"):
        content = (tmp_path / "m" / name).read_bytes()
        for private in (str(tmp_path), "somebody", "/home", str(Path.home()), os.uname().nodename):
            assert private.encode() not in content or len(private) < 4, (name, private)
    assert load(tmp_path / "m").manifest.backbone.name == "file:weights.pth"


def test_odd_class_names_survive(toy, tmp_path):
    labels = (
        "",
        " ",
        "007",
        "NA",
        '"seal": ""',
        "<img src=x onerror=alert(1)>",
        "a|b",
        "caf\udce9",
        "line\nbreak",
        "no",
        "日本",
        "\u202e",
    )
    task = replace(TASKS["classification"], labels=labels)
    head = random_head(len(labels), toy.card.feature_dim)
    save(tmp_path / "m", backbone=toy, head=head, task=task, facts=replace(FACTS, counts=dict.fromkeys(labels, 1)))
    assert load(tmp_path / "m").labels == labels
    assert json.loads((tmp_path / "m" / "config.json").read_text("utf-8"))["label_names"] == list(labels)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_head_with_nan_is_not_saved(toy, head, tmp_path, bad):
    weight = head.weight.copy()
    weight[1, 2] = bad
    with pytest.raises(DataError, match="CK10"):
        save_toy(tmp_path / "m", toy, replace(head, weight=weight))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("task", "temperature"), [("classification", 0.0), ("classification", np.nan), ("regression", 2.0)]
)
def test_a_temperature_that_means_nothing_is_refused(toy, head, task, temperature):
    with pytest.raises(DataError, match="temperature"):
        folded(head, TASKS[task], temperature)


def test_a_head_of_another_size_is_refused(toy, tmp_path):
    with pytest.raises(DataError, match="3 labels need"):
        save_toy(tmp_path / "m", toy, random_head(4, toy.card.feature_dim))


# -- loaded back -----------------------------------------------------------------------------------------------------


def test_a_saved_model_agrees_with_what_was_evaluated(toy, head, tmp_path):
    from headstart.features.runners.runner import run_all
    from headstart.features.runners.torch import TorchRunner

    save_toy(tmp_path / "m", toy, head)
    pixels = noise(8)
    features = run_all(TorchRunner(toy), pixels)
    expected = TASKS["classification"].decode(head.logits(features) / 1.7)
    agreement = verify_opens_alike(tmp_path / "m", pixels, expected)
    assert agreement.n == 8 and agreement.max_abs <= 1e-6 and agreement.same_top1


def test_a_saved_model_that_disagrees_is_refused(toy, head, tmp_path):
    save_toy(tmp_path / "m", toy, head)
    pixels = noise(8)
    scores = load(tmp_path / "m").scores_of_prepared(pixels)
    with pytest.raises(BundleError, match="CK26"):
        verify_opens_alike(tmp_path / "m", pixels, scores[:, ::-1])
    with pytest.raises(BundleError, match="CK26"):
        verify_opens_alike(tmp_path / "m", pixels, np.full_like(scores, np.nan))


# -- whole or not at all ---------------------------------------------------------------------------------------------


def test_an_older_model_is_replaced(toy, head, tmp_path):
    old = save_toy(tmp_path / "m", toy, head)
    new = save_toy(tmp_path / "m", toy, head, trained_on_n=200)
    assert old.seal != new.seal == read_manifest(tmp_path / "m").seal
    assert os.listdir(tmp_path) == ["m"]


CALLS = ("fsync", "replace", "rename", "mkdir")


@pytest.mark.parametrize("call", CALLS)
def test_a_disk_fault_at_any_moment_leaves_the_older_model(toy, head, tmp_path, monkeypatch, call):
    old = save_toy(tmp_path / "m", toy, head)
    faults = 0
    for at in range(40):
        with monkeypatch.context() as patched:
            counter = fail_at(patched, call, at)
            try:
                save_toy(tmp_path / "m", toy, head)
            except EnvironmentFault as error:
                assert "EN67" in str(error) and "Input/output" in str(error)
                faults += 1
            assert read_manifest(tmp_path / "m").seal == old.seal  # equal input: old and new are the same bytes
            assert os.listdir(tmp_path) == ["m"]
            if counter["calls"] <= at:
                break
    assert faults >= 1


def fail_at(patched, call, at):
    """os.<call> fails with EIO when it is called for the (at + 1)th time."""
    counter, real = {"calls": 0}, getattr(os, call)

    def failing(*args, **kwargs):
        counter["calls"] += 1
        if counter["calls"] == at + 1:
            raise OSError(5, "Input/output error")
        return real(*args, **kwargs)

    patched.setattr(os, call, failing)
    return counter


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_at_any_moment_leaves_one_whole_model(saved_once, tmp_path, monkeypatch):
    old = {p.name: p.read_bytes() for p in saved_once.iterdir()}
    new = renewed(saved_once, tmp_path / "new")
    seals, folder = set(), tmp_path / "run" / "model"
    for at in range(200):
        shutil.rmtree(folder.parent, ignore_errors=True)
        write_whole(folder, old)
        killed = in_child(lambda at=at: die_at(at, lambda: write_whole(folder, new)))
        seals.add(read_manifest(find_model(folder)).seal)
        monkeypatch.setattr(saving, "STALE_S", -1.0)
        write_whole(folder, new)
        assert sorted(os.listdir(folder.parent)) == ["model"], "something was left behind"
        if not killed:
            break
    assert at > 20 and len(seals) == 2


def renewed(folder, copy):
    """The files of another whole model."""
    shutil.copytree(folder, copy)
    content, _ = saving.manifest_bytes(replace(read_manifest(copy), trained_on_n=7))
    (copy / MANIFEST).write_bytes(content)
    parts = {p.name: p.read_bytes() for p in copy.iterdir()}
    shutil.rmtree(copy)
    return parts


def in_child(run) -> bool:
    """Whether a child process that does ``run`` was killed."""
    child = os.fork()
    if child == 0:
        run()
        os._exit(0)
    return os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 9


def die_at(at, run):
    """End this process at the (at + 1)th call of anything that changes a disk."""
    left = [at]

    def dying(real):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)
            return real(*args, **kwargs)

        return call

    for name in ("open", "fsync", "replace", "rename", "mkdir", "unlink", "rmdir"):
        setattr(os, name, dying(getattr(os, name)))
    run()


FULL_DISK = """
import os, resource, sys
sys.path[:0] = [{tests!r}]
from bundle_cases import FACTS, TASKS, random_head
from headstart.backbones.catalogue import catalogue
from headstart.base.errors import EnvironmentFault
from headstart.bundle.manifest import read_manifest
from headstart.bundle.save import save
toy = catalogue.load("toy/conv")
head, folder = random_head(3, toy.card.feature_dim), {folder!r}
def again(): return save(folder, backbone=toy, head=head, task=TASKS["classification"], facts=FACTS)
seal = again().seal
for limit in (0, 1, 100, 1000, 4096, 100_000, 1_000_000, 1_500_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        again()
    except EnvironmentFault as error:
        assert error.exit_code == 4 and "EN69 no room to write" in str(error) and "are free there" in str(error), error
    else:
        raise AssertionError(limit)
    assert read_manifest(folder).seal == seal and os.listdir(os.path.dirname(folder)) == ["model"]
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_leaves_the_older_model_and_says_so(tmp_path):
    code = FULL_DISK.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "model"))
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
def test_a_read_only_place_is_said_plainly(saved_once, tmp_path):
    place = tmp_path / "locked"
    place.mkdir(mode=0o755)
    parts = {p.name: p.read_bytes() for p in saved_once.iterdir()}
    tmp_path.chmod(0o755)
    root = os.geteuid() == 0
    place.chmod(0o555)
    if root:  # permissions do not bind root
        os.seteuid(65534)
    try:
        with pytest.raises(EnvironmentFault, match=r"EN68 .*locked.* cannot be written .*--out"):
            write_whole(place / "model", parts)
    finally:
        if root:
            os.seteuid(0)
        place.chmod(0o755)
    assert os.listdir(place) == []


def test_a_folder_with_other_files_is_never_replaced(toy, head, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"dear")
    with pytest.raises(DataError, match=r"cat\.jpg"):
        save_toy(tmp_path / "photos", toy, head)
    assert os.listdir(tmp_path) == ["photos"] and os.listdir(tmp_path / "photos") == ["cat.jpg"]


def test_a_file_or_a_link_in_the_place_of_the_folder_is_refused(toy, head, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    for name in ("file", "link", "file/model"):
        with pytest.raises((DataError, EnvironmentFault), match="EN6"):
            save_toy(tmp_path / name, toy, head)
    assert (tmp_path / "file").read_text() == "mine" and os.listdir(tmp_path / "elsewhere") == []


def test_a_damaged_older_model_can_be_replaced(toy, head, tmp_path):
    save_toy(tmp_path / "m", toy, head)
    (tmp_path / "m" / WEIGHTS).write_bytes(b"half")
    save_toy(tmp_path / "m", toy, head)
    read_manifest(tmp_path / "m")
