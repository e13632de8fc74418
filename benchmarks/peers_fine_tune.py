"""fastai's `fine_tune` for as many epochs as fit the time. Runs in an environment of its own.

Usage: python -m benchmarks.peers_fine_tune JOB.json ANSWER.json
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def main(job_file: str, answer_file: str) -> None:
    import pandas as pd
    from fastai.vision.all import (
        Callback,
        CancelFitException,
        CancelValidException,
        ImageDataLoaders,
        Normalize,
        Resize,
        aug_transforms,
        set_seed,
        vision_learner,
    )
    from safetensors.torch import load_file

    job = json.loads(Path(job_file).read_text())
    frame = pd.DataFrame([[path, f"{k:05d}", False] for path, k in job["train"]], columns=["name", "label", "valid"])
    # fastai wants a validation part; every image learns all the same, and none is validated.
    frame = pd.concat([frame, frame.groupby("label").head(1).assign(valid=True)])
    half = [0.5, 0.5, 0.5]

    class OnlyTrain(Callback):
        def before_validate(self) -> None:
            raise CancelValidException

    class InTime(Callback):
        """Ends a training that takes longer than its epochs promised."""

        def after_batch(self) -> None:
            if time.monotonic() - began > 1.1 * job["seconds"]:
                raise CancelFitException

    def learner(workers: int) -> Any:
        set_seed(job["seed"])
        loaders = ImageDataLoaders.from_df(
            frame,
            path="/",
            valid_col="valid",
            item_tfms=Resize(224),
            batch_tfms=[*aug_transforms(do_flip=job["mirrored"]), Normalize.from_stats(half, half)],
            bs=min(32, len(job["train"])),
            num_workers=workers,
            device="cpu",
        )
        made = vision_learner(loaders, job["architecture"], pretrained=False)
        made.model[0].model.load_state_dict(load_file(job["weights"]))
        return made

    def seconds(workers: int, freeze: bool) -> float:
        one = learner(workers)
        one.freeze() if freeze else one.unfreeze()
        start = time.monotonic()
        with one.no_bar(), one.no_logging():
            one.fit(1, 1e-5, cbs=OnlyTrain())
        return time.monotonic() - start

    frozen = {workers: seconds(workers, freeze=True) for workers in (0, job["workers"])}
    workers = min(frozen, key=lambda w: frozen[w])
    epochs = max(1, int((job["seconds"] - frozen[workers]) / seconds(workers, freeze=False)))
    tuned = learner(workers)
    began = time.monotonic()
    with tuned.no_bar(), tuned.no_logging():
        tuned.fine_tune(epochs, cbs=[OnlyTrain(), InTime()])
    took = time.monotonic() - began
    tests = tuned.dls.test_dl([path for path, _ in job["test"]], num_workers=workers)
    with tuned.no_bar(), tuned.no_logging():
        scores, _ = tuned.get_preds(dl=tests)
    answers = [int(tuned.dls.vocab[i]) for i in scores.argmax(1).tolist()]
    words = f"fine_tune({epochs})"
    Path(answer_file).write_text(json.dumps({"answers": answers, "seconds": took, "words": words}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
