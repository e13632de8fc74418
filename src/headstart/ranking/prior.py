"""How networks fared elsewhere: a static prior, which knows nothing of the data at hand.

A network's z is its fine-tuned accuracy in standard deviations from the mean of its table, averaged over the data sets
of the tables it stands in. ``prior.json`` holds them, made from ``tables/`` by ``public_prior()``; a test compares the
two. Among networks that one laboratory fine-tuned it orders them better than any published score does (METHODS A.0);
carried to another laboratory's results it loses much of that (``benchmarks/replay.py``), and it knows nothing of data
unlike all of these. That is what the probe is for, and the user's own runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files

import numpy as np

from headstart.base.config import from_dict
from headstart.base.errors import DataError, shown
from headstart.base.files import parse_json
from headstart.ranking.tables import TABLES, Replayed, replayed, source_accuracy

PSEUDO_COUNT = 5.0  # data sets that the prior is worth against the user's own


@dataclass(frozen=True)
class Standing:
    """z: mean over the data sets.  sets: how many."""

    z: float
    sets: float


@dataclass(frozen=True)
class FromSource:
    """z ≈ slope·(top-1 − middle) over the networks with both; error: standard deviation of what is left."""

    middle: float
    slope: float
    error: float
    networks: int


@dataclass(frozen=True)
class Prior:
    """standings: by network.  source: how z is guessed from source-task accuracy where a network has no standing.

    spread: the standard deviation of the networks' accuracies on a typical data set, in per cent points: what one z is
    worth.  aliases: other names of the same weights.
    """

    standings: Mapping[str, Standing]
    source_accuracy: Mapping[str, float]
    source: FromSource
    spread: float
    aliases: Mapping[str, str] = field(default_factory=dict)

    def z(self, model: str) -> float:
        """Of the network itself, else guessed from its ImageNet accuracy, else NaN."""
        standing = self.standing(model)
        if standing is not None:
            return standing.z
        top1 = self.accuracy(model)
        return self.source.slope * (top1 - self.source.middle)

    def standing(self, model: str) -> Standing | None:
        return self.standings.get(model) or self.standings.get(self.aliases.get(model, ""))

    def accuracy(self, model: str) -> float:
        """ImageNet top-1 in per cent, NaN where it is not known."""
        name = model if model in self.source_accuracy else self.aliases.get(model, "")
        return self.source_accuracy.get(name, float("nan"))

    def array(self, models: Sequence[str]) -> np.ndarray:
        """(M,) z of each network."""
        return np.array([self.z(m) for m in models])


@dataclass(frozen=True)
class Finished:
    """One of the user's own data sets. accuracy: by network, in per cent, all fine-tuned and judged in the same way."""

    data: str
    accuracy: Mapping[str, float]


# The same weights under another name: torchvision's first ones are timm's *.tv_in1k, and often still the default.
ALIASES = {
    "timm/inception_v3.tv_in1k": "torchvision/inception_v3:IMAGENET1K_V1",
    "torchvision/inception_v3": "torchvision/inception_v3:IMAGENET1K_V1",
    "torchvision/googlenet": "torchvision/googlenet:IMAGENET1K_V1",
    "torchvision/densenet121": "torchvision/densenet121:IMAGENET1K_V1",
    "timm/resnet34.tv_in1k": "torchvision/resnet34:IMAGENET1K_V1",
    "timm/resnet50.tv_in1k": "torchvision/resnet50:IMAGENET1K_V1",
    "timm/resnet101.tv_in1k": "torchvision/resnet101:IMAGENET1K_V1",
    "timm/resnet152.tv_in1k": "torchvision/resnet152:IMAGENET1K_V1",
    "timm/densenet121.tv_in1k": "torchvision/densenet121:IMAGENET1K_V1",
    "timm/densenet169.tv_in1k": "torchvision/densenet169:IMAGENET1K_V1",
    "timm/densenet201.tv_in1k": "torchvision/densenet201:IMAGENET1K_V1",
}


def shipped_prior() -> Prior:
    """The one in ``prior.json``."""
    text = files("headstart.ranking").joinpath("prior.json").read_text(encoding="utf-8")
    return from_dict(Prior, parse_json(text, where="ranking/prior.json")["prior"], where="ranking/prior.json")


def public_prior(*, tables: Iterable[str] = TABLES, without: str | None = None) -> Prior:
    """From the tables; without: leave out this data set, in whatever table it stands, as a fair replay must."""
    sets = [s for table in tables for s in replayed(table) if s.data != without]
    standings = _standings(sets)
    accuracy = source_accuracy()
    spread = float(np.median([s.finetuned.std() for s in sets]))
    return Prior(standings, accuracy, _from_source(standings, accuracy), spread, ALIASES)


def updated(prior: Prior, runs: Iterable[Finished]) -> Prior:
    """The prior after the user's own finished runs; it counts as much as five data sets of theirs.

    On each data set the networks are compared with each other: their mean is put where the prior expects these
    networks, and a difference of ``prior.spread`` points counts as one z. So two networks that end level move towards
    each other, and the winner among two good ones does not make the other a bad one. Networks of which nothing was
    known start from 0. Runs with one network say nothing and change nothing.
    """
    seen: dict[str, list[float]] = {}
    for run in _merged(runs):
        if len(run.accuracy) < 2:
            continue
        found = np.array(list(run.accuracy.values()))
        expected = np.nan_to_num(prior.array(list(run.accuracy)))
        z = expected.mean() + (found - found.mean()) / prior.spread
        for model, value in zip(run.accuracy, z, strict=True):
            seen.setdefault(model, []).append(float(value))
    standings = dict(prior.standings)
    for model, values in seen.items():
        name = model if model in standings else prior.aliases.get(model, model)
        before = float(np.nan_to_num(prior.z(model)))
        total = PSEUDO_COUNT * before + sum(values)
        sets = standings[name].sets if name in standings else 0.0
        standings[name] = Standing(total / (PSEUDO_COUNT + len(values)), sets + len(values))
    return replace(prior, standings=standings)


def _standings(sets: Iterable[Replayed]) -> dict[str, Standing]:
    found: dict[str, list[float]] = {}
    for s in sets:
        for model, z in zip(s.models, (s.finetuned - s.finetuned.mean()) / s.finetuned.std(), strict=True):
            found.setdefault(model, []).append(float(z))
    return {model: Standing(float(np.mean(z)), len(z)) for model, z in sorted(found.items())}


def _from_source(standings: Mapping[str, Standing], accuracy: Mapping[str, float]) -> FromSource:
    both = [m for m in standings if m in accuracy]
    if len(both) < 3:  # nothing to guess from
        return FromSource(float("nan"), float("nan"), float("nan"), len(both))
    x, y = np.array([accuracy[m] for m in both]), np.array([standings[m].z for m in both])
    slope = float((x - x.mean()) @ y / ((x - x.mean()) ** 2).sum())
    middle = float(x.mean() - y.mean() / slope)
    return FromSource(middle, slope, float((y - slope * (x - middle)).std(ddof=2)), len(both))


def _merged(runs: Iterable[Finished]) -> list[Finished]:
    """One entry a data set: a network that was run twice on it counts once, with its mean."""
    found: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        if run.accuracy and max(run.accuracy.values()) <= 1:
            raise DataError(
                f"prior: the accuracies on '{shown(run.data)}' look like shares; it takes per cent, 0 to 100."
            )
        for model, accuracy in run.accuracy.items():
            if not 0 <= accuracy <= 100:
                raise DataError(
                    f"prior: the accuracy of '{shown(model)}' on '{shown(run.data)}' is {accuracy}; it takes per cent, "
                    "0 to 100."
                )
            found.setdefault(run.data, {}).setdefault(model, []).append(accuracy)
    return [Finished(data, {m: float(np.mean(a)) for m, a in by.items()}) for data, by in found.items()]
