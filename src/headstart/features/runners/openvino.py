"""OpenVINO on a CPU: the torch module is converted in memory; nothing is exported by hand.

On 2 cores it ran EfficientNet-Lite0, ResNet-50 and ViT-S 11, 33 and 5 times faster than eager float32 (ASSETS).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from headstart.base.optional import require
from headstart.features.feeds import feed_for
from headstart.features.runners.runner import Done, padded
from headstart.inputs.prepared import stacked

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone

BATCH = 16  # with two streams the fastest of 8, 16 and 32 for EfficientNet-Lite0 and ViT-S, level for ResNet-50
TOKENS_BATCH = 32


@dataclass(frozen=True)
class Converted:
    """A network as an OpenVINO model from a batch of prepared examples to features; both precisions share it.

    batch: rows of one submission. Pictures come as (batch, S, S, 3) uint8, always of that shape; token numbers in any.

    OpenVINO's constants share memory with the torch tensors, so these must live as long as the model does.
    """

    model: Any
    owners: tuple[Any, ...]  # the backbone, and the decoder that OpenVINO read it through
    batch: int


class OpenVinoRunner:
    """Batches go to as many streams as OpenVINO finds best; ``done`` is called from its threads.

    precision: 'f32' or 'bf16' (only where the CPU has bfloat16 products, see has_bf16).
    """

    def __init__(self, converted: Converted, *, precision: Literal["f32", "bf16"]) -> None:
        openvino = require("openvino", extra="cpu")
        self.name = f"openvino-{precision}"
        self._converted = converted
        self.batch = converted.batch
        compiled = core().compile_model(
            converted.model, "CPU", {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "THROUGHPUT"}
        )
        self._queue = openvino.AsyncInferQueue(compiled)
        self._queue.set_callback(_deliver)

    def submit(self, batch: np.ndarray, done: Done) -> None:
        self._queue.start_async({0: padded(batch, self.batch)}, (len(batch), done))

    def finish(self) -> None:
        self._queue.wait_all()


def _deliver(request: Any, userdata: tuple[int, Done]) -> None:
    rows, done = userdata
    done(np.array(request.get_output_tensor().data[:rows], dtype=np.float32))


def convert(backbone: Backbone, *, floats: bool = False) -> Converted:
    """The network from prepared examples to features, ready to be compiled.

    floats: pixels arrive as float32 on the scale of 0 to 255, beyond which they may go, and not as uint8.
    """
    import torch

    require("openvino", extra="cpu")
    from openvino import PartialShape, Type
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    plain = feed_for(backbone).nothing().array
    example = torch.from_numpy(stacked([plain]))
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's advice about Python branches is not for users
        traced = torch.jit.trace(backbone.from_batch().eval(), example, check_trace=False)
        # The frontend itself, not openvino.convert_model: its further passes are repeated by compile_model, and took
        # 1.4 of 2.0 s for EfficientNet-Lite0.
        frontend = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced, example_input=example)
        model = frontend.convert(frontend.load(decoder))
    given = model.inputs[0].get_node()
    given.set_element_type(Type.f32 if floats else Type(plain.dtype))
    given.set_partial_shape(PartialShape([-1, -1] if plain.ndim == 1 else [BATCH, *plain.shape]))
    model.validate_nodes_and_infer_types()
    return Converted(model, (backbone, decoder), TOKENS_BATCH if plain.ndim == 1 else BATCH)


@cache
def core() -> Any:
    """The one OpenVINO core of this process.

    Cores that come and go leave the thread with a signal stack that is gone: the next Ctrl-C then ended the process
    with a segmentation fault instead of KeyboardInterrupt.
    """
    return require("openvino", extra="cpu").Core()


def has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 natively (AVX512-BF16 or AMX)."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
