"""Opening a model folder: found where people point, refused where it does not fit."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest
from bundle_cases import TASKS, noise

import headstart
from headstart.base.errors import BundleError, CheckpointMismatch, DataError, EnvironmentFault, Refused
from headstart.bundle.load import find_model, load
from headstart.bundle.manifest import WEIGHTS


def test_the_public_name_is_this_one(model):
    assert headstart.load(str(model)).labels == TASKS["classification"].labels


def test_a_run_folder_means_its_model(model):
    assert find_model(model.parent) == model == find_model(model)


def test_a_model_that_was_moved_aside_by_a_killed_save_is_found(model):
    moved = model.rename(model.parent / ".model.previous")
    assert find_model(model) == moved == find_model(model.parent)
    load(model)


def test_a_misspelt_folder_is_answered_with_the_nearest_name(model):
    with pytest.raises(DataError, match=r"no such folder: .*modle\. Did you mean 'model'"):
        load(model.parent / "modle")


def test_a_folder_above_the_runs_names_the_models_below(model):
    runs = model.parent / "runs"
    shutil.copytree(model, runs / "first" / "model")
    with pytest.raises(DataError, match=r"holds no saved model .*There is one in .*first/model"):
        load(runs)


def test_an_empty_folder_and_a_file_are_told_apart(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "model.pt").write_bytes(b"x")
    with pytest.raises(DataError, match="headstart fit"):
        load(tmp_path / "empty")
    with pytest.raises(DataError, match=r"is a file; give the folder that holds bundle\.json"):
        load(tmp_path / "model.pt")


def test_the_loaded_network_is_bitwise_the_saved_one(toy, model):
    loaded = load(model).backbone
    saved = toy.network.state_dict()
    assert saved.keys() == loaded.network.state_dict().keys()
    assert all((saved[name] == tensor).all() for name, tensor in loaded.network.state_dict().items())
    assert loaded.card.input == toy.card.input and not loaded.training


def test_the_loaded_network_does_not_depend_on_the_file_any_more(model):
    predictor = load(model)
    before = predictor.scores_of_prepared(noise(2))
    (model / WEIGHTS).write_bytes(b"\0" * (model / WEIGHTS).stat().st_size)
    np.testing.assert_array_equal(predictor.scores_of_prepared(noise(2)), before)


def test_without_verification_the_predictor_says_so(model):
    (model / "README.md").write_text("my own words")
    with pytest.raises(BundleError, match=r"CK05 .*README\.md"):
        load(model)
    assert not load(model, verify=False).verified
    assert "unverified" in repr(load(model, verify=False))


def test_a_pickle_under_the_name_of_the_weights_is_refused_even_without_verification(model):
    (model / WEIGHTS).write_bytes(b"\x80\x04\x95\x1d\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.")
    with pytest.raises(BundleError, match="CK"):
        load(model, verify=False)


def test_weights_of_another_network_are_refused_with_counts(model):
    from safetensors.numpy import load_file, save_file

    tensors = {name: tensor for name, tensor in load_file(model / WEIGHTS).items() if not name.startswith("layer4")}
    save_file(tensors, model / WEIGHTS)
    with pytest.raises((BundleError, CheckpointMismatch), match=r"of \d+ tensors"):
        load(model, verify=False)


def test_a_nan_in_the_head_is_refused(model):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(model / WEIGHTS)
    tensors["fc.bias"][1] = np.nan
    save_file(tensors, model / WEIGHTS)
    with pytest.raises(BundleError, match="CK10"):
        load(model, verify=False)


def test_refusals_end_with_exit_code_three(model):
    (model / WEIGHTS).unlink()
    with pytest.raises(Refused) as caught:
        load(model)
    assert caught.value.exit_code == 3


def test_a_runner_that_is_not_here_is_an_error_when_asked_for(model):
    predictor = load(model, precision="torch-f32-tpu")
    with pytest.raises(EnvironmentFault, match=r"EN72 .*torch-f32-tpu"):
        predictor.scores_of_prepared(noise(1))


def test_a_precision_that_does_not_exist_is_refused_at_once(model):
    with pytest.raises(DataError, match="no precision 'fp64'"):
        load(model, precision="fp64")


def test_importing_the_room_does_not_import_torch():
    code = "import sys, headstart.bundle.load, headstart.bundle.csv; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
