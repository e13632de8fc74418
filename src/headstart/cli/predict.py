"""``headstart predict``: answers for new examples."""

from __future__ import annotations

from typing import Annotated

import typer

from headstart.cli import options as o


def add_to(app: typer.Typer) -> None:
    app.command("predict")(predict)


def predict(
    run: Annotated[str, typer.Argument(help="Folder of a run or of a model.")],
    data: Annotated[
        str, typer.Argument(help="Folder of images or texts, a table of them, one image, or a .txt of lines.")
    ],
    out: Annotated[
        str | None, typer.Option("--out", help="CSV file to write (default: print the first answers).")
    ] = None,
    path_column: o.PathColumn = None,
    text: o.Text = None,
    encoding: o.Encoding = None,
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
    from headstart.base.config import to_dict
    from headstart.cli.show import Screen, emit, line, table
    from headstart.workflow.config import DataConfig
    from headstart.workflow.predict import predict as story

    config = DataConfig(
        path_column=path_column,
        encoding=encoding,
        allow_outside=allow_outside,
        allow_empty=True,
        max_pixels=max_pixels,
        text=text,
    )
    screen = Screen(quiet=quiet)
    try:
        found = story(run, data, out=out, config=config, cache=cache, device=device, observer=screen)
    finally:
        screen.close()
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
        first = found.quarantined[0]
        line(
            f"{len(found.quarantined)} examples could not be used; first: {first.id}: {first.code} {first.reason}",
            "yellow",
        )
