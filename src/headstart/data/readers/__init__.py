"""Readers: each turns one kind of source into examples. The first in READERS that recognises a source reads it."""

from headstart.data.readers.array_files import ArrayFile
from headstart.data.readers.arrays import Arrays
from headstart.data.readers.frames import Frames
from headstart.data.readers.image_folder import ImageFolder
from headstart.data.readers.reader import Found, Reader, Request
from headstart.data.readers.sounds import AudioFolder
from headstart.data.readers.table import Table
from headstart.data.readers.text_files import TextFolder, TextLines

READERS: tuple[Reader, ...] = (
    *(Table(), ArrayFile(), AudioFolder(), TextFolder(), TextLines(), ImageFolder()),
    *(Frames(), Arrays()),
)

__all__ = [
    "READERS",
    "ArrayFile",
    "Arrays",
    "AudioFolder",
    "Found",
    "Frames",
    "ImageFolder",
    "Reader",
    "Request",
    "Table",
    "TextFolder",
    "TextLines",
]
