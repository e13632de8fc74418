"""From a table of features to a model with its evidence: as ``fit`` tells it for networks that were pretrained.

The order differs in one thing: networks on columns are made from the rows that learn, so the rows are divided before
anything is measured on them. No test row has a part in any mean, any category or any landmark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from headstart.base.errors import PlanError
from headstart.base.files import write_bytes, write_json
from headstart.base.progress import Observer, Said, track
from headstart.data.audit import audit
from headstart.data.dataset import Dataset
from headstart.data.looks import look_for
from headstart.data.rows import Row
from headstart.data.split import SealedRows, folds, group_rows
from headstart.evaluation.baselines import compare, majority
from headstart.evaluation.evaluate import evaluate
from headstart.inputs.spec import VectorSpec
from headstart.records.audit import Audit, SplitRecord
from headstart.records.columns import ColumnsRecord
from headstart.records.evaluation import Baseline, Evaluation
from headstart.records.predictions import Predictions
from headstart.records.run import FeatureRecord, RunFolder, RunRecord
from headstart.report.html import write_report
from headstart.workflow.clock import Clock
from headstart.workflow.columns import Judge, OnColumns, averaged, choose_network, describe, few_labels, joined
from headstart.workflow.config import FitConfig
from headstart.workflow.contributions import SHUFFLES, contributions
from headstart.workflow.dividing import divide
from headstart.workflow.few_shot import few_shot
from headstart.workflow.judge import Known, Rules, doubted, majority_words
from headstart.workflow.modalities.rivals import Rival, boosting, linear, predicted
from headstart.workflow.reading import stop_or_go, task_of
from headstart.workflow.run import Run

RIVALS: tuple[tuple[str, str, Rival], ...] = (
    ("linear", "a linear model (scikit-learn's, on the encoded columns)", linear),
    ("boosting", "gradient boosting (scikit-learn's HistGradientBoosting)", boosting),
)


def check_ways_of_columns(config: FitConfig) -> tuple[str, ...]:
    """Names of the networks to try; PlanError PL82 for what is done with pretrained networks only."""
    from headstart.backbones.columns import LEARNT, NAMES, check_name

    if config.weights or config.runner:
        what = "--weights" if config.weights else "--runner"
        raise PlanError(f"PL82 {what}: networks on columns are made from the training rows. Leave it out.")
    if config.backbone in ("auto", "starter"):
        return (*NAMES, LEARNT)
    return (check_name(config.backbone),)


def fit_columns(
    dataset: Dataset, folder: RunFolder, record: RunRecord, config: FitConfig, cache: Path, clock: Clock, say: Observer
) -> Run:
    """The rest of ``fit`` once the table is read."""
    names = check_ways_of_columns(config)
    with clock("audit and split"):
        seen = look_for("vector").survey(dataset, cache, observer=say)
        found = audit(dataset, seen)
        folder.save(found)
        stop_or_go(found, config.data, say)
        task = task_of(dataset)
        groups = group_rows(dataset, seen.rows, found.clusters, by=config.data.group_by)
        nothing = np.zeros((len(dataset), 0), np.float32)
        known = Known(nothing, task.encode(dataset.targets or ()), groups, np.asarray(dataset.ids, object), task)
        train, sealed, divided = divide(known, dataset, config, found)
        folder.save(divided)
        write_bytes(folder.training_keys, b"".join(seen.keys[row] for row in train))
        say(Said(divided.reason))

    with clock("networks and heads"):
        rows: list[Row] = [dataset.values[row] for row in range(len(dataset))]
        rules = Rules(config.folds, config.metric, config.balance, config.seed)
        target = config.data.target or ""
        learnt = known.take(train)
        kept, trials, reason = choose_network(
            [rows[i] for i in train], learnt, names, rules, target=target, observer=say
        )
        folder.save(kept.chosen.record)
        say(Said(reason, "result"))

    with clock("judging"):
        parts = _parts(train, sealed, known, rules)
        if sealed.count:
            judges = [Judge(kept, parts[0][1])]
        else:
            rounds = track(parts, say, "judging by cross-validation", unit="rounds")
            judges = [_judge(rows, known, part, names, rules) for part in rounds]
        after, before = averaged(judges, rows, known)

    with clock("baselines"):
        beside = _beside(after, rows, known, parts, rules)

    with clock("fewer labels"):
        test = parts[0][1] if sealed.count else np.zeros(0, np.int64)
        curve = few_shot(after, few_labels(kept, rows, known, train, test, rules), observer=say)
        if curve is not None:
            folder.save(curve)

    with clock("evaluation"):
        evaluation = evaluate(
            after,
            baselines=beside,
            before=before if before.logits is not None else None,
            label_issues=doubted(learnt, kept.chosen),
            how=divided.how,
            headline=config.metric,
            resamples=config.resamples,
            seed=config.seed,
        )
        after.save(folder.predictions)
        folder.save(evaluation)
        worth = contributions(
            judges,
            rows,
            known,
            metric=evaluation.headline,
            seed=config.seed,
            resamples=config.resamples,
            observer=say,
        )
        spec = kept.backbone.card.input
        assert isinstance(spec, VectorSpec), "made for columns"
        described = tuple(describe(column, [rows[i] for i in train]) for column in spec.columns)
        left_out = tuple(note for note in dataset.notes if note.startswith("TB68"))
        folder.save(ColumnsRecord(evaluation.headline, described, left_out, trials, reason, worth, SHUFFLES))

    return _keep(dataset, folder, record, config, clock, kept, known, after, evaluation, divided)


def _parts(train: np.ndarray, sealed: SealedRows, known: Known, rules: Rules) -> list[tuple[np.ndarray, np.ndarray]]:
    """(rows that learn, rows that judge): once, or where there are too few to set some aside each in its turn."""
    if sealed.count:
        return [(train, sealed.open("final evaluation"))]
    strata = known.task.strata(known.y)
    return folds(strata, known.groups, k=rules.folds, seed=rules.seed + 1)


def _judge(
    rows: Sequence[Row], known: Known, part: tuple[np.ndarray, np.ndarray], names: Sequence[str], rules: Rules
) -> Judge:
    """A model that is chosen anew on the rows of this part, columns and all."""
    learn, judged = part
    return Judge(choose_network([rows[i] for i in learn], known.take(learn), names, rules)[0], judged)


def _beside(
    after: Predictions,
    rows: Sequence[Row],
    known: Known,
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    rules: Rules,
) -> tuple[Baseline, ...]:
    """Majority and rivals, each paired with the model on the same rows."""
    learn = parts[0][0] if len(parts) == 1 else np.arange(len(known))

    def beside(key: str, what: str, theirs: Predictions) -> Baseline:
        n = len(parts[0][0])
        return compare(after, theirs, key=key, what=what, trained_on=n, metric=rules.metric, seed=rules.seed)

    found = [beside("majority", majority_words(known.task), majority(known.y[learn], after))]
    order = np.argsort(np.concatenate([judged for _, judged in parts]), kind="stable")
    for key, what, rival in RIVALS:
        found.append(beside(key, what, joined(predicted(rival, rows, known, parts), order)))
    return tuple(found)


def _keep(
    dataset: Dataset,
    folder: RunFolder,
    record: RunRecord,
    config: FitConfig,
    clock: Clock,
    kept: OnColumns,
    known: Known,
    after: Predictions,
    evaluation: Evaluation,
    divided: SplitRecord,
) -> Run:
    """The model saved, loaded back and compared; the page written."""
    from headstart.features.extract import features_of_rows
    from headstart.workflow.keeping import Page, check_saved, report_examples, save_model

    rows = list(dataset.values)
    seen = replace(known, X=features_of_rows(kept.backbone, rows), task=kept.task)
    features = FeatureRecord("", "torch-f32", (), len(rows), 0, 0.0, {})
    with clock("saving the model"):
        seal = save_model(
            folder,
            backbone=kept.backbone,
            chosen=kept.chosen,
            task=kept.task,
            runner=features.runner,
            evaluation=evaluation,
            split=divided,
            created=record.created,
        )
        look = look_for("vector")
        every = np.arange(len(rows))
        agreement = check_saved(
            folder, dataset, every, seen, kept.chosen, kept.backbone, look, config.device, features.runner
        )
    with clock("report"):
        found = folder.load(Audit)
        page = Page(kept.backbone, kept.chosen, kept.task, look, features.runner, config.device)
        write_json(folder.pictures, report_examples(dataset, divided.train, after, evaluation, found, page))
        record = replace(
            record,
            status="done",
            backbone=kept.backbone.record,
            features=features,
            model_sha256=seal,
            notes=(f"loaded back and compared on {agreement.n} rows: largest difference {agreement.max_abs:.1e}",),
        )
        folder.save(replace(record, timing=clock.timing()))
        write_report(folder)
    folder.save(replace(record, timing=clock.timing()))
    return Run(folder)
