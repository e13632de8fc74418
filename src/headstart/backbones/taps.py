"""Features of inner layers: several stages, several poolings, one pass.

A tapped backbone is a Backbone whose vector is the pooled outputs of some stages beside each other, so that runners,
cache and extraction need to know nothing of it. ``columns_of`` says which columns belong to which tap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from headstart.backbones.around import Around, by_place, listening
from headstart.backbones.backbone import Backbone
from headstart.base.errors import DataError, did_you_mean, listed, shown
from headstart.inputs.spec import ImageSpec

Pooling = Literal["avg", "max", "cls"]
LAST = "features"  # what the network itself gives, with its own pooling


@dataclass(frozen=True)
class Tap:
    """Where features are taken. stage: a name from Backbone.stages, or 'features' for the network's own vector.

    pooling: 'avg' or 'max' over places (pixels of a map, tokens of a sequence); 'cls': the first token.
    """

    stage: str
    pooling: Pooling = "avg"

    def __str__(self) -> str:
        return self.stage if self.stage == LAST else f"{self.stage}:{self.pooling}"

    @classmethod
    def parse(cls, text: str) -> Tap:
        """'blocks.3', 'blocks.3:max' or 'features'."""
        stage, _, pooling = text.partition(":")
        if pooling and pooling not in get_args(Pooling):
            raise DataError(
                f"no pooling '{shown(pooling)}' in '{shown(text)}'.{did_you_mean(pooling, get_args(Pooling))} "
                f"There are: {', '.join(get_args(Pooling))}."
            )
        return cls(stage, pooling or "avg")  # type: ignore[arg-type]


def tapped(backbone: Backbone, taps: Sequence[Tap | str]) -> Backbone:
    """The same network (shared weights), giving (B, sum of widths) of all taps in the order given.

    DataError for a stage that the network has not, for tokens asked of a map, or for no tap at all.
    """
    wanted = tuple(t if isinstance(t, Tap) else Tap.parse(t) for t in taps)
    if not wanted or len(set(wanted)) != len(wanted):
        raise DataError(f"taps must be given, each once; got {listed(wanted) or 'none'}.")
    modules = {s.name: s.prefixes[-1] for s in backbone.stages}
    unknown = [t.stage for t in wanted if t.stage != LAST and t.stage not in modules]
    if unknown:
        raise DataError(
            f"{backbone.card.name} has no stage '{shown(unknown[0])}'.{did_you_mean(unknown[0], modules)} "
            f"There are: {', '.join(modules)}, and '{LAST}'."
        )
    architecture = TappedArchitecture(
        backbone.architecture, wanted, tuple("" if t.stage == LAST else modules[t.stage] for t in wanted)
    )
    size = backbone.spec.size
    with torch.inference_mode():
        parts = architecture.parts(backbone.network, torch.zeros(1, 3, size, size))
    widths = tuple(part.shape[1] for part in parts)
    architecture = replace(architecture, widths=widths)
    card = replace(backbone.card, feature_dim=sum(widths))
    # The notes are part of the features' key: other taps, another store.
    record = replace(backbone.record, notes=(*backbone.record.notes, f"taps {', '.join(map(str, wanted))}"))
    return Backbone(card, backbone.network, architecture, record)


def columns_of(backbone: Backbone) -> Mapping[str, slice]:
    """Tap → its columns in the vectors of a tapped backbone; a plain one has all of them under 'features'."""
    if not isinstance(backbone.architecture, TappedArchitecture):
        return {LAST: slice(0, backbone.card.feature_dim)}
    found, start = {}, 0
    for tap, width in zip(backbone.architecture.taps, backbone.architecture.widths, strict=True):
        found[str(tap)] = slice(start, start + width)
        start += width
    return found


@dataclass(frozen=True)
class TappedArchitecture(Around):
    """Another architecture, listened to. It cannot be saved as a classifier: no library builds it.

    modules: for each tap the name of the module whose output is read, '' for the network's own features.
    """

    taps: tuple[Tap, ...]
    modules: tuple[str, ...]
    widths: tuple[int, ...] = field(default=())

    def build(self, classes: int) -> nn.Module:
        return self.inner.build(classes)

    def features(self, network: nn.Module, images: Tensor) -> Tensor:
        return torch.cat(self.parts(network, images), dim=1)

    def parts(self, network: nn.Module, images: Tensor) -> list[Tensor]:
        """One (B, D_i) for each tap."""
        with listening(network, {m for m in self.modules if m}) as heard:
            last = self.inner.features(network, images)
        return [_pooled(heard[m], t) if m else last for t, m in zip(self.taps, self.modules, strict=True)]

    def config(self, spec: ImageSpec, labels: Sequence[str], feature_dim: int) -> dict[str, Any]:
        raise DataError("a tapped network cannot be saved as a classifier: no library builds it. Save the plain one.")


def _pooled(output: Tensor, tap: Tap) -> Tensor:
    """(B, C) of a map (B, C, H, W) or (B, H, W, C), of tokens (B, N, C), or of a vector (B, C)."""
    if output.dim() == 2:
        return output
    tokens, places = by_place(output)
    if tap.pooling == "cls":
        if output.dim() != 3:
            raise DataError(
                f"tap '{tap}': this stage gives a map of shape {tuple(output.shape)}, which has no first token."
            )
        return tokens[:, 0]
    return tokens.mean(dim=places) if tap.pooling == "avg" else tokens.amax(dim=places)
