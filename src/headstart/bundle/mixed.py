"""A model on rows of several blocks: a folder of ordinary model folders, one a block, whose outputs are added.

One linear head on features that stand beside each other is a sum of linear heads, one on the features of each block.
So each block is saved as a model of its own, which its library opens; what it gives is its share of the answer, and a
row that does not have the block gets a constant instead. Nothing else is needed but that sum.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from headstart.adapt.heads.head import LinearHead
from headstart.backbones.card import BackboneCard, Weights
from headstart.base.errors import BundleError, shown
from headstart.bundle.load import load
from headstart.bundle.manifest import (
    CARD,
    LABELS,
    MANIFEST,
    BlockFacts,
    FileFacts,
    HeadFacts,
    Manifest,
    manifest_bytes,
    read_manifest,
)
from headstart.bundle.mixed_predictor import MixedPredictor
from headstart.bundle.model_card import model_card
from headstart.bundle.predictor import Predictor
from headstart.bundle.save import (
    Agreement,
    ModelFacts,
    check_replaceable,
    compared,
    contents,
    described,
    json_bytes,
    without_folders,
    write_whole,
)
from headstart.data.dataset import Dataset
from headstart.data.mixed import BlockModality, ColumnKind
from headstart.inputs.columns import kinds_of
from headstart.inputs.spec import MixedSpec, VectorSpec
from headstart.records.run import BackboneRecord
from headstart.tasks.task import Task

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone


@dataclass(frozen=True, eq=False)
class SavedBlock:
    """head: its share of the one head, on raw features.  absent: (K,) what rows without the block get instead."""

    name: str
    modality: BlockModality
    backbone: Backbone
    head: LinearHead
    absent: np.ndarray
    runner: str

    @property
    def kinds(self) -> dict[str, ColumnKind]:
        """Columns of the table that it is made of, with what they hold."""
        spec = self.backbone.card.input
        if isinstance(spec, VectorSpec):
            return dict(kinds_of(spec.columns))
        return {self.name: cast(ColumnKind, self.modality)}


def save_mixed(
    folder: Path | str,
    blocks: Sequence[SavedBlock],
    *,
    task: Task,
    temperature: float,
    target: str,
    facts: ModelFacts,
) -> Manifest:
    """Write the model folder and return its manifest; errors as ``save``. target: the column that is predicted."""
    folder = Path(os.path.abspath(folder))
    check_replaceable(folder)
    parts: dict[str, bytes] = {}
    of_blocks = []
    for number, block in enumerate(blocks, 1):
        place = f"{number}-{_plain(block.name)}"
        own = replace(
            facts,
            runner=block.runner,
            rounded=block.modality != "vector",
            evaluation=None,
            notes=("one block of a model on mixed rows: its outputs are added to those of the other blocks",),
        )
        files, manifest = contents(block.backbone, block.head, task, temperature, own)
        parts |= {f"{place}/{name}": content for name, content in files.items()}
        absent = tuple((block.absent / temperature).tolist())
        of_blocks.append(BlockFacts(block.name, block.modality, place, manifest.seal, absent))
    spec = MixedSpec({name: kind for block in blocks for name, kind in block.kinds.items()}, target)
    manifest = described(
        task,
        facts,
        backbone=combined([without_folders(block.backbone.record) for block in blocks]),
        opens_with="headstart",
        spec=spec,
        head=HeadFacts(facts.head_family, dict(facts.head_setting), float(temperature), "", ""),
        licence=_each(block.backbone.card.licence for block in blocks),
        blocks=tuple(of_blocks),
    )
    own_files = {LABELS: json_bytes(list(task.labels))}
    card = model_card(manifest, _card(manifest), facts.evaluation)
    own_files[CARD] = card.encode("utf-8", "backslashreplace")
    listed = {name: FileFacts(hashlib.sha256(b).hexdigest(), len(b)) for name, b in own_files.items()}
    manifest = replace(manifest, files=listed)
    own_files[MANIFEST], seal = manifest_bytes(manifest)
    write_whole(folder, parts | own_files)
    return replace(manifest, seal=seal)


def load_mixed(folder: Path, manifest: Manifest, *, device: str, precision: str | None, verify: bool) -> MixedPredictor:
    """The model of a folder whose manifest names blocks; errors as ``load``."""
    parts = {}
    for block in manifest.blocks:
        where = shown(folder / block.folder)
        if (folder / block.folder).is_symlink():
            raise BundleError(f"CK15 {where} is a link; a model folder holds plain files and folders only.")
        if read_manifest(folder / block.folder, verify=False).blocks:
            raise BundleError(f"CK25 {where} has blocks of its own. Refused.")
        part = load(folder / block.folder, device=device, precision=precision, verify=verify)
        assert isinstance(part, Predictor), "without blocks of its own"
        if verify and part.manifest.seal != block.seal:
            raise BundleError(f"CK25 {where} is not the block that was saved here. Refused. Copy the folder again.")
        if part.labels != manifest.labels or part.backbone.card.modality != block.modality:
            raise BundleError(f"CK25 {where} has other labels or another kind of input than {MANIFEST} says. Refused.")
        parts[block.name] = part
    return MixedPredictor(manifest, parts, verified=verify)


def check_answers(folder: Path, rows: Dataset, expected: np.ndarray, *, device: str) -> Agreement:
    """Load the folder back and compare its answers to ``rows``; BundleError CK26 when they differ.

    expected: (n, K) calibrated scores that the run evaluated for them.
    """
    predictor = load(folder, device=device)
    answers = predictor.predict(rows)
    if len(answers) != len(rows):
        raise BundleError(f"CK26 {shown(folder)}: loaded back, it answers {len(answers)} of {len(rows)} rows.")
    return compared(folder, predictor.task, answers.scores, expected)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "block"


def combined(records: Sequence[BackboneRecord]) -> BackboneRecord:
    """Several networks, told as one: numbers are added, names stand beside each other."""
    return BackboneRecord(
        name=_each(r.name for r in records),
        architecture=_each(r.architecture for r in records),
        parameters=sum(r.parameters for r in records),
        feature_dim=sum(r.feature_dim for r in records),
        licence=_each(r.licence for r in records),
        trained_on=_each(r.trained_on for r in records),
        weights_file=_each(r.weights_file for r in records),
        weights_sha256=hashlib.sha256("".join(r.weights_sha256 for r in records).encode()).hexdigest(),
        weights_size=sum(r.weights_size for r in records),
        loader="by block",
        matched=sum(r.matched for r in records),
        expected=sum(r.expected for r in records),
    )


def _each(words: Iterable[str]) -> str:
    return " + ".join(dict.fromkeys(word for word in words if word))


def _card(manifest: Manifest) -> BackboneCard:
    b = manifest.backbone
    weights = Weights("file", MANIFEST, here=True)
    return BackboneCard(
        b.name, "mixed", b.architecture, manifest.input, b.feature_dim, b.parameters, b.licence, b.trained_on, weights
    )
