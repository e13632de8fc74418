"""Every transferability score through the shipped contract and against slow versions; and the contract finds faults."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr

from headstart.ranking.scores import SCORES
from headstart.ranking.scores.gbc import GBC
from headstart.ranking.scores.knn import KNN
from headstart.ranking.scores.lda import LDA
from headstart.ranking.scores.leep import LEEP
from headstart.ranking.scores.logme import LogME
from headstart.ranking.scores.nce import NCE
from headstart.ranking.scores.nleep import NLEEP
from headstart.ranking.scores.parc import PARC
from headstart.ranking.scores.ridge_loo import RELATIVE_LAMBDAS, RidgeLoo
from headstart.ranking.scores.score import About
from headstart.ranking.scores.source_distance import SourceDistance
from headstart.ranking.scores.transrate import TransRate
from headstart.testing.scores import check_score

OTHERS = (
    KNN(k=1),
    NLEEP(log=False, per_class=1),
    GBC(variance="diagonal"),
    GBC(dims=0, once=True),
    TransRate(scaled=False),
    PARC(dims=4),
)


def columns_of(y):
    if y.ndim == 1 and y.dtype.kind == "i":
        return np.eye(y.max() + 1)[y]
    return y.reshape(len(y), -1).astype(float)


def slow_ridge(X, y):
    """n refits for each penalty."""
    Y = columns_of(y) if y.dtype.kind == "f" else 2 * columns_of(y) - 1
    centred = X - X.mean(axis=0)
    best = -np.inf
    for relative in RELATIVE_LAMBDAS:
        penalty = relative * (centred**2).sum() / X.shape[1]
        left_out = np.empty_like(Y)
        for i in range(len(X)):
            rest = np.delete(np.arange(len(X)), i)
            A = np.hstack([X[rest], np.ones((len(rest), 1))])
            ridge = penalty * np.diag(np.r_[np.ones(X.shape[1]), 0])
            left_out[i] = np.r_[X[i], 1] @ np.linalg.solve(A.T @ A + ridge, A.T @ Y[rest])
        if y.ndim == 1 and y.dtype.kind == "i":
            score = (left_out.argmax(axis=1) == y).mean()
        else:
            score = (1 - ((left_out - Y) ** 2 / Y.var(axis=0))).mean()
        best = max(best, score)
    return best


def slow_logme(X, y):
    """The density of the targets under N(0, XXᵀ/α + I/β), over a fine grid of α/β, each with its best β."""
    Y = columns_of(y)
    if y.dtype.kind == "f":
        Y = (Y - Y.mean(axis=0)) / Y.std(axis=0)
    n, K = len(X), X @ X.T
    grid = np.log(np.linalg.eigvalsh(K)[-1]) + np.arange(-16, 12.01, 0.002) * np.log(10)
    values, vectors = np.linalg.eigh(K)
    found = []
    for column in Y.T:
        inside = (vectors.T @ column) ** 2
        ratio = np.maximum(values, 0)[:, None] / np.exp(grid) + 1  # of the covariance, in units of 1/β
        q = np.maximum((inside[:, None] / ratio).sum(axis=0), 1e-12 * column @ column)
        found.append((-n / 2 * (np.log(2 * np.pi * q / n) + 1) - np.log(ratio).sum(axis=0) / 2).max() / n)
    return np.mean(found)


def slow_hscore(X, y):
    """tr(Σ⁻¹ Cov(E[X|y])) with sklearn's shrunk covariance, between its mean over relabelled data and its bound."""
    from sklearn.covariance import LedoitWolf

    n, C = len(y), y.max() + 1
    fitted = LedoitWolf().fit(X)
    S = np.cov(X.T, bias=True)
    means = np.stack([X[y == c].mean(axis=0) for c in range(C)])[y]
    kept = (1 - fitted.shrinkage_) * np.linalg.inv(fitted.covariance_)
    value = np.trace(kept @ np.cov(means.T, bias=True))
    chance = np.trace(kept @ S) * (C - 1) / (n - 1)
    best = np.sort(np.linalg.eigvals(kept @ S).real)[::-1][: C - 1].sum()
    return (value - chance) / (best - chance)


def slow_lda(X, y):
    """n refits with the shrinkage of all rows."""
    from sklearn.covariance import ledoit_wolf_shrinkage

    n, width, C = len(X), X.shape[1], y.max() + 1
    within = X - np.stack([X[y == c].mean(axis=0) for c in range(C)])[y]
    a = ledoit_wolf_shrinkage(within, assume_centered=True)
    level = (within**2).sum() / n / width
    right = 0
    for i in range(n):
        rest = np.delete(np.arange(n), i)
        means = np.stack([X[rest][y[rest] == c].mean(axis=0) for c in range(C)])
        away = X[rest] - means[y[rest]]
        precision = np.linalg.inv((1 - a) * away.T @ away / n + a * level * np.eye(width))
        delta = X[i] - means
        log = np.log(np.bincount(y[rest], minlength=C)) - np.einsum("cd,de,ce->c", delta, precision, delta) / 2
        right += log.argmax() == y[i]
    return right / n


def slow_knn(X, y):
    cosine = 1 - cdist(X, X, "cosine")
    Y = columns_of(y)
    classes = y.ndim == 1 and y.dtype.kind == "i"
    k = min(20, len(X) // Y.shape[1] if classes else 20)
    total = 0.0
    for i in range(len(X)):
        near = [j for j in np.argsort(-cosine[i], kind="stable") if j != i][:k]
        if classes:
            votes = [(sum(y[j] == c for j in near), sum(cosine[i, j] for j in near if y[j] == c), c) for c in range(4)]
            total += max(votes)[2] == y[i]
        else:
            total += (1 - (Y[near].mean(axis=0) - Y[i]) ** 2 / Y.var(axis=0)).mean()
    return total / len(X)


def slow_leep(theta, y):
    C, n = y.max() + 1, len(y)
    joint = np.array([[theta[y == c, z].sum() / n for z in range(theta.shape[1])] for c in range(C)])
    return np.mean(
        [np.log(sum(joint[y[i], z] / joint[:, z].sum() * theta[i, z] for z in range(theta.shape[1]))) for i in range(n)]
    )


def slow_nce(theta, y):
    z = theta.argmax(axis=1)
    return np.mean([np.log(np.mean(y[z == z[i]] == y[i])) for i in range(len(y))])


def slow_gbc(X, y):
    centred = X - X.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:64]
    Z = centred @ axes.T
    Z = Z[:, np.linalg.norm(Z, axis=0) > 1e-8]
    total = 0.0
    for a in range(y.max() + 1):
        for b in range(y.max() + 1):
            if a == b:
                continue
            va, vb = (np.maximum(Z[y == c].var(axis=0), 1e-4).mean() for c in (a, b))
            v, d = (va + vb) / 2, Z.shape[1]
            gap = ((Z[y == a].mean(axis=0) - Z[y == b].mean(axis=0)) ** 2).sum() / v / 8
            total -= np.exp(-gap - d / 2 * np.log(v / np.sqrt(va * vb)))
    return total


def slow_transrate(X, y):
    Z = X - X.mean(axis=0)
    Z = Z / np.sqrt((Z**2).sum() / Z.size)
    rates = [
        np.linalg.slogdet(np.eye(X.shape[1]) + M.T @ M / len(M) / 1e-4)[1] / 2
        for M in [Z, *(Z[y == c] for c in range(y.max() + 1))]
    ]
    return rates[0] - np.mean(rates[1:])


def slow_parc(X, y):
    Z = X
    if X.shape[1] > 32:
        axes = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)[2][:32]
        axes *= np.sign(axes[np.arange(32), np.abs(axes).argmax(axis=1)])[:, None]
        Z = (X - X.mean(axis=0)) @ axes.T
    pairs = np.triu_indices(len(X), 1)
    likeness = np.corrcoef((Z - Z.mean(axis=0)) / Z.std(axis=0))[pairs]
    Y = columns_of(y)
    centred = Y - Y.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1)
    unit = centred / np.where(length > 0, length, 1)[:, None]
    return 100 * spearmanr(likeness, np.round((unit @ unit.T)[pairs], 9))[0]


def slow_distance(X, source):
    off = ~np.eye(len(X), dtype=bool), ~np.eye(len(source), dtype=bool)
    within = cdist(X, X)[off[0]].mean() + cdist(source, source)[off[1]].mean()
    return 1 - within / (2 * cdist(X, source).mean())


REFERENCES = {
    "ridge_loo": slow_ridge,
    "logme": slow_logme,
    "hscore": slow_hscore,
    "lda": slow_lda,
    "knn": slow_knn,
    "leep": slow_leep,
    "nce": slow_nce,
    "gbc": slow_gbc,
    "transrate": slow_transrate,
    "parc": slow_parc,
    "source_distance": slow_distance,
}


@pytest.mark.parametrize("score", SCORES, ids=lambda s: s.about.name)
def test_the_score_keeps_the_contract_and_agrees_with_a_slow_version(score):
    check_score(score, reference=REFERENCES.get(score.about.name))


@pytest.mark.parametrize("score", OTHERS, ids=str)
def test_the_score_keeps_the_contract_with_other_settings(score):
    check_score(score)


def test_the_default_comes_first_and_names_are_unique():
    assert isinstance(SCORES[0], RidgeLoo)
    assert len({s.about.name for s in SCORES}) == len(SCORES)


ABOUT = replace(RidgeLoo.about, name="broken", high=0.0)


@dataclass(frozen=True)
class Broken:
    about: ClassVar[About] = ABOUT

    def __call__(self, X, y, /):
        return RidgeLoo()(X, y) - 1


class OutOfRange(Broken):
    def __call__(self, X, y, /):
        return RidgeLoo()(X, y)


class OrderMatters(Broken):
    def __call__(self, X, y, /):
        return RidgeLoo()(X[: len(X) // 2], y[: len(y) // 2]) - 1


class Changes(Broken):
    def __call__(self, X, y, /):
        X -= X.mean(axis=0)
        return RidgeLoo()(X, y) - 1


class TakesAnything(Broken):
    def __call__(self, X, y, /):
        try:
            return RidgeLoo()(X, y) - 1
        except ValueError:
            return -1.0


class SeesNothing(Broken):
    def __call__(self, X, y, /):
        return min(-float(np.trace(np.cov(X.T))), RidgeLoo()(X, y) - 1)


def test_the_contract_lets_a_sound_score_pass():
    check_score(Broken())


@pytest.mark.parametrize("broken", [OutOfRange, OrderMatters, Changes, TakesAnything, SeesNothing])
def test_the_contract_finds_a_broken_score(broken):
    with pytest.raises(AssertionError, match="broken"):
        check_score(broken())


def test_the_contract_finds_a_score_that_differs_from_its_reference():
    with pytest.raises(AssertionError, match="slowly"):
        check_score(LogME(), reference=lambda X, y: slow_logme(X, y) + 1e-5)


def test_scores_differ_from_their_neighbours():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 8)), np.arange(60) % 3
    theta = np.exp(X) / np.exp(X).sum(axis=1, keepdims=True)
    values = [s(theta, y) for s in (LDA(), NCE(), LEEP(), NLEEP(), GBC(), PARC())] + [SourceDistance()(X, X + 1)]
    assert len(set(values)) == len(values)
