"""What examples of each modality are called."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """one, many: 'image', 'images'.  a: with its article.  held: what holds one ('files').

    same: what two that look alike are ('pictures').  alike: in what such two may differ.
    """

    one: str
    many: str
    a: str
    held: str
    same: str
    alike: str


IMAGES = Words("image", "images", "an image", "files", "pictures", "re-encoded, resized, mirrored")
TEXTS = Words("text", "texts", "a text", "texts", "texts", "but for case, spaces or punctuation")
SOUNDS = Words("sound", "sounds", "a sound", "files", "sounds", "but for encoding or loudness")
ROWS = Words("row", "rows", "a row", "rows", "rows", "")
WORDS = {"image": IMAGES, "text": TEXTS, "audio": SOUNDS, "vector": ROWS, "mixed": ROWS}
EXAMPLES = Words("example", "examples", "an example", "files", "examples", "nearly")


def counted(n: int, one: str, many: str = "") -> str:
    """'1 image', '2,000 images'."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def words_of(modality: str) -> Words:
    return WORDS.get(modality, EXAMPLES)
