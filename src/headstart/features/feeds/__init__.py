"""Feeds: from decoded examples to what a network takes. One file a modality; ``feed_for`` is the table of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.features.feeds.feed import Feed
from headstart.inputs.spec import AudioSpec, ImageSpec, TextSpec, VectorSpec

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone


def feed_for(backbone: Backbone) -> Feed:
    """The feed for what this backbone takes."""
    spec = backbone.card.input
    if isinstance(spec, TextSpec):
        from headstart.features.feeds.text import TextFeed

        return TextFeed(spec, str(backbone.companion_files()["tokenizer.json"]))
    if isinstance(spec, AudioSpec):
        from headstart.features.feeds.audio import AudioFeed

        return AudioFeed(spec)
    if isinstance(spec, VectorSpec):
        from headstart.features.feeds.vector import VectorFeed

        return VectorFeed(spec)
    from headstart.features.feeds.image import ImageFeed

    assert isinstance(spec, ImageSpec), f"{backbone.card.name}: nothing is fed with {type(spec).__name__}"
    return ImageFeed(spec)


__all__ = ["Feed", "feed_for"]
