"""What a network says with random weights in it: the control for 'did the pretrained ones help?'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.base.progress import Observer, Said
from headstart.data.dataset import Dataset
from headstart.data.looks import Look

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone
    from headstart.features.choose import RunnerChoice
    from headstart.features.extract import Features


@dataclass(eq=False)
class AtRandom:
    """Rows of ``dataset`` → their features by a randomly initialised copy of ``of``, cached like all others.

    The copy is made and converted once, however often it is asked. runner: of the network itself; where the copy does
    not agree with float32 in it, plain torch takes its place.
    """

    of: Backbone
    dataset: Dataset
    runner: str
    cache: Path
    device: str
    seed: int
    look: Look
    observer: Observer

    def __call__(self, rows: Sequence[int]) -> Features:
        from headstart.features.choose import Disagreement, plainest

        try:
            return self._features(rows)
        except Disagreement as disagreement:
            self.observer(Said(f"with random weights, {disagreement.of}; plain torch takes its place"))
            self.runner = plainest(self.copy, self.device)
            del self.choice
            return self._features(rows)

    def _features(self, rows: Sequence[int]) -> Features:
        from headstart.features.extract import extract

        return extract(
            self.copy,
            self.dataset.take(rows),
            cache=self.cache,
            device=self.device,
            only_runner=self.choice,
            look=self.look,
            observer=self.observer,
            what="the same with random weights",
        )

    @cached_property
    def copy(self) -> Backbone:
        return self.of.random_copy(self.seed)

    @cached_property
    def choice(self) -> RunnerChoice:
        from headstart.features.choose import CHECKED, named
        from headstart.features.extract import sample
        from headstart.features.feeds import feed_for

        feed = feed_for(self.copy)
        return named(self.copy, self.runner, self.device, lambda: sample(feed, self.dataset, self.look, CHECKED))
