"""A small model that can learn: BatchNorm in it, dropout before its head, and examples that are all different."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from headstart.adapt.model import AdaptedModel
from headstart.backbones.catalogue import catalogue
from headstart.base.progress import QUIET
from headstart.base.seeds import stream
from headstart.inputs.batches import ArrayBatches
from headstart.training.checkpoint import NoCheckpoints
from headstart.training.engines.local import LocalEngine
from headstart.training.loop import LoopSettings, Source, Validation, train

N, SIDE, CLASSES = 20, 32, 3
IDS = tuple(f"photo-{i:02d}.png" for i in range(N))


def toy_model(name="toy/conv", *, dropout=0.3, seed=0) -> AdaptedModel:
    backbone = copy.deepcopy(catalogue.load(name))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        linear = nn.Linear(backbone.card.feature_dim, CLASSES)
    return AdaptedModel(backbone, nn.Sequential(nn.Dropout(dropout), linear) if dropout else linear)


def pictures(n=N, side=SIDE) -> np.ndarray:
    return stream(0, "test-pictures").integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def labels(n=N) -> torch.Tensor:
    return torch.from_numpy(stream(0, "test-labels").integers(0, CLASSES, n))


def cross_entropy(logits, targets):
    return nn.functional.cross_entropy(logits, targets, reduction="none")


@dataclass(frozen=True, eq=False)
class WholeFeed:
    """The whole network on pixels (or on any inputs given), in every phase."""

    module: nn.Module
    inputs: np.ndarray
    targets: torch.Tensor
    batch_size: int = 4
    seed: int = 0
    rank: int = 0
    world: int = 1

    def enter(self, phase):
        batches = ArrayBatches(
            self.inputs, self.targets, batch_size=self.batch_size, seed=self.seed, rank=self.rank, world=self.world
        )
        return Source(self.module, batches)


def validation_of(model, sign=-1.0):
    """Score and loss on pictures that are not learnt from; the score moves with every bit of the weights."""
    images = torch.from_numpy(stream(1, "test-pictures").integers(0, 256, (8, SIDE, SIDE, 3), dtype=np.uint8))
    targets = torch.arange(8) % CLASSES

    def validate():
        with torch.no_grad():
            loss = float(cross_entropy(model(images), targets).mean())
        return Validation(sign * loss, loss)

    return validate


def fit(model, plan, **changes):
    """train() with the defaults of these tests."""
    arguments = dict(
        feed=WholeFeed(model, pictures(), labels(), plan.batch_size),
        loss=cross_entropy,
        validate=None,
        greater_is_better=True,
        checkpoints=NoCheckpoints(),
        engine=LocalEngine(),
        settings=LoopSettings(),
        seed=0,
        ids=IDS,
        observer=QUIET,
    )
    return train(model, plan, **(arguments | changes))


def bits(model) -> dict[str, bytes]:
    return {name: t.detach().contiguous().numpy().tobytes() for name, t in model.state_dict().items()}


def differing(a, b) -> list[str]:
    return [name for name in a if a[name] != b[name]]
