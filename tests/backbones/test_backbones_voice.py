"""Resemblyzer's encoder of voices beside torch's own three-layer LSTM, one part of a sound at a time."""

import numpy as np
import pytest
import torch
from tests.data.sounds import tone

from headstart.backbones.backbone import Backbone, build_seeded, record_of
from headstart.backbones.catalogue import catalogue
from headstart.backbones.loading import load_into
from headstart.backbones.sources.voice import VoiceArchitecture, architecture_for
from headstart.base.errors import CheckpointMismatch, DataError
from headstart.data.sound import Waveform
from headstart.features.feeds import feed_for
from headstart.inputs.audio import mel_of_parts, raised
from headstart.inputs.prepared import stacked
from headstart.inputs.spec import AudioSpec
from headstart.testing.sources import check_backbone, check_classifier, check_random_copy

NAME = "package/resemblyzer"


class Theirs(torch.nn.Module):
    """The network as its publisher writes it down, with the two numbers of its loss."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = torch.nn.Linear(256, 256)
        self.similarity_weight = torch.nn.Parameter(torch.tensor([10.0]))
        self.similarity_bias = torch.nn.Parameter(torch.tensor([-5.0]))

    def forward(self, mels):
        _, (hidden, _) = self.lstm(mels)
        raw = torch.relu(self.linear(hidden[-1]))
        return raw / torch.norm(raw, dim=1, keepdim=True)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The threads of an LSTM wait for each other at each of 160 steps: on a busy machine that is all they do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def theirs():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Theirs().eval()


@pytest.fixture(scope="module")
def voice(theirs):
    """The same weights in our network. No package is needed."""
    card, architecture = catalogue.card(NAME), VoiceArchitecture()
    network = build_seeded(architecture, 0)
    report = load_into(network, architecture.native_names(theirs.state_dict()))
    assert report.matched == report.expected == 14
    return Backbone(card, network, architecture, record_of(card, network, loader="test"))


def sounds(*seconds):
    return [Waveform(tone(300 + 50 * i, s, seed=i), 16_000) for i, s in enumerate(seconds)]


def test_it_keeps_the_contract_and_each_layer_is_a_stage(voice):
    check_backbone(voice)
    check_random_copy(voice)
    check_classifier(voice)
    assert [stage.name for stage in voice.stages] == ["layers.0", "layers.1", "layers.2", "top"]


@pytest.mark.parametrize("seconds", [0.3, 1.6, 2.5, 6.0])
def test_a_sound_is_the_mean_of_its_parts_through_the_publishers_network(seconds, voice, theirs):
    sound = sounds(seconds)[0]
    frames = torch.from_numpy(mel_of_parts(raised(sound.samples), 40))
    parts = torch.stack([frames[at : at + 160] for at in range(0, len(frames) - 159, 77)])
    with torch.inference_mode():
        mean = theirs(parts).mean(0)
        ours = voice(torch.from_numpy(feed_for(voice).prepare([sound])[0].array[None]))[0]
    assert torch.allclose(ours, mean / mean.norm(), atol=1e-6)


def test_what_fills_up_a_batch_changes_no_answer(voice):
    arrays = [example.array for example in feed_for(voice).prepare(sounds(0.3, 1.1, 5.0, 2.2))]
    with torch.inference_mode():
        together = voice(torch.from_numpy(stacked(arrays))).numpy()
        alone = np.stack([voice(torch.from_numpy(a[None])).numpy()[0] for a in arrays])
    assert len({len(a) for a in arrays}) == 3
    assert np.abs(together - alone).max() < 1e-6


@pytest.mark.openvino
def test_openvino_agrees_on_sounds_of_several_lengths(voice):
    pytest.importorskip("openvino")
    from headstart.features.choose import agreement_of, float32_features
    from headstart.features.runners.openvino import OpenVinoRunner, convert
    from headstart.features.runners.runner import run_all

    arrays = [example.array for example in feed_for(voice).prepare(sounds(0.3, 1.1, 4.0, 0.07))]
    found = run_all(OpenVinoRunner(convert(voice), precision="f32"), arrays)
    assert agreement_of(found, float32_features(voice, arrays)).cosine > 0.9999


def test_another_networks_file_has_no_place_here(theirs):
    weights = {n: t for n, t in theirs.state_dict().items() if not n.endswith("_l2")}
    architecture = VoiceArchitecture()
    with pytest.raises(CheckpointMismatch, match="10 of 14"):
        load_into(architecture.build(0), architecture.native_names(weights))


def test_a_saved_one_is_opened_only_for_what_it_is_fed_with():
    assert architecture_for(AudioSpec(form="mel", mels=40), where="config.json") == VoiceArchitecture()
    for spec in (AudioSpec(form="mel", mels=80), AudioSpec(form="log-mel", mels=40), AudioSpec()):
        with pytest.raises(DataError, match="'mel' of 40 bands"):
            architecture_for(spec, where="config.json")


def test_the_published_weights_are_read_without_the_package_being_imported():
    import sys

    if not catalogue.card(NAME).weights.here:
        pytest.skip("resemblyzer is not installed")
    loaded = catalogue.load(NAME)
    assert loaded.record.matched == 14 and "resemblyzer" not in sys.modules
    assert loaded.record.weights_sha256 == loaded.card.weights.sha256
