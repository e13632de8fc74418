"""What the audit finds in planted data (B1, B9; rows 37 to 44 of RELIABILITY 5)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from making import encoded, put, scene
from PIL import Image, ImageOps

from headstart.base.config import from_dict, to_dict
from headstart.base.errors import DataError
from headstart.data.audit import audit
from headstart.data.dataset import Dataset
from headstart.data.open import open_dataset
from headstart.data.shortcuts import left_out_accuracy
from headstart.data.split import group_rows
from headstart.data.survey import Survey
from headstart.records.audit import Audit, Finding

Look = Callable[[Dataset], Survey]


def of_code(found: Audit, code: str) -> list[Finding]:
    return [f for f in found.findings if f.code == code]


def audited(source: object, look: Look, **options: object) -> Audit:
    dataset = open_dataset(source, **options)
    return audit(dataset, look(dataset))


def test_clean_data_has_nothing_to_say(photos: Path, look: Look) -> None:
    found = audited(photos, look)
    assert found.findings == ()
    assert found.clusters == ()
    assert found.counts == {"cat": 6, "dog": 6}
    assert found.sizes == ((120, 90, 12),)
    assert found.modes == {"RGB": 12}
    assert (found.rows, found.usable, found.target) == (12, 12, "single-label")
    assert "2 class folders" in found.target_reason
    assert from_dict(Audit, to_dict(found)) == found


# ----------------------------------------------------------------------------------------------------------------- B1


def breakages(data: bytes) -> list[bytes]:
    """Twenty ways in which a file goes bad."""
    png = encoded(scene(77), "PNG")
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 4
    return [
        *(
            b"",
            b"\0" * 900,
            data[:100],
            data[: len(data) // 2],
            data[: len(data) // 2] + b"\xff\xd9",
            data[: len(data) - 40],
        ),
        *(
            bytes(flipped),
            png[: len(png) // 2],
            png[:-12],
            b"<html>404</html>",
            b"not found",
            b"%PDF-1.5",
            b"%!PS-Adobe",
        ),
        *(b"<svg></svg>", b"GIF89a", b"RIFF\x10\0\0\0WEBPVP8 ", b"II*\0\xff\xff\xff\xff", b"BM" + b"\0" * 60),
        *(encoded(Image.new("RGB", (3, 3)), "PNG"), encoded(Image.new("RGB", (900, 12)), "PNG")),
    ]


def test_every_bad_file_is_named_and_no_good_one(tmp_path: Path, look: Look) -> None:
    bad, good = set(), set()
    for i in range(60):
        good.add(put(tmp_path / "ab"[i % 2] / f"good{i}.jpg", encoded(scene(i))).relative_to(tmp_path).as_posix())
    clean = audited(tmp_path, look)
    for i, data in enumerate(breakages(encoded(scene(500)))):
        bad.add(put(tmp_path / "ab"[i % 2] / f"bad{i}.jpg", data).relative_to(tmp_path).as_posix())
    found = audited(tmp_path, look)
    assert len(bad) == 20
    assert {q.id for q in found.quarantined} == bad
    assert all(q.code.startswith("IM") and len(q.reason) > 10 for q in found.quarantined)
    assert found.counts == clean.counts
    (finding,) = of_code(found, "DA26")
    assert finding.severity == "stop"
    assert "20 of 80 files cannot be used (25.0%" in finding.text
    assert found.findings[0] is finding


def test_a_few_bad_files_do_not_stop(tmp_path: Path, look: Look) -> None:
    for i in range(40):
        put(tmp_path / "ab"[i % 2] / f"{i}.jpg", encoded(scene(i)))
    put(tmp_path / "a" / "bad.jpg", b"")
    (finding,) = of_code(audited(tmp_path, look), "DA26")
    assert finding.severity == "note"
    assert finding.ids == ("a/bad.jpg",)


# -------------------------------------------------------------------------------------------------------- duplicates


def test_copies_become_clusters_and_conflicts(tmp_path: Path, look: Look) -> None:
    for i in range(10):
        put(tmp_path / "ab"[i % 2] / f"{i}.jpg", encoded(scene(i)))
    put(tmp_path / "a" / "again.jpg", encoded(scene(0)))  # same class, same bytes
    put(tmp_path / "b" / "other.jpg", encoded(scene(2)))  # other class, same bytes
    put(tmp_path / "b" / "small.png", encoded(scene(3).resize((60, 45)), "PNG"))  # same class, looks the same
    put(tmp_path / "a" / "turned.jpg", encoded(ImageOps.mirror(scene(5)), quality=80))  # other class, looks the same
    found = audited(tmp_path, look)
    assert {(c.ids, c.kind) for c in found.clusters} == {
        (("a/0.jpg", "a/again.jpg"), "exact"),
        (("a/2.jpg", "b/other.jpg"), "exact"),
        (("b/3.jpg", "b/small.png"), "near"),
        (("a/turned.jpg", "b/5.jpg"), "near"),
    }
    assert {c.ids for c in found.conflicts} == {("a/2.jpg", "b/other.jpg"), ("a/turned.jpg", "b/5.jpg")}
    exact, near = of_code(found, "DA44")
    assert exact.text.startswith("2 images carry two labels (first: a/2.jpg is 'a', b/other.jpg is 'b')")
    assert near.text.startswith("2 images look the same but carry different labels")
    dataset = open_dataset(tmp_path)
    groups = group_rows(dataset, np.arange(len(dataset)), found.clusters, by=None)
    assert len(np.unique(groups)) == len(dataset) - 4


def test_features_give_clusters_their_similarity(photos: Path, look: Look) -> None:
    put(photos / "cat" / "z.jpg", (photos / "cat" / "01.jpg").read_bytes())
    dataset = open_dataset(photos)
    survey = look(dataset)
    X = np.random.default_rng(0).normal(size=(13, 8))
    X[6] = X[0] * 3
    (cluster,) = audit(dataset, survey, features=X).clusters
    assert cluster.similarity == 1.0
    with pytest.raises(DataError, match="12 rows of features for 13"):
        audit(dataset, survey, features=X[:12])


@pytest.mark.parametrize(
    ("copy", "code", "severity"),
    [
        (lambda data: data, "DA42", "stop"),
        (lambda data: encoded(scene(0), quality=50), "DA43", "warning"),
    ],
)
def test_leaks_across_the_users_own_split_are_found(tmp_path: Path, look: Look, copy, code: str, severity: str) -> None:
    for i in range(12):
        side = "train" if i < 8 else "test"
        put(tmp_path / side / "ab"[i % 2] / f"{i}.jpg", encoded(scene(i)))
    put(tmp_path / "test" / "a" / "leak.jpg", copy(encoded(scene(0))))
    put(tmp_path / "train" / "a" / "inside.jpg", encoded(scene(2)))  # a copy on one side is no leak
    found = audited(tmp_path, look)
    (leak,) = found.leaks
    assert (leak.first, leak.second, leak.sides) == ("train/a/0.jpg", "test/a/leak.jpg", ("train", "test"))
    (finding,) = of_code(found, code)
    assert finding.severity == severity
    assert finding.ids == ("test/a/leak.jpg",)
    assert "Scores would be too good" in finding.text


def test_a_placeholder_used_many_times_and_plain_images_are_low_information(tmp_path: Path, look: Look) -> None:
    for i in range(10):
        put(tmp_path / "ab"[i % 2] / f"{i}.jpg", encoded(scene(i)))
        put(tmp_path / "ab"[i % 2] / f"same{i}.jpg", encoded(scene(99)))
    put(tmp_path / "a" / "black.png", encoded(Image.new("RGB", (50, 50)), "PNG"))
    texts = [f.text for f in of_code(audited(tmp_path, look), "DA37")]
    assert any(t.startswith("low information 1: ") and "a/black.png" in t for t in texts)
    assert any(t.startswith("duplicates 10: one and the same picture") for t in texts)


# ------------------------------------------------------------------------------------------------------------ classes


def test_tiny_and_unequal_classes_are_named(tmp_path: Path, look: Look) -> None:
    for i in range(30):
        put(tmp_path / "many" / f"{i}.jpg", encoded(scene(i)))
    put(tmp_path / "owl" / "1.jpg", encoded(scene(100)))
    for i in range(3):
        put(tmp_path / "few" / f"{i}.jpg", encoded(scene(200 + i)))
    put(tmp_path / "gone" / "1.jpg", b"")
    found = audited(tmp_path, look)
    single, few = of_code(found, "DA40")
    assert single.text.startswith("class 'owl' has 1 image; it cannot be in both train and test.")
    assert "'few' (3)" in few.text
    assert "'many' has 30 images and 'owl' 1" in of_code(found, "DA48")[0].text
    assert "no usable image is left of: gone" in of_code(found, "DA39")[0].text


# ---------------------------------------------------------------------------------------------------------- shortcuts


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("the colour mode", lambda p: encoded(p.convert("L"), quality=90)),
        ("the file format", lambda p: encoded(p, "PNG")),
        ("the image size", lambda p: encoded(p.resize((128, 96)))),
        ("the aspect ratio", lambda p: encoded(p.resize((90, 120)))),
    ],
)
def test_a_property_of_the_file_that_tells_the_class_is_named(tmp_path: Path, look: Look, what: str, change) -> None:
    for i in range(24):
        picture = scene(i)
        put(tmp_path / ("normal" if i % 2 else "tumour") / f"{i}.jpg", change(picture) if i % 2 else encoded(picture))
    found = of_code(audited(tmp_path, look), "DA38")
    assert any(
        f.text.startswith(f"{what} alone tells the class of 100% of the images (guessing: 50%): all 'normal'")
        for f in found
    )
    assert all(f.severity == "warning" for f in found)


def test_sizes_that_vary_freely_give_nothing_away(tmp_path: Path, look: Look) -> None:
    rng = np.random.default_rng(0)
    for i in range(30):
        put(
            tmp_path / "ab"[i % 2] / f"{i}.jpg",
            encoded(scene(i, (int(rng.integers(60, 200)), int(rng.integers(60, 200))))),
        )
    assert of_code(audited(tmp_path, look), "DA38") == []


def test_left_out_accuracy_has_its_closed_forms() -> None:
    y = np.repeat([0, 1], 10)
    assert left_out_accuracy(y, y) == 1
    assert left_out_accuracy(np.arange(20), y) == 0  # values that occur once tell nothing
    assert left_out_accuracy(np.zeros(20, int), y) == 0  # ties
    assert left_out_accuracy(np.zeros(20, int), np.repeat([0, 1], [15, 5])) == 0.75


@pytest.mark.parametrize(("related", "words"), [(True, "probably one thing seen twice"), (False, "are no more alike")])
def test_names_that_occur_under_several_classes_are_compared(
    tmp_path: Path, look: Look, related: bool, words: str
) -> None:
    for i in range(16):
        base = scene(i)
        put(tmp_path / "before" / f"part{i}.jpg", encoded(base))
        after = base.rotate(4) if related else scene(300 + i)
        put(tmp_path / "after" / f"part{i}.jpg", encoded(after))
    (finding,) = of_code(audited(tmp_path, look), "DA43")
    assert "16 file names" in finding.text
    assert words in finding.text
    assert ("--group-by" in finding.text) == related


def test_numbered_series_and_group_columns_are_suggested(tmp_path: Path, look: Look) -> None:
    lines = ["path,label,patient_id"]
    for i in range(24):
        put(tmp_path / f"p{i // 4:03d}_{i % 4}.jpg", encoded(scene(i)))
        lines.append(f"p{i // 4:03d}_{i % 4}.jpg,{'ab'[i % 2]},{i // 4}")
    put(tmp_path / "d.csv", "\n".join(lines).encode())
    column, series = of_code(audited(tmp_path / "d.csv", look), "DA43")
    assert "--group-by patient_id" in column.text
    assert "6 numbered series (such as p000, p001 and 4 more)" in series.text
    pattern = series.text.split("'")[1]
    dataset = open_dataset(tmp_path / "d.csv")
    assert len(np.unique(group_rows(dataset, np.arange(24), [], by=pattern))) == 6


def test_plainly_numbered_files_are_no_series(photos: Path, look: Look) -> None:
    for i in range(20):
        put(photos / "cat" / f"cat_{i:04d}.jpg", encoded(scene(50 + i)))
    assert of_code(audited(photos, look), "DA43") == []


# -------------------------------------------------------------------------------------------------------------- others


def test_notes_of_pictures_and_reader_are_counted_and_passed_on(tmp_path: Path, look: Look) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(6):
        put(tmp_path / "data" / "ab"[i % 2] / f"{i}.jpg", encoded(scene(i), exif=exif if i < 2 else Image.Exif()))
    put(tmp_path / "data" / "a" / ".DS_Store", b"")
    (tmp_path / "data" / "a" / "out.jpg").symlink_to(put(tmp_path / "x.jpg", encoded(scene(9))))
    found = audited(tmp_path / "data", look)
    assert found.notes == {"rotated by EXIF": 2}
    assert found.skipped == {"hidden or system file": 1, "link outside the data folder": 1}
    assert of_code(found, "DA46")[0].text.startswith("1 links lead outside")


def test_other_kinds_of_targets_are_audited_too(tmp_path: Path, look: Look) -> None:
    paths = [put(tmp_path / f"{i}.jpg", encoded(scene(i))) for i in range(6)]
    labels = audited(paths, look, y=["a|b", "a", "b", "c", "a", "a|c"])
    assert labels.counts == {"a": 4, "b": 2, "c": 2}
    numbers = audited(paths, look, y=[float(i) / 3 for i in range(6)], task="regression")
    assert numbers.counts == {}
    assert numbers.target == "regression"
    unlabelled = audited(paths, look)
    assert (unlabelled.counts, unlabelled.target, unlabelled.conflicts) == ({}, "", ())


def test_all_problems_of_one_data_set_are_told_together(tmp_path: Path, look: Look) -> None:
    for i in range(20):
        put(tmp_path / ("train" if i < 12 else "test") / "ab"[i % 2] / f"{i}.jpg", encoded(scene(i)))
    for i in range(4):
        put(tmp_path / "train" / "a" / f"bad{i}.jpg", b"")
    put(tmp_path / "test" / "b" / "leak.jpg", encoded(scene(0)))
    found = audited(tmp_path, look)
    assert {f.code for f in found.findings} >= {"DA26", "DA42", "DA44", "DA37"}
    severities = [f.severity for f in found.findings]
    assert severities == sorted(severities, key=["stop", "warning", "note"].index)
