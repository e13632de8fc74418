"""From labelled files to a model with its evidence: the main story, read top to bottom.

The network runs once over the files. Everything after that – audit, split, heads, judgement – works on its features.
The test rows are sealed from the split until the head is chosen, and opened once.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.base.config import to_dict
from headstart.base.errors import DataError, HeadstartError, Stopped, shown
from headstart.base.files import key_of, write_bytes, write_json
from headstart.base.progress import QUIET, Observer, Said
from headstart.data.audit import audit
from headstart.data.dataset import Dataset
from headstart.data.split import group_rows
from headstart.evaluation.evaluate import evaluate
from headstart.evaluation.scores import check_score
from headstart.records.run import SCHEMA, Ownership, RunFolder, RunRecord
from headstart.report.html import write_report
from headstart.workflow.at_random import AtRandom
from headstart.workflow.clock import Clock, Deadline
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
    doubted,
    held_out,
)
from headstart.workflow.modalities import EVIDENCE
from headstart.workflow.reading import check_out, check_ways, limits_of, look_of, read, stop_or_go, task_of
from headstart.workflow.run import Run

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone
    from headstart.features.extract import Features


def fit(
    data: Any,
    y: Sequence[Any] | None = None,
    *,
    out: str | Path | None = None,
    config: FitConfig | None = None,
    cache: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    observer: Observer = QUIET,
    command: str = "",
) -> Run:
    """A model for ``data`` with the evidence for it, in the folder ``out``.

    data: folder, table, frame, list of paths or images, or a Dataset.  y: targets where ``data`` has none.
    out: default runs/<name of the data>. A finished run of the same configuration on the same data is given back as
    it is; another run in that folder is an error unless ``overwrite``. An interrupted run is gone on with.
    resume: there must be one, and nothing else will do.
    Raises DataError for what must be mended in the data, EnvironmentFault for disk and machine; the data is never
    written to.
    """
    config = config or FitConfig()
    folder = RunFolder(Path(out) if out else default_out(data))
    if resume and overwrite:
        raise DataError("EN76 --resume goes on with a run and --overwrite replaces it; give one of them.")
    if resume and not folder.run.exists():
        raise DataError(
            f"EN76 {shown(folder.path)} holds no run to resume. Name the folder of the interrupted run with --out, or "
            "leave --resume out."
        )
    with Ownership(folder) as ownership:
        if ownership.took_over:
            observer(Said(ownership.took_over, "warning"))
        return _fit(data, y, folder, ownership, config, cache_folder(cache), overwrite, resume, observer, command)


def _fit(
    data: Any,
    y: Sequence[Any] | None,
    folder: RunFolder,
    ownership: Ownership,
    config: FitConfig,
    cache: Path,
    overwrite: bool,
    resume: bool,
    observer: Observer,
    command: str,
) -> Run:
    clock, limits = Clock(), limits_of(config.data)
    with clock("reading"):
        dataset = read(data, y, config.data)
        look = look_of(dataset, config.data)
        check_ways(dataset, config)
        first_task = task_of(dataset)  # one class, no labels, a wrong word: said before any work
        if config.metric:
            check_score(config.metric, first_task.name)
        check_out(folder.path)
        fingerprint = content_fingerprint(dataset)
        record = _beginning(config, command, fingerprint)
        if not overwrite and _is_done(folder, record, resume, observer):
            return Run(folder, reused=True)
        if overwrite or not _goes_on(folder, record):
            _clear(folder)
        folder.save(record)
    if dataset.modality == "vector":
        from headstart.workflow.fit_columns import fit_columns

        return fit_columns(dataset, folder, record, config, cache, clock, observer)
    if dataset.modality == "mixed":
        from headstart.workflow.fit_mixed import fit_mixed

        return fit_mixed(dataset, folder, record, config, cache, clock, observer)

    with clock("loading the network"):
        from headstart.backbones.catalogue import catalogue
        from headstart.backbones.restructure import structured
        from headstart.features.choose import COMPARED as AGREEING
        from headstart.features.choose import RunnerChoice, exact_runner
        from headstart.features.extract import check_modality, extract, sample
        from headstart.features.feeds import feed_for
        from headstart.workflow.choose_backbone import choose_backbone, network_words
        from headstart.workflow.finetuning import check_tuning
        from headstart.workflow.keeping import COMPARED, Page, check_saved, report_examples, save_model
        from headstart.workflow.layers import best_heard, last_of, listened_to
        from headstart.workflow.preprocessing import preprocessing_check
        from headstart.workflow.rank import quick_choice
        from headstart.workflow.zero_shot import names_of

        weights = Path(config.weights) if config.weights else None
        name = choose_backbone(
            config.backbone,
            catalogue,
            lambda: quick_choice(dataset, config, folder, cache, observer),
            modality=dataset.modality,
        )
        check_modality(catalogue.card(name, offline=config.offline), dataset.modality)
        backbone = structured(catalogue.load(name, weights=weights, offline=config.offline), config.structure)
        check_tuning(backbone, config.tuning, first_task)
        observer(Said(f"network: {network_words(backbone.card)}, {backbone.card.parameters / 1e6:.1f} M parameters"))

    with clock("features"):
        features = extract(
            listened_to(backbone, len(dataset)),
            dataset,
            cache=cache,
            device=config.device,
            only_runner=config.runner,
            look=look,
            observer=observer,
        )
        features, layers = last_of(backbone, features)
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
    if dataset.modality == "image" and (config.weights or name.startswith("file:")):
        with clock("checking the preprocessing"):
            sentence = preprocessing_check(
                backbone,
                usable,
                known,
                train,
                runner=features.record.runner,
                device=config.device,
                limits=limits,
                seed=config.seed,
                observer=observer,
            )
            feature_record = replace(feature_record, preprocessing_check=sentence)

    with clock("heads"):
        rules = Rules(config.folds, config.metric, config.balance, config.seed)
        heard = best_heard(backbone, known, layers, train, rules, observer)
        backbone, known = heard.backbone, heard.known
        learnt = known.take(train)
        named = replace(rules, names=names_of(task, backbone, cache=cache, device=config.device, observer=observer))
        chosen = choose_head(learnt, named, observer)
        notes = (*heard.words, *chosen.record.notes)
        chosen = replace(chosen, record=replace(chosen.record, notes=notes))
        folder.save(chosen.record)

    def features_by(network: Backbone, positions: np.ndarray) -> Features:
        """Of some of the usable examples, by a network that was trained here; in float32 if its runner is not exact."""
        return extract(
            network,
            dataset.take(rows[positions].tolist()),
            cache=cache,
            device=config.device,
            only_runner=RunnerChoice.of(
                exact_runner(
                    network,
                    features.record.runner,
                    sample(feed_for(network), dataset, look, AGREEING),
                    device=config.device,
                )
            ),
            look=look,
            observer=observer,
            what="embedding with the trained network",
        )

    tuned, ground, deadline = None, None, Deadline(config.tuning.time_s)
    if config.tuning.strategy != "probe" or config.prove:
        with clock("decoding for training"):
            from headstart.workflow.finetuning import make_ground

            ground = make_ground(
                backbone,
                learnt,
                usable.take(train.tolist()),
                features.record.runner,
                config,
                keys=[features.survey.keys[row] for row in rows[train]],
                cache=cache,
                look=look,
                observer=observer,
            )
    if config.tuning.strategy != "probe" and ground is not None:
        from headstart.training.interrupt import Interruption
        from headstart.workflow.finetuning import cross_judged, diary_of, learn, share_of_time

        with clock("fine-tuning"), Interruption() as interruption:
            seconds = share_of_time(deadline, parts=not sealed.count)
            diary = diary_of(folder, ground, config)
            everything = np.arange(len(learnt))
            tuned = learn(ground, everything, chosen, config, seconds=seconds, ownership=ownership, diary=diary)
            folder.save(tuned.record)
            if interruption.asked:
                raise Stopped(f"{interruption.asked}: stopped after the training. Go on with the same command.")

    with clock("judging"):
        test = sealed.open("final evaluation") if sealed.count else np.zeros(0, np.int64)
        at = test if len(test) else np.unique(np.linspace(0, len(known) - 1, COMPARED).astype(int))
        runner = features.record.runner
        if heard.layers is not None:  # judged by what the network itself says, as it will be served
            again = features_by(backbone, at)
            known.X[at], runner = again.X, again.record.runner
        probed = (
            held_out(chosen, known.take(test))
            if len(test)
            else cross_validated(known, named, layers=heard.layers, observer=observer)
        )
        judged, network, kept, seen, seen_rows = probed, backbone, chosen, known.take(at), rows[at]
        if tuned is not None and tuned.backbone is not None and ground is not None:
            network, kept = tuned.backbone, tuned.chosen
            again = features_by(network, at)
            seen, runner = known.take(at).seeing(again.X), again.record.runner
            judged = (
                held_out(kept, seen) if len(test) else cross_judged(ground, config, rules, seconds=seconds, diary=diary)
            )

    with clock("baselines"):
        contest = Contest(known, replace(rules, balance="none", families=(chosen.family,)), train, test)
        random_copy = AtRandom(
            backbone, dataset, features.record.runner, cache, config.device, config.seed, look, observer
        )

        def at_random(positions: np.ndarray) -> Features:
            return random_copy(rows[positions].tolist())

        beside = baselines(
            judged.after,
            contest,
            plain=EVIDENCE[dataset.modality].plain(dataset, features.survey, rows, look),
            random_features=None if config.random_baseline == "off" else at_random,
            full_random=config.random_baseline == "full",
            probe=None if network is backbone else probed.after,
        )

    with clock("fewer labels"):
        from headstart.workflow.few_shot import few_shot

        curve = few_shot(probed.after, contest, names=named.names, observer=observer)
        if curve is not None:
            folder.save(curve)

    if config.prove and ground is not None:
        with clock("proof"):
            from headstart.workflow.proof import prove

            folder.save(
                prove(
                    judged.after,
                    contest,
                    ground,
                    random_features=at_random,
                    features_by=features_by,
                    seconds=deadline.spent if tuned is None else tuned.record.seconds,
                    probe=None if network is backbone else probed.after,
                    augment=config.tuning.options.augment or "auto",
                    resamples=config.resamples,
                )
            )

    with clock("evaluation"):
        evaluation = evaluate(
            judged.after,
            baselines=beside,
            before=judged.before,
            label_issues=doubted(learnt, chosen),
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
            backbone=network,
            chosen=kept,
            task=task,
            runner=runner,
            evaluation=evaluation,
            split=divided,
            created=record.created,
        )
        agreement = check_saved(folder, dataset, seen_rows, seen, kept, network, look, config.device, runner)

    with clock("report"):
        page = Page(network, kept, task, look, runner, config.device)
        write_json(folder.pictures, report_examples(dataset, divided.train, judged.after, evaluation, found, page))
        record = replace(
            record,
            status="done",
            backbone=network.record,
            features=feature_record,
            model_sha256=seal,
            notes=(
                f"loaded back and compared on {agreement.n} {look.words.many}: "
                f"largest difference {agreement.max_abs:.1e}",
            ),
        )
        folder.save(replace(record, timing=clock.timing()))
        write_report(folder)
    folder.save(replace(record, timing=clock.timing()))
    shutil.rmtree(folder.checkpoints, ignore_errors=True)
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


def _is_done(folder: RunFolder, new: RunRecord, resume: bool, observer: Observer) -> bool:
    """Whether ``folder`` holds this very run, finished and undamaged. DataError when it holds another one."""
    if not folder.run.exists():
        return False
    old = folder.load(RunRecord)
    differing = _differences(old, new)
    if differing and old.status != "done" and not resume and not folder.checkpoints.exists():
        return False  # a start that came to nothing: there is nothing to lose
    if differing:
        what = "a run" if old.status == "done" else "an interrupted run"
        raise DataError(
            f"EN71 {shown(folder.path)} holds {what} with other settings: {'; '.join(differing)}. "
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


def _goes_on(folder: RunFolder, new: RunRecord) -> bool:
    """Whether ``folder`` holds an interrupted start of this very run."""
    if not folder.run.exists():
        return False
    old = folder.load(RunRecord)
    return old.status != "done" and not _differences(old, new)


def _clear(folder: RunFolder) -> None:
    """What another run left and this one need not write: state of its training, and records that stand by choice."""
    shutil.rmtree(folder.checkpoints, ignore_errors=True)
    by_choice = (folder.plan, folder.ladder, folder.proof, folder.ranking, folder.few_shot)
    for path in (*by_choice, folder.columns, folder.blocks):
        path.unlink(missing_ok=True)


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
