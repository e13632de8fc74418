"""Which pictures are the same: equal bytes, or equal to the eye after re-encoding, resizing or mirroring.

Candidates by 64-bit perceptual hash, confirmed by 16 × 16 colour thumbnails. Features of a network, where there are
any, decide the doubtful ones only. Measured on 300 textile photographs and 300 synthetic scenes (EfficientNet-Lite0):

    copies (re-encoded at quality 40, half size, double size, mirrored, brighter): ≤ 6 bits apart, correlation ≥ 0.983
    2,000,000 pairs of other textiles, 180,000 of other scenes: distance ≥ 12 bits; textile correlation ≤ 0.41
    cosine of features: half-size copies 0.69-0.9 (0.83 in the middle), other textiles 0.96 in the middle

So a cosine of 0.95 would refuse most true copies of one data set and take most strangers of another for copies: here a
cosine never refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from headstart.base.seeds import stream
from headstart.data.clusters import Groups
from headstart.data.compact import Keys

MOST_BITS = 7  # 8 bands find every pair up to here
LEAST_CORRELATION = 0.98  # of thumbnails: enough alone
DOUBTFUL_CORRELATION = 0.93  # enough together with features: slight crops, changed colours
LEAST_COSINE = 0.95
MOST_BRIGHTNESS = 24.0  # difference of mean grey values, of 255
LEAST_CONTRAST = 0.012  # standard deviation of grey in [0, 1]; below, a picture has no shape to compare


@dataclass(frozen=True, eq=False)
class Pairs:
    """Confirmed pairs of positions. mirrored: (P,) bool. cosine: (P,) float or None where there were no features."""

    first: np.ndarray
    second: np.ndarray
    mirrored: np.ndarray
    cosine: np.ndarray | None


def exact_groups(keys: Sequence[bytes]) -> Groups:
    """Positions with equal keys, for every key that occurs more than once; each sorted, in the order of first ones."""
    pairs = Keys.of(keys).pairs
    if not len(pairs):
        return Groups.none()
    order = np.argsort(pairs[:, 0], kind="stable")
    again = _same_as_before(pairs[order, 0])
    if (pairs[order[again], 1] != pairs[order[again - 1], 1]).any():  # half a key alike, the other half not
        order = np.lexsort((pairs[:, 1], pairs[:, 0]))
        again = _same_as_before(pairs[order, 0])
        again = again[pairs[order[again], 1] == pairs[order[again - 1], 1]]
    is_again = np.zeros(len(order) + 1, bool)
    is_again[again] = True
    begins = np.flatnonzero(~is_again[:-1] & is_again[1:])
    members = order[is_again[:-1] | is_again[1:]]
    sizes = np.diff(np.searchsorted(again, begins), append=len(again)) + 1
    return Groups(members, np.cumsum(sizes)).take(np.argsort(order[begins]))


def _same_as_before(ordered: np.ndarray) -> np.ndarray:
    """Positions whose value is that of the position before."""
    return np.flatnonzero(ordered[1:] == ordered[:-1]) + 1


def near_pairs(
    phash: np.ndarray,
    mirrored: np.ndarray,
    tiny: np.ndarray,
    std: np.ndarray,
    features: np.ndarray | None = None,
) -> Pairs:
    """Pairs of pictures that look the same.

    phash, mirrored: (n,) uint64.  tiny: (n, 16, 16, 3) uint8.  std: (n,) contrast.  features: (n, D) or None.
    """
    first, second, is_turned = _candidates(phash, mirrored, np.flatnonzero(std >= LEAST_CONTRAST))
    agreement = _agreement(tiny, first, second, is_turned)
    sure = agreement >= (LEAST_CORRELATION if features is None else DOUBTFUL_CORRELATION)
    first, second, is_turned, agreement = first[sure], second[sure], is_turned[sure], agreement[sure]
    if features is None:
        return Pairs(first, second, is_turned, None)
    cosine = cosines(features, first, second)
    sure = (agreement >= LEAST_CORRELATION) | (cosine >= max(LEAST_COSINE, _usual_cosine(features)))
    return Pairs(first[sure], second[sure], is_turned[sure], cosine[sure])


# --------------------------------------------------------------------------------------------------------- candidates


def _candidates(phash: np.ndarray, mirrored: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(first, second, mirrored) of the pairs worth a second look.

    Rows with one hash are compared with the first of them only: a thousand frames of one scene would make half a
    million pairs, and all that is asked is who belongs together.
    """
    _, first_of, which = np.unique(phash[rows], return_index=True, return_inverse=True)
    keepers = np.sort(first_of)
    followers = np.setdiff1d(np.arange(len(rows)), keepers)
    same = np.stack([first_of[which[followers]], followers], axis=1)
    straight = keepers[close_hashes(phash[rows[keepers]], phash[rows[keepers]], most=MOST_BITS)]
    turned = keepers[close_hashes(phash[rows[keepers]], mirrored[rows[keepers]], most=MOST_BITS)]
    pairs = rows[np.concatenate([same, straight, turned])]
    return pairs[:, 0], pairs[:, 1], np.arange(len(pairs)) >= len(same) + len(straight)


def close_hashes(left: np.ndarray, right: np.ndarray, *, most: int) -> np.ndarray:
    """(P, 2) pairs i < j with Hamming distance of left[i] and right[j] at most ``most`` (0 to 7).

    Two hashes that differ in at most 7 of 64 bits agree in at least one of 8 bytes: only pairs that share a byte in the
    same place are compared, unless the hashes are so alike that comparing all is less work.
    """
    n = len(left)
    bytes_left = left[:, None].view(np.uint8).reshape(n, 8)
    bytes_right = right[:, None].view(np.uint8).reshape(n, 8)
    work = sum(
        int(np.bincount(bytes_left[:, b], minlength=256) @ np.bincount(bytes_right[:, b], minlength=256))
        for b in range(8)
    )
    blocks = _all_blocks(n) if work > n * n / 2 else _banded_blocks(bytes_left, bytes_right)
    found = [np.zeros(0, np.int64)]
    for rows, columns in blocks:
        i, j = np.nonzero(np.bitwise_count(left[rows][:, None] ^ right[columns][None, :]) <= most)
        i, j = rows[i], columns[j]
        found.append((i * n + j)[i < j])
    numbers = np.unique(np.concatenate(found))  # a pair may share several bytes
    return np.stack([numbers // n, numbers % n], axis=1) if n else np.zeros((0, 2), np.int64)


def _all_blocks(n: int, size: int = 1024) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, n, size):
        yield np.arange(start, min(n, start + size)), np.arange(start, n)


def _banded_blocks(left: np.ndarray, right: np.ndarray, size: int = 4096) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for band in range(8):
        order_left = np.argsort(left[:, band], kind="stable")
        order_right = np.argsort(right[:, band], kind="stable")
        edges = np.arange(257)
        at_left = np.searchsorted(left[order_left, band], edges)
        at_right = np.searchsorted(right[order_right, band], edges)
        for value in range(256):
            rows = order_left[at_left[value] : at_left[value + 1]]
            columns = order_right[at_right[value] : at_right[value + 1]]
            for start in range(0, len(rows), size):
                if len(columns):
                    yield rows[start : start + size], columns


# ------------------------------------------------------------------------------------------------------- confirmation


def _agreement(tiny: np.ndarray, first: np.ndarray, second: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """(P,) correlation of the thumbnails; -1 where one is much brighter. In pieces, so that memory stays small."""
    agreement = np.full(len(first), -1.0)
    for start in range(0, len(first), 8192):
        part = slice(start, start + 8192)
        a = tiny[first[part]].astype(np.float32)
        b = tiny[second[part]].astype(np.float32)
        b = np.where(mirrored[part][:, None, None, None], b[:, :, ::-1], b)
        a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
        as_bright = np.abs(a.mean(axis=1) - b.mean(axis=1)) <= MOST_BRIGHTNESS
        agreement[part] = np.where(as_bright, correlation(a, b), -1)
    return agreement


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(P,) Pearson correlation of the rows of two (P, M) arrays; 0 where a row is constant."""
    a = a - a.mean(axis=1, keepdims=True)
    b = b - b.mean(axis=1, keepdims=True)
    norm = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.divide((a * b).sum(axis=1), norm, out=np.zeros(len(a), np.float32), where=norm > 0)


def cosines(features: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(P,) cosine of features[first] and features[second]; 0 where one is all zeros."""
    cosine = np.zeros(len(first))
    for start in range(0, len(first), 8192):
        part = slice(start, start + 8192)
        a, b = np.asarray(features[first[part]], np.float64), np.asarray(features[second[part]], np.float64)
        norm = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
        cosine[part] = np.divide((a * b).sum(axis=1), norm, out=np.zeros(len(a)), where=norm > 0)
    return cosine


def _usual_cosine(features: np.ndarray) -> float:
    """The cosine that one in a hundred pairs of different rows exceeds."""
    rng = stream(0, "usual cosine")
    first, second = rng.integers(0, len(features), (2, 2000))
    different = first != second
    return float(np.quantile(cosines(features, first[different], second[different]), 0.99)) if different.any() else 1.0
