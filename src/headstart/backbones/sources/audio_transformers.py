"""transformers: encoders of sounds (Whisper, Wav2Vec2, HuBERT, WavLM), from a local folder or a pip package.

Whisper is used without its decoder and without padding to 30 seconds: a sound takes as many positions as it is long,
and a second of silence more. On short prompts of another speaker that second found 0.45 where 0.37 were found without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.backbones.sources.transformers import DROPPED, check_plain, config_of, quiet
from headstart.base.errors import DataError, listed, shown
from headstart.base.files import read_json
from headstart.inputs.spec import AudioSpec, InputSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

OF_SAMPLES = ("wav2vec2", "hubert", "wavlm")
KINDS = ("whisper", *OF_SAMPLES)
LONGEST_S = 30.0
_POSITIONS_A_SECOND = 50  # of a Whisper encoder; so many, of silence, follow each sound (inputs.audio)


@dataclass(frozen=True)
class AudioArchitecture:
    """An encoder of transformers: its kind (model_type) and the settings that differ from the defaults."""

    name: str
    settings: tuple[tuple[str, Any], ...]

    @property
    def opens_with(self) -> str:
        return "transformers"

    def build(self, classes: int) -> nn.Module:
        """The encoder; with classes, a linear layer called 'classifier' stands beside it and is used by nobody.

        transformers' own classifiers put a projection before theirs, so none of them is this model.
        """
        import torch

        config = self._config()
        if self.name in OF_SAMPLES:
            config.layerdrop = 0.0  # of pretraining: whole layers left out at random, which few examples do not bear
        network: Any = self._class()(config)
        network.loss_type = "ForSequenceClassification"  # never used; without one, a tracer that looks at it warns
        if classes:
            network.classifier = torch.nn.Linear(config.hidden_size, classes)
        return network

    def features(self, network: nn.Module, sounds: Tensor) -> Tensor:
        """(B, D): the mean of the last layer over the time that the sound lasts.

        sounds: (B, L) as inputs.audio prepares them, NaN where one has ended; how far the batch is filled up that way
        changes no answer.
        """
        return _mean(*self._states(network, sounds))

    def layers(self, network: nn.Module, sounds: Tensor) -> list[Tensor]:
        """(B, D) for each layer, input side first; the last one is ``features``."""
        from headstart.backbones.around import listening

        row = "layers" if self.name == "whisper" else "encoder.layers"
        names = [f"{row}.{at}" for at in range(self.depth(network))]
        with listening(network, names[:-1]) as heard:
            last, is_there = self._states(network, sounds)
        return [_mean(heard[name], is_there) for name in names[:-1]] + [_mean(last, is_there)]

    def depth(self, network: nn.Module) -> int:
        """How many layers there are."""
        config: Any = network.config
        return int(config.num_hidden_layers)

    def _states(self, network: nn.Module, sounds: Tensor) -> tuple[Tensor, Tensor]:
        """((B, P, D) what the network ends with, (B, P) which positions are of the sounds)."""
        import torch

        there = ~sounds.isnan()
        sounds = torch.where(there, sounds, torch.zeros_like(sounds))
        return (_whisper if self.name == "whisper" else _of_samples)(network, sounds, there)

    def config(self, spec: InputSpec, labels: Sequence[str], feature_dim: int) -> dict[str, Any]:
        """config.json of a transformers model folder; the class it names opens it as the encoder."""
        names = {str(i): label for i, label in enumerate(labels)}
        return {
            **dict(self.settings),
            "model_type": self.name,
            "architectures": [self._class().__name__],
            "id2label": names,
            "label2id": {label: int(i) for i, label in names.items()},
        }

    def companions(self, spec: InputSpec) -> dict[str, dict[str, Any] | str]:
        """preprocessor_config.json, as transformers' feature extractors read it."""
        assert isinstance(spec, AudioSpec), "an encoder of sounds"
        if self.name == "whisper":
            extractor = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": spec.mels}
        else:
            extractor = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": spec.normalised}
        return {"preprocessor_config.json": {**extractor, "sampling_rate": spec.sample_rate_hz}}

    def native_names(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``tensors`` under the names of this version's encoder.

        Of a Whisper its decoder is left out; transformers 5 renamed layers of the others that files still use. What the
        network lacks keeps its name, what the file lacks is left out: load_into judges both.
        """
        if self.name == "whisper":
            bare = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
            beside = ("decoder.", "proj_out.")
            return {n.removeprefix("encoder."): t for n, t in bare.items() if not n.startswith(beside)}
        with quiet():
            loaded, report = self._class().from_pretrained(
                None, config=self._config(), state_dict=dict(tensors), output_loading_info=True
            )
        places = loaded.state_dict()
        # What was learnt on top of the encoder (quantisers of pretraining, heads for letters) is not missed here.
        absent = set(report["missing_keys"]) | {key[0] for key in report["mismatched_keys"]}
        return {name: tensor for name, tensor in places.items() if name not in absent}

    def _class(self) -> Any:
        if self.name == "whisper":
            from transformers.models.whisper.modeling_whisper import WhisperEncoder

            return WhisperEncoder
        from transformers import AutoModel

        return AutoModel._model_mapping[type(self._config())]

    def _config(self) -> Any:
        return config_of(self.name, self.settings)


def is_audio(config: Mapping[str, Any]) -> bool:
    return config.get("model_type") in KINDS


def architecture_from(config: Mapping[str, Any], *, where: str) -> AudioArchitecture:
    """The architecture that a config.json describes. Refused CF20 where it asks for code; DataError for other kinds."""
    kind = config.get("model_type")
    check_plain(config, where)
    if kind not in KINDS:
        raise DataError(f"{where}: model_type '{shown(kind)}' is not one that is read here ({listed(KINDS, 99)}).")
    settings = {k: v for k, v in config.items() if k not in DROPPED and not k.startswith("_")}
    if settings.get("add_adapter"):
        raise DataError(f"{where}: an adapter after the encoder (add_adapter) is not read here.")
    return AudioArchitecture(str(kind), tuple(sorted(settings.items())))


def opened(folder: Path) -> tuple[AudioArchitecture, AudioSpec]:
    """What a model folder describes, as transformers writes it."""
    where = shown(folder / "config.json")
    architecture = architecture_from(read_json(folder / "config.json"), where=where)
    beside = folder / "preprocessor_config.json"
    stated = read_json(beside) if beside.is_file() else {}
    stated = stated if isinstance(stated, Mapping) else {}
    return architecture, spec_of(architecture, stated, where=where)


def spec_of(architecture: AudioArchitecture, stated: Mapping[str, Any], *, where: str) -> AudioSpec:
    """stated: of preprocessor_config.json; {} where there is none, then as they are usually trained."""
    rate = stated.get("sampling_rate", 16_000)
    if rate != 16_000:
        raise DataError(f"{where}: a network for {shown(rate)} samples a second; those for 16000 are read here.")
    settings = dict(architecture.settings)
    if architecture.name == "whisper":
        longest_s = settings.get("max_source_positions", 1500) / _POSITIONS_A_SECOND - 1
        return AudioSpec(form="log-mel", longest_s=longest_s, mels=settings.get("num_mel_bins", 80))
    return AudioSpec(form="wave", longest_s=LONGEST_S, normalised=stated.get("do_normalize", True) is True)


# ------------------------------------------------------------------------------------------------------- the networks


def _mean(states: Tensor, is_there: Tensor) -> Tensor:
    """(B, D) over the positions that are there."""
    # In float32 whatever the network's precision: sums over hundreds of positions lose bits otherwise.
    weights = is_there.unsqueeze(-1).float()
    return ((states.float() * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)).to(states.dtype)


def _whisper(network: Any, frames: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """((B, P, D) states, (B, P) which positions are of the sounds); frames: (B, T · mels), two frames a position.

    WhisperEncoder.forward wants 30 seconds. Its parts are called here with silence where a sound has ended: in front of
    both convolutions zeros, as they see beyond the end anyway, and nothing that attention looks at.
    """
    import torch
    from torch.nn import functional

    mels = network.config.num_mel_bins
    dtype = network.conv1.weight.dtype
    is_frame = there.view(there.shape[0], -1, mels)[:, :, 0]
    x = frames.view(frames.shape[0], -1, mels).transpose(1, 2).to(dtype)
    x = functional.gelu(network.conv1(x)) * is_frame.unsqueeze(1).to(dtype)
    x = functional.gelu(network.conv2(x)).transpose(1, 2)
    is_there = is_frame[:, ::2]
    x = x + network.embed_positions.weight[: x.shape[1]]
    mask = torch.zeros_like(is_there, dtype=dtype).masked_fill(~is_there, torch.finfo(dtype).min)
    for layer in network.layers:
        x = layer(x, mask[:, None, None, :])
    silence = torch.zeros_like(is_there[:, :_POSITIONS_A_SECOND])
    return network.layer_norm(x), torch.cat([is_there[:, _POSITIONS_A_SECOND:], silence], dim=1)


def _of_samples(network: Any, wave: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """((B, P, D) states, (B, P) which positions the sounds reach); wave: (B, L) samples.

    Like the library's forward with a mask, but for the first convolution of networks that normalise over time
    (feat_extract_norm 'group'): there the silence that fills up a batch would change every answer.
    """
    x = wave.unsqueeze(1).to(network.feature_extractor.conv_layers[0].conv.weight.dtype)
    lengths = there.sum(dim=1)
    for number, layer in enumerate(network.feature_extractor.conv_layers):
        kernel, stride = layer.conv.kernel_size[0], layer.conv.stride[0]
        lengths = (lengths - kernel) // stride + 1
        over_time = number == 0 and network.config.feat_extract_norm == "group"
        x = _over_time(layer, x, lengths) if over_time else layer(x)
    is_there = _up_to(lengths, x)
    projected = network.feature_projection(x.transpose(1, 2))
    states = projected[0] if isinstance(projected, tuple) else projected
    states = states * is_there.unsqueeze(-1).to(states.dtype)
    return network.encoder(states, attention_mask=is_there).last_hidden_state, is_there


def _over_time(layer: Any, x: Tensor, lengths: Tensor) -> Tensor:
    """A layer that normalises each channel over time, by what the sounds themselves hold."""
    import torch

    x = layer.conv(x)
    weights = _up_to(lengths, x).unsqueeze(1).float()
    n = weights.sum(dim=2, keepdim=True).clamp(min=1)
    mean = (x.float() * weights).sum(dim=2, keepdim=True) / n
    variance = ((x.float() - mean).square() * weights).sum(dim=2, keepdim=True) / n
    norm = layer.layer_norm
    scaled = (x.float() - mean) * torch.rsqrt(variance + norm.eps)
    x = (scaled * norm.weight[:, None].float() + norm.bias[:, None].float()).to(x.dtype)
    return layer.activation(x)


def _up_to(lengths: Tensor, x: Tensor) -> Tensor:
    """(B, P) bool for (B, C, P)."""
    import torch

    return torch.arange(x.shape[2], device=x.device)[None, :] < lengths[:, None]
