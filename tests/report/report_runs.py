"""Run folders with plausible records, made by the test itself: one builder a variant."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from headstart.base.files import write_json
from headstart.base.seeds import stream
from headstart.records.audit import Audit, Cluster, Finding, Leak, Quarantined, SplitRecord
from headstart.records.estimate import Estimate
from headstart.records.evaluation import Baseline, Bin, ClassScores, Evaluation, Example, LabelIssue, Verdict
from headstart.records.heads import HeadRecord, HeadTrial
from headstart.records.history import History, PhaseRecord, StepRecord, ValidationRecord
from headstart.records.ladder import Candidate, LadderRecord, Rung
from headstart.records.proof import CurvePoint, LearningCurve, Multiplier, PowerLaw, ProofRecord, Rival
from headstart.records.run import SCHEMA, BackboneRecord, FeatureRecord, RunFolder, RunnerTrial, RunRecord, Timing

NAN = float("nan")
THREE = ("global", "local", "nominal")
Thumbnail = Callable[[str, str], tuple[str, str]]  # (class, id) → data URIs of the file and of what the network saw


def estimate(value: float, n: int, spread: float | None = None) -> Estimate:
    spread = 1.96 * (max(value * (1 - value), 0.0) / n) ** 0.5 if spread is None else spread
    return Estimate(value, max(0.0, value - spread), min(1.0, value + spread) if value <= 1 else value + spread, n)


def difference(value: float, spread: float, n: int) -> Estimate:
    return Estimate(value, value - spread, value + spread, n)


# --- pictures -----------------------------------------------------------------------------------------------------


def drawn(label: str, id: str) -> tuple[str, str]:
    """A small woven-looking picture that depends on its name only."""
    noise = stream(0, "thumbnail", label, id)
    y, x = np.mgrid[0:96, 0:128]
    waves = np.sin(x / noise.uniform(2, 9)) + np.cos(y / noise.uniform(2, 9)) + noise.normal(0, 0.3, x.shape)
    grey = np.clip(128 + 40 * waves, 0, 255).astype(np.uint8)
    picture = Image.fromarray(np.stack([grey, grey, np.roll(grey, 2, 1)], axis=2))
    return uri(picture), uri(picture.crop((16, 0, 112, 96)))


def uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def name_of(label: str, n: int) -> str:
    return f"{label}/textile_{n:04d}.jpg"


def save_pictures(run: RunFolder, samples: Mapping[str, list[str]], others: list[str], thumbnail: Thumbnail) -> None:
    ids = dict.fromkeys([i for row in samples.values() for i in row] + others)
    pictures = {}
    for i in ids:
        shown, seen = thumbnail(i.split("/")[0], i)
        pictures[i] = {"shown": shown, "seen": seen}
    write_json(run.pictures, {"pictures": pictures, "samples": samples})


# --- records that all variants share ------------------------------------------------------------------------------


def a_run(command: str = "headstart fit photos --out runs/textile --seed 0") -> RunRecord:
    return RunRecord(
        schema=SCHEMA,
        command=command,
        config={
            "data": {"path": "photos", "target": None, "accept_bad": False},
            "backbone": {"name": "package/efficientnet-lite0", "weights": None},
            "evaluation": {"resamples": 1000, "level": 0.95},
            "seed": 0,
        },
        versions={"headstart": "0.1.0", "python": "3.11.2", "torch": "2.15.0", "timm": "1.0.31", "numpy": "2.4.1"},
        machine={"system": "Linux x86_64", "cpu": "Xeon, 2 cores", "memory": "15.6 GiB", "device": "cpu"},
        seed=0,
        created="2025-11-21T11:45:09Z",
        data_fingerprint="5b1f0c9f6f5a4a0f9fd2f4f0a3f1a9e1",
        status="done",
        backbone=BackboneRecord(
            name="package/efficientnet-lite0",
            architecture="tf_efficientnet_lite0",
            parameters=3_370_352,
            feature_dim=1280,
            licence="Apache-2.0",
            trained_on="ImageNet-1k (1.28 million photographs, 1,000 classes)",
            weights_file="efficientnet_lite0.pth",
            weights_sha256="96ac1e19d4e0e1a5f5ef6a4f5a9e0d7c8b1b2c3d4e5f60718293a4b5c6d7e8f9",
            weights_size=18_734_592,
            loader="package",
            matched=269,
            expected=269,
            notes=("The classifier of the file was left out.",),
        ),
        features=FeatureRecord(
            key="3f9a0c55e0f1427f8b6a1c2d3e4f5061",
            runner="openvino float32",
            trials=(
                RunnerTrial("torch float32", 38.2, 1.0, True),
                RunnerTrial("torch bfloat16 channels_last", 74.9, 0.99991, True),
                RunnerTrial("openvino float32", 402.6, 0.999998, True),
                RunnerTrial("openvino bfloat16", 417.3, 0.9962, False),
            ),
            images=1996,
            from_cache=0,
            seconds=9.84,
            preprocessing={
                "size": 224,
                "crop": 0.875,
                "fit": "crop",
                "mean": [0.5, 0.5, 0.5],
                "interpolation": "bicubic",
            },
            preprocessing_check="The card's own normalisation separates the classes best of four alternatives.",
        ),
        timing=Timing(
            (
                ("read and audit", 3.1),
                ("time the runners", 2.4),
                ("extract features", 9.84),
                ("fit heads", 4.2),
                ("baselines", 6.9),
                ("evaluate", 1.3),
                ("save and load back", 0.8),
            )
        ),
        model_sha256="c0ffee5f7ad9b2c6e18e0d3d5d6a7b8c9e0f1a2b3c4d5e6f708192a3b4c5d6e7",
        notes=("Deterministic on this machine.",),
    )


def a_head_record(metric: str = "accuracy") -> HeadRecord:
    def trial(name: str, score: float, gap: float, rank: int, seconds: float, **setting: float | str) -> HeadTrial:
        scores = {metric: estimate(score, 1596), "log_loss": Estimate(1.3 - score, 1.25 - score, 1.36 - score, 1596)}
        linear = name != "neighbours"
        return HeadTrial(name, setting, scores, difference(gap, 0.008, 1596), rank, seconds, linear, name == "ridge")

    return HeadRecord(
        metric=metric,
        folds="5 stratified folds, look-alikes kept together",
        n=1596,
        trials=(
            trial("nearest-mean", 0.871, -0.081, 0, 0.04),
            trial("ridge", 0.949, -0.003, 1, 0.61, **{"lambda": 12.3}),
            trial("lda", 0.944, -0.008, 2, 0.88, shrinkage=0.45),
            trial("logistic", 0.952, 0.0, 3, 2.1, C=0.316),
            trial("neighbours", 0.902, -0.05, 4, 0.21, k=5.0),
        ),
        chosen="ridge",
        reason="It is within noise of logistic regression and simpler.",
        balance="none",
        balance_reason="The largest class is twice the smallest; weights changed macro-F1 by +0.001 only.",
        temperature=0.71,
        notes=("Logistic regression reached its limit of steps at C = 10000.",),
    )


def bins(gain: float) -> tuple[Bin, ...]:
    middles = (0.37, 0.46, 0.55, 0.65, 0.75, 0.86, 0.97)
    counts = (3, 8, 14, 22, 41, 88, 224)
    return tuple(Bin(c, min(1.0, c + gain * (1 - c)), n) for c, n in zip(middles, counts, strict=True))


def an_evaluation(labels: tuple[str, ...], confusion: np.ndarray, images: Callable[[str, int], str]) -> Evaluation:
    """Scores that follow from the confusion matrix, so that the fixture does not contradict itself."""
    n, right = int(confusion.sum()), int(np.trace(confusion))
    per_class = []
    for k, name in enumerate(labels):
        support, said, hits = int(confusion[k].sum()), int(confusion[:, k].sum()), int(confusion[k, k])
        recall = estimate(hits / support, support) if support else Estimate(NAN, NAN, NAN, 0)
        precision = estimate(hits / said, said) if said else Estimate(NAN, NAN, NAN, 0)
        f1 = estimate(2 * hits / (said + support), support) if support else Estimate(NAN, NAN, NAN, 0)
        per_class.append(ClassScores(name, support, precision, recall, f1))
    recalls = [c.recall.value for c in per_class if c.support]
    accuracy, macro = right / n, float(np.mean(recalls))
    score = estimate(accuracy, n)

    def example(i: int, j: int, number: int, confidence: float) -> Example:
        return Example(images(labels[i], number), labels[i], labels[j], confidence, -float(np.log(1.01 - confidence)))

    wrong = [(i, j) for i in range(len(labels)) for j in range(len(labels)) if i != j and confusion[i, j]]
    worst = tuple(example(*wrong[m % len(wrong)], 20 + m, 0.98 - 0.03 * m) for m in range(14))
    doubt = tuple(example(m % 2, (m // 2) % 2, 60 + m, 0.41 + 0.01 * m) for m in range(6))
    issues = tuple(
        LabelIssue(images(labels[m % 2], 90 + m), labels[m % 2], labels[(m + 1) % 2], -0.93 + 0.04 * m)
        for m in range(7)
    )
    return Evaluation(
        task="classification",
        labels=labels,
        n=n,
        headline="accuracy",
        metrics={
            "accuracy": score,
            "balanced_accuracy": estimate(macro, n),
            "macro_f1": estimate(macro - 0.004, n),
            "roc_auc": estimate(0.991, n, 0.005),
            "log_loss": Estimate(0.171, 0.133, 0.214, n),
            "brier": Estimate(0.083, 0.061, 0.107, n),
            "ece_before": Estimate(0.064, 0.049, 0.083, n),
            "ece": Estimate(0.021, 0.014, 0.038, n),
        },
        per_class=tuple(per_class),
        confusion=tuple(tuple(int(v) for v in row) for row in confusion),
        reliability_before=bins(0.3),
        reliability_after=bins(0.08),
        baselines=(
            a_baseline("majority", "always the most frequent class", 0.5, score, 1e-30),
            a_baseline("pixels", "the same kind of head on 16 × 16 pixels, no network", 0.61, score, 2e-22),
            a_baseline("random-network", "the same head on the same network with random weights", 0.78, score, 0.00004),
        ),
        verdict=Verdict(
            "yes",
            "Against the same network with random weights, accuracy rises by 0.170 [0.130, 0.210]; McNemar's test "
            "gives p < 0.001 on the same images.",
            "random-network",
        ),
        worst=worst,
        least_certain=doubt,
        label_issues=issues,
        resamples=1000,
    )


def a_baseline(key: str, what: str, value: float, score: Estimate, p: float | None) -> Baseline:
    gain = difference(score.value - value, 0.04, score.n)
    return Baseline(key, what, estimate(value, score.n), score, gain, p, trained_on=1596, n=score.n)


# --- variants -----------------------------------------------------------------------------------------------------


def three_classes(folder: Path, thumbnail: Thumbnail = drawn) -> RunFolder:
    """The ordinary run: everything is there."""
    run = empty(folder)
    confusion = np.asarray([[91, 7, 2], [6, 88, 6], [0, 3, 197]])
    evaluation = an_evaluation(THREE, confusion, name_of)
    counts = {"global": 500, "local": 498, "nominal": 998}
    run.save(a_run())
    run.save(an_audit(counts))
    run.save(a_split(counts))
    run.save(a_head_record())
    run.save(evaluation)
    samples = {name: [name_of(name, n) for n in range(1, 5)] for name in THREE}
    others = [x.id for x in (*evaluation.worst, *evaluation.least_certain, *evaluation.label_issues)]
    save_pictures(run, samples, [*others[:-1], name_of("global", 5), name_of("local", 6)], thumbnail)
    return run


def an_audit(counts: dict[str, int]) -> Audit:
    first, second = list(counts)[:2]
    total = sum(counts.values())
    pair = (name_of(first, 5), name_of(second, 6))
    return Audit(
        origin="photos",
        rows=total + 4,
        usable=total,
        target="single-label",
        target_reason="each image stands in one of the class folders",
        counts=counts,
        quarantined=(
            Quarantined(name_of(first, 7), "IM26", "is an HTML page, not an image"),
            Quarantined(name_of(first, 8), "IM27", "ends after 3,102 of 9,411 bytes"),
            Quarantined(name_of(second, 9), "IM26", "is empty"),
            Quarantined(name_of(second, 10), "IM31", "has 412 million pixels; at most 179 million are read"),
        ),
        skipped={"hidden files": 2, "links outside": 1},
        clusters=(
            Cluster((name_of(first, 1), name_of(first, 2)), "exact", (first, first), 1.0),
            Cluster((name_of(second, 1), name_of(second, 2), name_of(second, 3)), "near", (second,) * 3, 0.991),
            Cluster(pair, "near", (first, second), 0.987),
        ),
        conflicts=(Cluster(pair, "near", (first, second), 0.987),),
        findings=(
            Finding("AU05", "note", "1,990 of 1,996 images have the same size, 640 × 480."),
            Finding("AU12", "warning", "One picture carries two labels.", pair),
            Finding("AU20", "note", "Image size alone does not tell the classes apart."),
        ),
        sizes=((640, 480, total - 6), (480, 640, 4), (1024, 768, 2)),
        modes={"RGB": total - 3, "L": 3},
        notes={"turned upright by EXIF": 4},
        fingerprint="5b1f0c9f6f5a4a0f9fd2f4f0a3f1a9e1",
    )


def a_split(counts: dict[str, int]) -> SplitRecord:
    test = {name: max(1, round(n / 5)) for name, n in counts.items()}
    train = {name: n - test[name] for name, n in counts.items()}
    return SplitRecord(
        how="held-out",
        reason="A fifth of each class judges.",
        train=tuple(name_of(name, m) for name, n in train.items() for m in range(n)),
        test=tuple(name_of(name, 5000 + m) for name, n in test.items() for m in range(n)),
        counts_train=train,
        counts_test=test,
        clusters_kept_together=3,
    )


def many_classes(folder: Path, k: int = 40, thumbnail: Thumbnail = drawn) -> RunFolder:
    run = empty(folder)
    labels = tuple(f"species {n:02d} {'with a long name' if n % 7 == 0 else ''}".strip() for n in range(k))
    draw = stream(0, "many", k)
    confusion = np.diag(draw.integers(8, 30, k))
    for _ in range(3 * k):
        i, j = draw.integers(0, k, 2)
        confusion[i, j] += draw.integers(1, 4)
    counts = {name: int(n) for name, n in zip(labels, draw.integers(20, 300, k), strict=True)}
    evaluation = an_evaluation(labels, confusion, name_of)
    run.save(a_run())
    run.save(an_audit(counts))
    run.save(a_split(counts))
    run.save(a_head_record())
    run.save(evaluation)
    samples = {name: [name_of(name, n) for n in range(1, 4)] for name in labels}
    save_pictures(run, samples, [x.id for x in evaluation.worst], thumbnail)
    return run


def multilabel(folder: Path, thumbnail: Thumbnail = drawn) -> RunFolder:
    run = three_classes(folder, thumbnail)
    evaluation = run.load(Evaluation)
    run.save(replace(run.load(Audit), target="multi-label", target_reason="the column 'tags' holds a|b in 312 rows"))
    run.save(a_head_record("macro_f1"))
    run.save(
        replace(
            evaluation,
            task="multilabel",
            headline="macro_f1",
            metrics={
                "macro_f1": estimate(0.871, 400),
                "micro_f1": estimate(0.902, 400),
                "average_precision": estimate(0.91, 400),
                "subset_accuracy": estimate(0.77, 400),
            },
            confusion=(),
            worst=tuple(replace(x, target="global|local", predicted="local") for x in evaluation.worst),
        )
    )
    return run


def regression(folder: Path, thumbnail: Thumbnail = drawn) -> RunFolder:
    run = three_classes(folder, thumbnail)
    evaluation = run.load(Evaluation)
    rmse = Estimate(12.4, 10.9, 14.2, 400)
    mean = Estimate(41.7, 38.8, 44.9, 400)
    run.save(
        replace(run.load(Audit), target="regression", target_reason="'grams' holds 388 distinct numbers", counts={})
    )
    run.save(replace(run.load(SplitRecord), counts_train={}, counts_test={}))
    run.save(
        replace(
            a_head_record("rmse"),
            trials=(
                HeadTrial("ridge", {"lambda": 3.2}, {"rmse": rmse}, difference(0.0, 0.0, 1596), 0, 0.4, True, True),
                HeadTrial(
                    "neighbours",
                    {"k": 5},
                    {"rmse": Estimate(15.1, 13.0, 17.4, 1596)},
                    difference(2.7, 0.8, 1596),
                    1,
                    0.2,
                    False,
                ),
            ),
        )
    )
    run.save(
        replace(
            evaluation,
            task="regression",
            labels=("grams",),
            headline="rmse",
            metrics={"rmse": rmse, "mae": Estimate(9.1, 8.2, 10.1, 400), "r2": Estimate(0.91, 0.88, 0.93, 400)},
            per_class=(),
            confusion=(),
            reliability_before=(),
            reliability_after=(),
            baselines=(Baseline("mean", "always the mean", mean, rmse, difference(29.3, 3.1, 400), None, 1596, 400),),
            verdict=Verdict("yes", "RMSE falls by 29.3 [26.2, 32.4] grams.", "mean"),
            worst=tuple(
                replace(x, target="412.0", predicted="377.5", confidence=NAN, loss=34.5) for x in evaluation.worst
            ),
            least_certain=(),
            label_issues=(),
        )
    )
    return run


def cross_validated(folder: Path, thumbnail: Thumbnail = drawn) -> RunFolder:
    run = three_classes(folder, thumbnail)
    everyone = tuple(name_of(name, n) for name in THREE for n in range(20))
    counts = dict.fromkeys(THREE, 20)
    run.save(replace(run.load(Audit), usable=60, rows=64, counts=counts))
    run.save(SplitRecord("cross-validation", "60 images are too few to set some aside.", everyone, everyone, counts))
    evaluation = run.load(Evaluation)
    score = estimate(0.85, 60)
    run.save(replace(evaluation, how="cross-validation", n=60, metrics={**evaluation.metrics, "accuracy": score}))
    return run


def own_split_with_leaks(folder: Path, thumbnail: Thumbnail = drawn) -> RunFolder:
    run = three_classes(folder, thumbnail)
    leak = Leak(name_of("global", 1), name_of("global", 2), ("train", "test"), "exact")
    run.save(replace(run.load(Audit), leaks=(leak,) * 12))
    run.save(replace(run.load(SplitRecord), how="given", reason="'train' and 'test' folders were found."))
    run.save(replace(run.load(Evaluation), how="given"))
    return run


# --- beyond the probe ---------------------------------------------------------------------------------------------

LAST = {"blocks.5": 3.3e-5, "blocks.6": 1e-4, "top": 1e-4, "head": 1e-3}
EVERY = {"stem": 1e-6} | {f"blocks.{i}": 3e-6 * 2**i for i in range(7)} | {"top": 3e-4, "head": 1e-3}


def a_plan(strategy: str = "last-stages", **changes: object) -> dict[str, object]:
    """A plan as ``to_dict`` gives it (adapt.plan)."""
    plan: dict[str, object] = {
        "strategy": strategy,
        "phases": [a_phase("fine-tune", 411, LAST)],
        "batch_size": 32,
        "head": {"start": "probe", "hidden": [], "dropout": 0.0},
        "surgery": [],
        "optimizer": {
            "kind": "adamw",
            "weight_decay": 0.05,
            "momentum": 0.9,
            "nesterov": True,
            "betas": [0.9, 0.999],
            "eps": 1e-8,
        },
        "loss": {"kind": "auto", "label_smoothing": 0.0, "balanced": "none", "mixup": 0.0},
        "augment": "none",
        "views": 0,
        "clip_norm": 1.0,
        "ema": None,
        "patience": None,
        "validations": 10,
    }
    return plan | changes


def a_phase(name: str, steps: int, lr: Mapping[str, float], **changes: object) -> dict[str, object]:
    schedule = {"kind": "cosine", "warmup": 0.1, "floor": 0.0, "drops": [0.6, 0.85], "factor": 0.1}
    phase = {"name": name, "steps": steps, "lr": dict(lr), "only": "all", "statistics": "moving"}
    return phase | {"schedule": schedule, "penalties": []} | changes


def a_history(phases: Mapping[str, int], validations: int = 0, stopped: str = "finished") -> History:
    """A falling, noisy loss; each phase starts a little above the end of the one before."""
    noise, steps, first, rows = stream(0, "history"), sum(phases.values()), 0, []
    entered = []
    for number, (name, length) in enumerate(phases.items()):
        entered.append(PhaseRecord(name, first, LAST if number else {"head": 1e-3}))
        for i in range(length):
            level = (0.9 - 0.35 * number) * np.exp(-4 * i / length) + 0.14 / (number + 1)
            loss = float(level * np.exp(noise.normal(0, 0.25)))
            rows.append(StepRecord(first + i, number, loss, 1.3, 1 - i / length, 0.17 * (first + i)))
        first += length
    at = [round((v + 1) * steps / validations) for v in range(validations)] if validations else []
    losses = [0.62 - 0.5 * s / steps + 0.45 * max(0.0, s / steps - 0.7) ** 0.9 for s in at]
    best = at[losses.index(min(losses))] if at else steps
    checked = tuple(
        ValidationRecord(s, loss, loss, loss <= min(losses[: n + 1]))
        for n, (s, loss) in enumerate(zip(at, losses, strict=True))
    )
    planned = steps if stopped == "finished" else steps + 120
    return History(
        tuple(entered),
        tuple(rows),
        checked,
        planned,
        best,
        stopped,  # type: ignore[arg-type]
        batch_size=32,
        micro_batch=32,
        images_per_s=187.3,
        seconds=0.17 * steps,
    )


def the_probe(score: float = 0.858, n: int = 480) -> Rung:
    return Rung("probe", "ridge on frozen features", estimate(score, n), None, True, "where the climb starts")


def candidates() -> tuple[Candidate, ...]:
    first = [
        Candidate("last 3 stages", 1.0, 41, 0.412, 0.871, 9.8, False),
        Candidate("last 3 stages, 3 times the rate", 3.0, 41, 0.388, 0.879, 9.9, False),
        Candidate("last 6 stages", 1.0, 22, 0.431, 0.862, 10.1, True),
        Candidate("last 3 stages, L2-SP", 1.0, 39, 0.420, 0.869, 10.0, True),
    ]
    second = [replace(first[0], steps=123, loss=0.347, score=0.894, seconds=29.9, dropped=True)]
    return (*first, *second, replace(first[1], steps=122, loss=0.331, score=0.902, seconds=29.7))


def a_ladder(**changes: object) -> LadderRecord:
    gain = Estimate(0.062, 0.031, 0.094, 480, 0.9)
    little = Estimate(0.004, -0.009, 0.017, 480, 0.9)
    penalties = [{"kind": "l2-sp", "weight": 0.01, "head_weight": 0.01}]
    record = LadderRecord(
        metric="accuracy",
        folds="480 of the 1,596 training rows held back",
        rungs=(
            the_probe(),
            Rung(
                "last stages",
                "last 3 stages, 3 times the rate",
                estimate(0.920, 480),
                gain,
                True,
                "accuracy +0.062 [+0.031, +0.094] over probe: more than noise",
                214.0,
                0.5,
                a_plan(phases=[a_phase("fine-tune", 411, LAST, penalties=penalties)]),
                candidates(),
            ),
            Rung(
                "full",
                "full",
                estimate(0.924, 480),
                little,
                False,
                "accuracy +0.004 [−0.009, +0.017] over last stages: within noise, so last stages stays",
                603.0,
                0.75,
                a_plan("full", phases=[a_phase("all", 240, EVERY)], augment="auto", ema=0.1),
            ),
        ),
        kept="last stages",
        stopped="full: accuracy +0.004 [−0.009, +0.017] over last stages: within noise, so last stages stays",
        budget_s=1200.0,
        seconds=838.4,
        notes=(
            "horizontal-flip is switched off: it changes 9 of 96 right answers (9 %), most of ‘local’ (8 of 31), which "
            "is more than the 5 % that noise explains",
        ),
        history=a_history({"fine-tune": 411}),
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def fine_tuned(folder: Path, thumbnail: Thumbnail = drawn) -> RunFolder:
    """The ladder was climbed to its second rung; the third did not pay."""
    run = three_classes(folder, thumbnail)
    against_probe(run, 0.022, 0.019, 0.031)
    run.save(a_ladder())
    record = run.load(RunRecord)
    assert record.backbone is not None and record.timing is not None
    notes = (*record.backbone.notes, "fine-tuned by headstart", "50% of the way")
    steps = (*record.timing.steps[:4], ("fine-tuning", 838.4), *record.timing.steps[4:])
    command = "headstart fit photos --out runs/textile --time 20m --seed 0"
    run.save(replace(record, command=command, backbone=replace(record.backbone, notes=notes), timing=Timing(steps)))
    return run


def against_probe(run: RunFolder, gain: float, spread: float, p: float) -> None:
    """Adds the frozen network to what the model is compared with on the test images."""
    e = run.load(Evaluation)
    score = e.metrics[e.headline]
    what = "the same network frozen, with the head chosen on its features"
    value = round(score.value - gain, 3)
    frozen = Baseline("probe", what, estimate(value, e.n), score, difference(gain, spread, e.n), p, 1596, e.n)
    run.save(replace(e, baselines=(*e.baselines, frozen)))


def probe_stays(folder: Path, thumbnail: Thumbnail = drawn) -> RunFolder:
    """Fine-tuning was tried and gained nothing."""
    run = three_classes(folder, thumbnail)
    gain = Estimate(0.004, -0.01, 0.018, 480, 0.9)
    reason = "accuracy +0.004 [−0.010, +0.018] over probe: within noise, so probe stays"
    tried = replace(a_ladder().rungs[1], score=estimate(0.862, 480), gain=gain, kept=False, reason=reason)
    stopped = f"last stages: {reason}"
    run.save(a_ladder(rungs=(the_probe(), tried), kept="probe", stopped=stopped, history=None, notes=()))
    return run


def no_time(folder: Path, thumbnail: Thumbnail = drawn) -> RunFolder:
    """Nothing beyond the probe could be tried."""
    run = three_classes(folder, thumbnail)
    reason = (
        "not tried: the time left is enough for 0.4 epochs of each of 2 trainings, and fewer than 3 teach little. "
        "It needs about 4 min more than the probe; give more with --time"
    )
    rung = Rung("last stages", "last 3 stages", None, None, False, reason, 4.2)
    run.save(
        a_ladder(
            rungs=(the_probe(), rung), kept="probe", stopped=reason, history=None, notes=(), budget_s=30.0, seconds=6.1
        )
    )
    return run


def by_name(folder: Path, thumbnail: Thumbnail = drawn) -> RunFolder:
    """A strategy was asked for: two phases, validated, ended early."""
    run = fine_tuned(folder, thumbnail)
    words = "first the head, then everything at a lower rate; a good first choice"
    phases = [a_phase("head", 60, {"head": 1e-3}), a_phase("all", 360, EVERY, statistics="fixed")]
    plan = a_plan("lp-ft", phases=phases, augment="auto", patience=3)
    run.save(
        LadderRecord(
            metric="accuracy",
            folds="239 of 1,596 training examples held back for the temperature",
            rungs=(Rung("lp-ft", words, None, None, True, "asked for", 171.0, plan=plan),),
            kept="lp-ft",
            stopped="the strategy was asked for by name",
            budget_s=None,
            seconds=171.0,
            history=a_history({"head": 60, "all": 240}, validations=10, stopped="patience"),
        )
    )
    return run


def long_words(folder: Path, thumbnail: Thumbnail = drawn) -> RunFolder:
    """Names and reasons far longer than a line, with and without a place to break them."""
    run = fine_tuned(folder, thumbnail)
    long, whole = "because the interval includes nothing " * 12, "w" * 300
    probe, tuned, full = a_ladder().rungs
    phases = [a_phase(whole, 5, {f"{whole}.{i}.{c}": 1e-4 for i in range(3) for c in "ab"})]
    many = tuple(replace(c, name=f"{c.name} {whole}") for c in candidates())
    rungs = (
        replace(probe, what=whole),
        replace(tuned, what=long, reason=long, plan=a_plan(whole, phases=phases, augment=whole), candidates=many),
        replace(full, reason=whole),
        Rung("further", whole, None, None, False, long),
    )
    run.save(a_ladder(rungs=rungs, stopped=long, folds=whole, notes=(whole, long)))
    return run


def regression_tuned(folder: Path, thumbnail: Thumbnail = drawn) -> RunFolder:
    """An error decides: a lower score is a better one, and gains are below 0."""
    run = regression(folder, thumbnail)
    probe = replace(the_probe(), score=Estimate(14.1, 12.6, 15.9, 480))
    gain = Estimate(-1.9, -2.6, -1.1, 480, 0.9)
    tuned = replace(a_ladder().rungs[1], score=Estimate(12.2, 10.9, 13.6, 480), gain=gain, interpolation=1.0)
    tuned = replace(tuned, reason="rmse −1.900 [−2.600, −1.100] over probe: more than noise")
    run.save(a_ladder(metric="rmse", rungs=(probe, tuned), stopped="every rung was tried"))
    return run


def worth(value: float, low: float, high: float, kind: str = "measured", n: int = 480) -> Multiplier:
    return Multiplier(Estimate(value, low, high, n, 0.95), 1.0, 16.0, kind)  # type: ignore[arg-type]


def a_curve(key: str, law: PowerLaw, spread: float = 0.03) -> LearningCurve:
    sizes = [round(1596 * share) for share in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)]
    scores = [round(1 - law.floor - law.drop * (n / law.most) ** -law.exponent, 3) for n in sizes]
    points = [
        CurvePoint(n / 1596, n, estimate(s, 480, spread * (1596 / n) ** 0.2))
        for n, s in zip(sizes, scores, strict=True)
    ]
    return LearningCurve(key, f"{key}, under the chosen kind of head", tuple(points), law)


def a_proof(**changes: object) -> ProofRecord:
    """Transfer was worth six times more labels than training from scratch for five times as long."""
    score = estimate(0.933, 480)

    def rival(key: str, what: str, value: float, steps: int, m: Multiplier | None) -> Rival:
        return Rival(a_baseline(key, what, value, score, 0.0001), 9.1 * steps / 90, steps, steps / 49.9, m)

    record = ProofRecord(
        metric="accuracy",
        how="held-out",
        n=480,
        learnt_from=1596,
        adaptation_s=838.4,
        rivals=(
            rival("random-network", "the same network with random weights", 0.61, 0, worth(16, 16, 16, "at least")),
            rival("scratch", "the same network trained from scratch for 14 min", 0.752, 900, worth(9.2, 6.6, 13.4)),
            rival("scratch-long", "the same network trained from scratch for 70 min", 0.806, 4500, worth(6.1, 4.2, 9)),
        ),
        curves=(
            a_curve("transfer", PowerLaw(0.03, 0.07, 0.45, 1596)),
            a_curve("random-network", PowerLaw(0.2, 0.19, 0.3, 1596)),
        ),
        seeds=3,
        multiplier=worth(6.1, 4.2, 9),
        against="scratch-long",
        negative=(),
        sentence="Transfer was worth 6.1 times more labels [4.2, 9]: about 262 labels with it do what 1596 do for the "
        "same network trained from scratch for 70 min (accuracy 0.806).",
        notes=("each subset was drawn 3 times; the random weights are one draw",),
        seconds=5102.0,
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def proved(folder: Path, thumbnail: Thumbnail = drawn) -> RunFolder:
    """Fine-tuned, and the worth of transfer was measured."""
    run = fine_tuned(folder, thumbnail)
    run.save(a_proof())
    return run


def harmed(folder: Path, thumbnail: Thumbnail = drawn) -> RunFolder:
    """Transfer did harm, and too few examples for curves."""
    run = three_classes(folder, thumbnail)
    sentence = "How many labels transfer was worth cannot be told: 24 examples give fewer than 3 subsets."
    negative = (
        "Pretrained features are not shown to be better than those of random weights: accuracy 0.700 is 0.010 "
        "[-0.060, 0.080] ahead of the 0.690.",
        "Transfer did harm: accuracy 0.700 is 0.100 [0.040, 0.160] behind the 0.800 of the same network trained from "
        "scratch for 50 s, on the same 480 examples.",
    )
    rivals = tuple(replace(r, worth=None) for r in a_proof().rivals)
    behind = replace(rivals[2].against, gain=difference(-0.1, 0.06, 480))
    rivals = (*rivals[:2], replace(rivals[2], against=behind))
    curves = tuple(replace(c, points=c.points[-1:], law=None) for c in a_proof().curves)
    changes = {"rivals": rivals, "curves": curves, "multiplier": None, "against": "", "adaptation_s": 0.0}
    run.save(a_proof(sentence=sentence, negative=negative, **changes))
    return run


def empty(folder: Path) -> RunFolder:
    folder.mkdir(parents=True, exist_ok=True)
    return RunFolder(folder)


VARIANTS: Mapping[str, Callable[[Path], RunFolder]] = {
    "three_classes": three_classes,
    "many_classes": many_classes,
    "multilabel": multilabel,
    "regression": regression,
    "cross_validated": cross_validated,
    "own_split_with_leaks": own_split_with_leaks,
    "fine_tuned": fine_tuned,
    "probe_stays": probe_stays,
    "no_time": no_time,
    "by_name": by_name,
    "long_words": long_words,
    "regression_tuned": regression_tuned,
    "proved": proved,
    "harmed": harmed,
    "empty": empty,
}
