"""``headstart inspect``: what is there, what is wrong with it, what the split will be."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import typer

from headstart.cli import options as o

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headstart.records.columns import ColumnRecord
    from headstart.workflow.inspect import Inspection


def add_to(app: typer.Typer) -> None:
    app.command("inspect")(inspect)


def inspect(
    data: str = typer.Argument(
        help="Folder of class folders, or a table of paths (or texts, with --text) and targets."
    ),
    target: o.Target = None,
    path_column: o.PathColumn = None,
    features: o.Features = None,
    text: o.Text = None,
    split_column: o.SplitColumn = None,
    group_by: o.GroupBy = None,
    task: o.TaskOption = None,
    encoding: o.Encoding = None,
    decimal: o.DecimalSign = ".",
    allow_outside: o.AllowOutside = False,
    drop_unlabelled: o.DropUnlabelled = False,
    max_pixels: o.MaxPixels = 50_000_000,
    seed: o.Seed = 0,
    cache: o.Cache = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Look at every example once: what is there, what is wrong with it, and what the split will be."""
    from headstart.base.config import to_dict
    from headstart.cli.fit import one_of
    from headstart.cli.show import Screen, emit
    from headstart.workflow.config import DataConfig, FitConfig, TaskName
    from headstart.workflow.inspect import inspect as look

    config = FitConfig(
        data=DataConfig(
            target=target,
            path_column=path_column,
            features=o.patterns(features),
            split_column=split_column,
            group_by=group_by,
            task=one_of("--task", task, get_args(TaskName)) if task else None,
            encoding=encoding,
            decimal=o.decimal_sign(decimal),
            allow_empty=True,
            allow_outside=allow_outside,
            drop_unlabelled=drop_unlabelled,
            max_pixels=max_pixels,
            text=text,
        ),
        seed=seed,
    )
    screen = Screen(quiet=quiet)
    try:
        found = look(data, config=config, cache=cache, observer=screen)
    finally:
        screen.close()
    if as_json:
        emit(
            {
                "audit": to_dict(found.audit),
                "split": to_dict(found.split),
                "columns": to_dict(found.columns),
                "problem": found.problem,
            }
        )
    else:
        _print(found)
    if found.problem:
        from headstart.base.errors import DataError

        raise DataError(found.problem)


def _print(found: Inspection) -> None:
    from headstart.cli.show import line, table
    from headstart.data.words import words_of
    from headstart.report import wording

    audit = found.audit
    line(f"{audit.usable:,} usable of {audit.rows:,} examples in {audit.origin}", "bold")
    line(f"target: {audit.target} ({audit.target_reason})")
    if audit.counts:
        split = found.split
        rows = [
            [
                name,
                f"{count:,}",
                f"{split.counts_train.get(name, 0):,}" if split else "–",
                (f"{split.counts_test.get(name, 0):,}" if split.test else "–") if split else "–",
            ]
            for name, count in list(audit.counts.items())[:60]
        ]
        table("classes", [("class", "left"), ("examples", "right"), ("train", "right"), ("test", "right")], rows)
        if len(audit.counts) > 60:
            line(f"… and {len(audit.counts) - 60} more classes")
    for measure in dict.fromkeys(name.split(",")[0] for name in audit.measures):
        values = [
            f"{at} {wording.measure(audit.measures[f'{measure}, {at}'])}" for at in ("fewest", "middle", "95 %", "most")
        ]
        line(f"{measure} in {words_of(audit.modality).a}: {', '.join(values)}")
    if audit.sizes:
        width, height, count = audit.sizes[0]
        more = f", {len(audit.sizes) - 1} other sizes" if len(audit.sizes) > 1 else ""
        line(f"size: {width} × {height} ({count:,} images){more}")
    if found.columns:
        print_columns(found.columns)
    for words, number in sorted(audit.skipped.items()):
        line(f"skipped: {number:,} × {words}")
    if audit.quarantined:
        table(
            f"left out: {len(audit.quarantined)} {words_of(audit.modality).held}",
            [(words_of(audit.modality).held.removesuffix("s"), "left"), ("", "left"), ("why", "left")],
            [[q.id, q.code, q.reason] for q in audit.quarantined[:20]],
        )
        if len(audit.quarantined) > 20:
            line(f"… and {len(audit.quarantined) - 20} more (all of them with --json)")
    marks = {"stop": "✗", "warning": "!", "note": "·"}
    styles = {"stop": "red", "warning": "yellow", "note": ""}
    for finding in audit.findings:
        line(f"{marks[finding.severity]} {finding.code} {finding.text}", styles[finding.severity])
    if found.split:
        line(f"split: {found.split.reason}")


MOST_COLUMNS = 60


def print_columns(columns: Sequence[ColumnRecord]) -> None:
    """What each column of a table is taken for."""
    from headstart.cli.show import line, table
    from headstart.report.columns import holds

    rows = [[c.name, c.kind, holds(c), f"{c.missing:,}" if c.missing else "–"] for c in columns[:MOST_COLUMNS]]
    table("columns", [("column", "left"), ("kind", "left"), ("it holds", "left"), ("missing", "right")], rows)
    if len(columns) > MOST_COLUMNS:
        line(f"… and {len(columns) - MOST_COLUMNS} more columns (all of them with --json)")
