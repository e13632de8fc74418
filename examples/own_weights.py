"""A model on top of your own checkpoint, and what the record says about it.

    python examples/own_weights.py BACKBONE WEIGHTS FOLDER

Without arguments it takes my-weights.pth and photos/ in the working folder, as the tests have them.
"""

from __future__ import annotations

import sys

import headstart as hs

backbone, weights, folder = sys.argv[1:4] or ("toy/conv", "my-weights.pth", "photos")

if __name__ == "__main__":
    config = hs.FitConfig(backbone=backbone, weights=weights, random_baseline="off")
    run = hs.fit(folder, out="runs/own-weights", config=config)
    loaded = run.record.backbone
    print(f"{loaded.matched} of {loaded.expected} tensors from {loaded.weights_file} ({loaded.weights_sha256[:12]}…)")
    for note in loaded.notes:
        print(f"  {note}")
    print(run.record.features.preprocessing_check)
    print(run)
