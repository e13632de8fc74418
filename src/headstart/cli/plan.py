"""``headstart plan``: what a strategy would train, when and at which rate, without training it."""

from __future__ import annotations

from typing import Annotated, get_args

import typer

from headstart.cli import options as o


def add_to(app: typer.Typer) -> None:
    app.command("plan")(plan)


def plan(
    data: str = typer.Argument(help="Folder of class folders, or a table of paths and targets."),
    strategy: Annotated[
        str,
        typer.Option(
            "--strategy",
            help="linear-probe, lp-ft, gradual, full, last-stages, bias, lora, adapter, surgical or setfit.",
        ),
    ] = "lp-ft",
    backbone: Annotated[str, typer.Option("--backbone", "-b", help="Name from 'headstart models'.")] = "starter",
    weights: Annotated[str | None, typer.Option("--weights", help="Local file with the parameters.")] = None,
    balance: Annotated[str, typer.Option("--balance", help="auto, none, weights or logit-adjust.")] = "auto",
    epochs: o.Epochs = None,
    batch_size: o.BatchSize = None,
    lr: o.Lr = None,
    head_lr: o.HeadLr = None,
    layer_decay: o.LayerDecay = None,
    optimizer: o.OptimizerName = None,
    penalty: o.PenaltyName = None,
    augment: o.Augment = None,
    hidden: o.Hidden = None,
    dropout: o.Dropout = None,
    set_field: o.SetField = None,
    cut_at: o.CutAt = None,
    pooling: o.PoolingName = None,
    channels: o.Channels = 3,
    target: o.Target = None,
    path_column: o.PathColumn = None,
    split_column: o.SplitColumn = None,
    group_by: o.GroupBy = None,
    task: o.TaskOption = None,
    encoding: o.Encoding = None,
    text: o.Text = None,
    seed: o.Seed = 0,
    cache: o.Cache = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Show a strategy's plan for this data as a table: what learns, at which rate, for how many steps."""
    from headstart.adapt.strategies import Options, by_name, fields_of
    from headstart.adapt.strategies.fields import parsed
    from headstart.backbones.structure import Structure
    from headstart.base.config import to_dict
    from headstart.cli.fit import one_of, widths_of
    from headstart.cli.show import Screen, emit, line
    from headstart.workflow.config import Balance, DataConfig, FitConfig, TaskName, TuneConfig
    from headstart.workflow.planning import plan as story

    options = Options(
        lr=lr,
        head_lr=head_lr,
        layer_decay=layer_decay,
        optimizer=optimizer,  # type: ignore[arg-type]  # Options says what is wrong with a word
        penalty=penalty,  # type: ignore[arg-type]
        augment=augment,
        hidden=widths_of(hidden) if hidden else None,
        dropout=dropout,
    )
    config = FitConfig(
        data=DataConfig(
            target=target,
            path_column=path_column,
            split_column=split_column,
            group_by=group_by,
            task=one_of("--task", task, get_args(TaskName)) if task else None,
            encoding=encoding,
            text=text,
            allow_empty=True,
        ),
        structure=Structure(cut_at, pooling, channels),  # type: ignore[arg-type]  # as for Options
        tuning=TuneConfig(
            strategy=strategy, epochs=epochs, batch_size=batch_size, options=options, fields=parsed(set_field or [])
        ),
        balance=one_of("--balance", balance, get_args(Balance)),
        backbone=backbone,
        weights=weights,
        seed=seed,
    )
    screen = Screen(quiet=quiet)
    try:
        found = story(data, config=config, cache=cache, observer=screen)
    finally:
        screen.close()
    if as_json:
        emit({"backbone": found.backbone, "examples": found.n, "plan": to_dict(found.plan)})
        return
    line(f"{found.backbone}, {found.n:,} training examples", "bold")
    for words in found.description.text.splitlines():
        line(words)
    fields = fields_of(by_name(strategy, config.tuning.fields))
    if fields:
        said = ", ".join(f"{name}={'by the network' if value is None else value}" for name, value in fields.items())
        line(f"fields of {strategy} (--set): {said}")
