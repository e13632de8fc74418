"""Word vectors from every format give the same network; texts become their weighted means."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch

from headstart.backbones.catalogue import catalogue
from headstart.backbones.sources.words import A, read_vectors
from headstart.base.errors import DataError, NotInCatalogue, Refused
from headstart.features.feeds import feed_for
from headstart.inputs.prepared import stacked
from headstart.testing.sources import check_backbone, check_classifier, check_random_copy

WORDS = ["the", "a", "good", "bad", "day", ","]
VECTORS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def as_text(header: bool) -> bytes:
    lines = [f"{len(WORDS)} 4"] if header else []
    lines += [" ".join([word, *(repr(float(v)) for v in row)]) for word, row in zip(WORDS, VECTORS, strict=True)]
    return ("\n".join(lines) + "\n").encode()


def as_binary() -> bytes:
    rows = [w.encode() + b" " + struct.pack("<4f", *row) + b"\n" for w, row in zip(WORDS, VECTORS, strict=True)]
    return b"6 4\n" + b"".join(rows)


FILES = {"glove.txt": as_text(False), "w2v.txt": as_text(True), "fast.vec": as_text(True), "w2v.bin": as_binary()}


@pytest.fixture(params=FILES)
def path(request, tmp_path):
    (tmp_path / request.param).write_bytes(FILES[request.param])
    return tmp_path / request.param


def features(backbone, *texts):
    prepared = feed_for(backbone).prepare(list(texts))
    with torch.inference_mode():
        return backbone.from_batch()(torch.from_numpy(stacked([p.array for p in prepared]))).numpy()


def test_every_format_gives_the_same_words_and_vectors(path):
    found = read_vectors(path)
    assert found.words == WORDS
    np.testing.assert_allclose(found.vectors, VECTORS, rtol=1e-6)


def test_a_text_is_the_mean_of_its_known_words(path):
    backbone = catalogue.load(f"vectors/{path}")
    got = features(backbone, "A good day!", "never heard", "day")
    np.testing.assert_allclose(got[0], VECTORS[[1, 2, 4]].mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(got[1], 0)
    np.testing.assert_allclose(got[2], VECTORS[4], atol=1e-6)


def test_sif_weighs_words_by_their_rank(tmp_path):
    (tmp_path / "g.txt").write_bytes(FILES["glove.txt"])
    backbone = catalogue.load(f"vectors/{tmp_path / 'g.txt'}+sif")
    share = 1 / np.arange(1, 7) / (1 / np.arange(1, 7)).sum()
    weights = (A / (A + share))[[1, 2, 4], None]
    expected = (VECTORS[[1, 2, 4]] * weights).sum(axis=0) / weights.sum()
    np.testing.assert_allclose(features(backbone, "a good day")[0], expected, atol=1e-6)


def test_it_keeps_the_contract_of_backbones(path):
    backbone = catalogue.load(f"vectors/{path}")
    check_backbone(backbone)
    check_random_copy(backbone)
    check_classifier(backbone)


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("g.txt", b"the 0.1 0.2\nof 0.3\n", "line 2: not a word and 2 numbers"),
        ("g.txt", b"the 0.1 x\n", "line 1: not a word and 2 numbers"),
        ("g.txt", b"the 0.1 nan\n", "NaN"),
        ("g.bin", b"2 3\nthe " + struct.pack("<3f", 1, 2, 3), "ends early: 1 of 2"),
        ("g.bin", b"hello", "not in Word2Vec's binary format"),
        ("g.bin", b"2 900000\n", "from 1 to 4,096"),
        ("g.txt", b"", "no word vectors"),
    ],
)
def test_what_is_no_table_of_word_vectors_is_named(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises((DataError, Refused), match=said):
        read_vectors(tmp_path / name)


def test_a_file_that_is_not_there_is_said():
    with pytest.raises(NotInCatalogue, match="there is no file nowhere"):
        catalogue.load("vectors/nowhere.txt")


def test_a_model_on_word_vectors_is_saved_and_opened(path, tmp_path, monkeypatch):
    """Also by the lines of its README, which need no headstart."""
    import headstart as hs
    from headstart.workflow.config import DataConfig

    texts = [f"{a} {b} day {i}" for i in range(20) for a, b in (("a", "good"), ("the", "bad"))]
    config = hs.FitConfig(data=DataConfig(text=""), backbone=f"vectors/{path}", random_baseline="off")
    hs.fit(texts, ["good", "bad"] * 20, out=tmp_path / "run", config=config, cache=tmp_path / "cache")
    ours = hs.load(tmp_path / "run", precision="float32")("Your text. a good day")
    readme = (tmp_path / "run" / "model" / "README.md").read_text()
    lines = readme.split("```python")[1].split("```")[0].replace("Your text.", "Your text. a good day")
    told = []
    monkeypatch.chdir(tmp_path / "run" / "model")
    exec(compile(lines, "README.md", "exec"), {"print": told.append})
    assert told[0] == pytest.approx(ours, abs=2e-3)
