"""What the model card says of a model on several kinds of columns, where it differs from one on a single network."""

from __future__ import annotations

from headstart.base.errors import shown
from headstart.bundle.manifest import Manifest
from headstart.inputs.spec import MixedSpec

MOST_COLUMNS = 100  # rows of the table; bundle.json has them all
_KINDS = {"image": "path of a picture", "text": "text", "audio": "path of a sound"}
_MODELS = {"image": "pictures", "text": "texts", "audio": "sounds", "vector": "the other columns"}


def what(manifest: Manifest, home: str) -> str:
    """How the model was made, its blocks, and the columns it must be given."""
    spec = manifest.input
    assert isinstance(spec, MixedSpec), "a model on several kinds of columns"
    target = f" '{_cell(spec.target)}'" if spec.target else ""
    lines = [
        f"A model for rows of a table that hold several kinds of things, made with [headstart]({home}) on "
        f"{manifest.created[:10]}. It predicts{target}.",
        "Each kind went through a network of its own, kept frozen; their features stand beside each other, each block "
        f"with a total variance of 1, and one linear layer ({manifest.head.family}) was fitted on them.",
        "",
        "## Blocks",
        "",
        "One linear layer on several blocks is a sum of linear layers, one on each: every block is saved as a model of "
        "its own, whose outputs are its share of the answer. A row that lacks a block gets a constant for it.",
        "",
        "| block | takes | folder |",
        "|---|---|---|",
        *(f"| {_cell(b.name)} | {_MODELS[b.modality]} | [`{b.folder}`]({b.folder}) |" for b in manifest.blocks),
        "",
        "## Columns",
        "",
        "| column | holds |",
        "|---|---|",
        *(f"| {_cell(n)} | {_KINDS.get(kind, kind)} |" for n, kind in list(spec.kinds.items())[:MOST_COLUMNS]),
    ]
    more = len(spec.kinds) - MOST_COLUMNS
    if more > 0:
        lines += ["", f"… and {more} more: see `bundle.json`."]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Text from data inside a Markdown table."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+!|~" else c for c in shown(text))
