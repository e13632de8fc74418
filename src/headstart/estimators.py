"""scikit-learn's door: TransferClassifier and TransferRegressor.

They choose and fit a head exactly as ``fit`` does, on features of a backbone or on a numeric matrix that is features
already. They keep no test rows: cross_val_score, GridSearchCV and your own split are the judges here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from headstart.base.errors import DataError, shown
from headstart.data.words import words_of
from headstart.tasks.classification import Classification
from headstart.tasks.regression import Regression
from headstart.tasks.task import Task
from headstart.workflow.config import cache_folder

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone


class _Transfer(TransformerMixin, BaseEstimator):
    """What both estimators share. Abstract: subclasses say what is predicted.

    backbone: name from ``headstart models``. None: X is a numeric (N, D) matrix of features, or, where X holds
        examples, the starter network for their kind.
    weights: local file with the backbone's parameters.
    folds: of the cross-validation that chooses the head.  cache_dir: None: $HEADSTART_CACHE or the user's cache.
    """

    def __init__(
        self,
        backbone: str | None = None,
        *,
        weights: str | None = None,
        folds: int = 5,
        device: str = "auto",
        cache_dir: str | None = None,
        random_state: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.folds = folds
        self.device = device
        self.cache_dir = cache_dir
        self.random_state = random_state
        self.verbose = verbose

    def transform(self, X: Any) -> np.ndarray:
        """(N, D) float32 embeddings of the examples; a numeric matrix is given back as it is."""
        check_is_fitted(self)
        return self._features(X)

    def _fit_head(self, X: np.ndarray, y: np.ndarray, task: Task, balance: str) -> None:
        from headstart.workflow.judge import Known, Rules, choose_head

        n = len(y)
        known = Known(X, y, np.arange(n), np.arange(n).astype(object), task)
        seed = 0 if self.random_state is None else int(self.random_state)
        chosen = choose_head(known, Rules(self.folds, None, balance, seed))
        self.head_, self.temperature_ = chosen.head, chosen.temperature
        self.head_record_ = chosen.record
        self.task_ = task

    def _features(self, X: Any, *, reset: bool = False) -> np.ndarray:
        """Embeddings where X holds examples, else X checked as scikit-learn does."""
        if not _holds_examples(X):
            matrix = validate_data(
                self, X, reset=reset, dtype=(np.float64, np.float32), ensure_min_samples=2 if reset else 1
            )
            if reset:
                self.backbone_: Backbone | None = None
            elif self.backbone_ is not None:
                raise ValueError(
                    f"this estimator was fitted on examples; got a numeric matrix of shape {matrix.shape}."
                )
            return matrix
        if not reset and self.backbone_ is None:
            raise ValueError("this estimator was fitted on a numeric matrix; got examples.")
        embedded = self._embed(X, reset)
        if reset:
            self.n_features_in_ = embedded.shape[1]
        return embedded

    def _embed(self, X: Any, reset: bool) -> np.ndarray:
        from headstart.backbones.catalogue import catalogue
        from headstart.data.open import open_dataset
        from headstart.features.extract import extract
        from headstart.workflow.choose_backbone import choose_backbone

        if reset:
            given = self.backbone or "starter"
            open_choice = given in ("starter", "auto")
            kind = open_dataset(list(X)).modality if open_choice else catalogue.card(given).modality
            name = choose_backbone(given, catalogue, modality=kind)
            self.backbone_ = catalogue.load(name, weights=Path(self.weights) if self.weights else None)
            self.runner_ = None
        assert self.backbone_ is not None, "set by _features or above"
        # One word, or the name of a file, is a text too where the network takes texts.
        dataset = open_dataset(list(X), text="text" if self.backbone_.card.modality == "text" else None)
        features = extract(
            self.backbone_,
            dataset,
            cache=cache_folder(self.cache_dir),
            device=self.device,
            only_runner=self.runner_,
        )
        problems = features.survey.problems
        if problems:
            first = problems[min(problems)]
            raise DataError(
                f"{len(problems)} of {len(dataset)} {words_of(dataset.modality).many} cannot be used; "
                f"first: {shown(first.id)}: {first.code} {shown(first.reason)}. "
                "Leave them out: an estimator must answer for every row."
            )
        self.runner_ = features.record.runner
        return features.X

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        return tags


class TransferClassifier(ClassifierMixin, _Transfer):
    """A classifier on a pretrained network's features, its head chosen by cross-validation.

    X: (N, D) features, or a sequence of paths, PIL images, (H, W, 3) arrays, or texts.  y: (N,) labels of any kind.
    After fit: classes_, n_features_in_, head_, temperature_, head_record_ (what was tried), backbone_.
    predict_proba is calibrated on out-of-fold answers.
    """

    def __init__(
        self,
        backbone: str | None = None,
        *,
        weights: str | None = None,
        balance: str = "none",
        folds: int = 5,
        device: str = "auto",
        cache_dir: str | None = None,
        random_state: int | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            backbone,
            weights=weights,
            folds=folds,
            device=device,
            cache_dir=cache_dir,
            random_state=random_state,
            verbose=verbose,
        )
        self.balance = balance

    def fit(self, X: Any, y: Any) -> TransferClassifier:
        labels = _column(y)
        check_classification_targets(labels)
        self.classes_, encoded = np.unique(labels, return_inverse=True)
        features = self._features(X, reset=True)
        _same_length(features, encoded)
        if len(self.classes_) < 2:
            raise ValueError(f"DA45 only one class ('{shown(self.classes_[0])}'). Nothing to learn.")
        task = Classification(tuple(str(i) for i in range(len(self.classes_))))
        self._fit_head(features, encoded.astype(np.int64), task, self.balance)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """(N, K) logits, calibrated; (N,) log-odds of the second class where there are two, as scikit-learn has it."""
        check_is_fitted(self)
        logits = self.head_.logits(self._features(X)) / self.temperature_
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return self.task_.decode(self.head_.logits(self._features(X)) / self.temperature_)

    def predict(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return self.classes_[self.head_.logits(self._features(X)).argmax(axis=1)]


class TransferRegressor(RegressorMixin, _Transfer):
    """A regressor on a pretrained network's features; y: (N,) or (N, K) numbers. See TransferClassifier."""

    def fit(self, X: Any, y: Any) -> TransferRegressor:
        _given(y)
        features = self._features(X, reset=True)
        values = np.asarray(y)
        if values.dtype.kind not in "biuf":
            values = values.astype(np.float64)
        self._one_output = values.ndim == 1
        values = values.astype(np.float64).reshape(len(values), -1)
        _same_length(features, values)
        if not np.isfinite(values).all():
            raise ValueError("the targets contain NaN or infinity.")
        task = Regression(tuple(f"y{k}" for k in range(values.shape[1])))
        self._fit_head(features, values, task, "none")
        return self

    def predict(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        values = self.head_.logits(self._features(X))
        return values[:, 0] if self._one_output else values

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _holds_examples(X: Any) -> bool:
    """Whether X is a sequence of paths, pictures, pixel arrays or texts rather than a matrix of numbers."""
    if hasattr(X, "to_numpy") and getattr(X, "ndim", 2) == 1:  # a column of a frame
        X = X.to_numpy()
    if isinstance(X, np.ndarray) and X.dtype.kind in "biuf":
        return X.ndim == 4 or (X.ndim == 3 and X.dtype == np.uint8)
    if isinstance(X, np.ndarray) and (X.ndim != 1 or X.dtype.kind not in "OUS"):
        return False
    if isinstance(X, Sequence | np.ndarray) and len(X) and not isinstance(X, str | bytes):
        first = X[0]
        pixels = isinstance(first, np.ndarray) and first.ndim >= 2
        return isinstance(first, str | Path | bytes) or pixels or hasattr(first, "getexif")
    return False


def _column(y: Any) -> np.ndarray:
    """y as (N,); a column vector is flattened with scikit-learn's warning."""
    from sklearn.utils.validation import column_or_1d

    _given(y)
    labels = column_or_1d(y, warn=True)
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError("the targets contain NaN or infinity.")
    return labels


def _given(y: Any) -> None:
    if y is None:
        raise ValueError("This estimator requires y to be passed, but the target y is None.")


def _same_length(X: np.ndarray, y: np.ndarray) -> None:
    if len(X) != len(y):
        raise ValueError(f"X has {len(X)} examples and y has {len(y)}; they must have the same length.")
