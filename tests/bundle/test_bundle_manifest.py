"""Every byte of a model folder is known to be what was saved (RELIABILITY A7, A5, G5, section 5 rows 6, 20, 24, 25)."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest
from bundle_cases import TASKS

from headstart.base.errors import BundleError
from headstart.base.seeds import stream
from headstart.bundle.load import load
from headstart.bundle.manifest import MANIFEST, WEIGHTS, manifest_bytes, read_manifest

FILES = ("README.md", "bundle.json", "config.json", "labels.json", "model.safetensors")


def test_an_untouched_folder_verifies(model):
    manifest = read_manifest(model)
    assert manifest.labels == TASKS["classification"].labels
    assert manifest.head.temperature == 1.7 and manifest.trained_on_n == 100
    assert set(manifest.files) == set(FILES) - {MANIFEST}


def test_the_manifest_is_written_as_it_is_read(model):
    manifest = read_manifest(model)
    content, seal = manifest_bytes(manifest)
    assert content == (model / MANIFEST).read_bytes() and seal == manifest.seal


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_noticed_and_the_file_named(model, name):
    content = bytearray((model / name).read_bytes())
    content[len(content) // 2] ^= 0x10
    (model / name).write_bytes(content)
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        read_manifest(model)


def test_every_damaged_file_is_named_not_only_the_first(model):
    for name in ("README.md", "labels.json"):
        (model / name).write_bytes((model / name).read_bytes() + b" ")
    with pytest.raises(BundleError, match=r"README\.md.*labels\.json"):
        read_manifest(model)


# -- A7: 75 corruptions of all kinds over all files ------------------------------------------------------------------


def corruptions(folder: Path):
    """(file name, damaged content) 75 times: 30 bit flips, 20 truncations, 15 zeroed pages, 10 swapped blocks."""
    random = stream(0, "corruptions")
    kinds = [bit_flip] * 30 + [truncation] * 20 + [zeroed_page] * 15 + [swapped_blocks] * 10
    for i, kind in enumerate(kinds):
        name = FILES[i % len(FILES)] if i % 2 else WEIGHTS
        original = (folder / name).read_bytes()
        damaged = original
        while damaged == original:
            damaged = kind(bytearray(original), random)
        yield name, original, damaged


def bit_flip(content, random):
    content[random.integers(len(content))] ^= 1 << int(random.integers(8))
    return bytes(content)


def truncation(content, random):
    return bytes(content[: random.integers(len(content))])


def zeroed_page(content, random):
    size = min(4096, max(1, len(content) // 4))
    start = int(random.integers(len(content) - size + 1))
    content[start : start + size] = bytes(size)
    return bytes(content)


def swapped_blocks(content, random):
    size = min(512, len(content) // 4)
    a, b = sorted(random.choice(len(content) // size, 2, replace=False) * size)
    content[a : a + size], content[b : b + size] = content[b : b + size], content[a : a + size]
    return bytes(content)


def silent_loads(folder: Path, *, verify: bool) -> int:
    count = 0
    for name, original, damaged in corruptions(folder):
        (folder / name).write_bytes(damaged)
        try:
            load(folder, verify=verify)
            count += 1
        except BundleError as error:
            assert str(error)[:2] in ("CK", "CF"), error
        (folder / name).write_bytes(original)
    return count


def test_none_of_75_corruptions_loads_silently(model):
    assert silent_loads(model, verify=True) == 0
    load(model)


def test_without_the_manifest_check_most_corruptions_would_load_silently(model):
    # The mutant that the test above must be able to catch; it also shows what the check is worth.
    assert silent_loads(model, verify=False) > 25


# -- hostile manifests -----------------------------------------------------------------------------------------------


def forge(folder: Path, change) -> None:
    """Rewrite bundle.json as someone would who knows how the seal is made."""
    values = json.loads((folder / MANIFEST).read_text())
    change(values)
    values["seal"] = ""
    text = json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False)
    seal = hashlib.sha256(text.encode()).hexdigest()
    (folder / MANIFEST).write_text(text.replace('"seal": ""', f'"seal": "{seal}"'))


def test_a_forged_manifest_that_changes_nothing_is_accepted(model):
    # Otherwise the refusals below could come from the forging itself.
    forge(model, lambda values: None)
    read_manifest(model)


OUTSIDE = (
    "../secret",
    "/etc/passwd",
    "a/../../secret",
    "..",
    ".",
    "",
    "sub/file",
    "sub\\file",
    "C:\\secret",
    "\\\\host\\share",
    "a\0b",
    "x" * 4096,
    "/proc/self/fd/0",
    "bundle.json",
    "~/secret",
    "line\nbreak",
)


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_path_in_the_manifest_cannot_leave_the_folder(model, name):
    (model.parent / "secret").write_text("secret")
    facts = {"sha256": hashlib.sha256(b"secret").hexdigest(), "size": 6}
    forge(model, lambda values: values["files"].__setitem__(name, facts))
    paths, error = opened_by(lambda: read_manifest(model))
    assert error is not None and "plain names" in str(error)
    assert [Path(p) for p in paths] == [model / MANIFEST]


_listening: list[list[str]] = []


def _hook(event, args):
    if _listening and event == "open" and not isinstance(args[0], int):
        _listening[-1].append(os.fsdecode(args[0]))


sys.addaudithook(_hook)  # cannot be removed; it is idle while nobody listens


def opened_by(run):
    """(every path that is opened while ``run`` runs, the BundleError it ends with or None)."""
    _listening.append([])
    try:
        run()
    except BundleError as error:
        return _listening.pop(), error
    return _listening.pop(), None


def test_files_that_are_not_listed_are_never_opened(model):
    for name in ("modeling.py", "pytorch_model.bin", "extra.safetensors"):
        (model / name).write_bytes(b"not yours")
    paths, error = opened_by(lambda: read_manifest(model))
    assert error is None
    assert sorted(Path(p).name for p in paths) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_link_in_place_of_a_file_is_refused(model, name):
    twin = model.parent / "twin"
    (model / name).rename(twin)
    (model / name).symlink_to(twin)
    with pytest.raises(BundleError, match="is a link"):
        read_manifest(model)


def test_a_named_pipe_is_refused_without_waiting_for_a_writer(model):
    (model / "labels.json").unlink()
    os.mkfifo(model / "labels.json")
    with pytest.raises(BundleError, match="plain file"):
        read_manifest(model)


def test_a_folder_in_place_of_a_file_is_refused(model):
    (model / WEIGHTS).unlink()
    (model / WEIGHTS).mkdir()
    with pytest.raises(BundleError, match="plain file"):
        read_manifest(model)


def test_a_missing_file_is_named(model):
    (model / "labels.json").unlink()
    with pytest.raises(BundleError, match=r"CK14 .*labels\.json is missing"):
        read_manifest(model)


def with_key(path, key, value):
    def change(values):
        for part in path:
            values = values[part]
        values[key] = value

    return change


HOSTILE = {
    "unknown key": (with_key([], "extra", 1), "unknown key 'extra'"),
    "misspelt key": (with_key(["head"], "tempratur", 1), "Did you mean 'temperature'"),
    "asks for code": (with_key(["head", "setting"], "_target_", "os.system"), "CF20 .*_target_"),
    "asks for code deep inside": (with_key(["versions"], "auto_map", "x"), "CF20 .*auto_map"),
    "trust flag": (with_key([], "trust_remote_code", True), "CF20"),
    "future schema": (with_key([], "schema", 99), "newer headstart"),
    "no schema": (with_key([], "schema", 0), "schema 0"),
    "schema as text": (with_key([], "schema", "1"), "expected int"),
    "one label": (with_key(["task"], "labels", ["bird"]), "1 labels"),
    "no labels": (with_key(["task"], "labels", []), "0 labels"),
    "label twice": (with_key(["task"], "labels", ["a", "a", "b"]), "twice"),
    "labels as numbers": (with_key(["task"], "labels", [1, 2, 3]), "expected str"),
    "unknown task": (with_key(["task"], "name", "detection"), "not one of"),
    "temperature zero": (with_key(["head"], "temperature", 0), "temperature"),
    "temperature null": (with_key(["head"], "temperature", None), "temperature"),
    "std zero": (with_key(["input"], "std", [0.5, 0, 0.5]), "mean or std"),
    "mean of two": (with_key(["input"], "mean", [0.5, 0.5]), "expected 3 values"),
    "huge input": (with_key(["input"], "size", 10**9), "input size"),
    "huge width": (with_key(["backbone"], "feature_dim", 2**62), "feature_dim"),
    "negative size": (with_key(["files", WEIGHTS], "size", -1), "malformed"),
    "odd hash": (with_key(["files", WEIGHTS], "sha256", "0" * 63), "malformed"),
    "weights not listed": (lambda v: v["files"].pop(WEIGHTS), "not listed"),
    "many files": (lambda v: v["files"].update({f"f{i}": v["files"][WEIGHTS] for i in range(100)}), "files are listed"),
    "thresholds": (with_key([], "thresholds", [0.2, 0.2, 0.2]), "thresholds"),
    "other opener": (with_key([], "opens_with", "pickle"), "not one of"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_manifest_is_refused_with_its_reason(model, what):
    change, message = HOSTILE[what]
    forge(model, change)
    with pytest.raises(BundleError, match=message):
        read_manifest(model)


RAW = {
    "duplicate key": (lambda t: t.replace('"schema": 1', '"schema": 1, "schema": 1'), "duplicate key"),
    "NaN": (lambda t: t.replace('"temperature": 1.7', '"temperature": NaN'), "NaN"),
    "infinity by exponent": (lambda t: t.replace('"temperature": 1.7', '"temperature": 1e999'), "seal|temperature"),
    "5,000 digits": (lambda t: t.replace('"schema": 1', '"schema": ' + "9" * 5000), "not valid JSON"),
    "deep": (lambda t: "[" * 100_000 + "]" * 100_000, "nested deeper"),
    "huge": (lambda t: t + " " * (17 * 2**20), "more than 16"),
    "not a table": (lambda t: "[1, 2]", "table of keys"),
    "not UTF-8": (lambda t: t.replace("bird", "b\udcffrd"), "not what was saved"),
    "empty": (lambda t: "", "not valid JSON"),
    "seal twice": (lambda t: t.replace('"seal":', '"a": {"seal":', 1), "not what was saved"),
    "no seal": (lambda t: "\n".join(line for line in t.splitlines() if '"seal"' not in line), "seal"),
    "one more space": (lambda t: t.replace('"schema": 1', '"schema":  1'), "seal"),
}


@pytest.mark.parametrize("what", RAW)
def test_a_malformed_manifest_is_refused_with_its_reason(model, what):
    change, message = RAW[what]
    text = (model / MANIFEST).read_text()
    (model / MANIFEST).write_bytes(change(text).encode("utf-8", "surrogateescape"))
    with pytest.raises(BundleError, match=message):
        read_manifest(model)


@pytest.mark.parametrize("key", ["_target_", "auto_map", "trust_remote_code"])
def test_a_config_that_asks_for_code_is_refused(model, key):
    rewrite(model, "config.json", lambda config: config["pretrained_cfg"].__setitem__(key, {"AutoModel": "evil.Model"}))
    with pytest.raises(BundleError, match=f"CF20 .*{key}"):
        load(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.__setitem__("architecture", "hf-hub:evil/model"), "architecture"),
        (lambda c: c.__setitem__("architecture", "../evil"), "architecture"),
        (lambda c: c.__setitem__("architecture", None), "architecture"),
        (lambda c: c.__setitem__("architecture", "resnet50"), "CK11 .* tensors"),
        (lambda c: c["model_args"].__setitem__("checkpoint_path", "/tmp/evil.pth"), "CF20"),
        (lambda c: c["model_args"].__setitem__("pretrained_cfg", {"url": "http://evil"}), "CF20"),
        (lambda c: c.__setitem__("model_args", ["pretrained"]), "model_args"),
    ],
)
def test_a_config_cannot_name_another_network_or_file(model, change, message):
    rewrite(model, "config.json", change)
    with pytest.raises(BundleError, match=message):
        load(model)


def test_labels_that_differ_between_the_files_are_refused(model):
    rewrite(model, "labels.json", lambda labels: labels.reverse())
    with pytest.raises(BundleError, match="different labels"):
        load(model)


def test_a_manifest_with_more_labels_than_the_head_has_outputs_is_refused(model):
    rewrite(model, "labels.json", lambda labels: labels.append("emu"))
    forge(model, lambda values: values["task"]["labels"].append("emu"))
    with pytest.raises(BundleError, match="4 labels"):
        load(model)


def test_a_head_tensor_that_is_not_there_is_refused(model):
    forge(model, with_key(["head"], "weight", "fc.wait"))
    with pytest.raises(BundleError, match=r"fc\.wait"):
        load(model)


def rewrite(folder: Path, name: str, change) -> None:
    """Change a listed JSON file and make the manifest agree."""
    values = json.loads((folder / name).read_text())
    change(values)
    content = json.dumps(values).encode()
    (folder / name).write_bytes(content)
    facts = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    forge(folder, with_key(["files"], name, facts))
