"""From a table of several kinds of columns to a model with its evidence: as ``fit`` tells it for one kind.

Each block goes through a network of its own, with the caches that a data set of that kind has; their features, each
block standardised, stand beside each other before one head. As the columns' network is made from the rows that learn,
the rows are divided before anything is measured on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache as once
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.base.errors import PlanError, shown
from headstart.base.files import write_bytes, write_json
from headstart.base.progress import Observer, Said, track
from headstart.bundle.mixed import SavedBlock, check_answers, save_mixed
from headstart.bundle.save import ModelFacts
from headstart.data.audit import audit
from headstart.data.dataset import Dataset
from headstart.data.looks.mixed import together
from headstart.data.parts import Part, parts_of
from headstart.data.split import folds, group_rows
from headstart.data.words import words_of
from headstart.evaluation.baselines import compare, majority
from headstart.evaluation.evaluate import evaluate
from headstart.records.audit import Audit, SplitRecord
from headstart.records.blocks import BlockRecord, BlocksRecord
from headstart.records.evaluation import Baseline, Evaluation
from headstart.records.predictions import Predictions
from headstart.records.run import RunFolder, RunRecord
from headstart.report.html import write_report
from headstart.workflow.at_random import AtRandom
from headstart.workflow.blocks import OnBlocks, Round, Source, learn_from, said, standardised, viewed
from headstart.workflow.clock import Clock
from headstart.workflow.config import FitConfig
from headstart.workflow.dividing import divide
from headstart.workflow.few_shot import few_shot
from headstart.workflow.judge import Contest, Known, Rules, against_random, doubted, majority_words
from headstart.workflow.keeping import COMPARED, examples_shown
from headstart.workflow.modalities.tf_idf import judge as by_tf_idf
from headstart.workflow.reading import look_of_modality, stop_or_go, task_of
from headstart.workflow.run import Run

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone
    from headstart.features.extract import Features

PRETRAINED = ("image", "text", "audio")


def networks_asked(names: str, modalities: Sequence[str], offline: bool) -> dict[str, str]:
    """Modality → the network to take, of names with commas between; 'starter' where none is named.

    PlanError PL87 for two networks of one modality, or one that no block needs.
    """
    from headstart.backbones.catalogue import catalogue
    from headstart.backbones.columns import LEARNT, NAMES

    found: dict[str, str] = {}
    for name in (word.strip() for word in names.split(",")):
        if name in ("starter", ""):
            continue
        modality = "vector" if name.startswith("columns/") else catalogue.card(name, offline=offline).modality
        if modality not in modalities or modality in found:
            why = f"'{shown(found[modality])}' does that too" if modality in found else "no column holds any"
            raise PlanError(
                f"PL87 --backbone {shown(name)} is for {words_of(modality).many}, and {why}. Give at most one network "
                f"for each of: {', '.join(words_of(m).many for m in modalities)}."
            )
        if name == LEARNT:  # its features know the targets, so that a head on them would trust them too much
            raise PlanError(f"PL87 --backbone {name} goes with columns alone. Beside other blocks: {', '.join(NAMES)}.")
        found[modality] = name
    return {modality: found.get(modality, "starter") for modality in modalities}


def fit_mixed(
    dataset: Dataset, folder: RunFolder, record: RunRecord, config: FitConfig, cache: Path, clock: Clock, say: Observer
) -> Run:
    """The rest of ``fit`` once the table is read."""
    parts = parts_of(dataset)
    with clock("loading the networks"):
        asked = networks_asked(config.backbone, list(dict.fromkeys(p.modality for p in parts)), config.offline)
        networks = _loaded(parts, asked, config, say)

    with clock("features"):
        from headstart.features.extract import extract

        embedded = {
            part.name: extract(
                networks[part.modality],
                part.dataset,
                cache=cache,
                device=config.device,
                look=look_of_modality(part.modality, config.data),
                observer=say,
                what=f"looking at {shown(part.name)} and embedding",
            )
            for part in parts
            if part.modality in PRETRAINED
        }
        of_columns = {
            part.name: look_of_modality("vector", config.data).survey(part.dataset, cache, observer=say)
            for part in parts
            if part.modality == "vector"
        }
        seen = together(dataset, parts, {name: found.survey for name, found in embedded.items()} | of_columns)
        rows = seen.rows

    with clock("audit and split"):
        found = audit(dataset, seen)
        folder.save(found)
        stop_or_go(found, config.data, say)
        usable = dataset.take(rows)
        task = task_of(usable)
        groups = group_rows(dataset, rows, found.clusters, by=config.data.group_by)
        nothing = np.zeros((len(usable), 0), np.float32)
        known = Known(nothing, task.encode(usable.targets or ()), groups, np.asarray(usable.ids, object), task)
        train, sealed, divided = divide(known, usable, config, found)
        folder.save(divided)
        write_bytes(folder.training_keys, b"".join(seen.keys[row] for row in rows[train]))
        say(Said(divided.reason))
        sources = [_source(part, rows, networks, embedded, asked, config) for part in parts]

    with clock("heads"):
        rules = Rules(config.folds, config.metric, config.balance, config.seed)
        kept = learn_from(sources, train, known, rules)
        folder.save(kept.chosen.record)
        say(Said(f"{kept.chosen.record.chosen} head kept: {kept.chosen.record.reason}", "result"))

    with clock("judging"):
        test = sealed.open("final evaluation") if sealed.count else np.zeros(0, np.int64)
        rounds = _rounds(kept, sources, train, test, known, rules, say)
        names = [source.name for source in sources]
        judged = kept.judge(test, known) if sealed.count else said(rounds, names, known, rules, say)

    with clock("baselines"):
        plainly = replace(rules, balance="none", families=(kept.chosen.family,))
        contest = Contest(known.seeing(kept.Z), plainly, train, test)
        alone = {name: said(rounds, [name], known, rules).after for name in names}
        beside = _beside(judged.after, alone, usable, contest, rules)
        if config.random_baseline != "off" and embedded:
            at_random = _random_copies(kept, parts, rows, cache, config, say)
            what = "the same head on the same networks with random weights"
            beside += (against_random(judged.after, contest, at_random, config.random_baseline == "full", what=what),)

    if sealed.count:
        with clock("fewer labels"):
            curve = few_shot(judged.after, contest, observer=say)
            if curve is not None:
                folder.save(curve)

    with clock("evaluation"):
        evaluation = evaluate(
            judged.after,
            baselines=beside,
            before=judged.before if judged.before.logits is not None else None,
            label_issues=doubted(known.take(train), kept.chosen),
            how=divided.how,
            headline=config.metric,
            resamples=config.resamples,
            seed=config.seed,
        )
        judged.after.save(folder.predictions)
        folder.save(evaluation)
        blocks = track(names, say, "what each block is worth", unit="blocks")
        left_out = {name: _without(name, alone, rounds, known, rules) for name in blocks}
        folder.save(_record(judged.after, kept, alone, left_out, evaluation))

    return _keep(dataset, rows, folder, record, config, clock, kept, known, judged.after, evaluation, divided)


def _loaded(parts: Sequence[Part], asked: Mapping[str, str], config: FitConfig, say: Observer) -> dict[str, Backbone]:
    """Modality → network, for those whose networks are pretrained."""
    from headstart.backbones.catalogue import catalogue
    from headstart.workflow.choose_backbone import choose_backbone, network_words

    found: dict[str, Backbone] = {}
    for modality in dict.fromkeys(part.modality for part in parts if part.modality in PRETRAINED):
        name = choose_backbone(asked[modality], catalogue, modality=modality)
        found[modality] = catalogue.load(name, offline=config.offline)
        card, many = found[modality].card, words_of(modality).many
        say(Said(f"network for {many}: {network_words(card)}, {card.parameters / 1e6:.1f} M parameters"))
    return found


def _source(
    part: Part,
    rows: np.ndarray,
    networks: Mapping[str, Backbone],
    embedded: Mapping[str, Features],
    asked: Mapping[str, str],
    config: FitConfig,
) -> Source:
    """The block by position in the usable ``rows`` of the table."""
    if part.name not in embedded:
        from headstart.backbones.columns import NAMES, check_name

        values = _at(part, rows)
        named = asked[part.modality]
        return Source(
            part.name,
            part.modality,
            np.ones(len(rows), bool),
            rows=[part.dataset.values[i] for i in values],
            networks=NAMES if named == "starter" else (check_name(named),),
            target=config.data.target or "",
        )
    features = embedded[part.name]
    X = np.zeros((part.count, features.X.shape[1]), np.float32)
    X[part.rows[features.survey.rows]] = features.X
    return Source(
        part.name,
        part.modality,
        np.isin(rows, part.rows),
        X=X[rows],
        backbone=networks[part.modality],
        features=features.record,
    )


def _at(part: Part, rows: np.ndarray) -> np.ndarray:
    """Positions in the block's own data set of those of ``rows`` that have it."""
    place = np.full(part.count, -1)
    place[part.rows] = np.arange(len(part.rows))
    at: np.ndarray = place[rows]
    return at[at >= 0]


def _rounds(
    kept: OnBlocks,
    sources: Sequence[Source],
    train: np.ndarray,
    test: np.ndarray,
    known: Known,
    rules: Rules,
    say: Observer,
) -> list[Round]:
    """Once, or where there are too few rows to set some aside each part of them in its turn."""
    if len(test):
        return [Round(train, test, kept.views)]
    parts = folds(known.task.strata(known.y), known.groups, k=rules.folds, seed=rules.seed + 1)
    return [
        Round(learn, judged, tuple(viewed(source, learn, known, rules) for source in sources))
        for learn, judged in track(parts, say, "blocks by parts of the rows", unit="rounds")
    ]


def _beside(
    after: Predictions, alone: Mapping[str, Predictions], usable: Dataset, contest: Contest, rules: Rules
) -> tuple[Baseline, ...]:
    """Majority, each block alone, and what is done with texts without any network; paired on the same rows."""

    def beside(key: str, what: str, theirs: Predictions) -> Baseline:
        n = contest.learnt_from
        return compare(after, theirs, key=key, what=what, trained_on=n, metric=rules.metric, seed=rules.seed)

    known = contest.known
    y = known.y if contest.by_folds else known.y[contest.train]
    found = [beside("majority", majority_words(known.task), majority(y, after))]
    parts = parts_of(usable)
    for part in parts:
        name = shown(part.name)
        if part.modality == "vector":
            found.append(beside("columns", "the columns alone, with the head that suits them", alone[part.name]))
        else:
            found.append(beside(f"{name} alone", f"'{name}' alone, with the head that suits it", alone[part.name]))
    for part in parts:
        if part.modality == "text":
            what = f"tf-idf of '{shown(part.name)}' with logistic regression, no network"
            found.append(beside("tf-idf", what, by_tf_idf(_texts(part), contest)))
    return tuple(found)


def _texts(part: Part) -> list[str]:
    """The texts of all rows; '' where there is none."""
    texts = [""] * part.count
    for row, text in zip(part.rows.tolist(), part.dataset.values, strict=True):
        texts[row] = text
    return texts


def _random_copies(
    kept: OnBlocks, parts: Sequence[Part], rows: np.ndarray, cache: Path, config: FitConfig, say: Observer
) -> Callable[[np.ndarray], np.ndarray]:
    """positions → features of those rows by randomly initialised copies of the networks; columns as they are."""

    @once
    def copy_of(number: int) -> AtRandom:
        view, part = kept.views[number], parts[number]
        assert view.source.features is not None, "a block with a network has its features"
        look = look_of_modality(part.modality, config.data)
        runner = view.source.features.runner
        return AtRandom(view.backbone, part.dataset, runner, cache, config.device, config.seed, look, say)

    def block(number: int, positions: np.ndarray) -> np.ndarray:
        view, part = kept.views[number], parts[number]
        if view.source.X is None:
            return view.Z[positions]
        here = view.source.here[positions]
        X = np.zeros((len(positions), view.source.X.shape[1]), np.float32)
        some = _at(part, rows[positions])
        if len(some):
            X[here] = copy_of(number)(some.tolist()).X
        source = replace(view.source, here=here, X=X)
        return standardised(source, copy_of(number).copy, X, np.arange(len(positions))).Z

    def features(positions: np.ndarray) -> np.ndarray:
        return np.concatenate([block(number, positions) for number in range(len(parts))], axis=1)

    return features


def _without(
    name: str, alone: Mapping[str, Predictions], rounds: Sequence[Round], known: Known, rules: Rules
) -> Predictions:
    """What a head on the other blocks says."""
    others = [other for other in alone if other != name]
    return alone[others[0]] if len(others) == 1 else said(rounds, others, known, rules).after


def _record(
    after: Predictions,
    kept: OnBlocks,
    alone: Mapping[str, Predictions],
    left_out: Mapping[str, Predictions],
    evaluation: Evaluation,
) -> BlocksRecord:
    def beside(theirs: Predictions) -> Baseline:
        return compare(
            after,
            theirs,
            key="",
            what="",
            trained_on=0,
            metric=evaluation.headline,
            resamples=evaluation.resamples,
        )

    blocks = []
    for view in kept.views:
        source, network = view.source, view.backbone.record
        made = BlockRecord(
            name=source.name,
            modality=source.modality,
            missing=int((~source.here).sum()),
            network=network.name,
            parameters=network.parameters,
            licence=network.licence,
            trained_on=network.trained_on,
            width=network.feature_dim,
            alone=beside(alone[source.name]).score,
            loss=beside(left_out[source.name]).gain,
        )
        if source.features is not None:
            ran = source.features
            made = replace(made, runner=ran.runner, seconds=ran.seconds, from_cache=ran.from_cache, cut=ran.cut)
        blocks.append(made)
    return BlocksRecord(evaluation.headline, len(kept.Z), tuple(blocks))


def _keep(
    dataset: Dataset,
    rows: np.ndarray,
    folder: RunFolder,
    record: RunRecord,
    config: FitConfig,
    clock: Clock,
    kept: OnBlocks,
    known: Known,
    after: Predictions,
    evaluation: Evaluation,
    divided: SplitRecord,
) -> Run:
    """The model saved, loaded back and compared; the page written."""
    with clock("saving the model"):
        chosen = kept.chosen
        facts = ModelFacts(
            head_family=chosen.record.chosen,
            head_setting=chosen.setting,
            runner="by block",
            evaluation=evaluation,
            counts=divided.counts_train,
            trained_on_n=len(divided.train),
            created=record.created,
        )
        blocks = [
            SavedBlock(view.source.name, view.source.modality, view.backbone, head, absent, view.source.runner)
            for view, (head, absent) in zip(kept.views, kept.own_heads, strict=True)
        ]
        manifest = save_mixed(
            folder.model,
            blocks,
            task=known.task,
            temperature=chosen.temperature,
            target=config.data.target or "",
            facts=facts,
        )
        at = np.unique(np.linspace(0, len(known) - 1, COMPARED).astype(int))
        expected = known.task.decode(chosen.head.logits(kept.Z[at]) / chosen.temperature)
        agreement = check_answers(folder.model, dataset.take(rows[at]), expected, device=config.device)
    with clock("report"):
        shown_rows = examples_shown(
            dataset, divided.train, after, evaluation, folder.load(Audit), spec=manifest.input, scores=_not_asked
        )
        write_json(folder.pictures, shown_rows)
        record = replace(
            record,
            status="done",
            backbone=manifest.backbone,
            model_sha256=manifest.seal,
            notes=(f"loaded back and compared on {agreement.n} rows: largest difference {agreement.max_abs:.1e}",),
        )
        folder.save(replace(record, timing=clock.timing()))
        write_report(folder)
    folder.save(replace(record, timing=clock.timing()))
    return Run(folder)


def _not_asked(values: list[Any]) -> np.ndarray:
    raise AssertionError("what moves the answer to a row of several kinds is told by block")
