"""RELIABILITY B9 in small: planted copies are found, strangers are not taken for copies."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import encoded, scene
from PIL import Image, ImageOps

from headstart.data.decode import decode_image
from headstart.data.duplicates import close_hashes, correlation, exact_groups, near_pairs

N = 150


def facts_of(pictures: list[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    facts = [decode_image(p, name=str(i))[1] for i, p in enumerate(pictures)]
    return (
        np.array([f.phash for f in facts], np.uint64),
        np.array([f.phash_mirrored for f in facts], np.uint64),
        np.stack([np.frombuffer(f.tiny, np.uint8).reshape(16, 16, 3) for f in facts]),
        np.array([f.std for f in facts]),
    )


CHANGES = {
    "re-encoded": lambda p: encoded(p, quality=40),
    "half size": lambda p: encoded(p.resize((p.width // 2, p.height // 2)), quality=90),
    "double size": lambda p: encoded(p.resize((p.width * 2, p.height * 2)), quality=90),
    "another format": lambda p: encoded(p, "WEBP", quality=60),
    "mirrored": lambda p: encoded(ImageOps.mirror(p), quality=90),
    "brighter": lambda p: encoded(p.point(lambda v: min(255, int(v * 1.1))), quality=90),
}


@pytest.fixture(scope="module")
def planted() -> tuple[list[bytes], dict[tuple[int, int], str]]:
    """N scenes, then 20 changed copies of each kind; and which pair is what."""
    pictures = [encoded(scene(i, (128, 96)), quality=95) for i in range(N)]
    truth = {}
    for k, (name, change) in enumerate(CHANGES.items()):
        for i in range(k * 20, k * 20 + 20):
            truth[(i, len(pictures))] = name
            pictures.append(change(Image.open(io.BytesIO(pictures[i])).convert("RGB")))
    return pictures, truth


@pytest.mark.parametrize("features", [None, "useless"])
def test_planted_copies_are_found_and_strangers_are_not(planted: tuple, features: str | None) -> None:
    pictures, truth = planted
    known = facts_of(pictures)
    X = None if features is None else np.random.default_rng(0).normal(size=(len(pictures), 32))
    pairs = near_pairs(*known, X)
    found = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert found <= set(truth)  # no false positive
    for name in CHANGES:
        wanted = {p for p, n in truth.items() if n == name}
        assert len(found & wanted) >= (0.8 if name == "mirrored" else 0.95) * len(wanted), name
    first, second = pairs.first[pairs.mirrored].tolist(), pairs.second[pairs.mirrored].tolist()
    turned = set(zip(first, second, strict=True))
    assert turned == {p for p, n in truth.items() if n == "mirrored"} & found


def test_textures_of_one_kind_are_not_copies() -> None:
    rng = np.random.default_rng(0)
    grain = [
        encoded(Image.fromarray((128 + rng.normal(0, 20, (96, 96))).clip(0, 255).astype(np.uint8))) for _ in range(200)
    ]
    assert len(near_pairs(*facts_of(grain)).first) == 0


def test_plain_pictures_have_no_shape_to_compare() -> None:
    plain = [encoded(Image.new("RGB", (64, 64), (v, v, v)), "PNG") for v in range(0, 250, 10)]
    assert len(near_pairs(*facts_of(plain)).first) == 0


def test_features_decide_the_doubtful_pairs_only() -> None:
    """A slight crop: the thumbnails are less alike, and a network that sees the same thing settles it."""
    pictures = [encoded(scene(i, (128, 96)), quality=95) for i in range(60)]
    crops = [encoded(Image.open(io.BytesIO(p)).convert("RGB").crop((3, 2, 125, 94)), quality=90) for p in pictures[:30]]
    known = facts_of(pictures + crops)
    X = np.random.default_rng(0).normal(size=(90, 64))
    X[60:] = X[:30] + 0.05 * np.random.default_rng(1).normal(size=(30, 64))
    alone, together = near_pairs(*known), near_pairs(*known, X)
    assert set(zip(alone.first, alone.second, strict=True)) <= set(zip(together.first, together.second, strict=True))
    assert len(together.first) > len(alone.first)
    assert (together.second - together.first == 60).all()
    assert together.cosine.min() > 0.9


# ------------------------------------------------------------------------------------------------------- slow reference


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 120), st.integers(0, 7), st.sampled_from([64, 16, 6]), st.integers(0, 99))
def test_banding_finds_what_comparing_all_finds(n: int, most: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = (
        rng.integers(0, 2**width, n, dtype=np.uint64, endpoint=False)
        if width < 64
        else rng.integers(0, 2**63, n, dtype=np.uint64)
    )
    noise = np.array([np.bitwise_or.reduce(1 << rng.integers(0, 64, 8).astype(np.uint64)) for _ in range(n)])
    left, right = np.concatenate([base, base ^ noise]), np.concatenate([base[::-1], base])
    expected = [
        (i, j) for i in range(2 * n) for j in range(i + 1, 2 * n) if int(left[i] ^ right[j]).bit_count() <= most
    ]
    assert close_hashes(left, right, most=most).tolist() == [list(p) for p in expected]


def test_fifty_thousand_hashes_take_seconds() -> None:
    hashes = np.random.default_rng(0).integers(0, 2**63, 50_000, dtype=np.uint64)
    hashes[40_000:] = hashes[:10_000] ^ np.uint64(0b1000000100000001)
    start = time.perf_counter()
    pairs = close_hashes(hashes, hashes, most=7)
    assert len(pairs) == 10_000
    assert time.perf_counter() - start < 10


def test_hashes_that_agree_in_one_byte_only_are_found_whichever_it_is() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 400, dtype=np.uint64)
    for band in range(8):
        others = sum(1 << (8 * b + int(rng.integers(8))) for b in range(8) if b != band)
        hashes[2 * band + 1] = hashes[2 * band] ^ np.uint64(others)
    assert close_hashes(hashes, hashes, most=7).tolist() == [[2 * b, 2 * b + 1] for b in range(8)]


def test_crowds_of_one_picture_cost_little() -> None:
    n, rng = 20_000, np.random.default_rng(0)
    one = rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)
    tiny, hashes = np.broadcast_to(one, (n, 16, 16, 3)), np.full(n, 12345, np.uint64)
    start = time.perf_counter()
    same = near_pairs(hashes, ~hashes, tiny, np.full(n, 0.2))
    assert np.array_equal(same.second, np.arange(1, n))
    assert not same.first.any()
    assert len(near_pairs(hashes, hashes, tiny, np.zeros(n)).first) == 0  # plain ones are left alone
    assert time.perf_counter() - start < 5


def test_equal_keys_are_grouped_in_order() -> None:
    keys = [bytes([b]) * 16 for b in (3, 1, 3, 2, 1, 3)]
    assert [g.tolist() for g in exact_groups(keys)] == [[0, 2, 5], [1, 4]]
    assert exact_groups([]) == []


def test_correlation_has_its_closed_form() -> None:
    a = np.array([[1.0, 2, 3], [1, 2, 3], [1, 1, 1]], np.float32)
    b = np.array([[2.0, 4, 6], [3, 2, 1], [1, 2, 3]], np.float32)
    assert correlation(a, b).tolist() == pytest.approx([1, -1, 0])
