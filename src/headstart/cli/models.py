"""``headstart models``: the catalogue."""

from __future__ import annotations

from typing import Annotated

import typer

from headstart.cli import options as o


def add_to(app: typer.Typer) -> None:
    app.command("models")(models)


def models(
    pattern: Annotated[str, typer.Argument(help="Only names that hold this text.")] = "",
    here: Annotated[bool, typer.Option("--here", help="Only networks that are on this machine.")] = False,
    licence: Annotated[str | None, typer.Option("--licence", help="Only licences that hold this text.")] = None,
    max_parameters: Annotated[
        float | None, typer.Option("--max-params", help="Only networks with at most so many million parameters.")
    ] = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """The catalogue: what is here now, what could be fetched, size, licence, cost."""
    from headstart.backbones.catalogue import catalogue
    from headstart.base.config import to_dict
    from headstart.base.files import human_bytes
    from headstart.cli.show import emit, line, table

    most = int(max_parameters * 1e6) if max_parameters is not None else None
    cards = catalogue.find(licence=licence, max_parameters=most, here=True if here else None)
    cards = [c for c in cards if pattern.lower() in c.name.lower() and not c.name.startswith("toy/")]
    if as_json:
        emit({"models": [to_dict(c) for c in cards]})
        return
    rows = [
        [
            c.name,
            "here" if c.weights.here else "–",
            f"{c.parameters / 1e6:.1f} M",
            str(c.feature_dim),
            f"{c.gmacs:.1f}" if c.gmacs else "–",
            human_bytes(c.weights.size) if c.weights.size else "–",
            c.licence,
            c.trained_on,
        ]
        for c in cards
    ]
    headings = [
        ("name", "left"),
        ("", "left"),
        ("parameters", "right"),
        ("width", "right"),
        ("GMACs", "right"),
        ("file", "right"),
        ("licence", "left"),
        ("trained on", "left"),
    ]
    table(f"{len(cards)} networks", headings, rows)
    missing = [c for c in cards if not c.weights.here and c.weights.how_to_get]
    for card in missing[:3]:
        line(f"to get {card.name}: {card.weights.how_to_get}")
    line("any other: timm/<name>, torchvision/<name> with --weights FILE; hf/ORG/NAME; file:FOLDER")
