"""What the architectures share that stand around another: listened to, restructured, or grown."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from headstart.backbones.backbone import Architecture


@dataclass(frozen=True)
class Around:
    """An architecture around ``inner``, a library's or one of ours. Headstart alone opens what is saved of it."""

    inner: Architecture

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def opens_with(self) -> str:
        return "headstart"

    def companions(self, spec: Any) -> dict[str, dict[str, Any]]:
        return {}


@contextmanager
def listening(network: nn.Module, modules: Collection[str]) -> Iterator[dict[str, Tensor]]:
    """Module name → what it gave in the last forward pass."""
    heard: dict[str, Tensor] = {}

    def listen(name: str) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            # A copy: what comes next may work in place, as DenseNet's last ReLU does.
            heard[name] = (output[0] if isinstance(output, tuple) else output).clone()

        return network.get_submodule(name).register_forward_hook(hook)

    hooks = [listen(name) for name in sorted(modules)]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def by_place(output: Tensor) -> tuple[Tensor, int]:
    """(a map (B, C, H, W) or (B, H, W, C) with its places in one axis, that axis); tokens (B, N, C) as they are."""
    if output.dim() == 3:
        return output, 1
    # Swin and its like keep channels last. Maps of square pictures are square, so the odd one out is the channels.
    last = output.shape[1] == output.shape[2] != output.shape[3]
    return (output.flatten(1, 2), 1) if last else (output.flatten(2), 2)
