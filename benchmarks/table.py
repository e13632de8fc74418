"""results.json as tables in README.md, between markers; the page around them is written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.figure import Row

BEGIN, END = "<!-- figures: begin (written by python -m benchmarks.run) -->", "<!-- figures: end -->"
_HOLDS = {True: "yes", False: "**no**", None: ""}


def write_into(page: Path, results: Mapping[str, Any]) -> None:
    """Replace what lies between the markers. ValueError if the page has lost them."""
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{page} needs one line '{BEGIN}' and one line '{END}' around the tables.")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n\n{markdown(results)}\n{END}{after}", encoding="utf-8")


def markdown(results: Mapping[str, Any]) -> str:
    """The promises first, in one table; then each figure with its prediction, its numbers and what it leaves out."""
    lines = ["## The promises", "", "| what | must be | seen | kept |", "|---|---|---|---|"]
    for figure in results.values():
        lines += [_line(row) for row in map(row_of, figure["rows"]) if row.must is not None]
    for figure in results.values():
        lines += ["", *_section(figure)]
    return "\n".join(lines) + "\n"


def row_of(values: Mapping[str, Any]) -> Row:
    return Row(**{**values, "values": tuple(values["values"])})


def _line(row: Row) -> str:
    return f"| {_cell(row.what)} | {row.limit} | {row} | {_HOLDS[row.holds]} |"


def _section(figure: Mapping[str, Any]) -> list[str]:
    title = figure["title"]
    lines = [f"## {title[0].upper()}{title[1:]}", "", figure["predicted"], ""]
    lines += ["| seen | must be | | kept |", "|---|---|---|---|"]
    lines += [f"| {_cell(r.what)} | {r.limit} | {r} | {_HOLDS[r.holds]} |" for r in map(row_of, figure["rows"])]
    lines += ["", *(f"{note}  " for note in figure["notes"]), *([""] if figure["notes"] else [])]
    return [*lines, f"*What is counted.* {figure['excluded']}", "", f"<sub>{_where(figure)}</sub>"]


def _where(figure: Mapping[str, Any]) -> str:
    machine, versions = figure["machine"], figure["versions"]
    place = ", ".join(
        [machine.get("processor", ""), f"{machine['cores']} cores", machine.get("memory", ""), machine["system"]]
    )
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    load = f"load average {figure['load_before']} before, {figure['seconds']:.0f} s in all"
    return f"{figure['when']}, commit {figure['commit']}: {place.strip(', ')}; {libraries}; {load}."


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
