"""SetFit's own package on a few texts, within the time. Runs in an environment of its own.

Usage: python -m benchmarks.peers_setfit JOB.json ANSWER.json
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ITERATIONS, BATCH = 20, 16  # of its paper and README: pairs of each text, and of a step
TIMED = 3  # steps


def main(job_file: str, answer_file: str) -> None:
    import numpy as np

    job = json.loads(Path(job_file).read_text())
    texts, labels = job["train"]["texts"], job["train"]["labels"]
    usual = -(-2 * ITERATIONS * len(texts) // BATCH)
    first, second = (_trained(job, steps) for steps in (1, 1 + TIMED))
    step = (second[1] - first[1]) / TIMED
    steps = max(1, min(usual, int(job["seconds"] / max(step, 1e-6))))
    model, took = _trained(job, steps)
    said = np.asarray(model.predict(job["test"], show_progress_bar=False)).tolist()
    words = f"{steps} of {usual} steps of {BATCH} pairs, {len(texts)} texts of {len(set(labels))} classes"
    Path(answer_file).write_text(json.dumps({"answers": said, "seconds": took, "words": words}))


def _trained(job: dict[str, Any], steps: int) -> tuple[Any, float]:
    """(its model after so many steps and the fit of its head, seconds of both)."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, models
    from setfit import SetFitModel, Trainer, TrainingArguments
    from sklearn.linear_model import LogisticRegression

    encoder = models.Transformer(job["network"], max_seq_length=job["window"])
    body = SentenceTransformer(modules=[encoder, models.Pooling(job["width"], pooling_mode="mean")], device="cpu")
    # The head of its README, which meets features that are not of length one, as its models of E5 and MiniLM have it.
    model = SetFitModel(model_body=body, model_head=LogisticRegression(max_iter=1000), labels=None)
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            batch_size=BATCH,
            num_epochs=1,
            num_iterations=ITERATIONS,
            max_steps=steps,
            seed=job["seed"],
            report_to="none",
            save_strategy="no",
        )
        data = Dataset.from_dict({"text": job["train"]["texts"], "label": job["train"]["labels"]})
        trainer = Trainer(model=model, args=settings, train_dataset=data)
        began = time.monotonic()
        trainer.train()
        return model, time.monotonic() - began


if __name__ == "__main__":
    main(*sys.argv[1:])
