"""From labelled files to a model with its evidence: the main story, read top to bottom.

The network runs once over the files. Everything after that – audit, split, heads, judgement – works on its features.
The test rows are sealed from the split until the head is chosen, and opened once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from headstart.adapt.heads.choose import Chosen
from headstart.base.config import to_dict
from headstart.base.errors import DataError, HeadstartError, shown
from headstart.base.files import key_of, write_bytes, write_json
from headstart.base.progress import QUIET, Observer, Said
from headstart.data.audit import audit
from headstart.data.dataset import Dataset
from headstart.data.split import group_rows
from headstart.evaluation.evaluate import evaluate
from headstart.evaluation.label_errors import label_issues
from headstart.evaluation.scores import check_score
from headstart.records.evaluation import LabelIssue
from headstart.records.run import SCHEMA, Ownership, RunFolder, RunRecord
from headstart.report.html import write_report
from headstart.workflow.clock import Clock
from headstart.workflow.config import FitConfig, cache_folder, default_out
from headstart.workflow.dividing import divide
from headstart.workflow.environment import machine, versions
from headstart.workflow.judge import (
    Contest,
    Known,
    Rules,
    baselines,
    choose_head,
    cross_validated,
    held_out,
    random_copy_features,
)
from headstart.workflow.reading import check_out, limits_of, read, stop_or_go, task_of
from headstart.workflow.run import Run


def fit(
    data: Any,
    y: Sequence[Any] | None = None,
    *,
    out: str | Path | None = None,
    config: FitConfig | None = None,
    cache: str | Path | None = None,
    overwrite: bool = False,
    observer: Observer = QUIET,
    command: str = "",
) -> Run:
    """A model for ``data`` with the evidence for it, in the folder ``out``.

    data: folder, table, frame, list of paths or images, or a Dataset.  y: targets where ``data`` has none.
    out: default runs/<name of the data>. A finished run of the same configuration on the same data is given back as
    it is; another run in that folder is an error unless ``overwrite``.
    Raises DataError for what must be mended in the data, EnvironmentFault for disk and machine; the data is never
    written to.
    """
    config = config or FitConfig()
    folder = RunFolder(Path(out) if out else default_out(data))
    with Ownership(folder) as ownership:
        if ownership.took_over:
            observer(Said(ownership.took_over, "warning"))
        return _fit(data, y, folder, config, cache_folder(cache), overwrite, observer, command)


def _fit(
    data: Any,
    y: Sequence[Any] | None,
    folder: RunFolder,
    config: FitConfig,
    cache: Path,
    overwrite: bool,
    observer: Observer,
    command: str,
) -> Run:
    clock, limits = Clock(), limits_of(config.data)
    with clock("reading"):
        dataset = read(data, y, config.data)
        first_task = task_of(dataset)  # one class, no labels, a wrong word: said before any work
        if config.metric:
            check_score(config.metric, first_task.name)
        check_out(folder.path)
        fingerprint = content_fingerprint(dataset)
        record = _beginning(config, command, fingerprint)
        if not overwrite and _is_done(folder, record, observer):
            return Run(folder, reused=True)
        folder.save(record)

    with clock("loading the network"):
        from headstart.backbones.catalogue import catalogue
        from headstart.features.extract import extract
        from headstart.workflow.choose_backbone import choose_backbone
        from headstart.workflow.keeping import check_saved, report_pictures, save_model
        from headstart.workflow.preprocessing import preprocessing_check

        weights = Path(config.weights) if config.weights else None
        name = choose_backbone(config.backbone, catalogue)
        backbone = catalogue.load(name, weights=weights, offline=config.offline)
        observer(Said(f"network: {backbone.card.name}, {backbone.card.parameters / 1e6:.1f} M parameters"))

    with clock("features"):
        features = extract(
            backbone,
            dataset,
            cache=cache,
            device=config.device,
            only_runner=config.runner,
            limits=limits,
            observer=observer,
        )
        rows = features.survey.rows

    with clock("audit and split"):
        found = audit(dataset, features.survey, features=features.X)
        folder.save(found)
        stop_or_go(found, config.data, observer)
        usable = dataset.take(rows)
        task = task_of(usable)
        groups = group_rows(dataset, rows, found.clusters, by=config.data.group_by)
        known = Known(features.X, task.encode(usable.targets or ()), groups, np.asarray(usable.ids, object), task)
        train, sealed, divided = divide(known, usable, config, found)
        folder.save(divided)
        write_bytes(folder.training_keys, b"".join(features.survey.keys[row] for row in rows[train]))
        observer(Said(divided.reason))

    feature_record = features.record
    if config.weights or name.startswith("file:"):
        with clock("checking the preprocessing"):
            sentence = preprocessing_check(
                backbone, usable, known, train, limits=limits, seed=config.seed, observer=observer
            )
            feature_record = replace(feature_record, preprocessing_check=sentence)

    with clock("heads"):
        rules = Rules(config.folds, config.metric, config.balance, config.seed)
        learnt = known.take(train)
        chosen = choose_head(learnt, rules, observer)
        folder.save(chosen.record)

    with clock("judging"):
        test = sealed.open("final evaluation") if sealed.count else np.zeros(0, np.int64)
        judged = held_out(chosen, known.take(test)) if len(test) else cross_validated(known, rules, observer=observer)

    with clock("baselines"):
        contest = Contest(known, replace(rules, balance="none", families=(chosen.family,)), train, test)
        at_random = random_copy_features(
            backbone, dataset, rows, cache=cache, device=config.device, seed=config.seed, observer=observer
        )
        beside = baselines(
            judged.after,
            contest,
            pixels=features.survey.tiny(rows).reshape(len(rows), -1).astype(np.float32) / 255,
            random_features=None if config.random_baseline == "off" else at_random,
            full_random=config.random_baseline == "full",
        )

    with clock("evaluation"):
        evaluation = evaluate(
            judged.after,
            baselines=beside,
            before=judged.before,
            label_issues=_label_issues(learnt, chosen),
            how=divided.how,
            headline=config.metric,
            resamples=config.resamples,
            seed=config.seed,
        )
        judged.after.save(folder.predictions)
        folder.save(evaluation)

    with clock("saving the model"):
        seal = save_model(
            folder,
            backbone=backbone,
            chosen=chosen,
            task=task,
            features=feature_record,
            evaluation=evaluation,
            split=divided,
            created=record.created,
        )
        agreement = check_saved(
            folder, dataset, rows, known, chosen, backbone.spec, limits, config.device, features.record.runner
        )

    with clock("report"):
        write_json(folder.pictures, report_pictures(dataset, divided.train, evaluation, found, backbone.spec, limits))
        record = replace(
            record,
            status="done",
            backbone=backbone.record,
            features=feature_record,
            model_sha256=seal,
            notes=(f"loaded back and compared on {agreement.n} images: largest difference {agreement.max_abs:.1e}",),
        )
        folder.save(replace(record, timing=clock.timing()))
        write_report(folder)
    folder.save(replace(record, timing=clock.timing()))
    return Run(folder)


def content_fingerprint(dataset: Dataset) -> str:
    """Names ids, contents, targets and division of a dataset; a file edited in place changes it."""
    contents = []
    for row in range(len(dataset)):
        try:
            contents.append(dataset.content(row)[0].hex())
        except OSError:
            contents.append("")
    return key_of([list(dataset.ids), contents, dataset.targets, list(dataset.splits), dataset.target_kind])


def _beginning(config: FitConfig, command: str, fingerprint: str) -> RunRecord:
    return RunRecord(
        schema=SCHEMA,
        command=command or "headstart.fit(…)",
        config=to_dict(config),
        versions=versions(),
        machine=machine(),
        seed=config.seed,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        data_fingerprint=fingerprint,
    )


def _is_done(folder: RunFolder, new: RunRecord, observer: Observer) -> bool:
    """Whether ``folder`` holds this very run, finished and undamaged. DataError when it holds another one."""
    if not folder.run.exists():
        return False
    old = folder.load(RunRecord)
    differing = _differences(old, new)
    if differing and old.status != "done":
        return False  # a start that came to nothing: there is nothing to lose
    if differing:
        raise DataError(
            f"EN71 {shown(folder.path)} holds a run with other settings: {'; '.join(differing)}. "
            "Name another folder with --out, or replace that run with --overwrite."
        )
    if old.status != "done":
        observer(Said("an earlier start of this run was interrupted; going on with what it left in the cache"))
        return False
    if dict(old.versions) != dict(new.versions):
        observer(Said("this run was made with other library versions; it is made again"))
        return False
    try:
        from headstart.bundle.manifest import read_manifest

        if read_manifest(folder.model).seal != old.model_sha256 or not folder.report.exists():
            raise DataError("the model is not the one this run saved")
    except HeadstartError as problem:
        observer(Said(f"the finished run here is damaged ({problem}); it is made again", "warning"))
        return False
    observer(Said("this run is finished already: same data, same settings, same versions"))
    return True


def _differences(old: RunRecord, new: RunRecord) -> list[str]:
    """What two runs were asked differently, in words."""
    then, now = _flat(old.config), _flat(new.config)
    found = [f"{k} was {then.get(k)}, now {now.get(k)}" for k in sorted({*then, *now}) if then.get(k) != now.get(k)]
    return found + (["the data has changed"] if old.data_fingerprint != new.data_fingerprint else [])


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(config, dict):
        return {prefix: config}
    parts = [_flat(value, f"{prefix}.{key}" if prefix else key) for key, value in config.items()]
    return {key: value for part in parts for key, value in part.items()}


def _label_issues(learnt: Known, chosen: Chosen) -> tuple[LabelIssue, ...]:
    """Training labels that the model, not having seen them, does not believe."""
    if learnt.task.name != "classification":
        return ()
    probabilities = learnt.task.decode(chosen.oof_logits / chosen.temperature)
    return label_issues(learnt.ids.tolist(), learnt.y, probabilities, learnt.task.labels)
