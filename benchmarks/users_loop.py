"""Features as people write it: a DataLoader, torchvision's transforms, the network in float32. Prints images a second.

Usage: python -m benchmarks.users_loop NETWORK WEIGHTS_FILE_OR_EMPTY IMAGES
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.figure import seconds
from benchmarks.material import paths

if TYPE_CHECKING:
    from headstart.inputs.spec import ImageSpec


class Pictures:
    """What a user writes for torch's DataLoader."""

    def __init__(self, files: list[Path], spec: ImageSpec) -> None:
        from torchvision import transforms as t

        mode = t.InterpolationMode(spec.interpolation)
        self.files = files
        self.transform = t.Compose(
            [t.Resize(spec.resized, mode), t.CenterCrop(spec.size), t.ToTensor(), t.Normalize(spec.mean, spec.std)]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> Any:
        from PIL import Image

        with Image.open(self.files[i]) as image:
            return self.transform(image.convert("RGB"))


def main(network: str, weights: str, images: int) -> float:
    """Images a second, from the end of the first batch on."""
    import torch
    from torch.utils.data import DataLoader

    from headstart.backbones.catalogue import catalogue

    backbone = catalogue.load(network, weights=Path(weights) if weights else None)
    pictures: Any = Pictures(paths(images), backbone.spec)
    loader = iter(DataLoader(pictures, batch_size=32, num_workers=os.cpu_count() or 1))
    with torch.inference_mode():
        found = [backbone(next(loader))]
        took = seconds(lambda: found.extend(backbone(batch) for batch in loader))
    return sum(len(f) for f in found[1:]) / took


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
