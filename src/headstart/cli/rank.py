"""``headstart rank``: which network will serve this data best, before any is trained."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import isnan
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart.cli import options as o

if TYPE_CHECKING:
    from headstart.records.ranking import RankedCandidate, RankRecord

_WHO = "The candidates"
_HOW = "The race"


def add_to(app: typer.Typer) -> None:
    app.command("rank")(rank)


def rank(
    data: Annotated[str, typer.Argument(help="Folder of class folders, or a table of paths and targets.")],
    candidates: Annotated[
        list[str] | None,
        typer.Option(
            "--candidates",
            help="Name or pattern, such as 'package/*' or file:models/a; may be given several times, or several in "
            "one, with commas (default: every network on this machine).",
            rich_help_panel=_WHO,
        ),
    ] = None,
    candidates_in: Annotated[
        str | None,
        typer.Option("--candidates-in", help="Folder whose folders are model folders.", rich_help_panel=_WHO),
    ] = None,
    with_random: Annotated[
        bool,
        typer.Option("--with-random", help="Also copies with random weights, which should lose.", rich_help_panel=_WHO),
    ] = False,
    max_params: Annotated[
        str | None,
        typer.Option("--max-params", help="At most so many parameters: 10M, 500k.", rich_help_panel=_WHO),
    ] = None,
    max_ms: Annotated[
        float | None,
        typer.Option("--max-ms", help="At most so many milliseconds for an image, here.", rich_help_panel=_WHO),
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", help="Only these: apache-2.0,mit.", rich_help_panel=_WHO)
    ] = None,
    here: Annotated[
        bool, typer.Option("--here", help="Only networks that are on this machine.", rich_help_panel=_WHO)
    ] = False,
    time: Annotated[
        str | None,
        typer.Option(
            "--time",
            help="For all of it: 90s, 5m. With time to spare the best few are fine-tuned for a short while.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also what inner stages give, not only the last.", rich_help_panel=_HOW)
    ] = False,
    score: Annotated[
        list[str] | None,
        typer.Option(
            "--score", help="Also this score, such as logme, knn or lda; may be repeated.", rich_help_panel=_HOW
        ),
    ] = None,
    top: Annotated[
        int, typer.Option("--top", help="k, for the chance to be among the best k.", rich_help_panel=_HOW)
    ] = 3,
    own_runs: Annotated[
        str,
        typer.Option("--own-runs", help="Folder of finished runs that update the prior.", rich_help_panel=_HOW),
    ] = "runs",
    no_own_runs: Annotated[
        bool, typer.Option("--no-own-runs", help="Leave the prior as it ships.", rich_help_panel=_HOW)
    ] = False,
    out: Annotated[
        str | None, typer.Option("--out", help="Folder for the report (default: runs/<name of the data>-ranking).")
    ] = None,
    test_share: Annotated[
        float, typer.Option("--test-share", help="Share that fit will seal; it is not looked at.")
    ] = 0.2,
    target: o.Target = None,
    path_column: o.PathColumn = None,
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
    """Compare networks on this data before any is trained: which will serve best, how surely, and at what cost."""
    from typing import get_args

    from headstart.base.config import to_dict
    from headstart.cli.fit import one_of, repeatable, seconds_of
    from headstart.cli.show import Screen, emit
    from headstart.workflow.candidates import Filters
    from headstart.workflow.config import DataConfig, TaskName, default_out
    from headstart.workflow.rank import RankConfig
    from headstart.workflow.rank import rank as story

    config = RankConfig(
        data=DataConfig(
            target=target,
            path_column=path_column,
            text=text,
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
        ),
        candidates=split_words(candidates or ()),
        candidates_in=candidates_in,
        filters=Filters(parameters_of(max_params), max_ms, split_words([licence] if licence else ()), here),
        with_random=with_random,
        layers=layers,
        scores=split_words(score or ()),
        time_s=seconds_of(time) if time else None,
        k=top,
        own_runs="" if no_own_runs else own_runs,
        test_share=test_share,
        seed=seed,
        device=device,
        offline=offline,
    )
    place = out or default_out(data).with_name(default_out(data).name + "-ranking")
    screen = Screen(quiet=quiet)
    try:
        found = story(data, config=config, out=place, cache=cache, observer=screen, command=repeatable(sys.argv))
    finally:
        screen.close()
    if as_json:
        emit({"ranking": to_dict(found.record), "folder": str(found.folder)})
        return
    print_ranking(found.record, config.scores)
    from headstart.cli.show import line

    line(f"report  {found.folder}/ranking.html")


def split_words(given: Any) -> tuple[str, ...]:
    """Options that take several: repeated, or with commas."""
    return tuple(word.strip() for words in given for word in words.split(",") if word.strip())


def parameters_of(words: str | None) -> float | None:
    """'10M', '500k', '1.5B' or a plain number."""
    from headstart.base.errors import DataError, shown

    if words is None:
        return None
    units = {"k": 1e3, "m": 1e6, "b": 1e9}
    number, unit = (words[:-1], words[-1].lower()) if words[-1:].lower() in units else (words, "")
    try:
        count = float(number) * units.get(unit, 1.0)
    except ValueError:
        count = float("nan")
    if not count > 0:
        raise DataError(f"CF23 --max-params is '{shown(words)}'; it can be 10M, 500k or 1.5B.")
    return count


def print_ranking(record: RankRecord, scores: Sequence[str] = ()) -> None:
    """scores: names of further ones that get a column."""
    from headstart.cli.show import line, table

    tried = [c for c in record.candidates if c.probe is not None]
    with_tuned = any(c.tuned is not None for c in tried)
    headings = [("network", "left"), (record.score, "left")]
    headings += [("fine-tuned", "left")] if with_tuned else []
    headings += [(f"top {record.k}", "right"), ("prior", "right"), ("rank", "right")]
    headings += [(name, "right") for name in scores]
    headings += [("img/s", "right"), ("size", "right")]
    rows = [_cells(c, with_tuned, scores) for c in tried]
    rounds = ", ".join(f"{r.entered} on {r.n:,}" for r in record.rounds)
    table(
        f"{'1 candidate' if len(tried) == 1 else f'{len(tried)} candidates'} raced ({rounds} examples)",
        [*headings, ("licence", "left")],
        rows,
    )
    gone = [c for c in tried if c.status == "dropped"]
    if gone:
        line(f"· dropped on the way: {', '.join(c.name for c in gone)}")
    others = [c for c in record.candidates if c.probe is None]
    for c in others[:20]:
        line(f"· {'failed' if c.status == 'failed' else 'left out'}: {c.name}: {_why(c)}")
    if len(others) > 20:
        line(f"… and {len(others) - 20} more (all of them with --json)")
    for note in record.notes:
        line(f"· {note}")
    cost = record.cost
    line(
        f"· {cost.total:.0f} s: {cost.forward:.0f} s of passes through networks, {cost.timing:.0f} s of choosing how "
        f"to run them, {cost.scoring:.1f} s of scoring"
        + (f", {cost.tuning:.0f} s of fine-tuning" if cost.tuning >= 1 else "")
    )
    line(record.sentence, "bold")


def _cells(c: RankedCandidate, with_tuned: bool, scores: Sequence[str]) -> list[str]:
    from headstart.base.files import human_bytes

    assert c.probe is not None, "only candidates that were in the race stand in the table"
    cells = [("→ " if c.status == "recommended" else "  ") + c.name, _interval(c.probe)]
    cells += [_interval(c.tuned) if c.tuned else "–"] if with_tuned else []
    cells += [_number(c.chance, 2), _number(c.prior, 2, signed=True), _number(c.combined, 2)]
    cells += [_number(c.scores.get(name, float("nan")), 3) for name in scores]
    cells += [_number(c.images_per_s, 0)]
    return [*cells, f"{c.parameters / 1e6:.1f} M, {human_bytes(c.weights_bytes)}", c.licence]


def _why(c: RankedCandidate) -> str:
    return f"{c.why}; to get it: {c.how_to_get}" if c.how_to_get and c.how_to_get not in c.why else c.why


def _interval(e: Any) -> str:
    return f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]"


def _number(value: float, digits: int, *, signed: bool = False) -> str:
    if isnan(value):
        return "–"
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
