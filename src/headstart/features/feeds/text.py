"""Texts: token numbers of any length, sorted so that a batch holds texts of about one length."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from headstart.inputs.prepared import Prepared
from headstart.inputs.spec import TextSpec
from headstart.inputs.text import Tokens


@lru_cache(maxsize=4)
def _tokens(tokenizer: str, spec: TextSpec) -> Tokens:
    """Opening a vocabulary of 250,000 words takes a second, and several steps of a story need it."""
    return Tokens(tokenizer, spec)


class TextFeed:
    window: int | None = 4096
    timed = 64
    versions: tuple[str, ...] = ("tokenizers",)
    at_least: int | None = None

    def __init__(self, spec: TextSpec, tokenizer: str) -> None:
        self._tokens = _tokens(tokenizer, spec)

    def prepare(self, values: Sequence[Any]) -> list[Prepared]:
        return self._tokens.prepare(values)

    def nothing(self) -> Prepared:
        return self._tokens.prepare(["nothing"])[0]
