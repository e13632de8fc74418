"""Is the preprocessing the one the network was trained with? Asked of the data, cheaply. numpy only.

Weights from a local file come without a word on normalisation, and a wrong one costs accuracy silently. A linear probe
on a few hundred pictures tells: the right normalisation is rarely beaten.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from headstart.inputs.spec import ImageSpec

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_Triple = tuple[float, float, float]
ALTERNATIVES: tuple[tuple[str, _Triple, _Triple], ...] = (
    ("ImageNet's mean and deviation", *_IMAGENET),
    ("mean 0.5, deviation 0.5", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ("values from 0 to 1", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    ("values from 0 to 255", (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
)
FEWEST = 30  # examples; below, standard errors say nothing
FIRST = 32  # examples on which a rival must lead to be run on all
_ERRORS = 2.5  # standard errors that count as clear: with four rivals, two would cry wolf once in ten runs


@dataclass(frozen=True)
class Rival:
    """Another normalisation: its probe accuracy, and how much better than the card's, with the paired error."""

    what: str
    mean: _Triple
    std: _Triple
    accuracy: float
    gain: float
    error: float


def check_preprocessing(features_of: Callable[[ImageSpec, int], np.ndarray], y: np.ndarray, spec: ImageSpec) -> str:
    """One sentence: the card's normalisation holds, or which other one is clearly better (beyond 2.5 standard errors).

    features_of: (spec, m) → (m, D) features of the first m of the same N pictures, which lie in random order, under a
    given spec.  y: (N,) class indices.
    Running the network is what costs, so only rivals whose left-out errors on the first pictures are smaller than the
    card's go on to all of them.
    """
    n = len(y)
    if n < FEWEST or len(np.unique(y)) < 2:
        return f"Preprocessing not checked: {n} examples of {len(np.unique(y))} classes are too few."
    own = features_of(spec, n)
    others = [(what, replace(spec, mean=m, std=s)) for what, m, s in ALTERNATIVES if not _same(spec, m, s)]
    first = FIRST if n >= 2 * FIRST else n
    to_beat = _squared_error(own[:first], y[:first])
    leading = [(w, other) for w, other in others if _squared_error(features_of(other, first), y[:first]) < to_beat]
    ours = _probe_hits(own, y)
    rivals = [_rival(what, other, _probe_hits(features_of(other, n), y), ours) for what, other in leading]
    best = max(rivals, key=lambda r: r.gain, default=None)
    if best is not None and best.gain > max(_ERRORS * best.error, 0.0):
        return (
            f"Preprocessing looks wrong: with {best.what} a probe reaches {best.accuracy:.3f}, with this backbone's "
            f"own normalisation {ours.mean():.3f} (n = {n}, gain {best.gain:.3f} ± {best.error:.3f}). "
            f"Check what these weights were trained with: mean {_shown(best.mean)}, std {_shown(best.std)}?"
        )
    held = f"Preprocessing holds: a probe reaches {ours.mean():.3f} with this backbone's normalisation"
    if best is None:
        return f"{held} (n = {n}); {len(others)} others were behind on {first} examples."
    return (
        f"{held}, at most {best.accuracy:.3f} with the {len(rivals)} of {len(others)} others that came near (n = {n})."
    )


def _rival(what: str, spec: ImageSpec, hits: np.ndarray, ours: np.ndarray) -> Rival:
    difference = hits.astype(float) - ours.astype(float)
    error = float(difference.std(ddof=1) / np.sqrt(len(difference)))
    return Rival(what, spec.mean, spec.std, float(hits.mean()), float(difference.mean()), error)


def _probe_hits(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(N,) bool: which examples a ridge classifier gets right that never saw them."""
    left_out, targets = _left_out(X, y)
    return np.asarray(left_out.argmax(axis=1) == targets.argmax(axis=1))


def _squared_error(X: np.ndarray, y: np.ndarray) -> float:
    """Mean squared error of the same classifier; it tells normalisations apart on fewer examples than hits do."""
    left_out, targets = _left_out(X, y)
    return float(((left_out - targets) ** 2).mean())


def _left_out(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(what a ridge classifier says of each example that it never saw, its ±1 targets), both (N, C). Exact.

    Ridge on centred features and ±1 targets in the dual: with H = K (K + λI)⁻¹ the left-out prediction is
    t_i - (t - H t)_i / (1 - H_ii). λ is a tenth of the kernel's mean eigenvalue.
    """
    X = np.nan_to_num(X.astype(np.float64), posinf=0, neginf=0)
    X = X - X.mean(axis=0)
    K = X @ X.T + 1.0  # the constant plays the intercept
    hat = K @ np.linalg.inv(K + max(np.trace(K) / len(K) / 10, 1e-12) * np.eye(len(K)))
    classes, index = np.unique(y, return_inverse=True)
    targets = np.where(index[:, None] == np.arange(len(classes)), 1.0, -1.0)
    return targets - (targets - hat @ targets) / (1 - np.diag(hat))[:, None], targets


def _same(spec: ImageSpec, mean: _Triple, std: _Triple) -> bool:
    return bool(np.allclose(spec.mean, mean, atol=0.02) and np.allclose(spec.std, std, atol=0.02))


def _shown(values: _Triple) -> str:
    return " ".join(f"{v:.3g}" for v in values)
