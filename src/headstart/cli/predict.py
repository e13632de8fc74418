"""``headstart predict``: answers for new examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from headstart.base.errors import PlanError
from headstart.cli import options as o
from headstart.data.words import counted

if TYPE_CHECKING:
    from headstart.workflow.predict import Predicted


def add_to(app: typer.Typer) -> None:
    app.command("predict")(predict)


_NAMES = "Without a model, from names alone"


def predict(
    run: Annotated[str, typer.Argument(help="Folder of a run or of a model; with --zero-shot the data.")],
    data: Annotated[
        str | None, typer.Argument(help="Folder of images or texts, a table of them, one image, or a .txt of lines.")
    ] = None,
    zero_shot: Annotated[
        str | None,
        typer.Option(
            "--zero-shot",
            help="Names of classes, with commas: no model and no labels, only what the network knows of the words.",
            metavar="NAMES",
            rich_help_panel=_NAMES,
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            help="A text encoder (default: package/minilm-l6), or file:FOLDER of an image-text model.",
            rich_help_panel=_NAMES,
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt",
            help="A sentence with {} for the name, as 'a photo of a {}'. Repeatable: several are averaged.",
            rich_help_panel=_NAMES,
        ),
    ] = None,
    describe: Annotated[
        str | None,
        typer.Option(
            "--describe",
            help="What else is said of the classes: a .json object, or lines 'name: description'.",
            metavar="FILE",
            rich_help_panel=_NAMES,
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature",
            help="Cosines are divided by it (default: the network's own from its training).",
            rich_help_panel=_NAMES,
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", help="CSV file to write (default: print the first answers).")
    ] = None,
    path_column: o.PathColumn = None,
    text: o.Text = None,
    encoding: o.Encoding = None,
    decimal: o.DecimalSign = ".",
    allow_outside: o.AllowOutside = False,
    max_pixels: o.MaxPixels = 50_000_000,
    device: o.Device = "auto",
    seed: o.Seed = 0,
    cache: o.Cache = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Predict every example in a folder, a table, one image, or a .txt with one text on each line."""
    from headstart.cli.show import Screen
    from headstart.workflow.config import DataConfig
    from headstart.workflow.predict import predict as story
    from headstart.workflow.zero_shot import BACKBONE, names_in, read_descriptions
    from headstart.workflow.zero_shot import zero_shot as from_names

    config = DataConfig(
        path_column=path_column,
        encoding=encoding,
        decimal=o.decimal_sign(decimal),
        allow_outside=allow_outside,
        allow_empty=True,
        max_pixels=max_pixels,
        text=text,
    )
    screen = Screen(quiet=quiet)
    try:
        if zero_shot is None:
            _check_model(data, backbone=backbone, prompt=prompt, describe=describe, temperature=temperature)
            about: dict[str, object] = {}
            found = story(run, data, out=out, config=config, cache=cache, device=device, observer=screen)
        else:
            _check_names_only(data)
            predictor = from_names(
                names_in(zero_shot),
                backbone=backbone or BACKBONE,
                descriptions=read_descriptions(describe) if describe else None,
                prompts=prompt or (),
                temperature=temperature,
                cache=cache,
                device=device,
                observer=screen,
            )
            found = predictor.predict(run, out=out, config=config, observer=screen)
            texts = dict(zip(predictor.labels, predictor.texts, strict=True))
            about = {"zero_shot": {"temperature": predictor.temperature, "is_calibrated": False, "texts": texts}}
    finally:
        screen.close()
    _show(found, out, as_json, about)


def _check_model(data: str | None, **only_for_names: object) -> None:
    """PlanError PL85 for what has no meaning beside a model, and for a model without data."""
    given = [name for name, value in only_for_names.items() if value]
    if given:
        raise PlanError(
            f"PL85 --{given[0]} goes with --zero-shot NAMES; a model of yours knows its network and classes."
        )
    if data is None:
        raise PlanError(
            "PL85 a model and data are needed: headstart predict MODEL DATA. Without a model: --zero-shot NAMES."
        )


def _check_names_only(data: str | None) -> None:
    if data is not None:
        raise PlanError("PL85 --zero-shot takes no model: headstart predict --zero-shot NAMES DATA.")


def _show(found: Predicted, out: str | None, as_json: bool, about: Mapping[str, object]) -> None:
    """about: what else the JSON object says."""
    from headstart.base.config import to_dict
    from headstart.cli.show import emit, line, table

    answers = found.predictions
    if as_json:
        emit(
            {
                "labels": list(answers.labels),
                "predictions": [
                    {"id": i, "prediction": name, "scores": [round(float(s), 6) for s in scores]}
                    for i, name, scores in zip(answers.ids, answers.names, answers.scores, strict=True)
                ],
                "quarantined": to_dict(found.quarantined),
                **about,
            }
        )
        return
    if out is None:
        sure = answers.scores.max(axis=1)
        rows = [[str(i), n, f"{c:.3f}"] for i, n, c in zip(answers.ids[:20], answers.names, sure, strict=False)]
        table("", [("example", "left"), ("prediction", "left"), ("confidence", "right")], rows)
        if len(answers) > 20:
            line(f"… and {len(answers) - 20:,} more; write them all with --out predictions.csv")
    else:
        line(f"{len(answers):,} predictions in {out}")
    if found.quarantined:
        first, some = found.quarantined[0], counted(len(found.quarantined), "example")
        line(f"{some} could not be used; first: {first.id}: {first.code} {first.reason}", "yellow")
