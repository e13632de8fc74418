"""Looks: what each modality sees in its examples. One file a modality; ``look_for`` is the table of them."""

from __future__ import annotations

from headstart.base.errors import DataError, shown
from headstart.data.looks.audio import AudioLook
from headstart.data.looks.image import ImageLook
from headstart.data.looks.look import Look
from headstart.data.looks.mixed import MixedLook
from headstart.data.looks.text import TextLook
from headstart.data.looks.vector import VectorLook

LOOKS: dict[str, type[AudioLook | ImageLook | MixedLook | TextLook | VectorLook]] = {
    "audio": AudioLook,
    "image": ImageLook,
    "mixed": MixedLook,
    "text": TextLook,
    "vector": VectorLook,
}


def look_for(modality: str) -> Look:
    """The modality's look with its usual limits."""
    if modality not in LOOKS:
        raise DataError(f"DA34 {shown(modality)} data is read, but nothing is learnt from it yet.")
    return LOOKS[modality]()


__all__ = ["LOOKS", "AudioLook", "ImageLook", "Look", "MixedLook", "TextLook", "VectorLook", "look_for"]
