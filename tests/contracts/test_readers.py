"""Every reader in READERS, through the same suite: stable ids, honest fingerprints, errors that name the source."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from PIL import Image
from tests.data.sounds import tone, wav

from headstart.base.errors import DataError
from headstart.data.open import open_dataset
from headstart.data.readers import READERS

N = 6
LABELS = ["cat", "dog"] * (N // 2)


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _files(root: Path, first: int = 0) -> list[Path]:
    paths = [root / LABELS[i] / f"{i}.png" for i in range(N)]
    for i, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(first if i == 0 else i))
    return paths


def _folder(root: Path, first: int = 0) -> tuple[Any, dict]:
    _files(root, first)
    return root, {}


def _table(root: Path, first: int = 0) -> tuple[Any, dict]:
    rows = [f"{p.relative_to(root).as_posix()},{label}" for p, label in zip(_files(root, first), LABELS, strict=True)]
    (root / "data.csv").write_text("\n".join(["path,label", *rows]))
    return root / "data.csv", {}


def _frame(root: Path, first: int = 0) -> tuple[Any, dict]:
    return pandas.DataFrame({"path": [str(p) for p in _files(root, first)], "label": LABELS}), {}


def _arrays(root: Path, first: int = 0) -> tuple[Any, dict]:
    return _files(root, first), {"y": LABELS}


def sentence(seed: int) -> str:
    return f"sentence number {seed}, in words"


def _text_folder(root: Path, first: int = 0) -> tuple[Any, dict]:
    for i, label in enumerate(LABELS):
        (root / label).mkdir(exist_ok=True)
        (root / label / f"{i}.txt").write_text(sentence(first if i == 0 else i))
    return root, {}


def _text_lines(root: Path, first: int = 0) -> tuple[Any, dict]:
    (root / "lines.txt").write_text("".join(f"{sentence(first if i == 0 else i)}\n" for i in range(N)))
    return root / "lines.txt", {"y": LABELS}


def _audio_folder(root: Path, first: int = 0) -> tuple[Any, dict]:
    for i, label in enumerate(LABELS):
        (root / label).mkdir(exist_ok=True)
        (root / label / f"{i}.wav").write_bytes(wav(tone(300 + 50 * (first if i == 0 else i))))
    return root, {}


def numbers(seed: int) -> list[float]:
    return [float(seed), seed / 2]


def _array_file(root: Path, first: int = 0) -> tuple[Any, dict]:
    rows = np.array([numbers(first if i == 0 else i) for i in range(N)])
    np.savez(root / "rows.npz", X=rows, y=np.array(LABELS), ids=np.array([f"line {i + 1}" for i in range(N)]))
    return root / "rows.npz", {}


MAKERS: dict[str, Callable[..., tuple[Any, dict]]] = {
    "image folder": _folder,
    "table": _table,
    "frame": _frame,
    "list or array": _arrays,
    "array file": _array_file,
    "folder of sounds": _audio_folder,
    "folder of texts": _text_folder,
    "file of texts": _text_lines,
}
of_pictures = pytest.mark.parametrize(
    "reader",
    [r for r in READERS if r.name not in ("array file", "folder of sounds", "folder of texts", "file of texts")],
    ids=lambda r: r.name,
)
rows = pytest.mark.parametrize("reader", READERS, ids=lambda r: r.name)


def test_every_reader_has_its_row() -> None:
    assert {r.name for r in READERS} == set(MAKERS)


@rows
def test_it_recognises_its_own_source_and_no_other_reader_comes_first(reader: Any, tmp_path: Path) -> None:
    source, _ = MAKERS[reader.name](tmp_path)
    assert next(r for r in READERS if r.recognises(source)) is reader
    assert not reader.recognises(12)
    assert not reader.recognises(None)


@rows
def test_reading_twice_gives_the_same(reader: Any, tmp_path: Path) -> None:
    source, options = MAKERS[reader.name](tmp_path)
    first, again = (open_dataset(source, **options) for _ in range(2))
    assert list(first.ids) == list(again.ids)
    assert len(set(first.ids)) == len(first) == N
    assert first.fingerprint == again.fingerprint
    assert first.target_kind == "single-label"
    assert sorted(first.targets) == sorted(LABELS)
    assert first.target_reason


@rows
def test_each_id_keeps_its_target_and_its_example(reader: Any, tmp_path: Path) -> None:
    source, options = MAKERS[reader.name](tmp_path)
    dataset = open_dataset(source, **options)
    for sample in dataset:
        number = int(Path(sample.id).stem.removeprefix("line ")) - sample.id.startswith("line ")
        assert sample.target == LABELS[number]
        if dataset.modality == "vector":
            assert list(sample.value.cells.values()) == numbers(number)
        elif dataset.modality == "audio":
            assert np.allclose(sample.value.samples, tone(300 + 50 * number), atol=1e-4)
        elif dataset.modality == "text":
            assert sample.value == sentence(number)
        else:
            assert np.array_equal(sample.value, Image.open(io.BytesIO(picture(number))))


@rows
def test_the_fingerprint_changes_with_content_and_with_targets(reader: Any, tmp_path: Path) -> None:
    source, options = MAKERS[reader.name](tmp_path)
    before = open_dataset(source, **options)
    print_before = before.fingerprint
    source, options = MAKERS[reader.name](tmp_path, 99)
    assert open_dataset(source, **options).fingerprint != print_before
    assert before.take(range(N - 1)).fingerprint != before.fingerprint


@rows
def test_take_keeps_rows_together(reader: Any, tmp_path: Path) -> None:
    source, options = MAKERS[reader.name](tmp_path)
    dataset = open_dataset(source, **options)
    part = dataset.take([4, 1])
    assert list(part.ids) == [dataset.ids[4], dataset.ids[1]]
    assert part.targets == [dataset.targets[4], dataset.targets[1]]


@of_pictures
def test_a_broken_file_is_named_when_it_is_decoded(reader: Any, tmp_path: Path) -> None:
    source, options = MAKERS[reader.name](tmp_path)
    (tmp_path / LABELS[0] / "0.png").write_bytes(b"<html>")
    dataset = open_dataset(source, **options)
    row = next(i for i, name in enumerate(dataset.ids) if name.endswith("0.png"))
    with pytest.raises(DataError, match=r"IM26 .*0\.png: is an HTML page"):
        dataset[row]
