"""Resemblyzer's encoder of voices: three LSTMs on a mel spectrogram, trained so that one speaker's sounds lie together.

Generalised end-to-end loss, Wan et al. 2018 (arXiv:1710.10467). The package is never imported: it wants librosa and
webrtcvad. Its embed_utterance is done here and in inputs.audio; its preprocess_wav but for one step, long silences are
not cut out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart.base.errors import DataError
from headstart.inputs.audio import PART, PART_STEP
from headstart.inputs.spec import AudioSpec, InputSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

KIND = "voice-lstm"
MELS, WIDTH, LAYERS = 40, 256, 3


@dataclass(frozen=True)
class VoiceArchitecture:
    """The one network of resemblyzer."""

    @property
    def name(self) -> str:
        return KIND

    @property
    def opens_with(self) -> str:
        return "headstart"

    def build(self, classes: int) -> nn.Module:
        """With classes, a linear layer called 'classifier' stands beside it and is used by nobody."""
        from torch import nn

        network = nn.Module()
        # One module for each layer, and not one LSTM of three: then each is a stage that learns at a rate of its own.
        network.layers = nn.ModuleList(nn.LSTM(WIDTH if at else MELS, WIDTH, batch_first=True) for at in range(LAYERS))
        network.linear = nn.Linear(WIDTH, WIDTH)
        if classes:
            network.classifier = nn.Linear(WIDTH, classes)
        return network

    def features(self, network: nn.Module, sounds: Tensor) -> Tensor:
        """(B, 256) of length 1: the mean over the parts of a sound, each of them at least 0 and of length 1.

        sounds: (B, T · 40) as inputs.audio prepares them, NaN where one has ended: a part that ends there counts
        nothing, so how far the batch is filled up changes no answer.
        """
        import torch
        from torch.nn import functional

        net: Any = network
        parts = sounds.view(sounds.shape[0], -1, MELS).unfold(1, PART, PART_STEP)  # (B, P, MELS, PART)
        is_there = ~parts[:, :, 0, -1].isnan()
        x = torch.where(parts.isnan(), torch.zeros_like(parts), parts).flatten(0, 1).transpose(1, 2)
        x = x.to(net.linear.weight.dtype)
        for layer in net.layers:
            x = layer(x)[0]
        found = functional.normalize(functional.relu(net.linear(x[:, -1])), dim=1)
        found = found.view(sounds.shape[0], -1, WIDTH) * is_there.unsqueeze(-1).to(found.dtype)
        return functional.normalize(found.sum(dim=1), dim=1)

    def config(self, spec: InputSpec, labels: Sequence[str], feature_dim: int) -> dict[str, Any]:
        return {"kind": KIND, "label_names": list(labels)}

    def companions(self, spec: InputSpec) -> dict[str, dict[str, Any] | str]:
        return {}

    def native_names(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """From the names of resemblyzer's VoiceEncoder; what its loss alone used (similarity_…) is left out."""
        return {
            re.sub(r"^lstm\.(\w+)_l(\d+)$", r"layers.\2.\1_l0", name): tensor
            for name, tensor in tensors.items()
            if not name.startswith("similarity_")
        }


def architecture_for(spec: AudioSpec, *, where: str) -> VoiceArchitecture:
    """The architecture of a saved network; DataError where it is fed with something else."""
    if spec.form != "mel" or spec.mels != MELS:
        raise DataError(
            f"{where}: a network of the kind '{KIND}' is fed with 'mel' of {MELS} bands, not '{spec.form}'."
        )
    return VoiceArchitecture()
