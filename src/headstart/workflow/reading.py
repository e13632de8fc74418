"""The first half of every story: files → looked-at, embedded, audited data. Shared by fit, inspect and evaluate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headstart.base.errors import DataError, EnvironmentFault, PlanError, listed, shown
from headstart.base.progress import QUIET, Observer, Said
from headstart.data.dataset import Dataset
from headstart.data.decode import ImageLimits
from headstart.data.looks import ImageLook, Look, MixedLook, TextLook, look_for
from headstart.data.mixed import ColumnKind
from headstart.data.open import open_dataset
from headstart.data.parts import parts_of
from headstart.data.words import words_of
from headstart.records.audit import Audit
from headstart.tasks.classification import Classification
from headstart.tasks.multilabel import MultiLabel
from headstart.tasks.regression import Regression
from headstart.tasks.task import Task
from headstart.workflow.config import AS_PUBLISHED, DataConfig, FitConfig


def read(
    source: Any,
    y: Sequence[Any] | None,
    config: DataConfig,
    learnt: Mapping[str, ColumnKind] | None = None,
    observer: Observer = QUIET,
) -> Dataset:
    """The dataset that ``config`` describes; learnt: columns that a saved model was made for."""
    if isinstance(source, Dataset):
        return source
    return open_dataset(
        source,
        y=y,
        target=config.target,
        path_column=config.path_column,
        split_column=config.split_column,
        task=config.task,
        encoding=config.encoding,
        allow_outside=config.allow_outside,
        drop_unlabelled=config.drop_unlabelled,
        allow_empty=config.allow_empty,
        text=config.text,
        features=config.features,
        group_by=config.group_by,
        learnt=learnt,
        observer=observer,
        decimal=config.decimal,
    )


def look_of(dataset: Dataset, config: DataConfig) -> Look:
    """How the examples of ``dataset`` are read, within the limits of ``config``."""
    return look_of_modality(dataset.modality, config)


def look_of_modality(modality: str, config: DataConfig) -> Look:
    """The same for examples of one modality, or blocks of it."""
    if modality == "image":
        return ImageLook(limits_of(config))
    if modality == "text":
        return TextLook(config.encoding)
    if modality == "mixed":
        return MixedLook(ImageLook(limits_of(config)), TextLook(config.encoding))
    return look_for(modality)


def check_ways(dataset: Dataset, config: FitConfig) -> None:
    """PlanError PL81 for what is done with pictures only, PL86 with one kind of column; said before any work."""
    if dataset.modality == "mixed":
        _check_ways_of_mixed(dataset, config)
    asked = {
        "--strategy": config.tuning.strategy != "probe" and dataset.modality not in ("text", "audio"),
        "--prove": config.prove,
        "--cut-at, --pooling or --channels": config.structure != AS_PUBLISHED,
    }
    wrong = [flag for flag, is_asked in asked.items() if is_asked]
    if dataset.modality != "image" and wrong:
        raise PlanError(
            f"PL81 {listed(wrong)}: this is done with networks for images, and this data is "
            f"{words_of(dataset.modality).many}. Leave it out."
        )


def _check_ways_of_mixed(dataset: Dataset, config: FitConfig) -> None:
    asked = {
        "--strategy or --time": config.tuning.strategy != "probe",
        "--prove": config.prove,
        "--cut-at, --pooling or --channels": config.structure != AS_PUBLISHED,
        "--weights": config.weights is not None,
        "--runner": config.runner is not None,
        "--backbone auto": config.backbone == "auto",
    }
    wrong = [flag for flag, is_asked in asked.items() if is_asked]
    if wrong:
        raise PlanError(
            f"PL86 {listed(wrong)}: not with several kinds of columns at once, here {_kinds_in(dataset)}. Leave it "
            "out, and a head is fitted on all of them; or name one kind only, with --text COLUMN or --path-column "
            "COLUMN alone."
        )


def check_one_kind(dataset: Dataset, verb: str) -> None:
    """PlanError PL86 for a mixed table where ``verb`` works on one kind of column."""
    if dataset.modality == "mixed":
        raise PlanError(
            f"PL86 {verb} works on one kind of column at a time, and here are several: {_kinds_in(dataset)}. Name one "
            "only, with --text COLUMN or --path-column COLUMN alone."
        )


def _kinds_in(dataset: Dataset) -> str:
    return listed([f"'{part.name}' ({words_of(part.modality).many})" for part in parts_of(dataset)])


def limits_of(config: DataConfig) -> ImageLimits:
    return ImageLimits(max_pixels=config.max_pixels)


def task_of(dataset: Dataset, rows: Sequence[int] | None = None) -> Task:
    """The task that the targets (of these rows) ask for. DataError DA45 where there is nothing to learn."""
    if dataset.targets is None:
        raise DataError(
            f"DA47 {shown(dataset.origin)} has no labels. Put the {words_of(dataset.modality).held} into one folder "
            "per class, or give a table with a target column."
        )
    targets = dataset.targets if rows is None else [dataset.targets[r] for r in rows]
    if dataset.target_kind == "multi-label":
        return MultiLabel.from_targets(targets)
    if dataset.target_kind == "regression":
        return Regression.from_targets(targets)
    return Classification.from_targets(targets)


def stop_or_go(audit: Audit, config: DataConfig, observer: Observer) -> None:
    """Say what was found; DataError with everything that must be decided first."""
    accepted = {"DA26": config.accept_bad, "DA42": config.accept_leakage}
    stops = [f for f in audit.findings if f.severity == "stop" and not accepted.get(f.code, False)]
    if stops:
        raise DataError("\n".join(f"{f.code} {f.text}" for f in stops))
    for finding in audit.findings:
        observer(Said(f"{finding.code} {finding.text}", "note" if finding.severity == "note" else "warning"))
    if len(audit.quarantined) > 1:  # DA26 has told the one
        first = [f"{q.id} ({q.code} {q.reason})" for q in audit.quarantined]
        held = words_of(audit.modality).held
        observer(Said(f"{len(audit.quarantined)} {held} are left out: {listed(first)}", "warning"))


def check_out(out: Path) -> None:
    """Fail before the work rather than after it: the output must be writable."""
    from headstart.base.files import make_folder, write_bytes

    make_folder(out)
    probe = out / ".write-test"
    try:
        write_bytes(probe, b"")
        probe.unlink()
    except EnvironmentFault:
        raise
    except OSError as error:
        from headstart.base.files import disk_fault

        raise disk_fault(error, out) from error
