"""The default rates of all strategies. This is the one place to tune them.

They are peak rates for Adam and AdamW with a head that starts from the probe; options.py turns them into those of SGD.
Sources: METHODS B.3 (full fine-tuning 1e-4 with a decay of 0.75 a stage; LoRA 1e-3 to 5e-3; biases and normalisation
1e-3 to 1e-2; a fresh head ten times the network). Measured so far, on frozen features of EfficientNet-Lite0 with 60
images of Fashion-MNIST and of textiles: the head is best near 1e-3 with AdamW and near 0.01 with SGD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headstart.adapt.plan import HEAD


@dataclass(frozen=True)
class Rates:
    """head: rate of the head.  top: of the topmost stage that learns.  decay: of each stage over the one above it."""

    head: float
    top: float
    decay: float = 1.0

    def over(self, stages: Sequence[str]) -> dict[str, float]:
        """Rates of the learning ``stages`` (input side first) and the head: top · decay^d, d stages below the top."""
        last = len(stages) - 1
        return {stage: self.top * self.decay ** (last - i) for i, stage in enumerate(stages)} | {HEAD: self.head}


# The head of LP-FT has been through a phase of its own, so afterwards it moves no faster than the network. Where all
# begin together the head must be able to run ahead. One rate for all of the network, as in its paper: in 3 minutes,
# 95 steps, textiles came to 0.896 with it and to 0.830 with a decay of 0.75 a stage, digits to 0.937 and 0.943.
PROBE_HEAD = 1e-3
LP_FT = Rates(head=1e-4, top=1e-4)
FULL = Rates(head=1e-3, top=1e-4, decay=0.75)
GRADUAL = Rates(head=1e-3, top=2e-4, decay=1 / 2.6)  # of each group of stages over the one above it
# Test accuracy of EfficientNet-Lite0 after 10 epochs at a third of these rates, at these, and at three times them:
# digits 0.942, 0.959, 0.971; fashion –, 0.808, 0.772; textile –, 0.899, 0.500; stamps –, 0.720, 0.694. The ladder
# screens around them.
LAST_STAGES = Rates(head=3e-3, top=6e-4)
BIAS = Rates(head=1e-3, top=2e-3)
LORA = Rates(head=1e-3, top=2e-3)
ADAPTER = Rates(head=1e-3, top=1e-3)
SETFIT = Rates(head=1e-3, top=2e-5)  # the rate of sentence-transformers, for texts alone
SURGICAL = Rates(head=1e-3, top=2e-4)
