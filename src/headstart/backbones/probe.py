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


def check_preprocessing(features_of: Callable[[ImageSpec], np.ndarray], y: np.ndarray, spec: ImageSpec) -> str:
    """One sentence: the card's normalisation holds, or which other one is clearly better (beyond 2.5 standard errors).

    features_of: (N, D) features of the same N pictures under a given spec.  y: (N,) class indices.
    """
    if len(y) < FEWEST or len(np.unique(y)) < 2:
        return f"Preprocessing not checked: {len(y)} examples of {len(np.unique(y))} classes are too few."
    ours = _probe_hits(features_of(spec), y)
    rivals = [_rival(w, m, s, _probe_hits(features_of(replace(spec, mean=m, std=s)), y), ours)
              for w, m, s in ALTERNATIVES if not _same(spec, m, s)]  # fmt: skip
    best = max(rivals, key=lambda r: r.gain)
    if best.gain > _ERRORS * best.error and best.gain > 0:
        return (
            f"Preprocessing looks wrong: with {best.what} a probe reaches {best.accuracy:.3f}, with this backbone's "
            f"own normalisation {ours.mean():.3f} (n = {len(y)}, gain {best.gain:.3f} ± {best.error:.3f}). "
            f"Check what these weights were trained with: mean {_shown(best.mean)}, std {_shown(best.std)}?"
        )
    return (
        f"Preprocessing holds: a probe reaches {ours.mean():.3f} with this backbone's normalisation, at most "
        f"{best.accuracy:.3f} with {len(rivals)} others (n = {len(y)})."
    )


def _rival(what: str, mean: _Triple, std: _Triple, hits: np.ndarray, ours: np.ndarray) -> Rival:
    difference = hits.astype(float) - ours.astype(float)
    error = float(difference.std(ddof=1) / np.sqrt(len(difference)))
    return Rival(what, mean, std, float(hits.mean()), float(difference.mean()), error)


def _probe_hits(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(N,) bool: which examples a ridge classifier gets right that never saw them (exact leave-one-out).

    Ridge on centred features and ±1 targets in the dual: with H = K (K + λI)⁻¹ the left-out prediction is
    t_i - (t - H t)_i / (1 - H_ii). λ is a tenth of the kernel's mean eigenvalue.
    """
    X = np.nan_to_num(X.astype(np.float64), posinf=0, neginf=0)
    X = X - X.mean(axis=0)
    K = X @ X.T + 1.0  # the constant plays the intercept
    hat = K @ np.linalg.inv(K + max(np.trace(K) / len(K) / 10, 1e-12) * np.eye(len(K)))
    classes, index = np.unique(y, return_inverse=True)
    targets = np.where(index[:, None] == np.arange(len(classes)), 1.0, -1.0)
    left_out = targets - (targets - hat @ targets) / (1 - np.diag(hat))[:, None]
    return left_out.argmax(axis=1) == index


def _same(spec: ImageSpec, mean: _Triple, std: _Triple) -> bool:
    return bool(np.allclose(spec.mean, mean, atol=0.02) and np.allclose(spec.std, std, atol=0.02))


def _shown(values: _Triple) -> str:
    return " ".join(f"{v:.3g}" for v in values)
