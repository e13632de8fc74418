"""What the report says of the blocks of a mixed table. Nothing is computed here."""

from __future__ import annotations

from typing import Any

from headstart.base.config import to_dict
from headstart.data.words import words_of
from headstart.records.blocks import BlocksRecord
from headstart.report import wording

KINDS = {"image": "pictures", "text": "texts", "audio": "sounds", "vector": "numbers, dates and names"}


def blocks(record: BlocksRecord) -> dict[str, Any]:
    words = wording.metric_words(record.metric)
    return {
        "metric": words.name,
        "higher_is_better": words.higher_is_better,
        "rows": record.rows,
        "blocks": [
            {
                **to_dict(block),
                "kind": KINDS[block.modality],
                "many": words_of(block.modality).many,
                "parameters_millions": block.parameters / 1e6,
            }
            for block in record.blocks
        ],
    }
