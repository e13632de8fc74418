"""What training minimises: one number for each example, in float32 whatever the network computes in.

Regression learns in units of the training targets' standard deviation (``Units``). In raw units a rate means something
else for every data set: with a spread of s the head's effective rate is lr / s², so that the head of a network that
predicts 200,000 would never arrive, and that of one that predicts 0.0002 would explode.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.adapt.heads.head import LinearHead
from headstart.adapt.plan import Loss
from headstart.base.errors import PlanError, shown
from headstart.base.seeds import stream
from headstart.tasks.task import Task

# By task; the first is what 'auto' means.
FITTING = {
    "classification": ("cross-entropy", "pairs"),
    "multilabel": ("binary-cross-entropy",),
    "regression": ("mse", "mae", "huber"),
}
_BALANCES = {
    "classification": ("none", "weights", "softmax"),
    "multilabel": ("none", "weights"),
    "regression": ("none",),
}


class LossFunction(Protocol):
    """(b, K) logits of any float type, and targets from ``as_targets`` or ``Mixup`` → (b,) float32, not averaged.

    float64 logits stay float64, so that gradients can be checked against finite differences.
    """

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor: ...


def loss_for(task: Task, spec: Loss, *, y: np.ndarray) -> LossFunction:
    """The loss that ``spec`` asks for; PlanError PL50 where it does not fit ``task``.

    y: the encoded training targets; class shares and the spread of the values come from them. For regression in the
    units in which the network learns: ``Units.learnt(y)``.
    """
    check_loss(task, spec)
    if spec.kind == "pairs":
        return PairLoss()
    if task.name == "classification":
        return CrossEntropy.of(y, task.outputs, spec)
    if task.name == "multilabel":
        return BinaryCrossEntropy.of(y, spec)
    return ValueLoss(_REGRESSION[_kind(task, spec)], torch.as_tensor(_spread(y), dtype=torch.float32))


def check_loss(task: Task, spec: Loss) -> None:
    """PlanError PL50, all problems together, unless ``task`` can learn with ``spec``."""
    problems = list(_problems(task, spec))
    if problems:
        raise PlanError(f"PL50 the plan's loss does not fit a {task.name} task: {'; '.join(problems)}.")


def as_targets(task: Task, y: np.ndarray) -> Tensor:
    """Encoded targets as the losses take them: (n,) int64 classes, else (n, K) float32."""
    dtype = torch.int64 if task.name == "classification" else torch.float32
    return torch.as_tensor(np.ascontiguousarray(y)).to(dtype)


def constant_loss(task: Task, loss: LossFunction, y: np.ndarray) -> float:
    """The mean ``loss`` of the best of two answers that are the same for all: what is usual, and no preference.

    y: as ``loss`` was made from. For plain cross-entropy it is the entropy of the class shares.
    """
    targets = as_targets(task, y)
    if task.name == "regression":
        usual = np.mean(y, axis=0)
    elif task.name == "classification":
        usual = _log_shares(np.bincount(y, minlength=task.outputs)).numpy()
    else:
        shares = np.clip(np.mean(y, axis=0), 1e-3, 1 - 1e-3)
        usual = np.log(shares / (1 - shares))
    answers = (np.asarray(usual, np.float32), np.zeros(task.outputs, np.float32))
    each = [loss(torch.from_numpy(answer).expand(len(targets), -1), targets) for answer in answers]
    return min(float(losses.mean()) for losses in each)


@dataclass(frozen=True, eq=False)
class CrossEntropy:
    """−Σ_c w_c q_c log softmax(z + offset)_c, with q the target smoothed towards 1/K.

    weight: (K,), n / (K n_c) with 'weights': each class counts as much as any other, and the mean over the training
    examples is 1.  offset: (K,), log n_c with 'softmax' (balanced softmax, Ren et al. 2020), and only in
    training: the logits that predict go without it.  Both None otherwise.
    """

    smoothing: float
    weight: Tensor | None
    offset: Tensor | None

    @classmethod
    def of(cls, y: np.ndarray, classes: int, spec: Loss) -> CrossEntropy:
        counts = np.bincount(y, minlength=classes)
        weight = torch.as_tensor(_class_weights(counts), dtype=torch.float32) if spec.balanced == "weights" else None
        return cls(spec.label_smoothing, weight, _log_shares(counts) if spec.balanced == "softmax" else None)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        z = _wide(logits)
        if self.offset is not None:
            z = z + self.offset.to(z)
        weight = None if self.weight is None else self.weight.to(z)
        if targets.is_floating_point():
            targets = targets.to(z)  # shares of classes, after mixup
        return F.cross_entropy(z, targets, weight, reduction="none", label_smoothing=self.smoothing)


@dataclass(frozen=True, eq=False)
class BinaryCrossEntropy:
    """The mean over the labels of −w⁺ q log σ(z) − w⁻ (1 − q) log(1 − σ(z)), with q smoothed towards ½.

    positive, negative: (K,) with 'weights': n / (2 n⁺) and n / (2 n⁻), so that for every label both answers count
    alike and the mean weight is 1. That is torch's pos_weight n⁻ / n⁺ times w⁻; without the factor, the loss of a label
    that nearly everyone carries would all but vanish.
    """

    smoothing: float
    positive: Tensor
    negative: Tensor

    @classmethod
    def of(cls, y: np.ndarray, spec: Loss) -> BinaryCrossEntropy:
        carried = np.asarray(y).sum(axis=0)
        counts = np.stack([carried, len(y) - carried]).astype(np.float64)
        weights = np.ones_like(counts)
        if spec.balanced == "weights":
            both = counts.min(axis=0) > 0  # a label with one answer only has nothing to balance
            weights[:, both] = len(y) / (2 * counts[:, both])
        positive, negative = torch.as_tensor(weights, dtype=torch.float32)
        return cls(spec.label_smoothing, positive, negative)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        z = _wide(logits)
        q = targets.to(z) * (1 - self.smoothing) + self.smoothing / 2
        each = self.positive.to(z) * q * F.softplus(-z) + self.negative.to(z) * (1 - q) * F.softplus(z)
        return each.mean(dim=1)


class PairLoss:
    """(cosine − target)² over the pairs of a batch; the target is 1 for two texts of one class and 0 for others.

    Takes (b, D) features and (b,) classes. CosineSimilarityLoss of sentence-transformers, with which SetFit trains
    (Tunstall et al. 2022, section 3). Where we differ: it draws b pairs and sends 2b texts through the network; here
    all pairs of b texts count, like and unlike ones half each. (b,) whose mean is that; row i has its own pairs.
    """

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        unit = F.normalize(_wide(logits))
        like = targets[:, None] == targets
        like_pairs, unlike = like & ~torch.eye(len(like), dtype=torch.bool, device=like.device), ~like
        wrong = (unit @ unit.T - like.to(unit)).square()
        kinds = [pairs.to(unit) / pairs.sum() for pairs in (like_pairs, unlike) if pairs.any()]
        if not kinds:
            return wrong.sum(dim=1) * 0.0  # one text: nothing to compare it with
        each: Tensor = (wrong * sum(kinds) / len(kinds)).sum(dim=1) * len(like)
        return each


@dataclass(frozen=True, eq=False)
class ValueLoss:
    """The mean over the K values of ``of`` the residuals, which are counted in standard deviations of the targets.

    So neither the loss nor its rate depends on the unit of measurement. spread: (K,); 1 for a constant column.
    """

    of: _Residual
    spread: Tensor

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        z = _wide(logits)
        spread = self.spread.to(z)
        return self.of(z / spread, targets.to(z) / spread, reduction="none").mean(dim=1)


class _Residual(Protocol):
    def __call__(self, input: Tensor, target: Tensor, *, reduction: str) -> Tensor: ...


_REGRESSION: dict[str, _Residual] = {
    "mse": F.mse_loss,
    "mae": F.l1_loss,
    "huber": F.huber_loss,  # quadratic within one standard deviation
}


@dataclass(frozen=True, eq=False)
class Units:
    """In what the network learns: raw = mean + spread · learnt. Nothing but names for classes and labels.

    mean, spread: (K,) float64.  The head starts as ``learnt_head`` of the probe, is trained on ``learnt`` targets, and
    is given back as ``raw_head``; ``raw`` turns its logits into values for a score.
    """

    mean: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, task: Task, y: np.ndarray) -> Units:
        """From the encoded training targets: mean and standard deviation for regression, else 0 and 1."""
        if task.name != "regression":
            return cls(np.zeros(task.outputs), np.ones(task.outputs))
        return cls(np.asarray(np.mean(y, axis=0, dtype=np.float64)), _spread(y))

    @property
    def _plain(self) -> bool:
        return not self.mean.any() and bool((self.spread == 1).all())

    def learnt(self, y: np.ndarray) -> np.ndarray:
        return y if self._plain else (y - self.mean) / self.spread

    def raw(self, logits: np.ndarray) -> np.ndarray:
        return logits if self._plain else self.mean + self.spread * logits

    def learnt_head(self, head: LinearHead) -> LinearHead:
        return LinearHead(head.weight / self.spread[:, None], (head.bias - self.mean) / self.spread)

    def raw_head(self, head: LinearHead) -> LinearHead:
        return LinearHead(head.weight * self.spread[:, None], self.mean + self.spread * head.bias)


@dataclass(frozen=True)
class Mixup:
    """Each example mixed with another of its batch, pictures and targets alike (Zhang et al. 2018).

    alpha: of the Beta distribution that one share a batch is drawn from; 0 changes nothing.  classes: K.
    A pure function of (seed, step): a resumed run mixes what the uninterrupted one mixed. All our losses of classes
    and labels are linear in the target, so the loss of the mixed target is the mixture of the two losses.
    """

    alpha: float
    classes: int
    seed: int

    def __post_init__(self) -> None:
        if not (self.alpha >= 0 and math.isfinite(self.alpha)):
            raise PlanError(f"PL51 mixup is the α of a Beta distribution, 0 (off) or more, got {self.alpha}.")

    def drawn(self, step: int, size: int) -> tuple[float, np.ndarray]:
        """(share in [0, 1] that an example keeps of itself, (size,) positions of the partners) at ``step``."""
        if self.alpha == 0:
            return 1.0, np.arange(size)
        rng = stream(self.seed, "mixup", step)
        return float(rng.beta(self.alpha, self.alpha)), rng.permutation(size)

    def __call__(self, step: int, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mixed (inputs, targets) of a whole batch, before it is divided into micro-batches.

        inputs: uint8 pixels become float32 on the same 0..255; float activations keep their type.
        targets: (b,) classes become (b, K) float32 shares; (b, K) labels stay that shape.
        """
        if self.alpha == 0:
            return inputs, targets
        share, partners = self.drawn(step, len(inputs))
        partner = torch.as_tensor(partners, device=inputs.device)
        mixed = _blend(inputs, partner, share)
        if not targets.is_floating_point():
            targets = F.one_hot(targets, self.classes).float()
        return mixed, _blend(targets, partner.to(targets.device), share)


def _blend(own: Tensor, partner: Tensor, share: float) -> Tensor:
    """share · own + (1 − share) · own[partner], computed in float32, exact at both ends."""
    wide = own.float()
    mixed = torch.lerp(wide[partner], wide, share)
    return mixed.to(own.dtype) if own.is_floating_point() else mixed


def _kind(task: Task, spec: Loss) -> str:
    return FITTING[task.name][0] if spec.kind == "auto" else spec.kind


def _problems(task: Task, spec: Loss) -> Iterator[str]:
    fitting, balances = FITTING[task.name], _BALANCES[task.name]
    if _kind(task, spec) not in fitting:
        yield f"kind '{shown(spec.kind)}' is for another task; what fits: 'auto', {_quoted(fitting)}"
    if spec.balanced not in balances:
        yield f"balanced '{shown(spec.balanced)}' is for another task; what fits: {_quoted(balances)}"
    if not 0 <= spec.label_smoothing < 1:
        yield f"label_smoothing is a share of the target in [0, 1), got {spec.label_smoothing}"
    if not (spec.mixup >= 0 and math.isfinite(spec.mixup)):
        yield f"mixup is the α of a Beta distribution, 0 (off) or more, got {spec.mixup}"
    if task.name == "regression" and spec.label_smoothing:
        yield "label_smoothing is for classes and labels; leave it at 0"
    if task.name == "regression" and spec.mixup:
        yield "mixup is for classes and labels; leave it at 0"


def _quoted(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _class_weights(counts: np.ndarray) -> np.ndarray:
    """n / (K n_c) over the K classes that occur; 0 for one that does not, which no example can miss."""
    present = counts > 0
    weights = np.zeros(len(counts))
    weights[present] = counts.sum() / (present.sum() * counts[present])
    return weights


def _log_shares(counts: np.ndarray) -> Tensor:
    """log n_c / n; a class that does not occur counts as one example, for −∞ would poison a smoothed target."""
    shares = np.maximum(counts, 1) / max(1, counts.sum())
    return torch.as_tensor(np.log(shares), dtype=torch.float32)


def _spread(y: np.ndarray) -> np.ndarray:
    """(K,) standard deviations; 1 where a column is constant, whose rounding noise is no unit."""
    values = np.asarray(y, np.float64)
    deviation = values.std(axis=0)
    constant = (np.ptp(values, axis=0) == 0) | (deviation == 0)
    return np.asarray(np.where(constant, 1.0, deviation))
