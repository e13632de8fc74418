"""The report as data: every section a function from records to a plain dict, ready for a template.

Nothing is computed here that a reader would quote: values, intervals and verdicts come from the records as they are.
A section whose record is missing is None. All texts pass ``private`` once, at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headstart.base.config import to_dict
from headstart.data.words import IMAGES, Words
from headstart.records.audit import Audit, Cluster, Finding, Leak, SplitRecord
from headstart.records.evaluation import Baseline, ClassScores, Evaluation, Example, Verdict
from headstart.records.heads import HeadRecord, HeadTrial
from headstart.records.run import BackboneRecord, FeatureRecord, RunFolder, Timing
from headstart.report import privacy, wording
from headstart.report.advice import next_steps
from headstart.report.blocks import blocks
from headstart.report.columns import columns
from headstart.report.few_shot import few_shot
from headstart.report.finetuning import PROBE, changed_network, finetuning
from headstart.report.pictures import Pictures
from headstart.report.proof import proof
from headstart.report.ranking import candidates
from headstart.report.reading import Records

MOST_PICTURES = 96  # thumbnails of samples in one report
MOST_CLASSES_DRAWN = 100  # beyond that a confusion matrix cannot be read
FEW_CLASSES = 12  # up to here classes keep their order; above, the worst come first
SEVERITIES = ("stop", "warning", "note")


def contents(run: RunFolder) -> dict[str, Any]:
    """Everything the report shows, as nested dicts, lists, numbers and texts. Raises DataError on damaged records."""
    records = Records.read(run)
    e = records.evaluation
    return privacy.private(
        {
            "title": title(records),
            "words": to_dict(records.words),
            "answer": answer(records),
            "data": data(records),
            "ranking": candidates(records.ranking) if records.ranking else None,
            "features": features(records),
            "blocks": blocks(records.blocks) if records.blocks else None,
            "columns": columns(records.columns) if records.columns else None,
            "heads": heads(records.heads, records.split) if records.heads else None,
            "finetuning": finetuning(records),
            "proof": proof(records),
            "few_shot": few_shot(records),
            "results": results(e, records.words) if e else None,
            "mistakes": mistakes(e, records.pictures) if e else None,
            "labels": label_issues(e, records.pictures) if e else None,
            "repeat": repeat(records),
        }
    )


# --- the answer ---------------------------------------------------------------------------------------------------


def title(records: Records) -> dict[str, Any]:
    run, audit = records.run, records.audit
    return {
        "name": records.name,
        "origin": privacy.base_name(audit.origin).removeprefix("…/") if audit else "",
        "created": run.created[:10] if run else "",
        "is_finished": run is not None and run.status == "done",
        "facts": _facts(records),
    }


def _facts(records: Records) -> list[dict[str, str]]:
    run, audit, heads = records.run, records.audit, records.heads
    facts: list[tuple[str, str]] = []
    if audit:
        kinds = f", {wording.counted(len(audit.counts), 'class', 'classes')}" if audit.counts else ""
        if audit.target == "multi-label":
            kinds = kinds.replace("classes", "labels").replace("class", "label")
        facts.append(("Data", wording.counted(audit.usable, records.words.one) + kinds))
    if run and run.backbone:
        facts.append(("Network", run.backbone.name))
    if heads:
        facts.append(("Head", wording.head_name(heads.chosen)))
    if records.ladder and records.ladder.kept != PROBE:
        facts.append(("Tuned", records.ladder.kept))
    if run and run.timing:
        facts.append(("Time", wording.seconds(run.timing.total)))
    return [{"name": name, "text": text} for name, text in facts]


def answer(records: Records) -> dict[str, Any] | None:
    e = records.evaluation
    if e is None:
        return {"headline": _unfinished(records), "score": None, "verdict": None, "next": next_steps(records)}
    words = wording.metric_words(e.headline)
    return {
        "headline": _headline(e, records.words.one),
        "score": to_dict(e.metrics.get(e.headline)),
        "metric": words.name,
        "meaning": wording.spoken(words.meaning, records.words),
        "higher_is_better": words.higher_is_better,
        "side": wording.spoken(wording.SIDES.get(e.how, e.how), records.words),
        "resamples": e.resamples,
        "verdict": _verdict(e.verdict) if e.verdict else None,
        "baselines": [_baseline(b, e) for b in e.baselines],
        "has_p_values": any(b.p_value is not None for b in e.baselines),
        "next": next_steps(records),
    }


def _unfinished(records: Records) -> str:
    if records.ladder:
        return wording.spoken("The model is trained; the test images have not been looked at yet.", records.words)
    if records.heads:
        return wording.spoken("A head is chosen; the test images have not been looked at yet.", records.words)
    if records.audit:
        return "The data has been looked at; nothing has been learnt yet."
    return "There is nothing to show yet."


def _headline(e: Evaluation, one: str) -> str:
    score = e.metrics.get(e.headline)
    if score is None or wording.is_nan(score.value):
        return f"{wording.metric_words(e.headline).name} is not defined on these {wording.counted(e.n, one)}."
    if e.headline == "accuracy" and score.n == e.n:
        right = round(score.value * e.n)
        return f"{right:,} of {wording.counted(e.n, one)} named correctly."
    name = wording.metric_words(e.headline).name
    return f"{name} {wording.value_of(to_dict(score))} on {wording.counted(e.n, one)}."


def _verdict(verdict: Verdict) -> dict[str, str]:
    """The sentence stands under its own answer, so it need not begin with it again."""
    rest = verdict.sentence.removeprefix(f"{verdict.answer.capitalize()}, ")
    return {"question": verdict.question, "answer": verdict.answer, "sentence": wording.capital(rest)}


def _baseline(b: Baseline, e: Evaluation) -> dict[str, Any]:
    """has_own_reference: the model was judged under other conditions than the headline, e.g. on a subsample."""
    score = e.metrics.get(e.headline)
    return {**to_dict(b), "has_own_reference": score is not None and b.reference.value != score.value}


# --- the data -----------------------------------------------------------------------------------------------------


def data(records: Records) -> dict[str, Any] | None:
    audit, split = records.audit, records.split
    if audit is None and split is None:
        return None
    return {
        "audit": _audit_numbers(audit) if audit else None,
        "balance": _balance(audit, split),
        "split": _split_words(split, records.words) if split else None,
        "samples": _samples(records),
        "sees": _sees(records.run.features if records.run else None),
        "findings": _findings(audit.findings, records.pictures) if audit else [],
        "quarantined": to_dict(audit.quarantined) if audit else [],
        "conflicts": [_cluster(c, records.pictures) for c in audit.conflicts] if audit else [],
        "leaks": [_leak(leak, records.pictures) for leak in audit.leaks] if audit else [],
        "exact": _clusters(audit, "exact", records.pictures) if audit else [],
        "near": _clusters(audit, "near", records.pictures) if audit else [],
    }


def _audit_numbers(audit: Audit) -> dict[str, Any]:
    return {
        "rows": audit.rows,
        "usable": audit.usable,
        "target": audit.target,
        "target_reason": audit.target_reason,
        "skipped": _largest_first(audit.skipped),
        "sizes": [{"width": w, "height": h, "count": n} for w, h, n in audit.sizes[:6]],
        "sizes_more": max(0, len(audit.sizes) - 6),
        "modes": _largest_first(audit.modes),
        "notes": _largest_first(audit.notes),
        "measures": _measures(audit.measures),
    }


def _measures(found: Mapping[str, float]) -> dict[str, str]:
    """'characters' → '8 to 193, 111 in the middle, 95 % have at most 143'."""
    names = dict.fromkeys(name.split(",")[0] for name in found)
    return {
        name: f"{wording.measure(found[f'{name}, fewest'])} to {wording.measure(found[f'{name}, most'])}, "
        f"{wording.measure(found[f'{name}, middle'])} in the middle, "
        f"95 % have at most {wording.measure(found[f'{name}, 95 %'])}"
        for name in names
    }


def _largest_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _balance(audit: Audit | None, split: SplitRecord | None) -> dict[str, Any] | None:
    """Images by class: learning and judging where they were divided, all of them otherwise."""
    train = dict(split.counts_train) if split else {}
    test = dict(split.counts_test) if split else {}
    every = dict(audit.counts) if audit else {}
    is_divided = bool(test) and split is not None and split.how != "cross-validation"
    names = list(every) + [n for n in (*train, *test) if n not in every]
    first, second = (train, test) if is_divided else (every or train, {})
    rows = [(name, first.get(name, 0), second.get(name, 0)) for name in dict.fromkeys(names)]
    if not rows:
        return None
    if len(rows) > FEW_CLASSES:
        rows.sort(key=lambda row: (-row[1] - row[2], row[0]))
    return {
        "rows": [{"name": name, "train": a, "test": b} for name, a, b in rows],
        "is_divided": is_divided,
        "largest": max(a + b for _, a, b in rows),
    }


def _split_words(split: SplitRecord, words: Words) -> dict[str, Any]:
    sentences = {
        "held-out": "The images were divided once: one part to learn from, one sealed until the very end.",
        "given": "Your own division into training and test images was kept.",
        "cross-validation": (
            "The images were divided several times, and every image was judged by models that had not learnt from it."
        ),
    }
    return {
        "how": split.how,
        "sentence": wording.spoken(sentences.get(split.how, f"Divided by {split.how}."), words),
        "reason": split.reason,
        "train": len(split.train),
        "test": len(split.test) if split.how != "cross-validation" else 0,
        "grouped_by": split.grouped_by,
        "clusters_kept_together": split.clusters_kept_together,
        "seed": split.seed,
    }


def _samples(records: Records) -> list[dict[str, Any]]:
    """A few pictures of each class, fewer where there are many classes."""
    pictures = records.pictures
    if records.audit is not None and records.audit.modality == "vector":
        return []  # the section on columns says what is in it
    names = [n for n in pictures.samples if pictures.ids_of(n)]
    each = max(1, min(4, MOST_PICTURES // (2 * max(1, len(names)))))
    return [{"name": n, "pictures": [pictures.of(i) for i in pictures.ids_of(n)[:each]]} for n in names[:MOST_PICTURES]]


def _sees(features: FeatureRecord | None) -> str:
    """What happens to a picture before the network gets it, as far as the record says."""
    steps = dict(features.preprocessing) if features else {}
    if features and "window" in steps:
        return _reads(steps, features)
    if features and "longest_s" in steps:
        return _hears(steps, features)
    size, fit = steps.get("size"), steps.get("fit")
    if not isinstance(size, int):
        return ""
    how = {
        "crop": "the short side is resized and the centre cut out",
        "squish": "both sides are resized, so the shape changes",
        "pad": "the picture is resized whole and borders are added",
    }.get(str(fit), "the picture is resized")
    return f"The network sees {size} × {size} pixels: {how}."


def _reads(steps: Mapping[str, Any], features: FeatureRecord) -> str:
    """The same for a network that takes examples up to a window."""
    cut = wording.counted(features.cut, "text was", "texts were") if features.cut else "none was"
    before = f" '{steps['prefix']}' is put before each." if steps.get("prefix") else ""
    return (
        f"The network reads up to {steps['window']} tokens of a text, from its beginning; {cut} longer and cut.{before}"
    )


def _hears(steps: Mapping[str, Any], features: FeatureRecord) -> str:
    """The same for a network that takes sounds."""
    cut = wording.counted(features.cut, "sound was", "sounds were") if features.cut else "none was"
    form = f"as a {steps['form']} spectrum of {steps['mels']} bands" if steps.get("mels") else "as samples"
    return (
        f"The network hears one channel at {steps['sample_rate_hz']:,} Hz, {form}, up to {steps['longest_s']:g} "
        f"seconds from the beginning; {cut} longer and cut."
    )


def _findings(findings: Sequence[Finding], pictures: Pictures) -> list[dict[str, Any]]:
    def order(finding: Finding) -> int:
        return SEVERITIES.index(finding.severity) if finding.severity in SEVERITIES else len(SEVERITIES)

    return [
        {**to_dict(f), "pictures": [pictures.of(i) for i in f.ids[:6] if pictures.is_shown(i)]}
        for f in sorted(findings, key=order)
    ]


def _clusters(audit: Audit, kind: str, pictures: Pictures) -> list[dict[str, Any]]:
    return [_cluster(c, pictures) for c in audit.clusters if c.kind == kind]


def _cluster(cluster: Cluster, pictures: Pictures) -> dict[str, Any]:
    """All names of a cluster; thumbnails for the first four."""
    targets = list(cluster.targets) + [""] * len(cluster.ids)
    members = [
        {**(pictures if n < 4 else Pictures()).of(i), "target": t}
        for n, (i, t) in enumerate(zip(cluster.ids, targets, strict=False))
    ]
    text = next((m["text"] for m in members if m["text"]), None)
    return {"text": text, "kind": cluster.kind, "similarity": cluster.similarity, "members": members}


def _leak(leak: Leak, pictures: Pictures) -> dict[str, Any]:
    first, second = pictures.of(leak.first), pictures.of(leak.second)
    return {"first": first, "second": second, "sides": list(leak.sides), "kind": leak.kind}


# --- network and heads --------------------------------------------------------------------------------------------


def features(records: Records) -> dict[str, Any] | None:
    run = records.run
    if run is None or (run.backbone is None and run.features is None):
        return None
    return {
        "backbone": _backbone(run.backbone) if run.backbone else None,
        "runner": _runner(run.features) if run.features and run.features.key else None,
        "is_tuned": changed_network(records.ladder),
    }


def _backbone(b: BackboneRecord) -> dict[str, Any]:
    return {**to_dict(b), "parameters_millions": b.parameters / 1e6, "weights_mib": b.weights_size / 2**20}


def _runner(f: FeatureRecord) -> dict[str, Any]:
    new = f.images - f.from_cache
    return {
        **to_dict(f),
        "preprocessing": privacy.settings(f.preprocessing),
        "new": new,
        "fastest": max((t.images_per_s for t in f.trials), default=0.0),
    }


def heads(record: HeadRecord, split: SplitRecord | None) -> dict[str, Any]:
    words = wording.metric_words(record.metric)
    trials = sorted(record.trials, key=lambda t: _badness(t, record.metric, words.higher_is_better))
    others = [m for m in dict.fromkeys(k for t in record.trials for k in t.scores) if m != record.metric][:2]
    return {
        "metric": words.name,
        "higher_is_better": words.higher_is_better,
        "folds": record.folds,
        "n": record.n,
        "has_test": split is not None and split.how != "cross-validation",
        "chosen": wording.head_name(record.chosen),
        "reason": record.reason,
        "balance": record.balance,
        "balance_words": wording.BALANCES.get(record.balance, ""),
        "balance_reason": record.balance_reason,
        "temperature": record.temperature,
        "notes": list(record.notes),
        "others": [wording.metric_words(m).name for m in others],
        "trials": [_trial(t, record, others) for t in trials],
    }


def _trial(trial: HeadTrial, record: HeadRecord, others: Sequence[str]) -> dict[str, Any]:
    return {
        "name": wording.head_name(trial.name),
        "setting": [f"{k} = {_short(v)}" for k, v in trial.setting.items()],
        "score": to_dict(trial.scores.get(record.metric)),
        "others": [to_dict(trial.scores.get(m)) for m in others],
        "difference": to_dict(trial.difference),
        "seconds": trial.seconds,
        "is_linear": trial.linear,
        "is_kept": trial.kept or trial.name == record.chosen,
    }


def _badness(trial: HeadTrial, metric: str, higher_is_better: bool | None) -> float:
    """Sorts the best first, undefined scores last."""
    score = trial.scores.get(metric)
    if score is None or wording.is_nan(score.value):
        return float("inf")
    return score.value if higher_is_better is False else -score.value


def _short(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# --- results ------------------------------------------------------------------------------------------------------


def results(e: Evaluation, words: Words = IMAGES) -> dict[str, Any]:
    return {
        "task": e.task,
        "n": e.n,
        "how": e.how,
        "side": wording.spoken(wording.SIDES.get(e.how, e.how), words),
        "resamples": e.resamples,
        "level": next((m.level for m in e.metrics.values()), 0.95),
        "metrics": [_metric(key, e.metrics[key], key == e.headline, words) for key in _in_order(e)],
        "per_class": _per_class(e.per_class),
        "unit": "label" if e.task == "multilabel" else "class",
        "confusion": confusion(e.labels, e.confusion),
        "calibration": _calibration(e),
    }


def _in_order(e: Evaluation) -> list[str]:
    """The headline, then as in our vocabulary (JSON has sorted them by name), then what is unknown there."""
    known = [key for key in wording.METRICS if key in e.metrics]
    return list(dict.fromkeys([k for k in (e.headline, *known, *e.metrics) if k in e.metrics]))


def _metric(key: str, estimate: Any, is_headline: bool, spoken_of: Words) -> dict[str, Any]:
    words = wording.metric_words(key)
    return {
        "key": key,
        "name": words.name,
        "meaning": wording.spoken(words.meaning, spoken_of),
        "is_share": words.is_share,
        "is_headline": is_headline,
        "estimate": to_dict(estimate),
    }


def _per_class(scores: Iterable[ClassScores]) -> list[dict[str, Any]]:
    rows = [to_dict(s) for s in scores]
    if len(rows) > FEW_CLASSES:
        rows.sort(key=lambda r: (wording.is_nan(r["f1"]["value"]), r["f1"]["value"], r["name"]))
    return rows


def confusion(labels: Sequence[str], matrix: Sequence[Sequence[int]]) -> dict[str, Any] | None:
    """The matrix with its row sums, and the pairs that are confused most often."""
    if not matrix:
        return None
    names = [*labels, *(f"class {i}" for i in range(len(labels), len(matrix)))]
    totals = [sum(row) for row in matrix]
    wrong = [(n, i, j) for i, row in enumerate(matrix) for j, n in enumerate(row) if n and i != j and j < len(names)]
    wrong.sort(key=lambda cell: (-cell[0], cell[1], cell[2]))
    pairs = [{"target": names[i], "predicted": names[j], "count": n, "share": n / totals[i]} for n, i, j in wrong[:10]]
    is_drawn = len(matrix) <= MOST_CLASSES_DRAWN
    return {
        "labels": names if is_drawn else [],
        "rows": [list(row) for row in matrix] if is_drawn else [],
        "totals": totals if is_drawn else [],
        "classes": len(matrix),
        "is_drawn": is_drawn,
        "wrong": sum(n for n, _, _ in wrong),
        "pairs": pairs,
    }


def _calibration(e: Evaluation) -> dict[str, Any] | None:
    if not e.reliability_before and not e.reliability_after:
        return None
    return {
        "before": to_dict(e.reliability_before),
        "after": to_dict(e.reliability_after),
        "ece_before": to_dict(e.metrics.get("ece_before")),
        "ece": to_dict(e.metrics.get("ece")),
    }


# --- single images ------------------------------------------------------------------------------------------------


def mistakes(e: Evaluation, pictures: Pictures) -> dict[str, Any] | None:
    if not e.worst and not e.least_certain:
        return None
    return {
        "task": e.task,
        "has_sounds": any(pictures.of(x.id)["sound"] for x in e.worst),
        "has_marks": any(pictures.of(x.id)["marks"] for x in e.worst),
        "worst": [_example(x, pictures) for x in e.worst],
        "least_certain": [_example(x, pictures) for x in e.least_certain],
    }


def _example(example: Example, pictures: Pictures) -> dict[str, Any]:
    return {**to_dict(example), "picture": pictures.of(example.id), "is_right": example.target == example.predicted}


def label_issues(e: Evaluation, pictures: Pictures) -> list[dict[str, Any]]:
    return [{**to_dict(issue), "picture": pictures.of(issue.id)} for issue in e.label_issues]


# --- how to get the same again ------------------------------------------------------------------------------------


def repeat(records: Records) -> dict[str, Any] | None:
    run = records.run
    if run is None:
        return None
    weights = "Tuned weights" if changed_network(records.ladder) else "Weights"
    hashes = {
        "Data": run.data_fingerprint or (records.audit.fingerprint if records.audit else ""),
        weights: run.backbone.weights_sha256 if run.backbone else "",
        "Features": run.features.key if run.features else "",
        "Model": run.model_sha256,
    }
    line = privacy.command(run.command)
    return {
        "command": line,
        "is_shortened": "…/" in line,
        "seed": run.seed,
        "is_timed": records.ladder is not None and records.ladder.budget_s is not None,
        "created": run.created,
        "status": run.status,
        "config": privacy.settings(run.config),
        "versions": dict(run.versions),
        "machine": privacy.machine(run.machine),
        "hashes": {k: v for k, v in hashes.items() if v},
        "timing": _timing(run.timing) if run.timing else None,
        "notes": list(run.notes),
    }


def _timing(timing: Timing) -> dict[str, Any]:
    """Steps one after another: where each starts and how long it takes, in seconds."""
    rows, start = [], 0.0
    for name, length in timing.steps:
        rows.append({"name": name, "start": start, "seconds": length})
        start += 0.0 if wording.is_nan(length) else length
    return {"steps": rows, "total": start}
