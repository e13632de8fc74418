"""``headstart fit``: features once, heads compared, the best one saved with its evidence."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from headstart.cli import options as o

if TYPE_CHECKING:
    from headstart.workflow.run import Run

_MODEL = "The model"
_EVIDENCE = "The evidence"


def add_to(app: typer.Typer) -> None:
    app.command("fit")(fit)


def fit(
    data: Annotated[
        str, typer.Argument(help="Folder of class folders, or a table of paths (or texts, with --text) and targets.")
    ],
    out: Annotated[
        str | None, typer.Option("--out", help="Folder of the run (default: runs/<name of the data>).")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another run in that folder.")] = False,
    backbone: Annotated[
        str,
        typer.Option(
            "--backbone",
            "-b",
            help="Name from 'headstart models'; auto: the best of those here by a quick ranking on this data.",
            rich_help_panel=_MODEL,
        ),
    ] = "starter",
    weights: Annotated[
        str | None,
        typer.Option("--weights", help="Local file with the backbone's parameters.", rich_help_panel=_MODEL),
    ] = None,
    balance: Annotated[
        str, typer.Option("--balance", help="auto, none, weights or logit-adjust.", rich_help_panel=_MODEL)
    ] = "auto",
    metric: Annotated[
        str | None,
        typer.Option("--metric", help="What decides between heads (default: by task).", rich_help_panel=_MODEL),
    ] = None,
    runner: Annotated[
        str | None,
        typer.Option("--runner", help="How to run the network (default: the fastest).", rich_help_panel=_MODEL),
    ] = None,
    test_share: Annotated[
        float, typer.Option("--test-share", help="Share of the examples that judge.", rich_help_panel=_EVIDENCE)
    ] = 0.2,
    examples_per_class: Annotated[
        int | None,
        typer.Option(
            "--examples-per-class",
            help="Learn from at most so many of each class; the rest is left out.",
            rich_help_panel=_EVIDENCE,
        ),
    ] = None,
    random_baseline: Annotated[
        str,
        typer.Option(
            "--random-baseline",
            help="Compare with a network of random weights: auto (on a subsample), full, off.",
            rich_help_panel=_EVIDENCE,
        ),
    ] = "auto",
    prove: Annotated[
        bool,
        typer.Option(
            "--prove",
            help="Train from scratch too, and tell how many labels the transfer was worth (some six times the time).",
            rich_help_panel=_EVIDENCE,
        ),
    ] = False,
    strategy: o.Strategy = None,
    time: o.Time = None,
    epochs: o.Epochs = None,
    batch_size: o.BatchSize = None,
    precision: o.Precision = "auto",
    rate_test: o.RateTest = False,
    lr: o.Lr = None,
    head_lr: o.HeadLr = None,
    layer_decay: o.LayerDecay = None,
    optimizer: o.OptimizerName = None,
    weight_decay: o.WeightDecay = None,
    schedule: o.ScheduleName = None,
    warmup: o.Warmup = None,
    penalty: o.PenaltyName = None,
    label_smoothing: o.LabelSmoothing = None,
    mixup: o.MixupAlpha = None,
    ema: o.Ema = None,
    augment: o.Augment = None,
    hidden: o.Hidden = None,
    dropout: o.Dropout = None,
    set_field: o.SetField = None,
    cut_at: o.CutAt = None,
    pooling: o.PoolingName = None,
    channels: o.Channels = 3,
    patience: o.Patience = None,
    resume: o.Resume = False,
    log: o.Log = None,
    target: o.Target = None,
    path_column: o.PathColumn = None,
    features: o.Features = None,
    text: o.Text = None,
    split_column: o.SplitColumn = None,
    group_by: o.GroupBy = None,
    task: o.TaskOption = None,
    encoding: o.Encoding = None,
    decimal: o.DecimalSign = ".",
    accept_bad: o.AcceptBad = False,
    accept_leakage: o.AcceptLeakage = False,
    allow_empty: o.AllowEmpty = False,
    allow_outside: o.AllowOutside = False,
    drop_unlabelled: o.DropUnlabelled = False,
    max_pixels: o.MaxPixels = 50_000_000,
    offline: o.Offline = False,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    cache: o.Cache = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Learn from labelled examples: features once, heads compared, the best one saved with its evidence."""
    from headstart.adapt.strategies import Options
    from headstart.adapt.strategies.fields import parsed
    from headstart.backbones.structure import Structure
    from headstart.cli.show import Screen, emit
    from headstart.training.logs import Logged
    from headstart.workflow.config import Balance, DataConfig, FitConfig, TaskName, TuneConfig
    from headstart.workflow.fit import fit as story

    options = Options(
        lr=lr,
        head_lr=head_lr,
        layer_decay=layer_decay,
        optimizer=optimizer,  # type: ignore[arg-type]  # Options says what is wrong with a word
        weight_decay=weight_decay,
        schedule=schedule,  # type: ignore[arg-type]
        warmup=warmup,
        penalty=penalty,  # type: ignore[arg-type]
        label_smoothing=label_smoothing,
        mixup=mixup,
        ema=ema,
        augment=augment,
        hidden=widths_of(hidden) if hidden else None,
        dropout=dropout,
        patience=patience,
    )

    config = FitConfig(
        data=DataConfig(
            target=target,
            path_column=path_column,
            features=o.patterns(features),
            split_column=split_column,
            group_by=group_by,
            task=one_of("--task", task, get_args(TaskName)) if task else None,
            encoding=encoding,
            decimal=o.decimal_sign(decimal),
            accept_bad=accept_bad,
            accept_leakage=accept_leakage,
            allow_empty=allow_empty,
            allow_outside=allow_outside,
            drop_unlabelled=drop_unlabelled,
            max_pixels=max_pixels,
            text=text,
        ),
        tuning=TuneConfig(
            strategy=strategy or ("auto" if time else "probe"),
            time_s=seconds_of(time) if time else None,
            epochs=epochs,
            batch_size=batch_size,
            precision=one_of("--precision", precision, ("auto", "float32", "bf16")),
            rate_test=rate_test,
            options=options,
            fields=parsed(set_field or []),
        ),
        structure=Structure(cut_at, pooling, channels),  # type: ignore[arg-type]  # as for Options
        backbone=backbone,
        weights=weights,
        balance=one_of("--balance", balance, get_args(Balance)),
        metric=metric,
        test_share=test_share,
        examples_per_class=examples_per_class,
        random_baseline=one_of("--random-baseline", random_baseline, ("auto", "full", "off")),
        prove=prove,
        seed=seed,
        device=device,
        runner=runner,
        offline=offline,
    )
    screen = Screen(quiet=quiet)
    logged = Logged(screen, log or [])
    try:
        run = story(
            data,
            out=out,
            config=config,
            cache=cache,
            overwrite=overwrite,
            resume=resume,
            observer=logged,
            command=repeatable(sys.argv),
        )
    finally:
        logged.close()
        screen.close()
    if as_json:
        emit(as_object(run))
    else:
        print_run(run)


def one_of(option: str, word: str, words: tuple[str, ...]) -> Any:
    """``word`` if it is one of ``words``; DataError with a suggestion otherwise."""
    from headstart.base.errors import DataError, did_you_mean, shown

    if word not in words:
        raise DataError(f"CF23 {option} is '{shown(word)}'; it can be {', '.join(words)}.{did_you_mean(word, words)}")
    return word


def widths_of(words: str) -> tuple[int, ...]:
    """'256' or '256,64' as widths of hidden layers."""
    from headstart.base.errors import DataError, shown

    try:
        return tuple(int(word) for word in words.split(","))
    except ValueError:
        raise DataError(f"CF23 --hidden is '{shown(words)}'; it can be 256, or 256,64 for two layers.") from None


def seconds_of(words: str) -> float:
    """'90', '90s', '20m' or '1.5h' in seconds."""
    from headstart.base.errors import DataError, shown

    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (words[:-1], words[-1]) if words[-1:] in units else (words, "s")
    try:
        seconds = float(number) * units[unit]
    except ValueError:
        seconds = float("nan")
    if not 0 < seconds < float("inf"):
        raise DataError(f"CF23 --time is '{shown(words)}'; it can be 90s, 20m or 1h.")
    return seconds


def repeatable(argv: list[str]) -> str:
    """The command as it can be typed again."""
    import shlex

    return shlex.join(["headstart", *argv[1:]])


def as_object(run: Run) -> dict[str, Any]:
    from headstart.base.config import to_dict

    return {
        "run": str(run.folder.path),
        "report": str(run.report),
        "model": str(run.folder.model),
        "reused": run.reused,
        "evaluation": to_dict(run.evaluation),
        "heads": to_dict(run.heads),
        "proof": to_dict(run.proof) if run.proof is not None else None,
        "few_shot": to_dict(run.few_shot) if run.few_shot is not None else None,
        "ladder": to_dict(run.ladder) if run.ladder is not None else None,
        "blocks": to_dict(run.blocks) if run.blocks is not None else None,
        "record": to_dict(run.record),
    }


def print_run(run: Run) -> None:
    from headstart.cli.show import line, table

    heads, evaluation = run.heads, run.evaluation
    rows = [
        [
            ("→ " if t.kept else "  ") + t.name,
            str(t.scores[heads.metric]),
            _difference(t.difference),
            f"{t.seconds:.2f} s",
        ]
        for t in heads.trials
    ]
    table(
        f"heads, by {heads.metric} in {heads.folds} of {heads.n:,} training examples",
        [("head", "left"), (heads.metric, "left"), ("difference to best", "left"), ("time", "right")],
        rows,
    )
    if run.ladder is not None:
        print_ladder(run.ladder)
    if run.blocks is not None:
        print_blocks(run.blocks)
    print_evaluation(evaluation)
    if run.proof is not None:
        line(run.proof.sentence, "bold")
    if run.few_shot is not None:
        line(run.few_shot.sentence)
    line(f"report  {run.report}")
    line(f"model   {run.folder.model}")


def print_blocks(found: Any) -> None:
    from headstart.base.errors import shown
    from headstart.cli.show import table

    rows = [
        [shown(b.name), b.network, f"{b.width:,}", f"{b.missing:,}", str(b.alone), _interval(b.loss)]
        for b in found.blocks
    ]
    heads = [("block", "left"), ("network", "left"), ("features", "right"), ("missing", "right")]
    table(
        f"blocks: {found.metric} of each alone, and what is lost without it",
        [*heads, ("alone", "left"), ("lost without it", "left")],
        rows,
    )


def print_ladder(ladder: Any) -> None:
    from headstart.cli.show import line, table

    rows = [
        [
            ("→ " if rung.name == ladder.kept else "  ") + rung.name,
            str(rung.score) if rung.score else "–",
            _interval(rung.gain) if rung.gain else "–",
            f"{rung.seconds:.0f} s",
            rung.reason,
        ]
        for rung in ladder.rungs
    ]
    heads = [("rung", "left"), (ladder.metric, "left"), ("gain", "left"), ("time", "right"), ("", "left")]
    table(f"ladder: {ladder.folds}", heads, rows)
    line(f"stopped after {ladder.seconds:.0f} s: {ladder.stopped}")


def _interval(estimate: Any) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _difference(estimate: Any) -> str:
    if estimate.value == 0 and estimate.low == 0 == estimate.high:
        return "best"
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


def print_evaluation(evaluation: Any) -> None:
    from headstart.cli.show import line, table

    if evaluation.per_class:
        rows = [
            [c.name, str(c.support), *(_short(e) for e in (c.precision, c.recall, c.f1))]
            for c in evaluation.per_class[:40]
        ]
        table(
            f"{evaluation.n:,} examples, judged by {evaluation.how}",
            [("class", "left"), ("n", "right"), ("precision", "right"), ("recall", "right"), ("F1", "right")],
            rows,
        )
    wide = max(16, *(len(baseline.key) + 2 for baseline in evaluation.baselines)) if evaluation.baselines else 16
    for baseline in evaluation.baselines:
        line(f"{baseline.key:<{wide}}{baseline.score}   {baseline.what}")
    line(f"{evaluation.headline:<{wide}}{evaluation.score}", "bold")
    if evaluation.verdict:
        line(evaluation.verdict.sentence, "bold")


def _short(estimate: Any) -> str:
    return "–" if estimate.value != estimate.value else f"{estimate.value:.3f}"
