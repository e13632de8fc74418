"""A whole path of ridge penalties with exact leave-one-out, against one logistic regression of scikit-learn."""

from __future__ import annotations

import time
import warnings
from functools import partial

import numpy as np

from benchmarks.figure import Bench, Outcome, Row, divided, seconds

TITLE = "15-λ leave-one-out ridge path ÷ one scikit-learn `LogisticRegression` (n = 5,000, D = 1,280, C = 100)"
PREDICTED = (
    "I predicted 0.25: one eigendecomposition of 1,280 × 1,280 and a few products over 5,000 rows, about two seconds, "
    "against up to 100 iterations of L-BFGS over 128,100 coefficients."
)
EXCLUDED = (
    "Nothing is left out of either call, but both start from features in memory. `LogisticRegression()` is as it comes "
    "(lbfgs, C = 1, max_iter = 100). Features are made: non-negative like pooled activations, a spectrum that "
    "falls as a power law, class centres in it. Both get the same float32 rows; both are judged on 2,000 others."
)


def measure(bench: Bench) -> Outcome:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    from headstart.adapt.heads.ridge import correct, ridge_path

    n, width, classes = bench.pick((5000, 1280, 100), (600, 96, 10))
    X, y, X_new, y_new = _features(n, bench.pick(2000, 300), width, classes)
    Y = np.where(y[:, None] == np.arange(classes), 1.0, -1.0)
    ours, theirs, details = [], [], []
    ridge_path(X[:500], Y[:500])  # the first call loads the linear algebra
    for _ in range(bench.rounds):
        logistic = LogisticRegression()
        start = time.perf_counter()
        path = ridge_path(X, Y, score=correct)
        ours.append(time.perf_counter() - start)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            theirs.append(seconds(partial(logistic.fit, X, y)))
        logits = path.solution().logits(X_new)
        details.append(
            {
                "ridge accuracy": float((logits.argmax(axis=1) == y_new).mean()),
                "ridge leave-one-out accuracy": float(path.scores[path.best]),
                "ridge lambda at": int(path.best),
                "logistic accuracy": float(logistic.score(X_new, y_new)),
                "logistic iterations": int(logistic.n_iter_.max()),
                "logistic stopped early": any(issubclass(w.category, ConvergenceWarning) for w in said),
            }
        )
    rows = (
        Row("ridge path ÷ one logistic regression", divided(ours, theirs), must=1.0),
        Row("ridge path", tuple(ours), "s"),
        Row("one logistic regression", tuple(theirs), "s"),
    )
    last = details[-1]
    note = (
        f"On {len(y_new):,} new rows the ridge head is right in {last['ridge accuracy']:.3f} (its leave-one-out said "
        f"{last['ridge leave-one-out accuracy']:.3f}), the logistic one in {last['logistic accuracy']:.3f} after "
        f"{last['logistic iterations']} iterations{', not converged' if last['logistic stopped early'] else ''}."
    )
    return Outcome(rows, (note,), {"rounds": details})


def _features(n: int, new: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(X, y, X_new, y_new): X (n, width) float32 ≥ 0."""
    rng = np.random.default_rng(0)
    scale = np.arange(1, width + 1) ** -0.5
    turn = np.linalg.qr(rng.standard_normal((width, width)))[0]
    centres = rng.standard_normal((classes, width))
    y = rng.integers(0, classes, n + new)
    raw = ((0.2 * centres[y] + rng.standard_normal((n + new, width))) * scale) @ turn
    X = np.maximum(raw / raw.std() + 0.5, 0).astype(np.float32)
    return X[:n], y[:n], X[n:], y[n:]
