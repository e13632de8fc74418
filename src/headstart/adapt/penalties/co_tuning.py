"""Co-tuning: the classes that the network knew already go on being told apart (You et al. 2020, NeurIPS)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.adapt.model import AdaptedModel
from headstart.adapt.penalties.watch import Watch
from headstart.adapt.plan import HEAD


@dataclass(frozen=True, eq=False)
class SourceClassifier:
    """What co-tuning needs of the classes that the network was trained on before.

    weight: (S, D), bias: (S,): the classifier that came with the loaded weights; Backbone drops it at load.
    relationship: (K, S), row k is P(source class | target class k); see ``relationship``.
    """

    weight: np.ndarray
    bias: np.ndarray
    relationship: np.ndarray

    def __post_init__(self) -> None:
        sources, _ = np.shape(self.weight)
        assert np.shape(self.bias) == (sources,), f"a bias {np.shape(self.bias)} for {sources} source classes"
        assert np.shape(self.relationship)[1:] == (sources,), f"a relationship {np.shape(self.relationship)}"


def relationship(probabilities: np.ndarray, y: np.ndarray, classes: int) -> np.ndarray:
    """(K, S) P(source class | target class): the mean source probabilities of each class; rows sum to 1.

    probabilities: (n, S) of the source classifier on the training rows, calibrated.  y: (n,) class indices.
    A class without rows gets the mean of all rows. The direct approach of You et al. 2020.
    """
    p = np.asarray(probabilities, np.float64)
    p = p / p.sum(axis=1, keepdims=True)
    member = (y[None, :] == np.arange(classes)[:, None]).astype(np.float64)
    member[member.sum(axis=1) == 0] = 1.0
    return np.asarray(member @ p / member.sum(axis=1, keepdims=True))


class CoTuning:
    """weight · cross-entropy of the source classifier's answer against R[y], averaged over the batch.

    In You et al. 2020 the source classifier learns too, at a tenth of the head's rate; here it stays as it
    was loaded, so that all that learns is in the model and its checkpoints.
    """

    def __init__(self, weight: float, source: Sequence[Tensor], features: Watch) -> None:
        self._weight = weight
        self._matrix, self._bias, self._relationship = source
        self._features = features

    @classmethod
    def of(cls, weight: float, source: SourceClassifier, model: AdaptedModel, features: Watch) -> CoTuning:
        like = model.last_layer.weight
        width, classes = model.backbone.card.feature_dim, len(like)
        assert source.weight.shape[1] == width, f"a source classifier of {source.weight.shape}, features of {width}"
        assert len(source.relationship) == classes, f"a relationship of {len(source.relationship)}, not {classes} rows"
        arrays = (source.weight, source.bias, source.relationship)
        return cls(weight, [torch.as_tensor(np.asarray(a)).to(like.device, torch.float32) for a in arrays], features)

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        features = self._features.taken()[HEAD]
        with torch.autocast(features.device.type, enabled=False):
            expected = targets.float() @ self._relationship if targets.ndim == 2 else self._relationship[targets]
            answer = F.linear(features.float(), self._matrix, self._bias)
            return self._weight * F.cross_entropy(answer, expected)
