"""SentenceTransformer's encode, in float32, several times over. Runs in an environment of its own.

Usage: python -m benchmarks.peers_encode JOB.json ANSWER.npz
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main(job_file: str, answer_file: str) -> None:
    import numpy as np
    from sentence_transformers import SentenceTransformer, models

    job = json.loads(Path(job_file).read_text())
    encoder = models.Transformer(job["network"], max_seq_length=job["window"])
    body = SentenceTransformer(modules=[encoder, models.Pooling(job["width"], pooling_mode="mean")], device="cpu")
    body.encode(job["texts"][:64])
    took = []
    for _ in range(job["rounds"]):
        began = time.perf_counter()
        features = body.encode(job["texts"])
        took.append(time.perf_counter() - began)
    np.savez(answer_file, features=features, seconds=took)


if __name__ == "__main__":
    main(*sys.argv[1:])
