"""Folders of images: layouts, junk, links (RELIABILITY B5, B12; rows 39, 41, 46, 47, 49)."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from making import encoded, put, scene

from headstart.base.errors import DataError
from headstart.data.open import open_dataset

JPEG = encoded(scene(0, (20, 20)))


def grow(root: Path, *names: str) -> Path:
    for name in names:
        put(root / name, JPEG)
    return root


# ------------------------------------------------------------------------------------------------------------ layouts


def test_class_folders_are_classes_in_code_point_order(tmp_path: Path) -> None:
    grow(tmp_path, "no/1.jpg", "NA/1.jpg", "007/1.jpg", "é/1.jpg", "Zebra/1.jpg", "apple/1.jpg")
    dataset = open_dataset(tmp_path)
    assert list(dataset.classes) == ["007", "NA", "Zebra", "apple", "no", "é"]
    assert list(dataset.ids) == [f"{c}/1.jpg" for c in dataset.classes]
    assert dataset.targets == list(dataset.classes)
    assert dataset.target_kind == "single-label"
    assert dataset.splits == ()


def test_files_may_lie_deeper_inside_a_class(tmp_path: Path) -> None:
    dataset = open_dataset(grow(tmp_path, "cat/2019/a.jpg", "cat/2020/x/b.jpg", "dog/c.jpg"))
    assert dataset.ids == ["cat/2019/a.jpg", "cat/2020/x/b.jpg", "dog/c.jpg"]
    assert dataset.targets == ["cat", "cat", "dog"]


@pytest.mark.parametrize("word", ["val", "valid", "validation", "dev", "Validation"])
def test_split_folders_lie_above_the_classes(tmp_path: Path, word: str) -> None:
    grow(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg", f"{word}/cat/3.jpg", "test/dog/4.jpg")
    dataset = open_dataset(tmp_path)
    sides = dict(zip(dataset.ids, dataset.splits, strict=True))
    assert sides["train/cat/1.jpg"] == "train"
    assert sides[f"{word}/cat/3.jpg"] == "validation"
    assert sides["test/dog/4.jpg"] == "test"
    assert set(dataset.targets) == set(dataset.classes) == {"cat", "dog"}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    dataset = open_dataset(grow(tmp_path, "car/1.jpg", "train/2.jpg", "plane/3.jpg"))
    assert dataset.targets == ["car", "plane", "train"]
    assert dataset.splits == ()


def test_folders_beside_train_and_test_are_named(tmp_path: Path) -> None:
    dataset = open_dataset(grow(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/a/2.jpg", "extra/3.jpg", "4.jpg"))
    assert len(dataset) == 3
    assert dataset.skipped["image outside the split folders"] == 2
    assert any("in 'extra', beside" in n for n in dataset.notes)


def test_images_without_folders_have_no_targets(tmp_path: Path) -> None:
    dataset = open_dataset(grow(tmp_path, "b.jpg", "a.jpg"))
    assert dataset.ids == ["a.jpg", "b.jpg"]
    assert dataset.targets is None
    assert open_dataset(tmp_path, y=["x", "y"]).targets == ["x", "y"]


def test_images_outside_the_class_folders_are_counted(tmp_path: Path) -> None:
    dataset = open_dataset(grow(tmp_path, "cat/a.jpg", "dog/b.jpg", "loose.jpg"))
    assert dataset.ids == ["cat/a.jpg", "dog/b.jpg"]
    assert dataset.skipped == {"image outside the class folders": 1}


def test_one_folder_around_everything_is_looked_through(tmp_path: Path) -> None:
    dataset = open_dataset(grow(tmp_path, "photos/cat/a.jpg", "photos/dog/b.jpg"))
    assert dataset.targets == ["cat", "dog"]
    assert "photos" in dataset.notes[0]


# --------------------------------------------------------------------------------------------------------------- junk


def test_junk_is_skipped_by_name_and_other_kinds_by_extension(tmp_path: Path) -> None:
    grow(
        tmp_path,
        *("cat/a.jpg", "dog/b.jpg", "cat/.DS_Store", "cat/Thumbs.db", "cat/._a.jpg", ".git/x.jpg"),
        *("__MACOSX/cat/a.jpg", "cat/.ipynb_checkpoints/a.jpg", "cat/notes.txt", "cat/a.XML", "labels.csv"),
    )
    dataset = open_dataset(tmp_path)
    assert dataset.ids == ["cat/a.jpg", "dog/b.jpg"]
    assert dataset.skipped == {"hidden or system file": 6, "not an image": 3}


def test_unknown_and_missing_extensions_are_left_to_the_decoder(tmp_path: Path) -> None:
    assert len(open_dataset(grow(tmp_path, "cat/a", "cat/b.foo", "dog/c.heic"))) == 3


def test_all_empty_class_folders_are_named_at_once(tmp_path: Path) -> None:
    grow(tmp_path, "cat/a.jpg", "dog/b.jpg", "labels/a.txt")
    (tmp_path / "owl").mkdir()
    with pytest.raises(DataError, match="DA39") as caught:
        open_dataset(tmp_path)
    assert "class 'owl' has 0 images" in str(caught.value)
    assert "class 'labels' has 0 images (1 files of other kinds)" in str(caught.value)
    assert list(open_dataset(tmp_path, allow_empty=True).classes) == ["cat", "dog", "labels", "owl"]


def test_a_class_that_is_tested_but_not_learnt_is_refused(tmp_path: Path) -> None:
    grow(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "val/cat/1.jpg", "val/owl/1.jpg", "test/dogs/1.jpg")
    with pytest.raises(DataError, match="DA41") as caught:
        open_dataset(tmp_path)
    assert "'owl' is in validation but not in train" in str(caught.value)
    assert "'dogs' is in test but not in train (Did you mean 'dog'?)" in str(caught.value)


def test_class_names_that_look_alike_are_pointed_out(tmp_path: Path) -> None:
    grow(tmp_path, "caf\u00e9/1.jpg", "cafe\u0301/1.jpg", "Dog/1.jpg", "dog/1.jpg")
    notes = open_dataset(tmp_path).notes
    assert [n[:4] for n in notes] == ["DA47", "DA47"]
    assert any("caf\\xe9" in n and "cafe\\u0301" in n for n in notes)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep such names")
def test_file_names_that_are_not_utf8_work(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    for name in (b"cat", b"d\xe9g"):
        os.makedirs(folder + b"/" + name)
        with open(folder + b"/" + name + b"/p\xff\n\x1b[2J.jpg", "wb") as file:
            file.write(JPEG)
    dataset = open_dataset(tmp_path)
    assert dataset.targets == ["cat", "d\udce9g"]
    assert [s.value.size for s in dataset] == [(20, 20), (20, 20)]
    assert len(dataset.fingerprint) == 32


# ---------------------------------------------------------------------------------------------------------- B5: links


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    root = grow(tmp_path / "data", "cat/a.jpg", "dog/b.jpg")
    outside = grow(tmp_path / "outside", "secret.jpg", "more/deep.jpg")
    (root / "cat/link.jpg").symlink_to(outside / "secret.jpg")
    (root / "cat/folder").symlink_to(outside / "more")
    (root / "cat/gone.jpg").symlink_to(outside / "gone.jpg")
    (root / "cat/loop").symlink_to(root)
    (root / "cat/up").symlink_to("..")
    (root / "cat/self").symlink_to("self")
    (root / "dog/same.jpg").symlink_to("b.jpg")
    (root / "bird").symlink_to(root / "cat")
    (root / "etc").symlink_to("/etc")
    os.mkfifo(root / "dog/pipe.jpg")
    return root


def test_links_outside_are_skipped_and_counted_and_loops_end(linked: Path) -> None:
    dataset = open_dataset(linked)
    assert dataset.ids == ["cat/a.jpg", "dog/b.jpg", "dog/same.jpg"]
    assert dataset.skipped == {
        "link outside the data folder": 3,
        "link to a folder that is read anyway": 3,
        "link to nothing": 2,
        "not a regular file": 1,
    }
    assert any(n.startswith("DA46 3 links lead outside") for n in dataset.notes)


def test_links_outside_are_followed_when_allowed_and_each_folder_once(linked: Path) -> None:
    (linked / "etc").unlink()
    dataset = open_dataset(linked, allow_outside=True)
    assert dataset.ids == ["cat/a.jpg", "cat/folder/deep.jpg", "cat/link.jpg", "dog/b.jpg", "dog/same.jpg"]


def test_nothing_outside_the_folder_is_opened(linked: Path, opened: list[str]) -> None:
    for sample in open_dataset(linked):
        assert sample.value.size == (20, 20)
    ours = os.path.realpath(linked.parent)
    touched = [os.path.realpath(p) for p in opened if os.path.realpath(p).startswith(ours) or p.startswith("/etc")]
    assert touched
    assert all(p.startswith(os.path.realpath(linked)) for p in touched)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    grow(tmp_path, "cat/a.jpg", "dog/b.jpg", "cat/closed/c.jpg")
    (tmp_path / "cat/closed").chmod(0)
    try:
        assert any("DA49 folder 'cat/closed'" in n for n in open_dataset(tmp_path).notes)
    finally:
        (tmp_path / "cat/closed").chmod(0o700)


# --------------------------------------------------------------------------------------------------------- B12: order


def test_creation_order_does_not_matter(tmp_path: Path) -> None:
    names = [f"{c}/{i}.jpg" for c in ("b", "a", "Ä", "z") for i in (10, 9, 1)]
    seen = set()
    for attempt in range(5):
        shuffled = names[:]
        random.Random(attempt).shuffle(shuffled)
        dataset = open_dataset(grow(tmp_path / str(attempt), *shuffled))
        seen.add((tuple(dataset.ids), tuple(dataset.targets), tuple(dataset.classes)))
    assert len(seen) == 1
    assert list(seen.pop()[0]) == sorted(names)


def test_of_two_links_to_one_folder_the_same_is_followed_on_every_disk(tmp_path: Path) -> None:
    outside = grow(tmp_path / "outside", "1.jpg")
    seen = set()
    for attempt in range(4):
        root = grow(tmp_path / str(attempt), "a/0.jpg", "b/0.jpg")
        names = ["l3", "l1", "l2", "l0"]
        random.Random(attempt).shuffle(names)
        for name in names:
            (root / "a" / name).symlink_to(outside)
        seen.add(tuple(open_dataset(root, allow_outside=True).ids))
    assert seen == {("a/0.jpg", "a/l0/1.jpg", "b/0.jpg")}


def test_locale_does_not_matter(tmp_path: Path) -> None:
    grow(tmp_path, "a/1.jpg", "B/1.jpg", "ä/1.jpg", "z/1.jpg", "I/1.jpg", "ı/1.jpg")
    code = (
        "import locale, sys; locale.setlocale(locale.LC_ALL, '')\n"
        "from headstart.data.open import open_dataset\n"
        "print(ascii(list(open_dataset(sys.argv[1]).ids)))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-X", "utf8", "-c", code, str(tmp_path)],
            env={**os.environ, "LC_ALL": name, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name, seed in (("C", "0"), ("C.UTF-8", "1"))
    }
    assert len(answers) == 1


def test_the_fingerprint_notices_a_change(photos: Path) -> None:
    before = open_dataset(photos).fingerprint
    assert open_dataset(photos).fingerprint == before
    put(photos / "cat/01.jpg", encoded(scene(99)))
    assert open_dataset(photos).fingerprint != before


def test_reading_changes_nothing(photos: Path) -> None:
    def state() -> dict:
        return {p: (p.stat().st_mtime_ns, p.stat().st_mode, p.is_file() and p.read_bytes()) for p in photos.rglob("*")}

    before = state()
    photos.chmod(0o555)
    for folder in ("cat", "dog"):
        (photos / folder).chmod(0o555)
    try:
        locked = state()
        for sample in open_dataset(photos):
            assert sample.value.mode == "RGB"
        assert state() == locked
    finally:
        for folder in (photos, photos / "cat", photos / "dog"):
            folder.chmod(0o755)
    assert state().keys() == before.keys()
