"""Input specifications: everything that must be equal for a network to see what it was trained to see. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from headstart.data.mixed import ColumnKind
from headstart.inputs.columns import Column

Fit = Literal["crop", "squish", "pad"]


@dataclass(frozen=True)
class ImageSpec:
    """RGB images for a network.

    size: side of the square the network gets, in pixels.
    mean, std: per channel, for values in [0, 1].
    crop: the short side is resized to floor(size / crop) and the centre cut out; 1.0 keeps all of a square picture.
    fit: 'crop' as above; 'squish' resizes both sides to size (aspect ratio lost); 'pad' adds borders of
        the mean colour.
    interpolation: 'bilinear' | 'bicubic' (Pillow's, antialiased).
    """

    size: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    crop: float = 0.875
    fit: Fit = "crop"
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"

    @property
    def resized(self) -> int:
        """Side, in pixels, that pictures are resized to before anything is cut off.

        Decoders may shrink a large JPEG on the way as long as both sides stay at least twice this.
        """
        return int(self.size / self.crop) if self.fit == "crop" else self.size


@dataclass(frozen=True)
class TextSpec:
    """Texts for a network.

    tokenizer: SHA-256 of tokenizer.json, which turns a text into numbers of its vocabulary.
    window: most tokens the network gets, special ones among them; what is beyond is cut off at the end.
    prefix: put before each text, as the network was trained with.
    """

    tokenizer: str
    window: int = 256
    prefix: str = ""


@dataclass(frozen=True)
class AudioSpec:
    """Sounds for a network.

    sample_rate_hz: what they are resampled to, with one channel.
    form: 'wave', the samples themselves; 'log-mel', the frames of Whisper, of which there is a hundred a second; 'mel',
        as many frames of an encoder of voices, which have no logarithm and fill parts of 1.6 seconds.
    longest_s: most seconds the network gets; what is beyond is cut off at the end.
    normalised: samples are brought to mean 0 and variance 1.  mels: bands of a frame, 0 for samples.
    """

    sample_rate_hz: int = 16_000
    form: Literal["wave", "log-mel", "mel"] = "wave"
    longest_s: float = 30.0
    normalised: bool = False
    mels: int = 0


@dataclass(frozen=True)
class VectorSpec:
    """Rows of a table. columns: how each becomes numbers.  target: the column that is predicted; '' without a name."""

    columns: tuple[Column, ...]
    target: str = ""


@dataclass(frozen=True)
class MixedSpec:
    """Rows of several kinds of columns, each with a network of its own.

    kinds: column → what it holds: texts, files of pictures or sounds, or a kind of cell.  target: as in VectorSpec.
    """

    kinds: Mapping[str, ColumnKind]
    target: str = ""


InputSpec = ImageSpec | TextSpec | AudioSpec | VectorSpec | MixedSpec

_MODALITIES = {ImageSpec: "image", TextSpec: "text", AudioSpec: "audio", VectorSpec: "vector", MixedSpec: "mixed"}


def modality_of(spec: InputSpec) -> str:
    """The modality of the examples that are fed so."""
    return _MODALITIES[type(spec)]
