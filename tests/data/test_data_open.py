"""What open_dataset says when there is nothing to open."""

from __future__ import annotations

from pathlib import Path

import pytest
from making import encoded, put, scene

from headstart.base.errors import DataError
from headstart.data.open import open_dataset


def problem(source: object, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        open_dataset(source, **options)
    return str(caught.value)


def test_a_missing_folder_is_named_with_its_sibling(tmp_path: Path) -> None:
    (tmp_path / "flowers").mkdir()
    said = problem(tmp_path / "flower")
    assert said.startswith(f"DA30 no such file or folder: {tmp_path}/flower. Did you mean 'flowers'?")
    assert "does not exist either" in problem(tmp_path / "no" / "such")


def test_empty_folders_say_what_they_hold(tmp_path: Path) -> None:
    assert "DA32" in problem(tmp_path)
    assert "(no files)" in problem(tmp_path)
    put(tmp_path / "a.md", b"")
    put(tmp_path / "b" / ".DS_Store", b"")
    assert "nothing but: 1 × hidden or system file, 1 × not an image" in problem(tmp_path)


@pytest.mark.parametrize("source", [12, None, object(), {"a": 1}])
def test_something_that_is_no_source_is_named_by_type(source: object) -> None:
    assert problem(source).startswith(f"DA31 a {type(source).__name__} is nothing headstart can read")


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    assert "DA31" in problem(put(tmp_path / "model.pt", b"PK"))
    assert "DA31" in problem(put(tmp_path / "a.jpg", encoded(scene(1))))
    assert "DA34" in problem(b"bytes")
    assert "DA30" in problem("")
    assert "nothing is fetched" in problem("https://example.org/photos")


def test_column_names_for_a_folder_are_a_mistake(photos: Path) -> None:
    assert "TB63 --target names a column, but the source was read as: image folder" in problem(photos, target="label")


def test_targets_given_apart_must_fit(photos: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    put(flat / "a.jpg", encoded(scene(1)))
    assert "1 examples but 2 targets" in problem(flat, y=["a", "b"])
    assert open_dataset(flat, y=["a"]).targets == ["a"]


def test_names_in_messages_are_escaped(tmp_path: Path) -> None:
    assert "\\x1b" in problem(tmp_path / "a\x1b[31m")
    assert "\x1b" not in problem(tmp_path / "a\x1b[31m")


def test_a_dataset_passes_through(photos: Path) -> None:
    dataset = open_dataset(photos)
    assert open_dataset(dataset) is dataset
    assert open_dataset(str(photos)).fingerprint == dataset.fingerprint
