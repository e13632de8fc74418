"""What people get wrong, and what headstart says: one clear error, the right exit code, nothing lost."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading

import pytest
from PIL import Image
from tests.stories.conftest import paint

from headstart.cli.main import run
from headstart.records.run import Ownership, RunFolder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "runs" / "r"


def refused(result, exit_code, *words):
    code, stdout, err = result
    assert code == exit_code, err
    assert "Traceback" not in err
    assert stdout == ""
    flat = " ".join(err.split())
    for word in words:
        assert word in flat, f"{word!r} is not in: {flat}"


def test_no_such_folder(headstart, photos, out):
    refused(headstart("fit", photos.parent / "photoss", "--out", out), 2, "photoss", "Did you mean", "photos")


def test_one_class_only(headstart, tmp_path, out):
    data = paint(tmp_path / "d", 5, classes=("red",))
    refused(headstart("fit", data, "--out", out, "-b", "toy/conv"), 2, "DA45", "only one class", "red")


def test_an_empty_folder(headstart, tmp_path, out):
    (tmp_path / "d").mkdir()
    refused(headstart("fit", tmp_path / "d", "--out", out, "-b", "toy/conv"), 2, "d")


def test_an_empty_class(headstart, tmp_path, out):
    data = paint(tmp_path / "d", 5)
    (data / "owl").mkdir()
    refused(headstart("fit", data, "--out", out, "-b", "toy/conv"), 2, "DA39", "owl", "--allow-empty")
    code, _, _ = headstart("fit", data, "--out", out, "-b", "toy/conv", "--allow-empty", "--random-baseline", "off")
    assert code == 0


def test_all_files_unreadable(headstart, tmp_path, out):
    for label in "ab":
        (tmp_path / "d" / label).mkdir(parents=True)
        for i in range(3):
            (tmp_path / "d" / label / f"{i}.jpg").write_bytes(b"<html>404</html>")
    refused(
        headstart("fit", tmp_path / "d", "--out", out, "-b", "toy/conv"), 2, "DA26", "not one of the 6 files", "HTML"
    )


def test_too_many_bad_files_stop_until_accepted(headstart, tmp_path, out):
    data = paint(tmp_path / "d", 12)
    for i in range(4):
        (data / "red" / f"bad{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 50)
    words = ["fit", data, "--out", out, "-b", "toy/conv", "--random-baseline", "off"]
    refused(headstart(*words), 2, "DA26", "--accept-bad")
    code, _, err = headstart(*words, "--accept-bad", "--overwrite")
    assert code == 0
    assert "4 files are left out" in err
    audit = json.loads((out / "audit.json").read_text())
    assert sorted(q["id"] for q in audit["quarantined"]) == [f"red/bad{i}.png" for i in range(4)]


def test_a_class_with_one_image_is_kept_in_train_and_said_so(headstart, photos, tmp_path, out):
    data = shutil.copytree(photos, tmp_path / "d")
    (data / "owl").mkdir()
    Image.new("RGB", (40, 40), (1, 2, 3)).save(data / "owl" / "1.png")
    code, _, err = headstart("fit", data, "--out", out, "-b", "toy/conv", "--random-baseline", "off")
    assert code == 0
    assert "DA40" in err
    assert "owl" in err
    split = json.loads((out / "split.json").read_text())
    assert "owl/1.png" in split["train"]
    recall = {c["name"]: c["recall"]["value"] for c in json.loads((out / "evaluation.json").read_text())["per_class"]}
    assert recall["owl"] is None


def test_a_leak_in_the_users_split_stops(headstart, tmp_path, out):
    for part, seed in (("train", 1), ("test", 2)):
        paint(tmp_path / "d" / part, 12, seed=seed)
    shutil.copy(tmp_path / "d/train/red/1-000.png", tmp_path / "d/test/red/copied.png")
    words = ["fit", tmp_path / "d", "--out", out, "-b", "toy/conv", "--random-baseline", "off"]
    refused(headstart(*words), 2, "DA42", "--accept-leakage")
    assert headstart(*words, "--accept-leakage", "--overwrite")[0] == 0
    assert json.loads((out / "split.json").read_text())["how"] == "given"


def test_a_missing_label_column_names_the_columns_there_are(headstart, few, tmp_path, out):
    table = few / "labels.csv"
    try:
        table.write_text(
            "path,klass\n" + "".join(f"{p.relative_to(few)},{p.parent.name}\n" for p in few.rglob("*.png"))
        )
        refused(headstart("fit", table, "--target", "class", "--out", out, "-b", "toy/conv"), 2, "class", "klass")
    finally:
        table.unlink()


def test_an_unknown_network_is_answered_with_the_nearest(headstart, few, out):
    refused(
        headstart("fit", few, "--out", out, "-b", "package/efficientnet-lit0"), 2, "Did you mean", "efficientnet-lite0"
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--balance", "weight"], "Did you mean 'weights'"),
        (["--test-share", "1.5"], "test_share is 1.5"),
        (["--metric", "acuracy"], "Did you mean 'accuracy'"),
        (["--task", "regresion"], "Did you mean 'regression'"),
        (["--group-by", "patient"], "patient"),
        (["--runner", "torch-f8"], "EN72"),
    ],
)
def test_wrong_words_are_told_before_anything_is_saved(headstart, few, out, words, says):
    code, _, err = headstart("fit", few, "--out", out, "-b", "toy/conv", *words)
    assert code in (2, 4)
    assert says in " ".join(err.split())
    assert not (out / "model").exists()


def test_an_unknown_option_is_clicks_error_and_two(headstart, few):
    code, out, err = headstart("fit", few, "--learning-rate", "1")
    assert code == 2
    assert "No such option" in err
    code, out, _ = headstart("fit", few, "--learning-rate", "1", "--json")
    assert code == 2
    assert "error" in json.loads(out)


def test_an_error_with_json_is_one_object(headstart, tmp_path):
    code, out, err = headstart("fit", tmp_path / "nowhere", "--json")
    assert code == 2
    assert set(json.loads(out)["error"]) == {"code", "kind", "message"}
    assert "error:" in err


def test_an_output_that_is_a_file_or_cannot_be_written(headstart, few, tmp_path):
    (tmp_path / "file").write_text("mine")
    refused(headstart("fit", few, "--out", tmp_path / "file", "-b", "toy/conv"), 2, "EN66", "is a file")
    assert (tmp_path / "file").read_text() == "mine"
    refused(headstart("fit", few, "--out", "/proc/nowhere/r", "-b", "toy/conv"), 4, "EN6")


def test_a_folder_that_is_no_run(headstart, few, tmp_path):
    for words in (["predict", tmp_path, few], ["evaluate", tmp_path, few], ["report", tmp_path]):
        code, _, err = headstart(*words)
        assert code in (2, 3), words
        assert "Traceback" not in err


def test_labels_that_were_never_learnt(headstart, finished, tmp_path):
    other = paint(tmp_path / "o", 3)
    (other / "red").rename(other / "crimson")
    refused(headstart("evaluate", finished, other), 2, "DA41", "crimson")


def test_a_second_run_into_the_same_folder_is_refused(headstart, few, out):
    with Ownership(RunFolder(out)):
        refused(headstart("fit", few, "--out", out, "-b", "toy/conv"), 4, "EN70", f"process {os.getpid()}")


def test_of_two_runs_at_once_one_is_refused(few, cache, out):
    codes = []

    def start():
        words = [
            sys.executable,
            "-m",
            "headstart",
            "fit",
            str(few),
            "--out",
            str(out),
            "-b",
            "toy/conv",
            "--cache",
            str(cache),
        ]
        codes.append(
            subprocess.run([*words, "--random-baseline", "off", "-q"], capture_output=True, check=False).returncode
        )

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) in ([0, 4], [0, 0])  # both may succeed one after the other: then the second found it finished
    assert json.loads((out / "run.json").read_text())["status"] == "done"


def test_a_full_disk_is_said_and_the_older_run_survives(headstart, few, finished, photos, tmp_path, cache):
    out = shutil.copytree(finished, tmp_path / "r")
    before = (out / "model" / "model.safetensors").read_bytes()
    code = textwrap.dedent(f"""
        import resource, signal, sys
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        from headstart.cli.main import run
        sys.exit(run(["fit", {str(photos)!r}, "--out", {str(out)!r}, "-b", "toy/conv", "--cache", {str(cache)!r},
                      "--overwrite", "--random-baseline", "off"]))
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 4, done.stderr
    assert "EN69" in done.stderr
    assert "Traceback" not in done.stderr
    assert (out / "model" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("moment", ["features", "heads", "saving"])
def test_a_run_killed_at_any_step_goes_on_when_started_again(few, cache, out, moment):
    stop_at = {
        "features": "headstart.features.extract:extract",
        "heads": "headstart.workflow.fit:choose_head",
        "saving": "headstart.workflow.fit:write_report",
    }[moment]
    module, name = stop_at.split(":")
    code = textwrap.dedent(f"""
        import importlib, os, sys
        import headstart.workflow.fit
        module = importlib.import_module({module!r})
        setattr(module, {name!r}, lambda *a, **k: os._exit(9))
        from headstart.cli.main import run
        run(["fit", {str(few)!r}, "--out", {str(out)!r}, "-b", "toy/conv", "--cache", {str(cache)!r}])
    """)
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=250).returncode == 9
    assert (out / "owner.json").exists()
    assert run(["fit", str(few), "--out", str(out), "-b", "toy/conv", "--cache", str(cache), "-q"]) == 0
    assert not (out / "owner.json").exists()
    assert json.loads((out / "run.json").read_text())["status"] == "done"


def test_ctrl_c_ends_with_75_and_says_how_to_go_on(few, cache, out):
    code = textwrap.dedent(f"""
        import sys
        import headstart.workflow.fit as story
        def interrupt(*a, **k): raise KeyboardInterrupt
        story.choose_head = interrupt
        from headstart.cli.main import run
        sys.exit(run(["fit", {str(few)!r}, "--out", {str(out)!r}, "-b", "toy/conv", "--cache", {str(cache)!r}]))
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 75
    assert "Give the same command again" in " ".join(done.stderr.split())
    assert not (out / "owner.json").exists()


def test_names_that_would_fool_a_terminal_are_escaped(headstart, tmp_path, out):
    data = paint(tmp_path / "d", 8)
    (data / "red").rename(data / "r\x1b[31med\u202e")
    source = next((data / "blue").iterdir())
    (data / "blue" / "caf\udce9\n.png").write_bytes(b"not a picture")
    shutil.copy(source, data / "blue" / "twin \x07.png")
    code, stdout, err = headstart(
        "fit", data, "--out", out, "-b", "toy/conv", "--random-baseline", "off", "--accept-bad"
    )
    assert code == 0
    for text in (stdout, err):
        assert "\x1b[31med" not in text
        assert "\u202e" not in text
    assert "caf\\xe9\\n.png" in err


def test_output_that_cannot_show_a_character_does_not_fail(few, cache, out):
    env = os.environ | {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    words = [
        sys.executable,
        "-m",
        "headstart",
        "fit",
        str(few),
        "--out",
        str(out),
        "-b",
        "toy/conv",
        "--cache",
        str(cache),
    ]
    done = subprocess.run(words, capture_output=True, env=env, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    done.stdout.decode("ascii")
