"""Tiny networks with seeded random weights, for tests and examples; real architectures of timm and transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headstart.backbones.card import BackboneCard, Weights
from headstart.backbones.sources.source import Request, not_in_catalogue
from headstart.base.files import to_json
from headstart.base.seeds import number
from headstart.inputs.spec import AudioSpec, ImageSpec, TextSpec
from headstart.inputs.text import digest

if TYPE_CHECKING:
    from headstart.backbones.backbone import Architecture, Backbone

_SPEC = ImageSpec(size=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop=1.0, fit="crop", interpolation="bilinear")
_SEEDED = Weights("none", "seeded", here=True)


def _card(name: str, architecture: str, feature_dim: int, parameters: int, gmacs: float) -> BackboneCard:
    return BackboneCard(
        name, "image", architecture, _SPEC, feature_dim, parameters, "apache-2.0", "nothing", _SEEDED, gmacs
    )


# One token for each letter, figure and mark; what has no number of its own is [UNK].
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 .,;:!?'\"()-"
TOKENIZER = to_json(
    {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": number,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for number, token in enumerate(_SPECIAL)
        ],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": False},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                token: {"id": token, "ids": [_SPECIAL.index(token)], "tokens": [token]} for token in ("[CLS]", "[SEP]")
            },
        },
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {token: number for number, token in enumerate((*_SPECIAL, *_LETTERS))},
            "unk_token": "[UNK]",
        },
    }
)
_BERT = {
    "vocab_size": len(_SPECIAL) + len(_LETTERS),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}

_WHISPER = {
    "d_model": 32,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "num_mel_bins": 40,
    "max_source_positions": 250,
}

CARDS = (
    _card("toy/conv", "test_resnet", 96, 372_688, 0.016),
    _card("toy/vit", "test_vit", 64, 300_864, 0.005),
    BackboneCard(
        *("toy/text", "text", "bert", TextSpec(digest(TOKENIZER), window=64), 32, 20_928),
        *("apache-2.0", "nothing", _SEEDED),
    ),
    BackboneCard(
        *("toy/audio", "audio", "whisper", AudioSpec(form="log-mel", longest_s=4.0, mels=40), 32, 32_064),
        *("apache-2.0", "nothing", _SEEDED),
    ),
)


class ToySource:
    """Two networks of about 0.3 M parameters for 64 × 64 pictures, a small one for texts, letter by letter, and one for
    sounds; the same weights on every machine.
    """

    name = "toy"

    def cards(self) -> Sequence[BackboneCard]:
        return CARDS

    def card(self, name: str, *, offline: bool = False) -> BackboneCard:
        raise not_in_catalogue(name, [card.name for card in CARDS])

    def load(self, card: BackboneCard, request: Request) -> Backbone:
        from headstart.backbones.backbone import Backbone, build_seeded, record_of
        from headstart.backbones.loading import load_file

        architecture = _architecture(card)
        if request.weights is not None:
            return load_file(card, architecture, request.weights)
        network = build_seeded(architecture, number(0, "toy", card.name))
        return Backbone(card, network, architecture, record_of(card, network, loader="seeded"))


def _architecture(card: BackboneCard) -> Architecture:
    if isinstance(card.input, TextSpec):
        from headstart.backbones.sources.text_transformers import TextArchitecture

        return TextArchitecture(card.architecture, tuple(sorted(_BERT.items())), "mean", TOKENIZER)
    if isinstance(card.input, AudioSpec):
        from headstart.backbones.sources.audio_transformers import AudioArchitecture

        return AudioArchitecture(card.architecture, tuple(sorted(_WHISPER.items())))
    from headstart.backbones.sources.timm import TimmArchitecture

    size = (("img_size", _SPEC.size),) if card.architecture == "test_vit" else ()
    return TimmArchitecture(card.architecture, size)
