"""headstart inside scikit-learn: embeddings in a pipeline of your own, beside the estimator as it is.

    python examples/scikit_learn.py [FOLDER] [BACKBONE]

FOLDER holds one sub-folder for each class.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import headstart as hs

folder = sys.argv[1] if len(sys.argv) > 1 else "photos"
backbone = sys.argv[2] if len(sys.argv) > 2 else "toy/conv"

if __name__ == "__main__":
    paths = sorted(str(p) for p in Path(folder).rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    labels = np.array([Path(p).relative_to(folder).parts[0] for p in paths])

    estimator = hs.TransferClassifier(backbone=backbone, random_state=0)
    scores = cross_val_score(estimator, paths, labels, cv=5)
    print(f"TransferClassifier      {scores.mean():.3f} ± {scores.std(ddof=1):.3f} over 5 folds")

    embeddings = estimator.fit(paths, labels).transform(paths)  # from the cache: nothing runs again
    machine = make_pipeline(StandardScaler(), SVC(random_state=0))
    scores = cross_val_score(machine, embeddings, labels, cv=5)
    print(f"SVC on the embeddings   {scores.mean():.3f} ± {scores.std(ddof=1):.3f} over 5 folds")
