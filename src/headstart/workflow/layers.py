"""All layers of an encoder from one pass, and what the head is to learn from: the last one, or a mixture of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from headstart.adapt.heads.layers import mixture, weigh
from headstart.base.progress import QUIET, Observer, Said
from headstart.workflow.judge import Known, Rules

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone
    from headstart.features.extract import Features

MOST_BYTES = 2**30  # of features of all layers; beyond it the last one is all that is looked at


@dataclass(frozen=True, eq=False)
class Heard:
    """backbone: the network that is to be saved.  known: what it makes of the examples.  words: why this one, if asked.

    layers: (n, L, D) of which known.X is a mixture; None where it is the last layer's. A mixture is a sum of features
    that were rounded one by one here, where the network rounds the sum.
    """

    backbone: Backbone
    known: Known
    words: tuple[str, ...] = ()
    layers: np.ndarray | None = None


def listened_to(backbone: Backbone, n: int) -> Backbone:
    """The network that gives all its layers, for n examples; itself where it has one, or memory would not hold them."""
    from headstart.backbones.layers import beside, depth_of

    depth = depth_of(backbone)
    return beside(backbone) if 1 < depth <= MOST_BYTES // (4 * n * backbone.card.feature_dim) else backbone


def last_of(backbone: Backbone, features: Features) -> tuple[Features, np.ndarray | None]:
    """(the features of the last layer, (n, L, D) those of all of them or None).

    features: by ``listened_to``; backbone: the network itself.
    """
    width = backbone.card.feature_dim
    if features.X.shape[1] == width:
        return features, None
    layers = features.X.reshape(len(features.X), -1, width)
    return replace(features, X=np.ascontiguousarray(layers[:, -1])), layers


def best_heard(
    backbone: Backbone,
    known: Known,
    layers: np.ndarray | None,
    train: np.ndarray,
    rules: Rules,
    observer: Observer = QUIET,
) -> Heard:
    """The network with the last layer, or with a mixture where cross-validation inside ``train`` shows that it gains.

    known: by the last layer.  layers: (n, L, D) of the same examples; None: the last layer it is.
    """
    if layers is None:
        return Heard(backbone, known)
    from headstart.backbones.layers import mixed

    learnt = known.take(train)
    found = weigh(
        layers[train],
        learnt.y,
        task=known.task,
        groups=learnt.groups,
        metric=rules.metric,
        seed=rules.seed,
        observer=observer,
    )
    observer(Said(found.in_words, "result"))
    if not found.is_better:
        return Heard(backbone, known, (found.in_words,))
    mixing = known.seeing(mixture(layers, found.weights))
    return Heard(mixed(backbone, found.weights), mixing, (found.in_words,), layers)
