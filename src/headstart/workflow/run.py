"""What ``fit`` gives back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.records.audit import Audit, SplitRecord
from headstart.records.blocks import BlocksRecord
from headstart.records.evaluation import Evaluation
from headstart.records.few_shot import FewShotRecord
from headstart.records.heads import HeadRecord
from headstart.records.ladder import LadderRecord
from headstart.records.predictions import Predictions
from headstart.records.proof import ProofRecord
from headstart.records.run import RunFolder, RunRecord

if TYPE_CHECKING:
    from headstart.bundle.mixed_predictor import MixedPredictor
    from headstart.bundle.predictor import Predictor


@dataclass(frozen=True)
class Run:
    """A finished run: records read when asked for, and the model that was saved.

    reused: the folder held this very run already, so nothing was computed.
    """

    folder: RunFolder
    reused: bool = False

    @cached_property
    def record(self) -> RunRecord:
        return self.folder.load(RunRecord)

    @cached_property
    def audit(self) -> Audit:
        return self.folder.load(Audit)

    @cached_property
    def split(self) -> SplitRecord:
        return self.folder.load(SplitRecord)

    @cached_property
    def heads(self) -> HeadRecord:
        return self.folder.load(HeadRecord)

    @cached_property
    def ladder(self) -> LadderRecord | None:
        """What came after the probe; None where no network was trained."""
        return self.folder.load(LadderRecord) if self.folder.ladder.exists() else None

    @cached_property
    def proof(self) -> ProofRecord | None:
        """What it would have cost to do without transfer; None where that was not asked for."""
        return self.folder.load(ProofRecord) if self.folder.proof.exists() else None

    @cached_property
    def few_shot(self) -> FewShotRecord | None:
        """What fewer labels would have given; None where there is nothing between one example and all."""
        return self.folder.load(FewShotRecord) if self.folder.few_shot.exists() else None

    @cached_property
    def blocks(self) -> BlocksRecord | None:
        """What each kind of column is worth; None where the data is of one kind."""
        return self.folder.load(BlocksRecord) if self.folder.blocks.exists() else None

    @cached_property
    def evaluation(self) -> Evaluation:
        return self.folder.load(Evaluation)

    @cached_property
    def predictions(self) -> Predictions:
        """What the model said of the test examples (or, by cross-validation, of all)."""
        return self.folder.load_predictions()

    @cached_property
    def predictor(self) -> Predictor | MixedPredictor:
        from headstart.bundle.load import load

        return load(self.folder.model)

    @property
    def report(self) -> Path:
        return self.folder.report

    def __str__(self) -> str:
        verdict = self.evaluation.verdict
        lines = [f"{self.evaluation.headline}: {self.evaluation.score}"]
        lines += [f"  {b.key}: {b.score}" for b in self.evaluation.baselines]
        return "\n".join([*lines, *([verdict.sentence] if verdict else [])])
