"""A run folder, read once: every record that is there, None for what is not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from headstart.data.words import Words, words_of
from headstart.records.audit import Audit, SplitRecord
from headstart.records.blocks import BlocksRecord
from headstart.records.columns import ColumnsRecord
from headstart.records.evaluation import Evaluation
from headstart.records.few_shot import FewShotRecord
from headstart.records.heads import HeadRecord
from headstart.records.ladder import LadderRecord
from headstart.records.proof import ProofRecord
from headstart.records.ranking import RankRecord
from headstart.records.run import RunFolder, RunRecord
from headstart.report.pictures import Pictures

R = TypeVar("R")


@dataclass(frozen=True)
class Records:
    """What a run folder holds; None for what is not there (yet)."""

    name: str
    run: RunRecord | None
    audit: Audit | None
    split: SplitRecord | None
    ranking: RankRecord | None
    heads: HeadRecord | None
    ladder: LadderRecord | None
    proof: ProofRecord | None
    few_shot: FewShotRecord | None
    columns: ColumnsRecord | None
    blocks: BlocksRecord | None
    evaluation: Evaluation | None
    pictures: Pictures

    @property
    def words(self) -> Words:
        """What the examples of this run are called."""
        return words_of(self.audit.modality if self.audit else "image")

    @classmethod
    def read(cls, run: RunFolder) -> Records:
        def load(kind: type[R], path: Path) -> R | None:
            return run.load(kind) if path.exists() else None

        return cls(
            run.path.resolve().name,
            load(RunRecord, run.run),
            load(Audit, run.audit),
            load(SplitRecord, run.split),
            load(RankRecord, run.ranking),
            load(HeadRecord, run.heads),
            load(LadderRecord, run.ladder),
            load(ProofRecord, run.proof),
            load(FewShotRecord, run.few_shot),
            load(ColumnsRecord, run.columns),
            load(BlocksRecord, run.blocks),
            load(Evaluation, run.evaluation),
            Pictures.read(run.pictures),
        )
