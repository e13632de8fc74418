"""``headstart report``: the page of a run, written again from its records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headstart.cli import options as o


def add_to(app: typer.Typer) -> None:
    app.command("report")(report)


def report(
    run: Annotated[str, typer.Argument(help="Folder of a run.")],
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Write the report of a run again: one self-contained HTML file."""
    from headstart.cli.show import emit, line
    from headstart.records.run import RunFolder, RunRecord
    from headstart.report.html import write_report

    folder = RunFolder(Path(run))
    folder.load(RunRecord)  # says what is wrong when this is no run
    path = write_report(folder)
    if as_json:
        emit({"report": str(path)})
    else:
        line(str(path))
