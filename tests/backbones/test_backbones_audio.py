"""Encoders of sounds: filling up a batch changes no answer, and the library's own forward agrees where it can."""

import struct

import numpy as np
import pytest
import torch
from tests.data.sounds import tone

from headstart.backbones import layers
from headstart.backbones.catalogue import catalogue
from headstart.backbones.sources import whisper_ct2
from headstart.base.errors import DataError, Refused
from headstart.data.sound import Waveform
from headstart.features.feeds import feed_for
from headstart.inputs.prepared import stacked
from headstart.testing.sources import check_backbone, check_classifier, check_random_copy

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
LIKE_LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
WHISPER = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
}
MAKERS = {
    "wav2vec2": ("Wav2Vec2Model", "Wav2Vec2Config", SMALL),
    "wav2vec2 with letters": ("Wav2Vec2ForCTC", "Wav2Vec2Config", SMALL | LIKE_LARGE),
    "wav2vec2 as pretrained": (
        "Wav2Vec2ForPreTraining",
        "Wav2Vec2Config",
        SMALL | {"codevector_dim": 16, "proj_codevector_dim": 16},
    ),
    "hubert": ("HubertModel", "HubertConfig", SMALL),
    "wavlm": ("WavLMModel", "WavLMConfig", SMALL),
    "whisper": ("WhisperForConditionalGeneration", "WhisperConfig", WHISPER),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Model folders of each kind, with seeded random weights, as transformers saves them."""
    import transformers

    root, found = tmp_path_factory.mktemp("nets"), {}
    for name, (kind, config, settings) in MAKERS.items():
        found[name] = root / name.replace(" ", "-")
        with torch.random.fork_rng():
            torch.manual_seed(1)
            network = getattr(transformers, kind)(getattr(transformers, config)(**settings))
        network.save_pretrained(found[name])
        extractor = "WhisperFeatureExtractor" if name == "whisper" else "Wav2Vec2FeatureExtractor"
        getattr(transformers, extractor)().save_pretrained(found[name])
    return found


def loaded(folder):
    return catalogue.load(f"file:{folder}")


def sounds(*seconds):
    return [Waveform(tone(300 + 50 * i, s, seed=i), 16_000) for i, s in enumerate(seconds)]


@pytest.mark.filterwarnings("ignore:Support for mismatched")
@pytest.mark.parametrize("name", MAKERS)
def test_local_folders_keep_the_contract(name, folders):
    backbone = loaded(folders[name])
    assert backbone.card.modality == "audio" and backbone.card.feature_dim == 32
    assert backbone.record.matched == backbone.record.expected
    check_backbone(backbone)
    check_random_copy(backbone)
    check_classifier(backbone)


@pytest.mark.filterwarnings("ignore:Support for mismatched")
@pytest.mark.parametrize("name", ["toy/audio", *MAKERS])
def test_what_fills_up_a_batch_changes_no_answer(name, folders):
    backbone = catalogue.load(name) if name == "toy/audio" else loaded(folders[name])
    arrays = [example.array for example in feed_for(backbone).prepare(sounds(0.3, 1.1, 2.0, 0.07))]
    with torch.inference_mode():
        together = backbone(torch.from_numpy(stacked(arrays))).numpy()
        alone = [backbone(torch.from_numpy(a[None])).numpy()[0] for a in arrays]
        four_seconds = 400 * backbone.card.input.mels or 64_000
        longer = np.full((4, four_seconds), np.nan, np.float32)
        for row, array in zip(longer, arrays, strict=True):
            row[: len(array)] = array
        far = backbone(torch.from_numpy(longer)).numpy()
    assert np.abs(together - alone).max() < 2e-5
    assert np.abs(far - alone).max() < 2e-5


@pytest.mark.filterwarnings("ignore:Support for mismatched")
@pytest.mark.parametrize("name", [n for n in MAKERS if n != "whisper"])
def test_one_sound_has_the_features_of_the_librarys_own_forward(name, folders):
    import transformers

    wave = tone(seconds=1.3)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folders[name])
    network = transformers.AutoModel.from_pretrained(folders[name]).eval()
    with torch.inference_mode():
        given = extractor(wave, sampling_rate=16_000, return_tensors="pt").input_values
        theirs = network(given).last_hidden_state.mean(1)[0].numpy()
        backbone = loaded(folders[name])
        array = feed_for(backbone).prepare([Waveform(wave, 16_000)])[0].array
        ours = backbone(torch.from_numpy(array[None]))[0].numpy()
    assert np.abs(ours - theirs).max() < 1e-4


def test_twenty_nine_seconds_of_whisper_and_one_of_silence_are_those_of_the_librarys_own_forward(folders):
    import transformers

    wave = np.random.default_rng(0).normal(0, 0.1, 29 * 16_000).astype(np.float32)
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(folders["whisper"])
    network = transformers.WhisperModel.from_pretrained(folders["whisper"]).eval()
    with torch.inference_mode():
        given = extractor(wave, sampling_rate=16_000, return_tensors="pt").input_features
        theirs = network.encoder(given).last_hidden_state[:, :1450].mean(1)[0].numpy()
        backbone = loaded(folders["whisper"])
        array = feed_for(backbone).prepare([Waveform(wave, 16_000)])[0].array
        ours = backbone(torch.from_numpy(array[None]))[0].numpy()
    assert np.abs(ours - theirs).max() < 1e-4


@pytest.mark.openvino
@pytest.mark.parametrize("name", ["whisper", "wav2vec2", "hubert"])
def test_openvino_agrees_on_sounds_of_several_lengths(name, folders):
    pytest.importorskip("openvino")
    from headstart.features.choose import agreement_of, float32_features
    from headstart.features.runners.openvino import OpenVinoRunner, convert
    from headstart.features.runners.runner import run_all

    backbone = loaded(folders[name])
    arrays = [example.array for example in feed_for(backbone).prepare(sounds(0.3, 1.1, 2.0, 0.07, 0.8))]
    found = run_all(OpenVinoRunner(convert(backbone), precision="f32"), arrays)
    assert agreement_of(found, float32_features(backbone, arrays)).cosine > 0.9999


def test_another_sample_rate_and_adapters_are_not_read(folders, tmp_path):
    import json
    import shutil

    for file, key, value, words in (
        ("preprocessor_config.json", "sampling_rate", 8000, "those for 16000 are read"),
        ("config.json", "add_adapter", True, "adapter"),
    ):
        folder = tmp_path / key
        shutil.copytree(folders["wav2vec2"], folder)
        (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | {key: value}))
        with pytest.raises(DataError, match=words):
            catalogue.card(f"file:{folder}")


# ------------------------------------------------------------------------------------------------------------- layers


@pytest.mark.filterwarnings("ignore:Support for mismatched")
@pytest.mark.parametrize("name", ["toy/audio", *MAKERS])
def test_layers_stand_beside_each_other_and_the_last_is_the_networks_own(name, folders):
    backbone = catalogue.load(name) if name == "toy/audio" else loaded(folders[name])
    batch = torch.from_numpy(stacked([e.array for e in feed_for(backbone).prepare(sounds(0.3, 1.1))]))
    depth = layers.depth_of(backbone)
    with torch.inference_mode():
        last, every = backbone(batch), layers.beside(backbone)(batch).unflatten(1, (depth, -1))
        weights = tuple(np.linspace(0, 0.5, depth))
        mixture = layers.mixed(backbone, weights)(batch)
    assert depth == 2 and torch.equal(every[:, -1], last) and not torch.allclose(every[:, 0], last)
    assert torch.allclose(mixture, (every * torch.tensor(weights, dtype=torch.float32)[:, None]).sum(1), atol=1e-6)


@pytest.mark.parametrize("name", ["wav2vec2", "hubert"])
def test_inner_layers_are_those_of_the_librarys_own_forward(name, folders):
    import transformers

    wave = tone(seconds=1.3)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folders[name])
    network = transformers.AutoModel.from_pretrained(folders[name]).eval()
    backbone = loaded(folders[name])
    with torch.inference_mode():
        given = extractor(wave, sampling_rate=16_000, return_tensors="pt").input_values
        theirs = network(given, output_hidden_states=True).hidden_states[1].mean(1)[0].numpy()
        array = feed_for(backbone).prepare([Waveform(wave, 16_000)])[0].array
        ours = layers.beside(backbone)(torch.from_numpy(array[None]))[0, :32].numpy()
    assert np.abs(ours - theirs).max() < 1e-4


@pytest.mark.filterwarnings("ignore:Support for mismatched")
@pytest.mark.parametrize("name", ["whisper", "wavlm"])
def test_what_fills_up_a_batch_changes_no_layer(name, folders):
    backbone = layers.beside(loaded(folders[name]))
    arrays = [example.array for example in feed_for(backbone).prepare(sounds(0.3, 1.1, 0.07))]
    with torch.inference_mode():
        together = backbone(torch.from_numpy(stacked(arrays))).numpy()
        alone = [backbone(torch.from_numpy(a[None])).numpy()[0] for a in arrays]
    assert np.abs(together - alone).max() < 2e-5


def test_a_mixture_keeps_the_contract_and_only_its_own_weights_are_believed(folders):
    backbone = layers.mixed(loaded(folders["whisper"]), (0.25, 0.75))
    check_random_copy(backbone)
    check_classifier(backbone)
    inner = loaded(folders["whisper"]).architecture
    for wrong in ({}, {"weights": [1.0]}, {"weights": [0.5, -0.5]}, {"weights": [0.5, float("nan")]}, None):
        with pytest.raises(DataError, match="2 weights of layers"):
            layers.architecture_from(inner, wrong, where="config.json")


# -------------------------------------------------------------------------------------------------------- CTranslate2


def ct2(arrays):
    """model.bin of version 6, by the description of the format."""
    kinds = {"float32": 0, "float16": 4}

    def text(words):
        return struct.pack("<H", len(words) + 1) + words.encode() + b"\0"

    parts = [struct.pack("<I", 6), text("WhisperSpec"), struct.pack("<II", 3, len(arrays))]
    for name, array in arrays.items():
        parts += [text(name), struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)]
        parts += [struct.pack("<BI", kinds[str(array.dtype)], array.nbytes), array.tobytes()]
    return b"".join(parts) + struct.pack("<I", 0)


def stored(network):
    """What CTranslate2's converter makes of an encoder: queries, keys and values in one matrix, float16."""
    state = {k: v.numpy().astype(np.float16) for k, v in network.state_dict().items()}
    found = {"encoder/position_encodings/encodings": state["embed_positions.weight"]}
    for ours, theirs in (("conv1", "conv1"), ("conv2", "conv2")):
        found |= {f"encoder/{theirs}/{leaf}": state[f"{ours}.{leaf}"] for leaf in ("weight", "bias")}
    found |= {
        "encoder/layer_norm/gamma": state["layer_norm.weight"],
        "encoder/layer_norm/beta": state["layer_norm.bias"],
    }
    for i in range(2):
        at, to = f"layers.{i}.", f"encoder/layer_{i}/"
        parts = [state[f"{at}self_attn.{p}_proj.weight"] for p in "qkv"]
        zero = np.zeros(len(parts[1]), np.float16)
        biases = [state[f"{at}self_attn.q_proj.bias"], zero, state[f"{at}self_attn.v_proj.bias"]]
        found |= {f"{to}self_attention/linear_0/weight": np.concatenate(parts)}
        found |= {f"{to}self_attention/linear_0/bias": np.concatenate(biases)}
        for ours, theirs in (
            ("self_attn.out_proj", "self_attention/linear_1"),
            ("fc1", "ffn/linear_0"),
            ("fc2", "ffn/linear_1"),
        ):
            found |= {f"{to}{theirs}/{leaf}": state[f"{at}{ours}.{leaf}"] for leaf in ("weight", "bias")}
        for ours, theirs in (
            ("self_attn_layer_norm", "self_attention/layer_norm"),
            ("final_layer_norm", "ffn/layer_norm"),
        ):
            found |= {
                f"{to}{theirs}/gamma": state[f"{at}{ours}.weight"],
                f"{to}{theirs}/beta": state[f"{at}{ours}.bias"],
            }
    return found


def test_a_whisper_stored_by_ctranslate2_comes_back_with_every_weight():
    network = whisper_ct2.architecture_of(32, 2, 2).build(0)
    arrays = stored(network) | {"decoder/embeddings/weight": np.zeros((5, 3), np.float16)}
    found = whisper_ct2.encoder_arrays(whisper_ct2.arrays_of(ct2(arrays)))
    state = network.state_dict()
    assert found.keys() == state.keys()
    for name, array in found.items():
        assert np.array_equal(array, state[name].numpy().astype(np.float16).astype(np.float32)), name


def test_a_file_that_is_not_the_packages_own_is_refused(tmp_path):
    (tmp_path / "model.bin").write_bytes(ct2({"x": np.zeros(3, np.float32)}))
    card = next(c for c in catalogue.cards() if c.name == "package/whisper-tiny-en")
    with pytest.raises(Refused, match="CK06"):
        whisper_ct2.load(card, whisper_ct2.architecture_of(384, 4, 6), [tmp_path / "model.bin"])
