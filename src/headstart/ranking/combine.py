"""From several opinions on each network to one order, and how good or how sure an order is.

Everything works on the last axis: (M,) for M networks, or (R, M) for R resamples of them. NaN is "not known".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from headstart.base.errors import DataError, did_you_mean, shown
from headstart.base.seeds import stream

# METHODS A.5: the probe on this data, the task the network was trained on, and how it fared elsewhere
WEIGHTS = {"probe": 0.4, "source": 0.2, "prior": 0.4}


def ranks(values: np.ndarray, *, higher_is_better: bool = True) -> np.ndarray:
    """Rank among the known values, 0 for the worst to 1 for the best, ties at their mean; a single value gets 0.5."""
    signed = np.asarray(values, np.float64) * (1 if higher_is_better else -1)
    known = ~np.isnan(signed)
    below = (signed[..., :, None] > signed[..., None, :]).sum(axis=-1)
    equal = (signed[..., :, None] == signed[..., None, :]).sum(axis=-1) - 1
    others = known.sum(axis=-1, keepdims=True) - 1
    out = np.where(others > 0, (below + equal / 2) / np.maximum(others, 1), 0.5)
    return np.where(known, out, np.nan)


def weighted_mean(terms: Mapping[str, np.ndarray], weights: Mapping[str, float] = WEIGHTS) -> np.ndarray:
    """Mean of the terms. Where a network lacks one the weights of the others are scaled up; NaN where it lacks all.

    terms: ranks of equal shape.  DataError for a term without a weight.
    """
    for name in terms:
        if name not in weights:
            raise DataError(f"combined rank: no weight for '{shown(name)}'.{did_you_mean(name, weights)}")
    stacked = np.stack(np.broadcast_arrays(*terms.values())).astype(np.float64)
    weight = np.array([weights[name] for name in terms]).reshape(-1, *[1] * (stacked.ndim - 1))
    weight = np.where(np.isnan(stacked), 0.0, weight)
    total = weight.sum(axis=0)
    mean = (np.nan_to_num(stacked) * weight).sum(axis=0) / np.where(total > 0, total, 1.0)
    return np.where(total > 0, mean, np.nan)


def combined_rank(
    *,
    probe: np.ndarray | None = None,
    source_accuracy: np.ndarray | None = None,
    features: Sequence[np.ndarray] = (),
    prior: np.ndarray | None = None,
) -> np.ndarray:
    """0.4·rank(probe) + 0.2·rank(source) + 0.4·rank(prior), 1 the best; what is missing leaves its weight to the rest.

    probe: left-out accuracy of the ridge head.  source_accuracy: on the task the network was trained on.  features:
    LogME, H-score and LDA; their mean rank stands in for the probe where there is none, since they look at the same
    data, else for a source accuracy that is not known.  prior: of ``prior.py``.
    """
    stand_in = np.mean([ranks(f) for f in features], axis=0) if len(features) else None
    terms = {}
    if probe is not None:
        terms["probe"] = ranks(probe)
    elif stand_in is not None:
        terms["probe"], stand_in = stand_in, None
    source = None if source_accuracy is None else ranks(source_accuracy)
    if stand_in is not None:
        source = stand_in if source is None else np.where(np.isnan(source), stand_in, source)
    if source is not None:
        terms["source"] = source
    if prior is not None:
        terms["prior"] = ranks(prior)
    if not terms:
        raise DataError("combined rank: no term is given. Hand in at least one of probe, source_accuracy and prior.")
    return weighted_mean(terms)


def weighted_tau(score: np.ndarray, truth: np.ndarray) -> float:
    """Kendall's τ where exchanges near the top count more: hyperbolic weights, −1 to 1, NaN if either is all ties.

    Vigna 2015 (arXiv:1404.3325), additive, mean of the ranks by either argument; equal to ``scipy.stats.weightedtau``.
    score, truth: (M,).
    """
    score, truth = np.asarray(score, np.float64), np.asarray(truth, np.float64)
    return (_tau(score, truth, by=(truth, score)) + _tau(score, truth, by=(score, truth))) / 2


def regret(score: np.ndarray, truth: np.ndarray, k: int) -> float:
    """What is lost by fine-tuning only the k best by score: best truth of all minus best truth among these, ≥ 0.

    In units of truth. Of equal scores the worst network is taken first: luck does not count.
    """
    order = np.lexsort((truth, -np.asarray(score)))
    return float(np.max(truth) - np.asarray(truth)[order[:k]].max())


def finalists(combined: np.ndarray, k: int, *, always: Sequence[np.ndarray] = ()) -> np.ndarray:
    """(k,) positions to fine-tune: the best by ``combined``, the best of each in ``always``, then on by ``combined``.

    Trying the best of both kinds of knowledge loses least (Renggli et al. 2022, arXiv:2010.06402): always holds the
    probe and the prior. Networks without a value come last; of equal values the earlier network is taken.
    """
    orders = [
        np.argsort(-np.nan_to_num(np.asarray(v, np.float64), nan=-np.inf), kind="stable") for v in (combined, *always)
    ]
    wanted = [int(order[0]) for order in orders] + [int(i) for i in orders[0]]
    return np.array(list(dict.fromkeys(wanted))[:k])


def resampled(
    by_example: np.ndarray, *, groups: np.ndarray | None = None, resamples: int = 200, seed: int = 0
) -> np.ndarray:
    """(R, M) scores of M networks on R bootstrap draws of the same n examples. Nothing is fitted again.

    by_example: (M, n), such as ``RidgeLoo().by_example`` of each network.  groups: (n,) rows of one group are drawn
    together; None: each for itself.
    """
    by_example = np.asarray(by_example, np.float64)
    if by_example.ndim != 2 or not by_example.size or not np.isfinite(by_example).all():
        raise DataError(f"bootstrap: expected finite numbers (networks, examples), got shape {by_example.shape}.")
    n = by_example.shape[1]
    unit = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1].ravel()
    units = int(unit.max()) + 1
    draws = stream(seed, "ranking", "bootstrap", n).multinomial(units, np.full(units, 1 / units), size=resamples)
    counts = draws[:, unit]
    return counts @ by_example.T / counts.sum(axis=1, keepdims=True)


def chance_in_top(values: np.ndarray, k: int) -> np.ndarray:
    """(M,) share of the R draws in which each network is among the k best. values: (R, M).

    Networks that tie for the last places share them, so the chances sum to min(k, M).
    """
    values = np.asarray(values, np.float64)
    k = min(k, values.shape[1])
    last = np.sort(values, axis=1)[:, -k][:, None]
    above, level = values > last, values == last
    share = (k - above.sum(axis=1, keepdims=True)) / level.sum(axis=1, keepdims=True)
    return (above + level * share).mean(axis=0)


def _tau(a: np.ndarray, b: np.ndarray, *, by: tuple[np.ndarray, np.ndarray]) -> float:
    rank = np.empty(len(a))
    rank[np.lexsort(by)[::-1]] = np.arange(len(a))  # 0 for the largest of by[1]; ties by by[0]
    weight = 1 / (1 + rank)
    pairs = np.triu(weight[:, None] + weight, 1)
    sign_a, sign_b = np.sign(a[:, None] - a), np.sign(b[:, None] - b)
    length = np.sqrt((pairs * sign_a**2).sum() * (pairs * sign_b**2).sum())
    return float((pairs * sign_a * sign_b).sum() / length) if length > 0 else float("nan")
