"""What the model card says of a model on columns of a table, where it differs from one on a pretrained network."""

from __future__ import annotations

from headstart.base.errors import shown
from headstart.bundle.manifest import Manifest
from headstart.inputs.columns import Column
from headstart.inputs.spec import VectorSpec

MOST_COLUMNS = 100  # rows of the table; bundle.json has them all
_KINDS = {
    "number": "number",
    "boolean": "yes or no",
    "date": "date",
    "day-first date": "date, the day first",
    "month-first date": "date, the month first",
    "category": "name",
}


def what(manifest: Manifest, home: str) -> str:
    """How the model was made, and the columns it must be given."""
    spec = manifest.input
    assert isinstance(spec, VectorSpec), "a model on columns"
    target = f" '{_cell(spec.target)}'" if spec.target else ""
    link = " It learnt the logarithm of the target; what it gives is in the target's own units." * (
        manifest.task.link == "log"
    )
    made = f"was made from the training rows without their targets, and a linear layer ({manifest.head.family})"
    if manifest.backbone.name == "columns/mlp":
        made = "was made from the training rows, its hidden layers with their targets, and a linear layer"
    lines = [
        f"A model for rows of a table, made with [headstart]({home}) on {manifest.created[:10]}. It predicts{target}.",
        f"Nothing in it was pretrained: its network (`{manifest.backbone.architecture}`) {made} was fitted on its "
        f"{manifest.backbone.feature_dim} features.{link}",
    ]
    if manifest.backbone.name == "columns/kernel":
        lines.append(
            "Its landmarks are means of three training rows each; no single row of the table is in this folder."
        )
    rows = [f"| {_cell(c.name)} | {_KINDS[c.kind]} | {_taken(c)} |" for c in spec.columns[:MOST_COLUMNS]]
    more = len(spec.columns) - MOST_COLUMNS
    lines += ["", "## Columns", "", "| column | kind | how it is taken |", "|---|---|---|", *rows]
    if more > 0:
        lines += ["", f"… and {more} more: see `bundle.json`."]
    return "\n".join(lines)


def origin() -> str:
    return "\n".join(
        [
            "## Licence and origin",
            "",
            "No pretrained weights are in this folder; what holds for the training table holds for the model.",
            "`bundle.json` lists the SHA-256 of every file here; no file holds code or a pickle.",
        ]
    )


def _taken(column: Column) -> str:
    if not column.parts:
        return "passed over: it did not vary"
    if column.kind == "category":
        names = [_cell(name or "(empty)") for name in column.parts[:5]]
        more = f" and {len(column.parts) - 5} more" if len(column.parts) > 5 else ""
        return f"one of {', '.join(names)}{more}; any other counts as none of them"
    missing = "; marked where missing" if "missing" in column.parts else ""
    if column.kind == "number":
        return f"{column.fill:.6g} stands for a missing one{missing}"
    return f"its middle stands for a missing one{missing}"


def _cell(text: str) -> str:
    """Text from data inside a Markdown table."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+!|~" else c for c in shown(text))
