"""Options that several verbs share: the same words everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

_DATA = "Reading the data"
_RUN = "Running"

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, everything else on stderr.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes; warnings only.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where a fault happened.")]
Seed = Annotated[int, typer.Option("--seed", help="One number for everything random.", rich_help_panel=_RUN)]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.", rich_help_panel=_RUN)]
Cache = Annotated[
    str | None,
    typer.Option("--cache", help="Where features are kept (default: $HEADSTART_CACHE).", rich_help_panel=_RUN),
]
Offline = Annotated[bool, typer.Option("--offline", help="Open no connection whatever happens.", rich_help_panel=_RUN)]

Target = Annotated[
    str | None, typer.Option("--target", help="Column of a table that is to be predicted.", rich_help_panel=_DATA)
]
PathColumn = Annotated[
    str | None, typer.Option("--path-column", help="Column of a table that names the files.", rich_help_panel=_DATA)
]
SplitColumn = Annotated[
    str | None,
    typer.Option("--split-column", help="Column that says train, validation or test.", rich_help_panel=_DATA),
]
GroupBy = Annotated[
    str | None,
    typer.Option(
        "--group-by",
        help="Column whose equal values stay on one side of every split (patient, film, batch), or regex:PATTERN "
        "whose first group is found in the file name.",
        rich_help_panel=_DATA,
    ),
]
TaskOption = Annotated[
    str | None,
    typer.Option(
        "--task", help="single-label, multi-label or regression (default: told from the target).", rich_help_panel=_DATA
    ),
]
Encoding = Annotated[
    str | None, typer.Option("--encoding", help="Encoding of a text table, if not UTF-8.", rich_help_panel=_DATA)
]
AcceptBad = Annotated[
    bool,
    typer.Option("--accept-bad", help="Go on although more than 5 % of the files are unusable.", rich_help_panel=_DATA),
]
AcceptLeakage = Annotated[
    bool,
    typer.Option("--accept-leakage", help="Go on although train and test share pictures.", rich_help_panel=_DATA),
]
AllowEmpty = Annotated[
    bool, typer.Option("--allow-empty", help="Go on although a class folder is empty.", rich_help_panel=_DATA)
]
AllowOutside = Annotated[
    bool,
    typer.Option("--allow-outside", help="Follow links and paths that leave the data folder.", rich_help_panel=_DATA),
]
DropUnlabelled = Annotated[
    bool, typer.Option("--drop-unlabelled", help="Leave out rows without a target.", rich_help_panel=_DATA)
]
MaxPixels = Annotated[int, typer.Option("--max-pixels", help="Larger pictures are left out.", rich_help_panel=_DATA)]
