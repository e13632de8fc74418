"""The ways to run a frozen network that anyone could write down, measured alone on tensors in memory.

Written without headstart's runners, so that those can be judged by these; only what counts as equal features is theirs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.figure import seconds

if TYPE_CHECKING:
    import torch
    from torch import nn

Run = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Setting:
    """name; run: all images → (N, D) float32.

    cosine: lowest, to float32 features of the same 32 images.  accepted: whether headstart would use such features.
    """

    name: str
    run: Run
    cosine: float
    accepted: bool

    def images_per_s(self, n: int) -> float:
        return n / seconds(self.run)


def settings(network: nn.Module, images: torch.Tensor) -> list[Setting]:
    """Every setting, warmed up. images: (N, 3, S, S) float32, normalised; N a multiple of 32."""
    from headstart.features.choose import agreement_of

    made: list[Setting] = []
    reference: np.ndarray | None = None
    for name, run, few in (*_torch(network, images), *_openvino(network, images)):
        features = few()
        reference = features if reference is None else reference  # float32, channels first, comes first
        agreement = agreement_of(features, reference)
        made.append(Setting(name, run, agreement.cosine, agreement.holds))
    return made


def _torch(network: nn.Module, images: torch.Tensor) -> Iterator[tuple[str, Run, Run]]:
    """(name, run on all, run on the first 32) of the eager settings."""
    import copy

    import torch

    first, last = torch.contiguous_format, torch.channels_last
    for name, dtype, layout, autocast in (
        ("torch float32 NCHW", torch.float32, first, False),
        ("torch float32 NHWC", torch.float32, last, False),
        ("torch bfloat16 NCHW", torch.bfloat16, first, False),
        ("torch bfloat16 NHWC", torch.bfloat16, last, False),
        ("torch autocast bfloat16 NHWC", torch.float32, last, True),
    ):
        module = copy.deepcopy(network).to(dtype=dtype).to(memory_format=layout).eval()
        batches = [b.to(dtype=dtype).contiguous(memory_format=layout) for b in images.split(32)]
        yield name, _eager(module, batches, autocast), _eager(module, batches[:1], autocast)


def _eager(module: nn.Module, batches: list[torch.Tensor], autocast: bool) -> Run:
    import torch

    def run() -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return torch.cat([module(b).float() for b in batches]).numpy()

    return run


def _openvino(network: nn.Module, images: torch.Tensor) -> Iterator[tuple[str, Run, Run]]:
    """Both precisions, each as one big batch at a time and as several streams; nothing where OpenVINO is missing."""
    try:
        import openvino
    except ImportError:
        return
    import torch

    core = _core()
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = openvino.convert_model(network, example_input=images[:1])
    for precision in ("f32", "bf16"):
        for hint, batch in (("LATENCY", 32), ("THROUGHPUT", 16)):
            some = model.clone()
            some.reshape([batch, *images.shape[1:]])
            options = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": hint}
            compiled = core.compile_model(some, "CPU", options)
            batches = [np.ascontiguousarray(b.numpy()) for b in images.split(batch)]
            name = f"OpenVINO {precision}, {hint.lower()}, batch {batch}"
            yield name, _queue(openvino, compiled, batches), _queue(openvino, compiled, batches[: 32 // batch])


@cache
def _core() -> Any:
    """One for the process. Each Core gives this thread a signal stack and takes it away when it goes; where several
    overlap, the thread is left with a stack that is gone, and the next signal ends it (seen with OpenVINO 2026.4)."""
    import openvino

    return openvino.Core()


def _queue(openvino: Any, compiled: Any, batches: list[np.ndarray]) -> Run:
    queue = openvino.AsyncInferQueue(compiled)
    parts: dict[int, np.ndarray] = {}
    queue.set_callback(lambda request, at: parts.__setitem__(at, np.array(request.get_output_tensor().data)))

    def run() -> np.ndarray:
        parts.clear()
        for at, batch in enumerate(batches):
            queue.start_async({0: batch}, at)
        queue.wait_all()
        return np.concatenate([parts[at] for at in sorted(parts)])

    return run
