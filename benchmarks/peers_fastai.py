"""fastai's `fine_tune(1)` on the rows of a job file. Runs in an environment of its own; prints a line for each epoch.

Usage: python -m benchmarks.peers_fastai JOB.json SECONDS_SINCE_1970_OF_THE_START
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main(job_file: str, started: float) -> None:
    import pandas as pd
    from fastai.vision.all import Callback, ImageDataLoaders, Normalize, Resize, accuracy, set_seed, vision_learner
    from safetensors.torch import load_file

    class Say(Callback):
        """After each epoch has been judged on the test rows, and after the recorder has noted it."""

        order = 60

        def after_epoch(self) -> None:
            done = {"epoch": len(told) + 1, "accuracy": float(self.recorder.values[-1][-1])}
            told.append(done | {"seconds": time.time() - started})
            print(json.dumps(told[-1]), flush=True)

    told: list[dict] = []
    job = json.loads(Path(job_file).read_text())
    set_seed(0)
    frame = pd.DataFrame(job["rows"], columns=["name", "label", "is_valid"])
    half = [0.5, 0.5, 0.5]
    loaders = ImageDataLoaders.from_df(
        frame,
        path="/",
        valid_col="is_valid",
        item_tfms=Resize(224),
        batch_tfms=Normalize.from_stats(half, half),
        bs=32,
        num_workers=job["workers"],
        device="cpu",
    )
    learner = vision_learner(loaders, job["architecture"], pretrained=False, metrics=accuracy, cbs=Say())
    learner.model[0].model.load_state_dict(load_file(job["weights"]))
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(1)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
