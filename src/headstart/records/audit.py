"""What was found in the user's data before anything was learnt from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Quarantined:
    """An example that is left out, and why. ``code`` is stable (IM26 …), ``reason`` is a sentence."""

    id: str
    code: str
    reason: str


@dataclass(frozen=True)
class Finding:
    """Something the user should know. severity: 'note' | 'warning' | 'stop'. ids: examples, a few at most."""

    code: str
    severity: str
    text: str
    ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cluster:
    """Examples that show the same picture. kind: 'exact' | 'near'. similarity: lowest cosine inside, if measured."""

    ids: tuple[str, ...]
    kind: str
    targets: tuple[str, ...]
    similarity: float | None = None


@dataclass(frozen=True)
class Leak:
    """One picture on two sides of the user's own split."""

    first: str
    second: str
    sides: tuple[str, str]
    kind: str  # "exact" | "near"


@dataclass(frozen=True)
class Audit:
    """The data in numbers.

    counts: usable examples by class (multi-label: by label; regression: empty).
    target: 'single-label' | 'multi-label' | 'regression'; target_reason says how that was told.
    sizes: (width, height, count), most frequent first.
    """

    origin: str
    rows: int
    usable: int
    target: str
    target_reason: str
    counts: Mapping[str, int]
    quarantined: tuple[Quarantined, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)  # junk by kind: {"hidden": 2, ...}
    clusters: Sequence[Cluster] = ()
    conflicts: Sequence[Cluster] = ()  # clusters with more than one target
    leaks: tuple[Leak, ...] = ()
    findings: tuple[Finding, ...] = ()
    sizes: tuple[tuple[int, int, int], ...] = ()
    modes: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)  # "rotated by EXIF": 214
    fingerprint: str = ""
    modality: str = "image"
    measures: Mapping[str, float] = field(default_factory=dict)  # "characters, middle": 74.0


@dataclass(frozen=True)
class SplitRecord:
    """Who learns, who judges. Row numbers refer to the dataset's order of ids.

    how: 'held-out' (test rows sealed), 'given' (the user's own split), or 'cross-validation' (too few for a test part:
    every usable row is predicted by models that did not see it).
    """

    how: str
    reason: str
    train: Sequence[str]
    test: Sequence[str]
    counts_train: Mapping[str, int] = field(default_factory=dict)
    counts_test: Mapping[str, int] = field(default_factory=dict)
    grouped_by: str | None = None
    clusters_kept_together: int = 0
    seed: int = 0
