"""Static word vectors: Word2Vec, GloVe and fastText. A text is the mean of its words' vectors, plain or by SIF.

SIF (Arora et al. 2017, a simple but tough-to-beat baseline) weighs a word of frequency p by a / (a + p). The files keep
no frequencies but are sorted by them, so Zipf's law stands in: p = 1 / (rank · H). The first principal component is not
taken out: the linear head that follows can do so itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from headstart.backbones.card import BackboneCard, Weights
from headstart.backbones.sources.source import Request
from headstart.base.errors import DataError, NotInCatalogue, Refused, shown
from headstart.base.files import to_json
from headstart.base.seeds import number
from headstart.inputs.spec import InputSpec, TextSpec
from headstart.inputs.text import digest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from headstart.backbones.backbone import Backbone

Pooling = Literal["mean", "sif"]
WINDOW = 2048  # words of a text that count
A = 1e-3
UNKNOWN = "[UNK]"
_SIF = "+sif"
_MOST_WORDS = 5_000_000
_WIDEST = 4096


@dataclass(frozen=True, eq=False)
class WordVectors:
    """words: V distinct strings, the commonest first.  vectors: (V, D) float32."""

    words: Sequence[str]
    vectors: np.ndarray


@dataclass(frozen=True)
class WordsArchitecture:
    """A table of V word vectors of width D, and how those of a text become one. The last row is that of no word."""

    count: int
    width: int
    pooling: Pooling
    tokenizer: str = field(repr=False)

    @property
    def name(self) -> str:
        return f"words-{self.pooling}"

    @property
    def opens_with(self) -> str:
        return "headstart"

    def build(self, classes: int) -> nn.Module:
        import torch
        from torch import nn

        network = nn.Module()
        network.words = nn.Embedding(self.count + 1, self.width)
        with torch.no_grad():
            network.words.weight[self.count] = 0.0
        rank = torch.arange(1, self.count + 1, dtype=torch.float64)
        share = 1 / (rank * (1 / rank).sum())
        weights = A / (A + share) if self.pooling == "sif" else torch.ones_like(share)
        network.register_buffer("shares", torch.cat([weights, torch.zeros(1)]).float(), persistent=False)
        if classes:
            network.classifier = nn.Linear(self.width, classes)
        return network

    def features(self, network: nn.Module, tokens: Tensor) -> Tensor:
        """(B, D) from (B, L) word numbers, -1 where a text has ended; zeros where no word is known."""
        import torch

        net: Any = network
        known = torch.where(tokens >= 0, tokens, torch.full_like(tokens, self.count)).long()
        shares = net.shares[known].unsqueeze(-1)
        return (net.words(known) * shares).sum(dim=1) / shares.sum(dim=1).clamp(min=1e-6)

    def config(self, spec: InputSpec, labels: Sequence[str], feature_dim: int) -> dict[str, Any]:
        return {
            "kind": "words",
            "count": self.count,
            "width": self.width,
            "pooling": self.pooling,
            "label_names": list(labels),
        }

    def companions(self, spec: InputSpec) -> dict[str, dict[str, Any] | str]:
        return {"tokenizer.json": self.tokenizer}


def architecture_from(config: Mapping[str, Any], tokenizer: str, *, where: str) -> WordsArchitecture:
    """What ``config`` wrote. DataError where it did not."""
    count, width, pooling = config.get("count"), config.get("width"), config.get("pooling")
    if type(count) is not int or type(width) is not int or not 0 < count <= _MOST_WORDS or not 0 < width <= _WIDEST:
        raise DataError(f"{where}: {shown(count)} words of width {shown(width)} are no table of word vectors.")
    if pooling not in ("mean", "sif"):
        raise DataError(f"{where}: pooling '{shown(pooling)}' is not one that is done here (mean, sif).")
    return WordsArchitecture(count, width, pooling, tokenizer)


def architecture_of(found: WordVectors, pooling: Pooling) -> WordsArchitecture:
    return WordsArchitecture(len(found.words), found.vectors.shape[1], pooling, _tokenizer(found.words))


def backbone_of(card: BackboneCard, found: WordVectors, architecture: WordsArchitecture, *, sha256: str) -> Backbone:
    """The network with these vectors in their places."""
    import torch

    from headstart.backbones.backbone import Backbone, record_of

    network: Any = architecture.build(0)
    with torch.no_grad():
        network.words.weight[: len(found.words)] = torch.from_numpy(found.vectors)
    record = record_of(
        card, network, loader="word vectors", file=Path(card.weights.where).name, sha256=sha256, matched=1
    )
    return Backbone(card, network, architecture, record)


def _tokenizer(words: Sequence[str]) -> str:
    """tokenizer.json that divides a text into words and marks; in lower case where no word has an upper one."""
    lower = all(word == word.lower() for word in words)
    return to_json(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": {"type": "Lowercase"} if lower else None,
            "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": None,
            "decoder": None,
            "model": {
                "type": "WordLevel",
                "vocab": {word: i for i, word in enumerate(words)} | {UNKNOWN: len(words)},
                "unk_token": UNKNOWN,
            },
        }
    )


# ------------------------------------------------------------------------------------------------------------ the files


class WordsSource:
    """``vectors/FILE``: Word2Vec (.bin, .txt), GloVe (.txt) and fastText (.vec); ``vectors/FILE+sif`` weighs by SIF."""

    name = "vectors"

    def cards(self) -> Sequence[BackboneCard]:
        return ()

    def card(self, name: str, *, offline: bool = False) -> BackboneCard:
        path, pooling = _asked(name)
        found = read_vectors(path)
        architecture = architecture_of(found, pooling)
        unknown = "unknown (local file)"
        return BackboneCard(
            name=name,
            modality="text",
            architecture=architecture.name,
            input=TextSpec(digest(architecture.tokenizer), WINDOW),
            feature_dim=architecture.width,
            parameters=(architecture.count + 1) * architecture.width,
            licence=unknown,
            trained_on=unknown,
            weights=Weights("file", str(path), here=True, size=path.stat().st_size),
        )

    def load(self, card: BackboneCard, request: Request) -> Backbone:
        path, pooling = _asked(card.name)
        found = read_vectors(path)
        architecture = architecture_of(found, pooling)
        if not request.pretrained:
            from headstart.backbones.loading import load_random

            return load_random(card, architecture, number(0, "random", card.name))
        return backbone_of(card, found, architecture, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def _asked(name: str) -> tuple[Path, Pooling]:
    written = name.removeprefix("vectors")[1:]
    path = Path(written.removesuffix(_SIF)).expanduser()
    if not path.is_file():
        raise NotInCatalogue(
            f"'{shown(name)}': there is no file {shown(path)}. vectors/FILE takes word vectors: Word2Vec (.bin, .txt), "
            "GloVe (.txt) or fastText (.vec)."
        )
    return path, "sif" if written.endswith(_SIF) else "mean"


def read_vectors(path: Path) -> WordVectors:
    """The word vectors in a file; DataError with the line where it is not what its name says."""
    rows = _binary(path) if path.suffix.lower() == ".bin" else _lines(path)
    words: list[str] = []
    seen: set[str] = set()
    vectors: list[np.ndarray] = []
    for word, vector in rows:
        if word and word not in seen and word != UNKNOWN:
            seen.add(word)
            words.append(word)
            vectors.append(vector)
    if not words:
        raise DataError(f"CK14 {shown(path.name)} holds no word vectors.")
    table = np.stack(vectors)
    if not np.isfinite(table).all():
        raise Refused(f"CK10 {shown(path.name)} holds NaN or infinity. Refused.")
    return WordVectors(words, table)


def _lines(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """'word 0.1 0.2 …' on each line; a first line of two numbers (words, width) is Word2Vec's and fastText's header."""
    width = 0
    with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
        for number_, line in enumerate(file, start=1):
            parts = line.rstrip("\r\n").rstrip(" ").split(" ")
            if number_ == 1 and len(parts) == 2 and all(p.isdigit() for p in parts):
                width = _checked_width(int(parts[1]), path)
                continue
            width = width or _checked_width(len(parts) - 1, path)
            if len(parts) <= width or number_ > _MOST_WORDS:
                raise _no_vector(path, number_, width)
            try:  # words of some files hold spaces, so the numbers are taken from the end
                vector = np.array(parts[-width:], np.float32)
            except ValueError as error:
                raise _no_vector(path, number_, width) from error
            yield " ".join(parts[:-width]), vector


def _binary(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Word2Vec's own format: number of words and width on a line, then each word, a space and its float32s."""
    data = path.read_bytes()
    header, _, _ = data[:64].partition(b"\n")
    parts = header.split()
    if len(parts) != 2 or not all(p.isdigit() for p in parts):
        raise DataError(
            f"CK14 {shown(path.name)} is not in Word2Vec's binary format: its first line is no two numbers."
        )
    count, width = int(parts[0]), _checked_width(int(parts[1]), path)
    at = len(header) + 1
    for index in range(min(count, _MOST_WORDS)):
        space = data.find(b" ", at, at + 4096)
        if space < 0 or space + 1 + 4 * width > len(data):
            raise DataError(f"CK05 {shown(path.name)} ends early: {index:,} of {count:,} word vectors are there.")
        vector = np.frombuffer(data, "<f4", width, space + 1).astype(np.float32)
        yield data[at:space].decode("utf-8", "replace").lstrip("\n"), vector
        at = space + 1 + 4 * width


def _checked_width(width: int, path: Path) -> int:
    if not 0 < width <= _WIDEST:
        raise DataError(f"CK14 {shown(path.name)}: word vectors of {width} numbers; from 1 to {_WIDEST:,} are read.")
    return width


def _no_vector(path: Path, line: int, width: int) -> DataError:
    return DataError(f"CK14 {shown(path.name)}, line {line:,}: not a word and {width} numbers.")
