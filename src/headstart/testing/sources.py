"""The contract of sources and their backbones. Third parties run it over their own:

check_cards(MySource()); check_backbone(Catalogue((MySource(),)).load("mine/net"))
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import torch

from headstart.backbones.backbone import Backbone
from headstart.backbones.card import BackboneCard
from headstart.backbones.sources.source import Source
from headstart.backbones.stages import check_stages
from headstart.data.sound import Waveform
from headstart.features.feeds import feed_for
from headstart.inputs.image import normalise
from headstart.inputs.prepared import stacked
from headstart.inputs.spec import AudioSpec, ImageSpec, TextSpec, modality_of


def check_cards(source: Source) -> None:
    """Cards are complete, named after their source, unique, and the same each time. Needs no library, no network."""
    cards = list(source.cards())
    assert len({card.name for card in cards}) == len(cards), f"{source.name}: names are not unique"
    assert [asdict(c) for c in source.cards()] == [asdict(c) for c in cards], f"{source.name}: cards change"
    for card in cards:
        _check_card(card, source.name)


def _check_card(card: BackboneCard, source: str) -> None:
    where = f"{card.name}: "
    assert card.name.startswith((f"{source}/", f"{source}:")), where + f"does not start with '{source}/'"
    assert card.modality == modality_of(card.input), where + "its input is of another modality"
    assert card.feature_dim > 0 and card.parameters > 0 and card.gmacs >= 0, where + "sizes are missing"
    if isinstance(card.input, ImageSpec):
        assert card.input.size > 0 and 0 < card.input.crop <= 1 and min(card.input.std) > 0, where + "input spec"
    if isinstance(card.input, TextSpec):
        assert card.input.window > 2 and len(card.input.tokenizer) == 64, where + "input spec"
    if isinstance(card.input, AudioSpec):
        is_whole = (card.input.mels > 0) == (card.input.form != "wave")
        assert card.input.longest_s > 0 and is_whole, where + "input spec"
    assert card.licence and card.trained_on and card.architecture, where + "licence, origin or architecture is missing"
    if not card.weights.here:
        assert card.weights.how_to_get, where + "is not here and does not say how to get it"


def check_backbone(backbone: Backbone, *, batch: int = 3) -> None:
    """All that the rest of headstart relies on, for one loaded backbone."""
    given, examples = _batch(backbone, batch)
    with torch.inference_mode():
        features = backbone(examples)
        again = backbone(examples)
        from_batch = backbone.from_batch()(given)
        alone = torch.cat([backbone(example[None]) for example in examples])
    name = backbone.card.name
    assert features.shape == (batch, backbone.card.feature_dim), f"{name}: {tuple(features.shape)} features"
    assert features.dtype == torch.float32 and bool(torch.isfinite(features).all()), f"{name}: not finite float32"
    assert torch.equal(features, again), f"{name}: not in eval mode"
    assert _close(from_batch, features), f"{name}: from_batch() differs from normalise() + forward()"
    assert _close(alone, features), f"{name}: an example's features depend on its neighbours in the batch"
    assert not backbone.training, f"{name}: in training mode"
    check_stages(backbone.network, backbone.stages)
    assert sum(p.numel() for p in backbone.network.parameters()) == backbone.card.parameters, f"{name}: parameters"
    assert backbone.record.name == name and len(backbone.record.weights_sha256) == 64, f"{name}: record"


def check_random_copy(backbone: Backbone) -> None:
    """A copy has the same shape and other weights, is a function of the seed, and leaves torch's generator alone."""
    before = torch.random.get_rng_state()
    first, same, other = backbone.random_copy(1), backbone.random_copy(1), backbone.random_copy(2)
    assert torch.equal(before, torch.random.get_rng_state()), "random_copy() moved torch's global generator"
    assert first.record.weights_sha256 == same.record.weights_sha256, "one seed, two copies"
    assert len({c.record.weights_sha256 for c in (backbone, first, other)}) == 3, "copies do not differ"
    assert first.card.weights.kind == "none" and [s.name for s in first.stages] == [s.name for s in backbone.stages]


def check_classifier(backbone: Backbone, classes: int = 3) -> None:
    """The full classifier, built by the backbone's own library, gives features @ weight.T + bias."""
    draws = np.random.default_rng(0)
    weight = draws.normal(size=(classes, backbone.card.feature_dim)).astype(np.float32)
    bias = draws.normal(size=classes).astype(np.float32)
    labels = [f"class {k}" for k in range(classes)]
    state = backbone.classifier_state(weight, bias, labels)
    network = backbone.architecture.build(classes).eval()
    network.load_state_dict(state, strict=True)
    _, examples = _batch(backbone, 2)
    with torch.inference_mode():
        expected = backbone(examples).numpy() @ weight.T + bias
        output = backbone.architecture.features(network, examples).numpy()
    if not isinstance(backbone.card.input, ImageSpec):  # the classifier stands beside the encoder, in no network
        beside = [state[name].numpy() for name in sorted(state.keys() - backbone.network.state_dict().keys())]
        output = output @ beside[1].T + beside[0]
    assert np.allclose(output, expected, atol=1e-3, rtol=1e-4), f"{backbone.card.name}: the folded classifier differs"


def _close(first: torch.Tensor, second: torch.Tensor) -> bool:
    scale = max(float(second.abs().max()), 1e-6)
    return float((first - second).abs().max()) <= 1e-4 * scale


def _batch(backbone: Backbone, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(a batch as it is prepared, the same as ``forward`` takes it)."""
    if isinstance(backbone.card.input, ImageSpec):
        pixels = _pixels(backbone.card.input, rows)
        return torch.from_numpy(pixels), torch.from_numpy(normalise(pixels, backbone.card.input))
    if isinstance(backbone.card.input, AudioSpec):
        sounds = stacked([example.array for example in feed_for(backbone).prepare(_sounds(rows))])
        return torch.from_numpy(sounds), torch.from_numpy(sounds)
    prepared = feed_for(backbone).prepare([("words " * (3 * n + 2)).strip() for n in range(rows)])
    tokens = torch.from_numpy(stacked([example.array for example in prepared]))
    return tokens, tokens


def _sounds(rows: int) -> list[Waveform]:
    """Noise of several lengths and sample rates."""
    draws = np.random.default_rng(0)
    return [Waveform(draws.normal(0, 0.1, 4000 * (n + 1)).astype(np.float32), 8000 * (1 + n % 2)) for n in range(rows)]


def _pixels(spec: ImageSpec, batch: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, spec.size, spec.size, 3), dtype=np.uint8)
