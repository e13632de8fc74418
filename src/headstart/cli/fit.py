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
    data: Annotated[str, typer.Argument(help="Folder of class folders, or a table of paths and targets.")],
    out: Annotated[
        str | None, typer.Option("--out", help="Folder of the run (default: runs/<name of the data>).")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another run in that folder.")] = False,
    backbone: Annotated[
        str, typer.Option("--backbone", "-b", help="Name from 'headstart models'.", rich_help_panel=_MODEL)
    ] = "auto",
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
    random_baseline: Annotated[
        str,
        typer.Option(
            "--random-baseline",
            help="Compare with a network of random weights: auto (on a subsample), full, off.",
            rich_help_panel=_EVIDENCE,
        ),
    ] = "auto",
    target: o.Target = None,
    path_column: o.PathColumn = None,
    split_column: o.SplitColumn = None,
    group_by: o.GroupBy = None,
    task: o.TaskOption = None,
    encoding: o.Encoding = None,
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
    from headstart.cli.show import Screen, emit
    from headstart.workflow.config import Balance, DataConfig, FitConfig, TaskName
    from headstart.workflow.fit import fit as story

    config = FitConfig(
        data=DataConfig(
            target=target,
            path_column=path_column,
            split_column=split_column,
            group_by=group_by,
            task=one_of("--task", task, get_args(TaskName)) if task else None,
            encoding=encoding,
            accept_bad=accept_bad,
            accept_leakage=accept_leakage,
            allow_empty=allow_empty,
            allow_outside=allow_outside,
            drop_unlabelled=drop_unlabelled,
            max_pixels=max_pixels,
        ),
        backbone=backbone,
        weights=weights,
        balance=one_of("--balance", balance, get_args(Balance)),
        metric=metric,
        test_share=test_share,
        random_baseline=one_of("--random-baseline", random_baseline, ("auto", "full", "off")),
        seed=seed,
        device=device,
        runner=runner,
        offline=offline,
    )
    screen = Screen(quiet=quiet)
    try:
        run = story(
            data,
            out=out,
            config=config,
            cache=cache,
            overwrite=overwrite,
            observer=screen,
            command=repeatable(sys.argv),
        )
    finally:
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
    print_evaluation(evaluation)
    line(f"report  {run.report}")
    line(f"model   {run.folder.model}")


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
    for baseline in evaluation.baselines:
        line(f"{baseline.key:<16}{baseline.score}   {baseline.what}")
    line(f"{evaluation.headline:<16}{evaluation.score}", "bold")
    if evaluation.verdict:
        line(evaluation.verdict.sentence, "bold")


def _short(estimate: Any) -> str:
    return "–" if estimate.value != estimate.value else f"{estimate.value:.3f}"
