"""A toy network and pictures to climb with; run as a program, it climbs until it is killed.

Usage: python -m tests.workflow.climbing FOLDER THREADS
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from headstart.backbones.catalogue import catalogue
from headstart.data.open import open_dataset
from headstart.features.border import Border
from headstart.inputs.decoded import decode_pictures
from headstart.tasks.classification import Classification
from headstart.training.loop import LoopSettings
from headstart.workflow.judge import Known
from headstart.workflow.tuning import Ground

RUNNER = "torch-f32"
LABELS = ("diagonal", "level", "upright")


def paint(folder, per_class=20):
    """Stripes in three directions under noise."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(32), np.arange(32))
    for label, axis in zip(LABELS, (x + y, y, x), strict=True):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            stripes = 60 * np.sign(np.sin(axis / rng.uniform(1.0, 2.0) + rng.uniform(0, 6)))
            pixels = (128 + stripes[..., None] + rng.normal(0, 60, (32, 32, 3))).clip(0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{i:03}.png")
    return folder


def ground_of(folder: Path) -> Ground:
    dataset, backbone = open_dataset(paint(folder / "pictures")), catalogue.load("toy/conv")
    # The probe sees features that say nothing, so that any training of the network is worth a rung.
    X = np.random.default_rng(1).normal(size=(len(dataset), backbone.card.feature_dim)).astype(np.float32)
    task = Classification.from_targets(dataset.targets)
    ids = np.asarray(dataset.ids, object)
    return Ground(
        backbone=backbone,
        known=Known(X, task.encode(dataset.targets), np.arange(len(ids)), ids, task),
        examples=decode_pictures(dataset, backbone.spec),
        runner=RUNNER,
        device="cpu",
        settings=LoopSettings(),
        border=Border(folder / "border"),
        seed=0,
    )


def main(folder: str, threads: str) -> None:
    import torch
    from tests.workflow.test_workflow_ladder import WISH

    from headstart.workflow.clock import Deadline
    from headstart.workflow.diary import Diary
    from headstart.workflow.judge import Rules, choose_head
    from headstart.workflow.ladder import climb

    torch.set_num_threads(int(threads))  # other numbers of threads add up in another order
    with tempfile.TemporaryDirectory() as own:
        ground = ground_of(Path(own))
        chosen = choose_head(ground.known, Rules(3, None, "none", 0, ("ridge",)))
        print("climbing", flush=True)
        climb(ground, np.arange(len(ground.known)), chosen, WISH, Deadline(None), Diary(Path(folder), "climb"))


if __name__ == "__main__":
    main(*sys.argv[1:])
