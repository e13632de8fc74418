"""Sounds in files: a folder of them by class. And how sounds are told from pictures where nobody says what is meant."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headstart.data.dataset import Modality
from headstart.data.readers.image_folder import ClassFolders, Wanted
from headstart.data.readers.reader import IMAGE_EXTENSIONS, Found, Request, is_clearly_other, is_junk
from headstart.data.sound import SOUND_EXTENSIONS, Waveform, is_sound
from headstart.data.words import SOUNDS

LOOKED_AT = 200  # files that tell what a folder holds
OPENED = 8  # files, or values, whose first bytes are read where the names tell nothing
_HEAD = 64  # bytes


def is_sound_file(name: str) -> bool:
    return name.lower().endswith(SOUND_EXTENSIONS)


def may_be_sound(name: str) -> bool:
    """Whether a file in a folder of sounds is tried; its bytes decide."""
    return is_sound_file(name) or not is_clearly_other(name)


class AudioFolder:
    """Told by its files: sounds, no pictures, and no more texts than sounds (transcripts may lie beside them)."""

    name = "folder of sounds"

    def recognises(self, source: Any) -> bool:
        if not isinstance(source, Path) or not source.is_dir():
            return False
        sounds = texts = seen = opened = 0
        for folder, folders, files in os.walk(source):
            folders[:] = sorted(f for f in folders if not is_junk(f))
            for name in sorted(f for f in files if not is_junk(f)):
                if is_sound_file(name):
                    sounds += 1
                elif not is_clearly_other(name):
                    opened += 1
                    if opened > OPENED or not _begins_like_sound(Path(folder, name)):
                        return False
                    sounds += 1
                texts += name.lower().endswith(".txt")
                seen += 1
            if seen >= LOOKED_AT:
                break
        return sounds > 0 and sounds >= texts

    def read(self, source: Path, request: Request) -> Found:
        return ClassFolders(Wanted("audio", SOUNDS, may_be_sound)).read(source, request)


def modality_of_files(values: Sequence[Any]) -> Modality:
    """'audio' or 'image', for paths or contents of files, or samples with their rate."""
    some = values[:OPENED]
    if not len(some):
        return "image"
    if all(isinstance(value, Waveform) for value in some):
        return "audio"
    if all(isinstance(value, bytes) for value in some):
        return "audio" if all(is_sound(value[:_HEAD]) for value in some) else "image"
    paths = [value for value in some if isinstance(value, Path)]
    named = [is_sound_file(path.name) for path in paths]
    if any(named):
        return "audio" if sum(named) > len(some) / 2 else "image"
    if any(path.name.lower().endswith(IMAGE_EXTENSIONS) for path in paths):
        return "image"
    return "audio" if paths and all(_begins_like_sound(path) for path in paths) else "image"


def _begins_like_sound(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return is_sound(file.read(_HEAD))
    except OSError:
        return False  # the survey will say what is wrong with it
