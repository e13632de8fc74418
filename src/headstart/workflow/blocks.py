"""The blocks of a mixed table as features for one head.

Each block is centred and divided by one number, so that its total variance over the rows that learn is 1: a block of
1280 features and one of three then weigh the same in the penalty of a head, and inside a block the directions keep the
lengths that its network gave them. A block that a row does not have is 0 there, its mean; where that happens among the
rows that learn, one feature more says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.adapt.heads.choose import Chosen
from headstart.adapt.heads.head import LinearHead
from headstart.base.progress import QUIET, Observer, track
from headstart.data.mixed import BlockModality
from headstart.data.rows import Row
from headstart.records.run import FeatureRecord
from headstart.workflow.columns import choose_network, joined
from headstart.workflow.judge import Judgement, Known, Rules, choose_head, held_out

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone


@dataclass(frozen=True, eq=False)
class Source:
    """One block of n rows, before it is known who learns.

    here: (n,) bool.  X: (n, D) float32, 0 where the row does not have the block; None for columns, whose network is
    made from the rows that learn.  rows: n of them, for columns; networks: names of those to try on them.
    """

    name: str
    modality: BlockModality
    here: np.ndarray
    X: np.ndarray | None = None
    backbone: Backbone | None = None
    features: FeatureRecord | None = None
    rows: Sequence[Row] = ()
    networks: tuple[str, ...] = ()
    target: str = ""

    @property
    def runner(self) -> str:
        """What made X; networks on columns are run in float32."""
        return self.features.runner if self.features is not None else "torch-f32"


@dataclass(frozen=True, eq=False)
class View:
    """A block as the rows that learn show it.

    mean: (D,), scale: of the present ones among them.  missing: share of them that do not have it.
    """

    source: Source
    backbone: Backbone
    X: np.ndarray
    mean: np.ndarray
    scale: float
    missing: float

    @property
    def width(self) -> int:
        return len(self.mean) + (self.missing > 0)

    @property
    def Z(self) -> np.ndarray:
        """(n, width) float32 standardised features of all rows."""
        here = self.source.here
        Z = np.zeros((len(here), self.width), np.float32)
        Z[here, : len(self.mean)] = (self.X[here] - self.mean) / self.scale
        if self.missing > 0:
            Z[:, -1] = ~here - self.missing
        return Z

    def own_head(self, weight: np.ndarray) -> tuple[LinearHead, np.ndarray]:
        """(the head on the raw features of rows that have the block, (K,) what is added for rows that do not).

        weight: (K, width) of a head on Z. Its logits are the sum of what the blocks add, and its bias.
        """
        of_features = weight[:, : len(self.mean)] / self.scale
        of_missing = weight[:, -1] if self.missing > 0 else np.zeros(len(weight))
        bias = -of_features @ self.mean - self.missing * of_missing
        return LinearHead(of_features, bias), (1 - self.missing) * of_missing


def viewed(source: Source, learn: np.ndarray, known: Known, rules: Rules) -> View:
    """The block as these rows show it. Nothing of the others enters, not even their mean."""
    if source.X is not None and source.backbone is not None:
        return standardised(source, source.backbone, source.X, learn)
    from headstart.features.extract import features_of_rows

    rows = [source.rows[i] for i in learn]
    kept = choose_network(rows, known.take(learn), source.networks, rules, target=source.target)[0]
    return standardised(source, kept.backbone, features_of_rows(kept.backbone, source.rows), learn)


def standardised(source: Source, backbone: Backbone, X: np.ndarray, learn: np.ndarray) -> View:
    here = learn[source.here[learn]]
    of_learning = X[here].astype(np.float64) if len(here) else np.zeros((1, X.shape[1]))
    scale = float(np.sqrt(of_learning.var(axis=0).sum()))
    missing = 1 - len(here) / max(1, len(learn))
    return View(source, backbone, X, of_learning.mean(axis=0), scale if scale > 0 else 1.0, missing)


def beside_each_other(views: Sequence[View]) -> np.ndarray:
    """(n, sum of widths) float32: the features that one head learns from."""
    return np.concatenate([view.Z for view in views], axis=1)


@dataclass(frozen=True, eq=False)
class OnBlocks:
    """Views with the head that was chosen on them."""

    views: tuple[View, ...]
    chosen: Chosen
    Z: np.ndarray

    def judge(self, rows: np.ndarray, known: Known) -> Judgement:
        """What it says of ``rows``, which it must not have seen."""
        return held_out(self.chosen, known.take(rows).seeing(self.Z[rows]))

    @property
    def own_heads(self) -> list[tuple[LinearHead, np.ndarray]]:
        """Of each block its share of the one head, see ``View.own_head``; the bias is with the first."""
        head, ends = self.chosen.head, np.cumsum([view.width for view in self.views])
        weights = np.split(head.weight, ends[:-1], axis=1)
        shares = [view.own_head(weight) for view, weight in zip(self.views, weights, strict=True)]
        first, absent = shares[0]
        return [(first.shifted(head.bias), absent + head.bias), *shares[1:]]


def learn_from(sources: Sequence[Source], learn: np.ndarray, known: Known, rules: Rules) -> OnBlocks:
    """A head on these blocks, chosen on the rows that learn."""
    views = tuple(viewed(source, learn, known, rules) for source in sources)
    return on_views(views, learn, known, rules)


def on_views(views: tuple[View, ...], learn: np.ndarray, known: Known, rules: Rules) -> OnBlocks:
    Z = beside_each_other(views)
    return OnBlocks(views, choose_head(known.take(learn).seeing(Z[learn]), rules), Z)


@dataclass(frozen=True, eq=False)
class Round:
    """Some rows that learn, the rows they judge, and all blocks as the former show them."""

    learn: np.ndarray
    judged: np.ndarray
    views: tuple[View, ...]

    def of(self, names: Sequence[str], known: Known, rules: Rules) -> Judgement:
        """What a head on the blocks of these names says of the rows that are judged."""
        views = tuple(view for view in self.views if view.source.name in names)
        return on_views(views, self.learn, known, rules).judge(self.judged, known)


def said(
    rounds: Sequence[Round], names: Sequence[str], known: Known, rules: Rules, observer: Observer = QUIET
) -> Judgement:
    """Every judged row by a head on some of the blocks that had not seen it."""
    steps = track(rounds, observer, "judging by cross-validation", unit="rounds")
    parts = [one.of(names, known, rules) for one in steps]
    order = np.argsort(np.concatenate([one.judged for one in rounds]), kind="stable")
    return Judgement(joined([p.after for p in parts], order), joined([p.before for p in parts], order))
