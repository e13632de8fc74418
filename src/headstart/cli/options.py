"""Options that several verbs share: the same words everywhere."""

from __future__ import annotations

from typing import Annotated, Literal

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
Text = Annotated[
    str | None,
    typer.Option("--text", help="Column of a table that holds the texts to learn from.", rich_help_panel=_DATA),
]
Features = Annotated[
    str | None,
    typer.Option(
        "--features",
        help="Columns of a table to learn from: names or patterns, with commas ('emb_*', '*,-id').",
        rich_help_panel=_DATA,
    ),
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
DecimalSign = Annotated[
    str,
    typer.Option("--decimal", help="',' where the numbers of a table are written 1,5.", rich_help_panel=_DATA),
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

_SHAPE = "The structure of the network"
CutAt = Annotated[
    str | None,
    typer.Option(
        "--cut-at",
        help="Last stage that is kept; layers above it are removed.",
        metavar="STAGE",
        rich_help_panel=_SHAPE,
    ),
]
PoolingName = Annotated[
    str | None,
    typer.Option("--pooling", help="avg, max, avgmax or token (default: the network's own).", rich_help_panel=_SHAPE),
]
Channels = Annotated[
    int, typer.Option("--channels", help="3, or 1 to feed pictures as grey ones.", rich_help_panel=_SHAPE)
]
Hidden = Annotated[
    str | None,
    typer.Option("--hidden", help="Widths of hidden layers of the head: 256 or 256,64.", rich_help_panel=_SHAPE),
]
Dropout = Annotated[
    float | None, typer.Option("--dropout", help="Before the layers of the head.", rich_help_panel=_SHAPE)
]

_TUNE = "Fine-tuning"
SetField = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="A field of the strategy itself, such as rank=8 of lora; may be given several times.",
        metavar="NAME=VALUE",
        rich_help_panel=_TUNE,
    ),
]
Strategy = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        help="probe (no network is trained), auto (the ladder; the default with --time), or one by name: "
        "see 'headstart plan --help'.",
        rich_help_panel=_TUNE,
    ),
]
Time = Annotated[
    str | None, typer.Option("--time", help="For choosing and training: 90s, 20m, 1h.", rich_help_panel=_TUNE)
]
Epochs = Annotated[float | None, typer.Option("--epochs", help="Of one training.", rich_help_panel=_TUNE)]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Examples in a step.", rich_help_panel=_TUNE)]
Precision = Annotated[
    str, typer.Option("--precision", help="Of training: auto, float32 or bf16.", rich_help_panel=_TUNE)
]
RateTest = Annotated[
    bool,
    typer.Option("--rate-test", help="First find the rates by a short training, thrown away.", rich_help_panel=_TUNE),
]
Lr = Annotated[
    float | None,
    typer.Option("--lr", help="Peak rate of the stage that learns fastest.", rich_help_panel=_TUNE),
]
HeadLr = Annotated[float | None, typer.Option("--head-lr", help="Peak rate of the head.", rich_help_panel=_TUNE)]
LayerDecay = Annotated[
    float | None,
    typer.Option("--layer-decay", help="Rate of a stage over that of the one above it.", rich_help_panel=_TUNE),
]
OptimizerName = Annotated[str | None, typer.Option("--optimizer", help="sgd, adam or adamw.", rich_help_panel=_TUNE)]
WeightDecay = Annotated[float | None, typer.Option("--weight-decay", help="At least 0.", rich_help_panel=_TUNE)]
ScheduleName = Annotated[
    str | None, typer.Option("--schedule", help="cosine, step or constant.", rich_help_panel=_TUNE)
]
Warmup = Annotated[float | None, typer.Option("--warmup", help="Share of each phase.", rich_help_panel=_TUNE)]
PenaltyName = Annotated[
    str | None, typer.Option("--penalty", help="none, l2-sp, bss, delta or co-tuning.", rich_help_panel=_TUNE)
]
LabelSmoothing = Annotated[
    float | None, typer.Option("--label-smoothing", help="From 0 to below 1.", rich_help_panel=_TUNE)
]
MixupAlpha = Annotated[
    float | None, typer.Option("--mixup", help="Parameter of its Beta distribution; 0 is off.", rich_help_panel=_TUNE)
]
Ema = Annotated[
    float | None,
    typer.Option("--ema", help="Half-life of the mean of the weights, as a share of all steps.", rich_help_panel=_TUNE),
]
Augment = Annotated[
    str | None,
    typer.Option(
        "--augment", help="auto (what the safety test allows), none, light, standard, strong.", rich_help_panel=_TUNE
    ),
]
Patience = Annotated[
    int | None,
    typer.Option("--patience", help="Validations without improvement until training stops.", rich_help_panel=_TUNE),
]
Log = Annotated[
    list[str] | None,
    typer.Option(
        "--log",
        help="Write each step's numbers: csv:PATH, jsonl:PATH, tensorboard:FOLDER or mlflow:URI. Repeatable.",
        rich_help_panel=_TUNE,
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the interrupted run in --out.", rich_help_panel=_TUNE)
]


def patterns(words: str | None) -> tuple[str, ...] | None:
    """The patterns of --features; None where it was not given."""
    return tuple(word.strip() for word in words.split(",") if word.strip()) or None if words else None


def decimal_sign(word: str) -> Literal[".", ","]:
    """What --decimal says; PlanError where it is neither sign."""
    if word == ".":
        return "."
    if word == ",":
        return ","
    from headstart.base.errors import PlanError, shown

    raise PlanError(f"--decimal '{shown(word)}' is neither ',' nor '.'.")
