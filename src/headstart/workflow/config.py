"""What a user can ask of ``fit``: one frozen tree, written into run.json, given back unchanged."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from headstart.adapt.strategies import Field, Options, by_name
from headstart.backbones.structure import Structure
from headstart.base.errors import DataError, PlanError, shown
from headstart.data.decimals import Decimal

Balance = Literal["auto", "none", "weights", "logit-adjust"]
TaskName = Literal["single-label", "multi-label", "regression"]


@dataclass(frozen=True)
class DataConfig:
    """How the data is read.

    target, path_column, split_column: columns of a table; None: told from names and content.
    group_by: column, or 'regex:…' on the id, whose equal values stay on one side of every split.
    task: None: told from the target column.
    accept_bad: go on although more than 5 % of the files are unusable.  accept_leakage: although train and test share.
    max_pixels: pictures with more are quarantined before they are decoded.
    features: names or patterns of the columns of a table that are learnt from.
    text: column of a table that holds texts, which are then what is learnt from; for a list of strings, any word.
    decimal: ',' where the numbers of a table are written '1,5'.
    """

    target: str | None = None
    path_column: str | None = None
    split_column: str | None = None
    group_by: str | None = None
    task: TaskName | None = None
    encoding: str | None = None
    accept_bad: bool = False
    accept_leakage: bool = False
    allow_empty: bool = False
    allow_outside: bool = False
    drop_unlabelled: bool = False
    max_pixels: int = 50_000_000
    text: str | None = None
    features: tuple[str, ...] | None = None
    decimal: Decimal = "."


NO_WISHES = Options()
AS_PUBLISHED = Structure()


@dataclass(frozen=True)
class TuneConfig:
    """How far to go beyond the frozen probe.

    strategy: 'probe' trains no network; 'auto' climbs the ladder; else a name of adapt.strategies, done as it is.
    time_s: seconds that training and choosing may take; None: as many steps as suit the number of examples.
    epochs, batch_size: of one training; None: by the number of examples.
    precision: of training; 'auto' takes bfloat16 where a short timing shows that it pays.
    rate_test: whether a short training finds out first by what to multiply the rates of the strategy.
    options: explicit choices, which always win.
    fields: of the strategy itself, by name, where they shall not be its defaults: {'rank': 8} of lora.
    """

    strategy: str = "probe"
    time_s: float | None = None
    epochs: float | None = None
    batch_size: int | None = None
    precision: Literal["auto", "float32", "bf16"] = "auto"
    rate_test: bool = False
    options: Options = NO_WISHES
    fields: Mapping[str, Field] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.strategy not in ("probe", "auto"):
            by_name(self.strategy, self.fields)  # a wrong name is said before any work
        elif self.fields:
            raise PlanError(
                f"PL61 --set {shown(next(iter(self.fields)))} has no effect: '{self.strategy}' has no fields of its "
                "own. Choose a strategy by name, such as lora."
            )
        if self.strategy == "auto" and self.options.hidden:
            raise PlanError(
                "PL65 hidden layers have no place on the ladder: it saves weights between those of the probe and the "
                "tuned ones, and the probe has none. Leave --hidden out, or take a strategy by name, such as lp-ft."
            )
        if self.rate_test and (self.strategy in ("probe", "auto") or self.options.lr or self.options.head_lr):
            raise PlanError(
                "PL67 a rate test finds the rates of a strategy that is named, such as lp-ft: the probe has none, the "
                "ladder tries several by itself, and rates that you give are kept. Leave --rate-test out."
            )
        for name in ("time_s", "epochs", "batch_size"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise PlanError(f"PL60 {name} is {shown(value)}; it must be above 0.")
        chosen = [k for k in ("time_s", "epochs", "batch_size") if getattr(self, k) is not None]
        chosen += ["precision"] if self.precision != "auto" else []
        chosen += [f.name for f in fields(Options) if getattr(self.options, f.name) is not None]
        if self.strategy == "probe" and chosen:
            raise PlanError(
                f"PL61 {', '.join(chosen)} has no effect: the probe trains no network. "
                "Choose --strategy auto, or a strategy by name, such as lp-ft."
            )


@dataclass(frozen=True)
class FitConfig:
    """backbone: a name of the catalogue; 'starter': the starter network, or the smallest that is here; 'auto': the best
    of those that are here by a quick ranking on this data.

    structure: how the network is changed before anything is learnt.  tuning: what comes after the frozen probe.
    weights: local file for the backbone's parameters.  test_share: of the examples, sealed until the end.
    examples_per_class: most that learn of each class; the rest of those that may is left out. None: all of them.
    folds: of the cross-validation that chooses.  resamples: of the bootstrap.
    random_baseline: compare with a randomly initialised copy ('full' on all examples, 'auto' on a subsample).
    prove: also train from scratch and measure how many labels the transfer was worth; takes some six times as long.
    """

    data: DataConfig = DataConfig()
    structure: Structure = AS_PUBLISHED
    tuning: TuneConfig = TuneConfig()
    backbone: str = "starter"
    weights: str | None = None
    balance: Balance = "auto"
    metric: str | None = None
    test_share: float = 0.2
    examples_per_class: int | None = None
    folds: int = 5
    resamples: int = 1000
    random_baseline: Literal["auto", "full", "off"] = "auto"
    prove: bool = False
    seed: int = 0
    device: str = "auto"
    runner: str | None = None
    offline: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.test_share < 1:
            raise DataError(f"CF23 test_share is {self.test_share}; it is a share of the examples, between 0 and 1.")
        if self.examples_per_class is not None and self.examples_per_class < 1:
            raise DataError(
                f"CF23 examples_per_class is {self.examples_per_class}; at least 1 of each class must learn."
            )
        if self.folds < 2:
            raise DataError(f"CF23 folds is {self.folds}; cross-validation needs at least 2.")
        if self.resamples < 100:
            raise DataError(f"CF23 resamples is {self.resamples}; intervals need at least 100.")


def cache_folder(given: str | Path | None = None) -> Path:
    """Where features are kept: ``given``, else $HEADSTART_CACHE, else the user's cache folder."""
    chosen = given or os.environ.get("HEADSTART_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    return (Path(base) if base else Path.home() / ".cache") / "headstart"


def default_out(source: Any, runs: Path = Path("runs")) -> Path:
    """runs/<name of the data>, with a number when that is taken by another run."""
    name = Path(str(source)).resolve().stem if isinstance(source, str | Path) else "arrays"
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in shown(name)) or "run"
    return runs / name
