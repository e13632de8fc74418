"""Texts as numbers of a network's vocabulary. The tokenizers library does it; this is its one door.

A tokenizer comes from tokenizer.json, which is data: nothing in it names code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from headstart.base.errors import DataError, shown
from headstart.base.optional import require
from headstart.inputs.prepared import Prepared
from headstart.inputs.spec import TextSpec

FARTHEST = 32  # characters per token of the window that are looked at; whole books need not be divided to be cut


class Tokens:
    """Texts to arrays of token numbers, for the network that ``spec`` describes.

    tokenizer: content of tokenizer.json. Its own padding and cutting are replaced by the spec's.
    """

    def __init__(self, tokenizer: str, spec: TextSpec) -> None:
        self.spec = spec
        self._tokenizer = _opened(tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(spec.window)

    def prepare(self, texts: Sequence[str]) -> list[Prepared]:
        """(L,) int32 for each, with special tokens; L is at most the window."""
        most = self.spec.window * FARTHEST
        given = [self.spec.prefix + _whole(text[:most]) for text in texts]
        return [
            Prepared(np.array(found.ids, np.int32), bool(found.overflowing) or len(text) > most)
            for text, found in zip(texts, self._tokenizer.encode_batch(given), strict=True)
        ]


def digest(tokenizer: str) -> str:
    """What TextSpec.tokenizer holds."""
    return hashlib.sha256(tokenizer.encode("utf-8")).hexdigest()


def _opened(tokenizer: str) -> Any:
    tokenizers = require("tokenizers", extra="text")
    try:
        return tokenizers.Tokenizer.from_str(tokenizer)
    except Exception as error:  # the library raises plain Exception, and nothing else, for what it cannot read
        raise DataError(f"CK24 tokenizer.json cannot be read: {shown(error)[:160]}") from error


def _whole(text: str) -> str:
    """Half characters (lone surrogates, from file names and broken JSON) become the replacement character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if _has_half(text) else text


def _has_half(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
