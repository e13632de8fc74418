"""Fine-tuning on sounds: what learns, what stays as it was loaded to the bit, and what is refused."""

import numpy as np
import pytest
import torch
from tests.backbones.test_backbones_audio import LIKE_LARGE, SMALL
from tests.data.sounds import tone

from headstart.adapt.heads.head import LinearHead
from headstart.adapt.strategies import Options
from headstart.adapt.strategies.sequences import DEFAULTS
from headstart.backbones import layers
from headstart.backbones.catalogue import catalogue
from headstart.base.errors import PlanError
from headstart.data.looks import look_for
from headstart.data.open import open_dataset
from headstart.features.border import Border
from headstart.features.extract import extract
from headstart.features.feeds import feed_for
from headstart.inputs.sequences import SequenceBatches, read_sequences
from headstart.tasks.classification import Classification
from headstart.training.loop import LoopSettings
from headstart.workflow.config import TuneConfig
from headstart.workflow.finetuning import check_tuning, plan_of
from headstart.workflow.judge import Known
from headstart.workflow.tuning import Ground, features_of, tune
from headstart.workflow.ways import rungs_of

N = 16
CONVOLUTIONS = ("conv", "feature_extractor", "embed_positions")
KINDS = {
    "hubert": ("HubertModel", "HubertConfig", SMALL),
    "wav2vec2": ("Wav2Vec2Model", "Wav2Vec2Config", SMALL | LIKE_LARGE | {"layerdrop": 0.9}),
}


def network(kind, folder):
    if kind == "toy/audio":
        return catalogue.load(kind)
    import transformers

    model, config, settings = KINDS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        getattr(transformers, model)(getattr(transformers, config)(**settings)).save_pretrained(folder)
    return catalogue.load(f"file:{folder}")


def ground_of(backbone, tmp_path):
    waves = [(tone(300 + 200 * (i % 2), 0.1 + 0.02 * i, seed=i), 16_000) for i in range(N)]
    dataset = open_dataset(waves)
    X = extract(backbone, dataset, cache=tmp_path / "cache", only_runner="torch-f32").X
    known = Known(X, np.arange(N) % 2, np.arange(N), np.asarray(dataset.ids, object), Classification(("a", "b")))
    return Ground(
        backbone=backbone,
        known=known,
        examples=read_sequences(dataset, feed_for(backbone).prepare, look=look_for("audio")),
        runner="torch-f32",
        device="cpu",
        settings=LoopSettings(),
        border=Border(tmp_path / "border"),
        seed=0,
    )


def trained(ground, strategy, **options):
    tuning = TuneConfig(strategy=strategy, epochs=1, batch_size=4, options=Options(**options))
    plan = plan_of(ground.backbone, tuning, N, 2)
    probe = LinearHead(np.random.default_rng(1).normal(0, 0.1, (2, ground.backbone.card.feature_dim)), np.zeros(2))
    return tune(ground, plan, np.arange(N), probe)


def changed(ground, tuned):
    before, after = ground.backbone.network.state_dict(), tuned.backbone.network.state_dict()
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("strategy", DEFAULTS["audio"])
def test_every_strategy_trains_and_leaves_the_convolutions(strategy, tmp_path):
    ground = ground_of(network("toy/audio", tmp_path), tmp_path)
    tuned = trained(ground, strategy, lr=None if strategy == "linear-probe" else 1e-3)
    moved = changed(ground, tuned)
    assert not any(name.startswith(CONVOLUTIONS) for name in moved), moved
    assert bool(moved) == (strategy != "linear-probe")
    assert np.isfinite(features_of(ground, tuned.backbone, np.arange(5))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_networks_of_samples_learn_in_every_layer_and_leave_the_convolutions(kind, tmp_path):
    ground = ground_of(network(kind, tmp_path / "net"), tmp_path)
    moved = changed(ground, trained(ground, "full", lr=1e-3))
    assert not any(name.startswith(CONVOLUTIONS) for name in moved), moved
    assert all(any(name.startswith(f"encoder.layers.{i}.") for name in moved) for i in range(2))


def test_a_mixture_of_layers_is_fine_tuned_as_a_mixture(tmp_path):
    backbone = layers.mixed(network("toy/audio", tmp_path), (0.75, 0.25))
    ground = ground_of(backbone, tmp_path)
    tuned = trained(ground, "full", lr=1e-3)
    assert tuned.backbone.architecture == backbone.architecture
    assert any(name.startswith("layers.0.") for name in changed(ground, tuned))


def test_sounds_are_learnt_from_as_they_were_extracted(tmp_path):
    """What a batch gives in front of the trained layers is what the features were made of."""
    ground = ground_of(network("toy/audio", tmp_path), tmp_path)
    batches = SequenceBatches(ground.examples, torch.zeros(N), np.arange(N), batch_size=4, seed=0)
    for batch in batches.between(0, 4):
        with torch.inference_mode():
            found = ground.backbone(batch.inputs).numpy()
        assert np.abs(found - ground.known.X[batch.rows]).max() < 2e-3


@pytest.mark.parametrize(
    ("tuning", "said"),
    [
        (TuneConfig(strategy="adapter"), "PL15 'adapter' is for pictures"),
        (TuneConfig(strategy="setfit"), "PL16 'setfit' learns from pairs of texts"),
        (TuneConfig(strategy="full", options=Options(mixup=0.2)), "PL15 mixup"),
        (TuneConfig(strategy="auto", options=Options(augment="flips")), "PL15 .* sounds are learnt from as they are"),
    ],
)
def test_what_sounds_have_no_place_for_is_refused(tuning, said):
    with pytest.raises(PlanError, match=said):
        check_tuning(catalogue.load("toy/audio"), tuning, Classification(("a", "b")))


def test_the_ladder_tries_what_sounds_have():
    ways = [way.name for _, rung in rungs_of(catalogue.load("toy/audio"), Options(), few=True) for way in rung]
    assert ways == ["last 2 stages", "LoRA", "full", "full, 3 times the rate"]
