import numpy as np
import pytest

from headstart.base.errors import DataError
from headstart.records.predictions import Predictions


def some(task="classification"):
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.7]])
    return Predictions(
        np.array(["a", "caf\udce9.jpg", "日本"], object),
        scores,
        np.array([0, 1, 1]),
        ("no", "NA"),
        task,
        logits=np.log(scores),
        groups=np.array([0, 0, 1]),
    )


def test_predictions_survive_the_disk_with_names_that_are_not_utf8(tmp_path):
    before = some()
    before.save(tmp_path / "p.npz")
    after = Predictions.load(tmp_path / "p.npz")
    assert after.ids.tolist() == before.ids.tolist()
    assert after.labels == before.labels
    for name in ("scores", "targets", "logits", "groups"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_the_answer_in_words_depends_on_the_task():
    assert some().names == ["no", "NA", "NA"]
    assert some("multilabel").names == ["no", "NA", "no|NA"]
    assert some("regression").names == ["0.9 0.1", "0.2 0.8", "0.6 0.7"]


def test_a_file_that_holds_something_else_is_a_data_error(tmp_path):
    (tmp_path / "p.npz").write_bytes(b"PK not really")
    with pytest.raises(DataError, match="does not hold predictions"):
        Predictions.load(tmp_path / "p.npz")


def test_pickled_arrays_are_not_opened(tmp_path):
    np.savez(tmp_path / "p.npz", ids=np.array([{"x": 1}], object), allow_pickle=True)
    with pytest.raises(DataError):
        Predictions.load(tmp_path / "p.npz")


def test_taking_rows_takes_all_of_them():
    part = some().take(np.array([2, 0]))
    assert part.ids.tolist() == ["日本", "a"]
    assert part.targets.tolist() == [1, 0]
    assert part.groups.tolist() == [1, 0]
