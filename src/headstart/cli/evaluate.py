"""``headstart evaluate``: the same numbers on other labelled data."""

from __future__ import annotations

from typing import Annotated

import typer

from headstart.cli import options as o


def add_to(app: typer.Typer) -> None:
    app.command("evaluate")(evaluate)


def evaluate(
    run: Annotated[str, typer.Argument(help="Folder of a run or of a model.")],
    data: Annotated[str, typer.Argument(help="Labelled data: folder of class folders, or a table.")],
    target: o.Target = None,
    path_column: o.PathColumn = None,
    text: o.Text = None,
    encoding: o.Encoding = None,
    decimal: o.DecimalSign = ".",
    allow_outside: o.AllowOutside = False,
    drop_unlabelled: o.DropUnlabelled = False,
    max_pixels: o.MaxPixels = 50_000_000,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    cache: o.Cache = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Judge a saved model on other labelled data, with the numbers that fit reports."""
    from headstart.base.config import to_dict
    from headstart.cli.fit import print_evaluation
    from headstart.cli.show import Screen, emit, line
    from headstart.workflow.config import DataConfig
    from headstart.workflow.evaluate import evaluate as story

    config = DataConfig(
        target=target,
        path_column=path_column,
        encoding=encoding,
        decimal=o.decimal_sign(decimal),
        allow_outside=allow_outside,
        allow_empty=True,
        drop_unlabelled=drop_unlabelled,
        max_pixels=max_pixels,
        text=text,
    )
    screen = Screen(quiet=quiet)
    try:
        found = story(run, data, config=config, cache=cache, device=device, seed=seed, observer=screen)
    finally:
        screen.close()
    if as_json:
        emit(
            {
                "evaluation": to_dict(found.evaluation),
                "quarantined": to_dict(found.quarantined),
                "seen_in_training": list(found.seen_in_training),
            }
        )
        return
    print_evaluation(found.evaluation)
    if found.quarantined:
        line(f"{len(found.quarantined)} examples were left out (listed with --json)", "yellow")
