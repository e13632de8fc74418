"""What passed through some modules in the training forward, so that penalties need no forward of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from headstart.adapt.model import AdaptedModel
from headstart.adapt.plan import HEAD


class Watch:
    """What watched modules last took or gave in a forward of ``module`` that can be learnt from.

    Validation between two steps runs without gradients and leaves no trace here. A new forward begins with an empty
    watch: one that ran out of memory half-way must not keep its tensors from the next, smaller one.

    precision: that autocast gave this forward, None without autocast.
    """

    def __init__(self, module: nn.Module, hooks: ExitStack) -> None:
        self.precision: torch.dtype | None = None
        self._seen: dict[str, Tensor] = {}
        self._always = False
        self._hooks = hooks
        hooks.callback(module.register_forward_pre_hook(self._begin).remove)

    def watch_input_of(self, name: str, module: nn.Module) -> None:
        def keep(_: nn.Module, args: tuple[Any, ...]) -> None:
            self._keep(name, args[0])

        self._hooks.callback(module.register_forward_pre_hook(keep).remove)

    def watch_output_of(self, name: str, module: nn.Module) -> None:
        def keep(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            # Blocks of some transformers networks give a tuple, the hidden states first.
            self._keep(name, output[0] if isinstance(output, tuple | list) else output)

        self._hooks.callback(module.register_forward_hook(keep).remove)

    def taken(self) -> dict[str, Tensor]:
        """All that was seen, by name, and forgotten with this call: a graph must not outlive its step."""
        seen, self._seen = self._seen, {}
        assert seen, "a penalty was asked before a training forward, or twice after one"
        return seen

    @contextmanager
    def without_gradients(self) -> Iterator[None]:
        """What runs inside is seen too."""
        self._always = True
        try:
            yield
        finally:
            self._always = False

    def _begin(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if self._always or torch.is_grad_enabled():
            self._seen = {}
            kind = args[0].device.type
            self.precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None

    def _keep(self, name: str, value: Tensor) -> None:
        if self._always or torch.is_grad_enabled():
            self._seen[name] = value


def watched_features(model: AdaptedModel, module: nn.Module, hooks: ExitStack) -> Watch:
    """Watches the (b, D) features that go into the head, under the name HEAD."""
    features = Watch(module, hooks)
    features.watch_input_of(HEAD, model.head)
    return features


def watched_outputs(model: AdaptedModel, module: nn.Module, stages: Sequence[str], hooks: ExitStack) -> Watch:
    """Watches what comes out of each stage, by its name."""
    outputs = Watch(module, hooks)
    for stage in stages:
        outputs.watch_output_of(stage, _last_module(model, stage))
    return outputs


def _last_module(model: AdaptedModel, stage: str) -> nn.Module:
    """The last module of those that make up a stage; bare parameters (a class token) are none."""
    network = model.backbone.network
    prefixes = next(s.prefixes for s in model.backbone.stages if s.name == stage)
    parameters = {name for name, _ in network.named_parameters()}
    return network.get_submodule([p for p in prefixes if p not in parameters][-1])
