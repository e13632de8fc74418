"""The loop from the tutorials: a frozen network, a linear layer, Adam, ten epochs. Prints a line for each epoch.

Usage: python -m benchmarks.peers_loop JOB.json SECONDS_SINCE_1970_OF_THE_START
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def main(job_file: str, started: float) -> None:
    import timm
    import torch
    from PIL import Image
    from safetensors.torch import load_file
    from torch import nn
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms as t

    job = json.loads(Path(job_file).read_text())
    torch.manual_seed(0)
    classes = sorted({label for _, label, _ in job["rows"]})
    bicubic = t.InterpolationMode.BICUBIC
    transform = t.Compose([t.Resize(256, bicubic), t.CenterCrop(224), t.ToTensor(), t.Normalize([0.5] * 3, [0.5] * 3)])

    class Pictures(Dataset[Any]):
        def __init__(self, test: bool) -> None:
            self.rows = [(path, classes.index(label)) for path, label, is_test in job["rows"] if is_test is test]

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, i: int) -> Any:
            path, label = self.rows[i]
            return transform(Image.open(path).convert("RGB")), label

    judged = Pictures(True)
    train = DataLoader(Pictures(False), batch_size=32, shuffle=True, num_workers=job["workers"])
    test = DataLoader(judged, batch_size=32, num_workers=job["workers"])
    backbone = timm.create_model(job["architecture"], pretrained=False, num_classes=0)
    backbone.load_state_dict(load_file(job["weights"]))
    backbone.eval()
    width: Any = backbone.num_features
    head = nn.Linear(width, len(classes))
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)

    for epoch in range(job["epochs"]):
        for images, labels in train:
            with torch.no_grad():
                features = backbone(images)
            loss = nn.functional.cross_entropy(head(features), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        right = 0
        with torch.no_grad():
            for images, labels in test:
                right += int((head(backbone(images)).argmax(1) == labels).sum())
        done = {"epoch": epoch + 1, "accuracy": right / len(judged), "seconds": time.time() - started}
        print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
