"""Who learns and who judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from headstart.base.errors import PlanError
from headstart.base.seeds import stream
from headstart.data.compact import counted, taken
from headstart.data.dataset import Dataset
from headstart.data.split import SealedRows, split
from headstart.records.audit import Audit, SplitRecord
from headstart.workflow.config import FitConfig
from headstart.workflow.judge import Known

VOICES = (
    "; who speaks was not said: where one speaker is heard in several sounds, keep them on one side with --group-by, "
    "or the score is that of voices heard before"
)
FEW = 300  # usable examples below which a fifth of them says too little: everything is cross-validated instead


def divide(
    known: Known, usable: Dataset, config: FitConfig, found: Audit
) -> tuple[np.ndarray, SealedRows, SplitRecord]:
    """Positions that learn, the sealed others, and the record of it; positions refer to ``known``."""
    given = usable.splits if any(usable.splits) else None
    n = len(known)
    few_shot = config.examples_per_class
    if given is None and n < FEW and few_shot is None:
        rows, test = np.arange(n), np.zeros(0, np.int64)
        how = "cross-validation"
        reason = (
            f"{n} usable examples are too few to set some aside: every example is predicted by heads that were chosen "
            "and fitted without it, and the saved model then learns from all of them"
        )
    else:
        rows, test = split(
            known.task.strata(known.y), known.groups, given=given, share=config.test_share, seed=config.seed
        )
        how = "given" if given is not None else "held-out"
        reason = (
            "the data came divided"
            if given is not None
            else f"{len(test)} of {n} examples are sealed until the end; duplicates and groups stay on one side"
        )
    if few_shot is not None:
        rows, reason = _few_of_each(known, rows, few_shot, config.seed, reason)
    if usable.modality == "audio" and given is None and config.data.group_by is None:
        reason += VOICES
    record = SplitRecord(
        how=how,
        reason=reason,
        train=taken(usable.ids, rows),
        test=taken(usable.ids, test),
        counts_train=counts(usable, rows),
        counts_test=counts(usable, test),
        grouped_by=config.data.group_by,
        clusters_kept_together=len(found.clusters),
        seed=config.seed,
    )
    return rows, SealedRows(test), record


def _few_of_each(known: Known, rows: np.ndarray, most: int, seed: int, reason: str) -> tuple[np.ndarray, str]:
    """Up to ``most`` of each class among the rows that may learn, drawn by the seed; the rest is in no part.

    The rows that judge are the same for every ``most``, so that runs with 1, 2, 4, … can be compared.
    """
    if known.task.name != "classification":
        raise PlanError(f"PL83 --examples-per-class counts classes; a {known.task.name} task has none. Leave it out.")
    order = stream(seed, "examples per class").permutation(rows)
    chosen = np.sort(np.concatenate([order[known.y[order] == k][:most] for k in range(known.task.outputs)]))
    left = len(rows) - len(chosen)
    return chosen, f"{reason}; of the others {len(chosen)} learn, at most {most} of each class, and {left} are left out"


def counts(dataset: Dataset, rows: Sequence[int] | np.ndarray) -> dict[str, int]:
    """Examples by class or label; empty for regression."""
    if dataset.targets is None or dataset.target_kind == "regression":
        return {}
    found: Counter[str] = Counter()
    for target, n in counted(taken(dataset.targets, np.asarray(rows, np.int64))).items():
        found.update(dict.fromkeys(target if isinstance(target, tuple) else [target], n))
    return dict(sorted(found.items()))
