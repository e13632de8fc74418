"""LP-FT as a careful user would write it in plain torch, for as many steps as fit the time.

Usage: python -m benchmarks.peers_lp_ft JOB.json ANSWER.json
"""

from __future__ import annotations

import copy
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

BATCH = 32
RATE, HEAD_RATE = 1e-4, 1e-4  # Kumar et al. 2022: after the probe, everything at a tenth of a fresh head's rate
DECAY = 0.05


def main(job_file: str, answer_file: str) -> None:
    import timm
    import torch
    from PIL import Image
    from safetensors.torch import load_file
    from sklearn.linear_model import LogisticRegression
    from torch import nn
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import v2 as t

    job = json.loads(Path(job_file).read_text())
    torch.manual_seed(job["seed"])
    bicubic = InterpolationMode.BICUBIC
    plain = t.Compose([t.Resize(256, bicubic), t.CenterCrop(224)])
    drawn = [t.RandomResizedCrop(224, scale=(0.5, 1.0), interpolation=bicubic)]
    drawn += [t.RandomHorizontalFlip()] if job["mirrored"] else []
    views = t.Compose(drawn)
    ready = t.Compose([t.PILToTensor(), t.ToDtype(torch.float32, scale=True), t.Normalize([0.5] * 3, [0.5] * 3)])

    def pictures(rows: list[list[Any]]) -> list[Image.Image]:
        return [Image.open(path).convert("RGB") for path, _ in rows]

    def stacked(images: list[Image.Image]) -> torch.Tensor:
        return torch.stack([ready(image) for image in images]).contiguous(memory_format=torch.channels_last)

    def embedded(network: nn.Module, images: list[Image.Image]) -> torch.Tensor:
        network.eval()
        with torch.inference_mode():
            return torch.cat(
                [network(stacked([plain(x) for x in images[i : i + 64]])) for i in range(0, len(images), 64)]
            )

    y = torch.tensor([k for _, k in job["train"]])
    network = timm.create_model(job["architecture"], pretrained=False, num_classes=0)
    network.load_state_dict(load_file(job["weights"]))
    network.to(memory_format=torch.channels_last)
    images = pictures(job["train"])
    features = embedded(network, images)
    center, spread = features.mean(0), features.std(0) + 1e-6
    probe = LogisticRegression(max_iter=2000, C=0.01).fit(((features - center) / spread).numpy(), y.numpy())
    head = nn.Linear(features.shape[1], len(probe.classes_))
    with torch.no_grad():
        weight, bias = torch.tensor(probe.coef_).float(), torch.tensor(probe.intercept_).float()
        if len(probe.classes_) == 2:
            head = nn.Linear(features.shape[1], 2)
            weight, bias = torch.cat([-weight / 2, weight / 2]), torch.cat([-bias / 2, bias / 2])
        head.weight.copy_(weight / spread)
        head.bias.copy_(bias - (weight / spread) @ center)

    def groups(body: nn.Module, top: nn.Module) -> list[dict]:
        parameters = list(body.parameters())
        return [
            {"params": [p for p in parameters if p.ndim > 1], "lr": RATE, "weight_decay": DECAY},
            {"params": [p for p in parameters if p.ndim <= 1], "lr": RATE, "weight_decay": 0.0},
            {"params": list(top.parameters()), "lr": HEAD_RATE, "weight_decay": 0.0},
        ]

    def learning(network: nn.Module) -> nn.Module:
        """In training mode but for BatchNorm, whose statistics a few hundred steps would only spoil."""
        network.train()
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return network

    def step(
        body: nn.Module, top: nn.Module, optimizer: Any, images: list[Image.Image], rows: list[int], bf16: bool
    ) -> None:
        inputs = stacked([views(images[i]) for i in rows])
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = nn.functional.cross_entropy(top(body(inputs)).float(), y[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], 1.0)
        optimizer.step()

    def step_seconds(bf16: bool) -> float:
        body, top = learning(copy.deepcopy(network)), copy.deepcopy(head)
        optimizer, times = torch.optim.AdamW(groups(body, top)), []
        for _ in range(4):
            start = time.monotonic()
            step(body, top, optimizer, images, list(range(min(BATCH, len(images)))), bf16)
            times.append(time.monotonic() - start)
        return min(times)

    costs = {bf16: step_seconds(bf16) for bf16 in (False, True)}
    bf16 = costs[True] < costs[False]
    began = time.monotonic()
    images = pictures(job["train"])  # decoding counts
    steps = max(1, int(0.97 * (job["seconds"] - (time.monotonic() - began)) / costs[bf16]))
    learning(network)
    optimizer = torch.optim.AdamW(groups(network, head))
    warm = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: (s + 1) / warm if s < warm else 0.5 * (1 + math.cos(math.pi * (s - warm) / max(1, steps - warm))),
    )
    order: list[int] = []
    done = 0
    while done < steps and time.monotonic() - began < job["seconds"]:
        if len(order) < min(BATCH, len(images)):
            order = torch.randperm(len(images)).tolist()
        rows, order = order[:BATCH], order[BATCH:]
        step(network, head, optimizer, images, rows, bf16)
        schedule.step()
        done += 1
    took = time.monotonic() - began

    with torch.inference_mode():
        answers = head(embedded(network, pictures(job["test"]))).argmax(1)
    words = f"{done} of {steps} steps of {BATCH}, {'bf16' if bf16 else 'float32'}"
    found = {"answers": probe.classes_[answers.numpy()].tolist(), "seconds": took, "words": words}
    Path(answer_file).write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
