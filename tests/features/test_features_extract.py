"""One pass: right, resumable, and never stale."""

import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

from headstart.backbones.catalogue import catalogue
from headstart.base.errors import DataError, EnvironmentFault
from headstart.data.open import open_dataset
from headstart.features import choose
from headstart.features.choose import agreeing, agreement_of, choose_runner, lowest_cosine, offered
from headstart.features.extract import extract, feature_key, rounded
from headstart.features.runners.runner import run_all
from headstart.features.runners.torch import TorchRunner
from headstart.inputs.image import prepare
from headstart.records.run import RunnerTrial


def by_hand(backbone, dataset):
    """Picture by picture, no cache, no threads, float32."""
    import torch

    rows = []
    for sample in dataset:
        pixels = prepare(sample.value, backbone.spec)[None]
        with torch.inference_mode():
            rows.append(backbone.from_pixels()(torch.from_numpy(pixels.copy()))[0].numpy())
    return np.stack(rows)


def test_features_equal_those_made_one_by_one(toy, dataset, tmp_path):
    features = extract(toy, dataset, cache=tmp_path / "c", only_runner="torch-f32")
    np.testing.assert_allclose(features.X, by_hand(toy, dataset), atol=2e-3, rtol=2e-3)
    assert features.record.images == len(dataset) == 41
    assert features.record.from_cache == 1  # the copy


def test_a_second_pass_computes_nothing_and_gives_the_same_bits(toy, dataset, tmp_path):
    first = extract(toy, dataset, cache=tmp_path / "c")
    second = extract(toy, dataset, cache=tmp_path / "c")
    assert second.record.from_cache == len(dataset)
    assert second.survey.decoded == 0
    np.testing.assert_array_equal(first.X, second.X)


def test_two_fresh_passes_give_the_same_bits(toy, dataset, tmp_path):
    a = extract(toy, dataset, cache=tmp_path / "a", only_runner="torch-f32")
    b = extract(toy, dataset, cache=tmp_path / "b", only_runner="torch-f32")
    np.testing.assert_array_equal(a.X, b.X)


def test_an_edit_that_keeps_size_and_time_is_noticed(toy, dataset, folder, tmp_path):
    first = extract(toy, dataset, cache=tmp_path / "c")
    path = folder / "blue" / "03.png"
    before = path.stat()
    other = Image.new("RGB", (50, 50), (1, 200, 3))
    other.save(path)
    content = path.read_bytes()
    path.write_bytes(content + b"\0" * (before.st_size - len(content)))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    second = extract(toy, open_dataset(folder), cache=tmp_path / "c")
    changed = np.flatnonzero((first.X != second.X).any(axis=1))
    assert [dataset.ids[i] for i in changed] == ["blue/03.png"]


def test_the_key_depends_on_network_weights_preprocessing_and_runner(toy):
    from dataclasses import replace

    vit = catalogue.load("toy/vit")
    keys = {
        feature_key(toy, "torch-f32"),
        feature_key(toy, "torch-f32-nhwc"),
        feature_key(toy, "openvino-f32"),
        feature_key(vit, "torch-f32"),
        feature_key(toy.random_copy(0), "torch-f32"),
        feature_key(toy.random_copy(1), "torch-f32"),
        feature_key(toy.with_input(replace(toy.spec, size=toy.spec.size * 2)), "torch-f32"),
        feature_key(toy.with_input(replace(toy.spec, fit="squish")), "torch-f32"),
        feature_key(toy.with_input(replace(toy.spec, mean=(0.1, 0.2, 0.3))), "torch-f32"),
    }
    assert len(keys) == 9
    assert feature_key(toy, "torch-f32") == feature_key(catalogue.load("toy/conv"), "torch-f32")


def test_bad_files_are_left_out_by_name_and_the_good_keep_their_features(toy, folder, tmp_path):
    clean = extract(toy, open_dataset(folder), cache=tmp_path / "a", only_runner="torch-f32")
    (folder / "blue" / "05x.png").write_bytes(b"<html>not found</html>")
    (folder / "red" / "07x.jpg").write_bytes((folder / "red" / "07.png").read_bytes()[:900])
    dirty_set = open_dataset(folder)
    dirty = extract(toy, dirty_set, cache=tmp_path / "b", only_runner="torch-f32")
    assert sorted(p.id for p in dirty.survey.problems.values()) == ["blue/05x.png", "red/07x.jpg"]
    assert [dirty_set.ids[r] for r in dirty.survey.rows] == list(open_dataset(folder).ids[:5]) + [
        i for i in open_dataset(folder).ids[5:] if "x." not in i
    ]
    np.testing.assert_array_equal(clean.X, dirty.X)


def test_no_usable_file_is_an_error_that_names_the_first(toy, tmp_path):
    for label in "ab":
        (tmp_path / "d" / label).mkdir(parents=True)
        (tmp_path / "d" / label / "1.jpg").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"DA26 not one of the 2 files"):
        extract(toy, open_dataset(tmp_path / "d"), cache=tmp_path / "c")


def test_a_damaged_shard_is_computed_again(toy, dataset, tmp_path):
    first = extract(toy, dataset, cache=tmp_path / "c")
    [shard] = (tmp_path / "c" / "features" / first.record.key).glob("*.arrow")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 8
    shard.write_bytes(content)
    again = extract(toy, dataset, cache=tmp_path / "c")
    assert again.record.from_cache == 1  # the copy
    np.testing.assert_array_equal(first.X, again.X)


INTERRUPTED = """
    import os, sys
    from pathlib import Path
    from headstart.backbones.catalogue import catalogue
    from headstart.base.progress import Advanced
    from headstart.data.open import open_dataset
    from headstart.features import extract as module
    module.FLUSH = 8

    def stop(event):
        if isinstance(event, Advanced) and event.done == 30:
            {how}

    try:
        toy, data, cache = catalogue.load("toy/conv"), open_dataset({folder!r}), Path({cache!r})
        module.extract(toy, data, cache=cache, only_runner="torch-f32", observer=stop)
    except KeyboardInterrupt:
        sys.exit(75)
"""


@pytest.mark.parametrize("how", ["raise KeyboardInterrupt", "os._exit(9)"])
def test_an_interrupted_pass_goes_on_from_what_is_there(toy, dataset, folder, tmp_path, how):
    code = textwrap.dedent(INTERRUPTED.format(how=how, folder=str(folder), cache=str(tmp_path / "c")))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode in (75, 9), done.stderr
    after = extract(toy, dataset, cache=tmp_path / "c", only_runner="torch-f32")
    fresh = extract(toy, dataset, cache=tmp_path / "fresh", only_runner="torch-f32")
    np.testing.assert_array_equal(after.X, fresh.X)
    if "Keyboard" in how:
        assert after.record.from_cache >= 30


def test_two_processes_share_a_cache(toy, dataset, folder, tmp_path):
    code = textwrap.dedent(INTERRUPTED.format(how="pass", folder=str(folder), cache=str(tmp_path / "c")))
    children = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(2)]
    for child in children:
        assert child.wait(200) == 0, child.stderr.read()
        child.stderr.close()
    shared = extract(toy, dataset, cache=tmp_path / "c", only_runner="torch-f32")
    assert shared.record.from_cache == len(dataset)
    fresh = extract(toy, dataset, cache=tmp_path / "fresh", only_runner="torch-f32")
    np.testing.assert_array_equal(shared.X, fresh.X)


def test_the_users_folder_is_not_touched(toy, folder, tmp_path):
    def state():
        return {
            p: (p.stat().st_mtime_ns, p.stat().st_mode, p.read_bytes() if p.is_file() else b"")
            for p in folder.rglob("*")
        }

    before = state()
    extract(toy, open_dataset(folder), cache=tmp_path / "c")
    assert state() == before


def test_numbers_too_large_for_float16_are_kept():
    X = np.array([[1e-3, 2.5], [70_000.0, -1.0]], np.float32)
    back = rounded(X)
    np.testing.assert_array_equal(back[1], X[1])
    np.testing.assert_array_equal(back[0], X[0].astype(np.float16).astype(np.float32))


def test_a_runner_in_the_batch_of_another_gives_the_same_rows(toy):
    pixels = np.random.default_rng(0).integers(0, 256, (13, toy.spec.size, toy.spec.size, 3), dtype=np.uint8)
    whole = run_all(TorchRunner(toy, batch=13), pixels)
    for batch in (1, 4, 16):
        np.testing.assert_allclose(run_all(TorchRunner(toy, batch=batch), pixels), whole, atol=1e-5)


def test_every_accepted_runner_agrees_with_float32(toy, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, toy.spec.size, toy.spec.size, 3), dtype=np.uint8)
    choice = choose_runner(toy, lambda most: pixels, device="cpu", memory=tmp_path)
    assert {t.name for t in choice.trials} == set(offered("cpu"))
    assert choice.trials[0].accepted
    assert choice.name == choice.trials[0].name
    reference = run_all(TorchRunner(toy, batch=8), pixels)
    for trial in choice.trials:
        if trial.accepted:
            assert lowest_cosine(run_all(agreeing(toy, trial.name, "cpu", pixels), pixels), reference) >= 0.999


def test_a_common_component_does_not_hide_that_features_differ():
    rng = np.random.default_rng(0)
    own = rng.standard_normal((16, 50))
    reference = own + 300
    near, far = reference + 0.01 * rng.standard_normal((16, 50)), reference + 0.5 * rng.standard_normal((16, 50))
    assert agreement_of(near, reference).holds
    assert agreement_of(far, reference).cosine > 0.99999
    assert not agreement_of(far, reference).holds


def test_the_choice_is_remembered(toy, tmp_path):
    pixels = np.zeros((8, toy.spec.size, toy.spec.size, 3), np.uint8)
    first = choose_runner(toy, lambda most: pixels, device="cpu", memory=tmp_path)

    def never(most):
        raise AssertionError("nothing is timed twice")

    assert choose_runner(toy, never, device="cpu", memory=tmp_path).name == first.name


def test_a_runner_that_disagrees_is_refused(toy, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (8, toy.spec.size, toy.spec.size, 3), dtype=np.uint8)
    other = catalogue.load("toy/conv").random_copy(5)
    real = TorchRunner.submit

    def wrong(self, pixels, done):  # a library that computes something else
        if self.name == "torch-f32-nhwc":
            return real(TorchRunner(other, batch=self.batch), pixels, done)
        return real(self, pixels, done)

    monkeypatch.setattr(TorchRunner, "submit", wrong)
    with pytest.raises(EnvironmentFault, match="disagrees with float32"):
        agreeing(toy, "torch-f32-nhwc", "cpu", pixels)


def test_an_unknown_runner_is_named_with_those_there_are(toy):
    with pytest.raises(EnvironmentFault, match=r"no runner 'torch-f8'\. It offers: .*torch-f32"):
        agreeing(toy, "torch-f8", "cpu", np.zeros((1, 8, 8, 3), np.uint8))


def test_a_cache_on_a_full_or_readonly_disk_is_named(toy, dataset, tmp_path):
    place = tmp_path / "c"
    place.write_text("a file where the cache should be")
    with pytest.raises((EnvironmentFault, DataError), match="EN6"):
        extract(toy, dataset, cache=place)
    shutil.rmtree(tmp_path / "c", ignore_errors=True)


def test_several_layers_come_from_one_pass_and_have_a_store_of_their_own(toy, dataset, tmp_path):
    from headstart.backbones.taps import LAST, columns_of, tapped

    stage = next(s.name for s in toy.stages if s.name not in {"stem", "top"})
    wide = tapped(toy, [f"{stage}:avg", f"{stage}:max", LAST])
    both = extract(wide, dataset, cache=tmp_path / "c", only_runner="torch-f32")
    plain = extract(toy, dataset, cache=tmp_path / "c", only_runner="torch-f32")
    assert both.record.key != plain.record.key
    assert both.X.shape[1] == wide.card.feature_dim
    np.testing.assert_allclose(both.X[:, columns_of(wide)[LAST]], plain.X, atol=2e-3, rtol=2e-3)
    average, largest = (both.X[:, columns_of(wide)[f"{stage}:{p}"]] for p in ("avg", "max"))
    assert (largest >= average - 2e-3).all()


def test_ctrl_c_after_the_race_is_a_keyboard_interrupt_and_no_crash():
    pytest.importorskip("openvino")
    code = textwrap.dedent("""
        import gc, os, signal, sys
        import numpy as np
        from headstart.backbones.catalogue import catalogue
        from headstart.features.choose import choose_runner
        toy = catalogue.load("toy/conv")
        pixels = np.random.default_rng(0).integers(0, 256, (8, toy.spec.size, toy.spec.size, 3), dtype=np.uint8)
        choice = choose_runner(toy, lambda most: pixels, device="cpu")
        del choice
        gc.collect()
        try:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000): pass
        except KeyboardInterrupt:
            sys.exit(75)
    """)
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=200).returncode == 75


def test_where_what_is_remembered_disagrees_with_other_weights_the_runners_are_timed_anew(tmp_path, monkeypatch):
    """A memory that the network left behind before it was tuned must not stop the tuned one."""
    dataset = open_dataset([np.full((32, 32, 3), 9 * i, np.uint8) for i in range(20)])
    loaded, tuned = catalogue.load("toy/conv"), catalogue.load("toy/conv").random_copy(3)
    real, raced = choose._agreement, []

    def agreement(backbone, runner, examples):
        alike = backbone.record.weights_sha256 == loaded.record.weights_sha256 or runner.name == choose.PLAIN
        return real(backbone, runner, examples) if alike else choose.Agreement(0.9, 0.9)

    def race(backbone, examples, device):
        raced.append(backbone)
        name = "torch-f32-nhwc" if backbone is loaded else choose.PLAIN
        return (RunnerTrial(name, 1.0, 1.0, True, 1.0),), choose.make_runner(backbone, name, device)

    monkeypatch.setattr(choose, "_agreement", agreement)
    monkeypatch.setattr(choose, "_race", race)
    said = []
    assert extract(loaded, dataset, cache=tmp_path).record.runner == "torch-f32-nhwc"
    assert extract(tuned, dataset, cache=tmp_path, observer=said.append).record.runner == choose.PLAIN
    assert "timed anew" in str(said) and raced == [loaded, tuned]
    more = open_dataset([np.full((32, 32, 3), 9 * i + 1, np.uint8) for i in range(20)])
    assert extract(tuned, more, cache=tmp_path).record.runner == choose.PLAIN
    assert extract(loaded, more, cache=tmp_path).record.runner == "torch-f32-nhwc"
    assert len(raced) == 2, "each is remembered by its own weights"
    with pytest.raises(choose.Disagreement, match=r"EN72 .*Use --runner torch-f32\."):
        extract(tuned, dataset, cache=tmp_path / "new", only_runner="torch-f32-nhwc")
