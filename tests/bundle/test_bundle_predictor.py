"""A saved model at work: the same answer for the same picture, whatever stands beside it."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from bundle_cases import FACTS, TASKS, noise, random_head
from PIL import Image

from headstart.base.errors import DataError
from headstart.base.progress import Advanced, Finished, Started
from headstart.base.seeds import stream
from headstart.bundle.load import load
from headstart.bundle.save import save
from headstart.data.dataset import Dataset
from headstart.features.extract import extract, rounded


@pytest.fixture(scope="module")
def predictor(saved_once):
    return load(saved_once)


@pytest.fixture
def files(tmp_path):
    """Twenty PNG files, the third of them an HTML page."""
    paths = [tmp_path / f"{i:02}.png" for i in range(20)]
    for path, pixels in zip(paths, noise(20, 90), strict=True):
        Image.fromarray(pixels).save(path)
    paths[2].write_text("<html><body>not found</body></html>")
    return paths


def test_scores_are_probabilities_in_the_order_of_the_labels(predictor):
    answers = predictor.predict(list(noise(5)))
    assert answers.scores.shape == (5, 3) and answers.labels == ("bird", "cat", "dog")
    np.testing.assert_allclose(answers.scores.sum(axis=1), 1)
    assert answers.names == [answers.labels[i] for i in answers.scores.argmax(axis=1)]


def test_path_bytes_picture_and_array_of_one_image_give_the_same_scores(predictor, files):
    path, content = files[0], files[0].read_bytes()
    picture = Image.open(path)
    kinds = [path, str(path), content, picture, np.asarray(picture)]
    scores = predictor.predict(kinds).scores
    # one product for all rows: BLAS may round the last bit differently by row
    np.testing.assert_allclose(scores, np.repeat(scores[:1], len(kinds), axis=0), rtol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 64])
def test_scores_do_not_depend_on_the_batch_size(predictor, batch_size):
    pictures = list(noise(9))
    together = predictor.predict(pictures).scores
    np.testing.assert_allclose(predictor.predict(pictures, batch_size=batch_size).scores, together, atol=1e-6)


def test_scores_do_not_depend_on_the_order(predictor):
    pictures = noise(40)
    order = stream(0, "order").permutation(40)
    scores = predictor.predict(list(pictures)).scores
    np.testing.assert_allclose(predictor.predict(list(pictures[order])).scores, scores[order], atol=1e-6)


def test_the_scores_are_those_of_the_network_and_the_head(predictor, toy):
    import torch

    from headstart.inputs.image import normalise

    pixels = noise(4)
    with torch.inference_mode():
        features = toy(torch.from_numpy(normalise(pixels, toy.card.input))).numpy()
    head = random_head(3, toy.card.feature_dim)
    expected = TASKS["classification"].decode(head.logits(features) / 1.7)
    np.testing.assert_allclose(predictor.predict(list(pixels)).scores, expected, atol=1e-6)


def test_unreadable_files_are_listed_and_the_others_predicted(predictor, files):
    answers = predictor.predict([*files, files[0].parent / "gone.png"])
    assert len(answers) == 19 and list(answers.ids) == [str(f) for i, f in enumerate(files) if i != 2]
    assert [(q.id, q.code) for q in answers.quarantined] == [
        (str(files[2]), "IM26"),
        (str(files[0].parent / "gone.png"), "DA49"),
    ]
    clean = predictor.predict([f for i, f in enumerate(files) if i != 2])
    np.testing.assert_allclose(answers.scores, clean.scores, atol=1e-6)


def test_only_unreadable_files_are_an_error(predictor, files):
    with pytest.raises(DataError, match=r"DA26 none of the 2 images .*IM26 .*02\.png: is an HTML page"):
        predictor.predict([files[2], files[2]])


def test_nothing_gives_nothing(predictor):
    answers = predictor.predict([])
    assert len(answers) == 0 and answers.scores.shape == (0, 3) and answers.names == []


def test_one_value_is_answered_by_label_most_probable_first(predictor, files):
    answer = predictor(files[0])
    assert set(answer) == {"bird", "cat", "dog"} and list(answer.values()) == sorted(answer.values(), reverse=True)
    with pytest.raises(DataError, match="IM26"):
        predictor(files[2])


def test_a_single_image_is_a_list_of_one(predictor, files):
    for value in (str(files[0]), files[0], files[0].read_bytes(), Image.open(files[0]), noise(1)[0]):
        assert len(predictor.predict(value)) == 1
    assert len(predictor.predict(noise(3))) == 3  # (3, H, W, 3): three images


def test_a_folder_is_not_taken_for_an_image(predictor, files):
    with pytest.raises(DataError, match="is a folder, not an image"):
        predictor.predict([str(files[0].parent)])


def test_a_dataset_keeps_its_ids_and_gives_targets_when_asked(predictor, files):
    targets = ["cat", "dog"] * 10
    dataset = Dataset("image", [f.name for f in files], files, targets, "single-label")
    assert predictor.predict(dataset).targets is None
    answers = predictor.predict(dataset, with_targets=True)
    assert answers.ids[0] == "00.png" and len(answers.targets) == 19
    assert answers.targets.tolist() == [{"cat": 1, "dog": 2}[t] for i, t in enumerate(targets) if i != 2]
    strange = replace(dataset, targets=["emu"] * 20)
    assert len(predictor.predict(strange)) == 19
    with pytest.raises(DataError, match="DA41 'emu'"):
        predictor.predict(strange, with_targets=True)


def test_embed_then_predict_features_is_predict(predictor):
    pictures = list(noise(6))
    X = predictor.embed(pictures)
    assert X.shape == (6, 96) and X.dtype == np.float32
    np.testing.assert_allclose(predictor.predict_features(X).scores, predictor.predict(pictures).scores, atol=1e-6)


def test_embed_refuses_what_it_cannot_align(predictor, files):
    with pytest.raises(DataError, match=r"DA26 1 of 20 .*02\.png"):
        predictor.embed(files)


@pytest.mark.parametrize("X", [np.zeros((2, 95)), np.zeros(96), np.full((2, 96), np.nan)])
def test_features_that_do_not_fit_are_refused(predictor, X):
    with pytest.raises(DataError):
        predictor.predict_features(X)


def test_a_batch_of_none_is_refused(predictor):
    with pytest.raises(DataError, match="batch_size"):
        predictor.predict(list(noise(1)), batch_size=0)


def test_observers_hear_how_far_it_is(predictor, files):
    events = []
    predictor.predict(files, observer=events.append)
    assert events[0] == Started("predicting", 20, "images")
    assert [e.done for e in events if isinstance(e, Advanced)] == list(range(1, 21))
    assert isinstance(events[-1], Finished)


def test_rounded_features_are_what_the_store_would_give_back(toy, tmp_path):
    head = random_head(3, 96)
    save(tmp_path / "m", backbone=toy, head=head, task=TASKS["classification"], facts=replace(FACTS, rounded=True))
    plain = load(tmp_path / "m")
    X = plain.embed(list(noise(6)))
    np.testing.assert_array_equal(X, rounded(X))


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_other_tasks_predict_too(toy, tmp_path, task):
    head = random_head(3, 96)
    save(tmp_path / "m", backbone=toy, head=head, task=TASKS[task], facts=FACTS)
    predictor = load(tmp_path / "m")
    pictures = list(noise(6))
    logits = head.logits(predictor.embed(pictures))
    answers = predictor.predict(pictures)
    np.testing.assert_allclose(answers.scores, TASKS[task].decode(logits), atol=1e-5)
    assert answers.task == task and tuple(predictor(pictures[0])) if task == "multilabel" else TASKS[task].labels


def test_a_runner_that_this_machine_lacks_is_replaced_by_float32_and_said(toy, tmp_path):
    facts = replace(FACTS, runner="torch-bf16-nhwc-tpu")
    save(tmp_path / "m", backbone=toy, head=random_head(3, 96), task=TASKS["classification"], facts=facts)
    predictor = load(tmp_path / "m")
    scores = predictor.scores_of_prepared(noise(2))
    assert "torch-bf16-nhwc-tpu" in predictor.note and predictor.runner == "torch-f32"
    plain = load(tmp_path / "m", precision="float32")
    np.testing.assert_allclose(scores, plain.scores_of_prepared(noise(2)), atol=1e-6)


@pytest.mark.openvino
def test_the_runner_of_the_evaluation_is_used_again(toy, tmp_path):
    pytest.importorskip("openvino")
    facts = replace(FACTS, runner="openvino-f32")
    save(tmp_path / "m", backbone=toy, head=random_head(3, 96), task=TASKS["classification"], facts=facts)
    predictor = load(tmp_path / "m")
    scores = predictor.predict(list(noise(20))).scores
    assert predictor.runner == "openvino-f32" and not predictor.note
    np.testing.assert_allclose(
        scores, load(tmp_path / "m", precision="float32").predict(list(noise(20))).scores, atol=1e-4
    )


def test_exif_orientation_is_applied(predictor):
    upright = Image.fromarray(noise(1, 80)[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer, plain = io.BytesIO(), io.BytesIO()
    upright.rotate(90, expand=True).save(buffer, "PNG", exif=exif)
    upright.save(plain, "PNG")
    scores = predictor.predict([buffer.getvalue(), plain.getvalue()]).scores
    np.testing.assert_array_equal(scores[0], scores[1])


def test_a_saved_model_sees_the_very_features_that_were_evaluated(toy, tmp_path):
    # Photographs so large that extract() decodes them at a fraction of their size.
    photos = tmp_path / "photos"
    photos.mkdir()
    for i, pixels in enumerate(noise(5, 700)):
        Image.fromarray(pixels).resize((1100, 800)).save(photos / f"{i}.jpg", quality=90)
    files = sorted(photos.iterdir())
    dataset = Dataset("image", [f.name for f in files], files)
    evaluated = extract(toy, dataset, cache=tmp_path / "cache", device="cpu", only_runner="torch-f32")
    facts = replace(FACTS, rounded=True, runner=evaluated.record.runner)
    save(tmp_path / "m", backbone=toy, head=random_head(3, 96), task=TASKS["classification"], facts=facts)
    np.testing.assert_array_equal(load(tmp_path / "m", device="cpu").embed(dataset), evaluated.X)
