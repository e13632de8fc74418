"""A plan in words, from the value that stands in a record.

The record's JSON has its keys in the order of the alphabet, so the order of the stages in the network is not known
here: stems come first, numbered stages by their number, all others after them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from headstart.base.errors import DataError
from headstart.report.wording import DASH, counted, percent

HEAD = "head"  # as in adapt.plan
MOST_STAGES = 5  # names or ranges of names that are read out

_FIRST = re.compile(r"stem|patch|embed|conv1", re.IGNORECASE)
_NUMBERED = re.compile(r"(?P<before>.*?)(?P<number>\d{1,6})")

_ONLY = {"norm-and-bias": "biases and normalisation of ", "added": "what was added to "}
_OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
_SURGERY = {"lora": "LoRA", "adapter": "adapters"}
_LOSSES = {
    "cross-entropy": "cross-entropy",
    "binary-cross-entropy": "binary cross-entropy",
    "mse": "mean squared error",
    "mae": "mean absolute error",
    "huber": "Huber",
}
_BALANCED = {"weights": "classes weighted equally", "softmax": "balanced softmax"}
_PENALTIES = {"l2-sp": "L2-SP", "bss": "BSS", "delta": "DELTA", "co-tuning": "Co-Tuning"}
_SCHEDULES = {"cosine": "cosine", "step": "in steps", "constant": "constant"}

Table = Mapping[str, Any]


def plan_words(plan: Table) -> dict[str, Any]:
    """phases: one row each; facts: (what, in words) of all that holds for the whole plan. DataError CF23 if damaged."""
    phases = _phases(plan)
    return {
        "strategy": str(plan.get("strategy", "")),
        "phases": [_row(number, phase) for number, phase in enumerate(phases, 1)],
        "steps": sum(phase["steps"] for phase in phases),
        "facts": [{"name": name, "text": text} for name, text in _facts(plan, phases) if text],
    }


def changes_network(plan: Table | None) -> bool:
    """Whether any stage but the head learns; yes where no plan was recorded."""
    return plan is None or any(name != HEAD for phase in _phases(plan) for name in phase["lr"])


def stages_in_words(names: Sequence[str]) -> str:
    """'stem, blocks.5 … blocks.8, top'; '23 stages' where that would be long."""
    parts: list[str] = []
    for _, run in groupby(_in_order(names), key=_family()):
        members = list(run)
        parts += members if len(members) < 3 else [f"{members[0]} … {members[-1]}"]
    return ", ".join(parts) if len(parts) <= MOST_STAGES else counted(len(names), "stage")


def _in_order(names: Sequence[str]) -> list[str]:
    def place(name: str) -> tuple[int, str, int]:
        match = _NUMBERED.fullmatch(name)
        kind = 0 if _FIRST.search(name) else 1 if match else 2
        return (kind, match["before"], int(match["number"])) if match else (kind, name, -1)

    return sorted(names, key=place)


def _family() -> Any:
    """A key that stays the same while numbers go up by one: 'blocks.5', 'blocks.6', 'blocks.7'."""
    place = iter(range(10**9))

    def key(name: str) -> tuple[str, int]:
        match, n = _NUMBERED.fullmatch(name), next(place)
        return (match["before"], int(match["number"]) - n) if match else (name, -1)

    return key


def rate_words(rate: float) -> str:
    """'0.01', '7.7e-5'."""
    if not math.isfinite(rate):
        return DASH
    if rate >= 0.01:
        return f"{rate:.2g}"
    mantissa, exponent = f"{rate:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def _phases(plan: Table) -> list[Table]:
    """The phases, each with a name, steps and rates."""
    phases = plan.get("phases", [])
    if not (isinstance(phases, list | tuple) and all(_is_phase(phase) for phase in phases)):
        raise DataError("CF23 ladder.json: 'phases' of a plan is not a list of {name, steps, lr}. Fit again.")
    return list(phases)


def _is_phase(phase: Any) -> bool:
    return (
        isinstance(phase, Mapping)
        and isinstance(phase.get("name"), str)
        and isinstance(phase.get("steps"), int)
        and isinstance(phase.get("lr"), Mapping)
        and all(isinstance(rate, int | float) for rate in phase["lr"].values())
    )


def _row(number: int, phase: Table) -> dict[str, Any]:
    stages = [name for name in phase["lr"] if name != HEAD]
    rates = [float(phase["lr"][name]) for name in stages]
    return {
        "number": number,
        "name": phase["name"],
        "learns": _learns(phase, stages),
        "rates": _span(rates) if rates else DASH,
        "head_rate": rate_words(float(phase["lr"][HEAD])) if HEAD in phase["lr"] else DASH,
        "steps": phase["steps"],
    }


def _learns(phase: Table, stages: Sequence[str]) -> str:
    if not stages:
        return HEAD
    what = _ONLY.get(str(phase.get("only")), "") + stages_in_words(stages)
    return f"{what}, {HEAD}" if HEAD in phase["lr"] else what


def _span(rates: Sequence[float]) -> str:
    low, high = rate_words(min(rates)), rate_words(max(rates))
    return low if low == high else f"{low} … {high}"


def _facts(plan: Table, phases: Sequence[Table]) -> list[tuple[str, str]]:
    return [
        ("Batch", counted(plan["batch_size"], "image") if isinstance(plan.get("batch_size"), int) else ""),
        ("Head", _head(_table(plan, "head"))),
        ("Surgery", "; ".join(_surgery(s) for s in _tables(plan, "surgery"))),
        ("Optimiser", _optimizer(plan, _table(plan, "optimizer"))),
        ("Schedule", _by_phase([(p["name"], _schedule(_table(p, "schedule"))) for p in phases])),
        ("Loss", _loss(_table(plan, "loss"))),
        ("Penalties", _by_phase([(p["name"], _penalties(p)) for p in phases])),
        ("Augmentation", _augmentation(plan)),
        ("Weights", _mean_of_weights(plan.get("ema"))),
        ("Early end", _patience(plan.get("patience"))),
    ]


def _table(values: Table, key: str) -> Table:
    value = values.get(key)
    return value if isinstance(value, Mapping) else {}


def _tables(values: Table, key: str) -> list[Table]:
    value = values.get(key)
    return [v for v in value if isinstance(v, Mapping)] if isinstance(value, list | tuple) else []


def _named(names: Mapping[str, str], table: Table, key: str = "kind") -> str:
    """Our word for a kind, else the kind itself."""
    kind = str(table.get(key, ""))
    return names.get(kind, kind)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _by_phase(said: Sequence[tuple[str, str]]) -> str:
    """The words once where all phases agree, else each with its phase; empty where nothing is said."""
    words = {text for _, text in said}
    if len(words) <= 1:
        return next(iter(words), "")
    return "; ".join(f"{name}: {text or 'none'}" for name, text in said)


def _head(head: Table) -> str:
    if not head:
        return ""
    hidden = head.get("hidden") or ()
    start = "from the probe’s" if head.get("start") == "probe" and not hidden else "at random"
    layers = "".join(f", {width} hidden" for width in hidden) if isinstance(hidden, list | tuple) else ""
    dropout = f", dropout {_short(head['dropout'])}" if head.get("dropout") else ""
    return f"starts {start}{layers}{dropout}"


def _surgery(surgery: Table) -> str:
    where = f" in {surgery['where']} layers" if surgery.get("where") else ""
    where = " beside each block" if surgery.get("kind") == "adapter" else where
    return f"{_named(_SURGERY, surgery)} of rank {surgery.get('rank', DASH)}{where}"


def _optimizer(plan: Table, optimizer: Table) -> str:
    if not optimizer:
        return ""
    parts = [_named(_OPTIMIZERS, optimizer)]
    if optimizer.get("kind") == "sgd" and optimizer.get("momentum"):
        parts.append(f"momentum {_short(optimizer['momentum'])}" + (" (Nesterov)" if optimizer.get("nesterov") else ""))
    decay = optimizer.get("weight_decay")
    parts.append(f"weight decay {_short(decay)}" if decay else "no weight decay")
    if plan.get("clip_norm"):
        parts.append(f"gradients clipped at {_short(plan['clip_norm'])}")
    return ", ".join(parts)


def _schedule(schedule: Table) -> str:
    if not schedule:
        return ""
    warmup = schedule.get("warmup")
    after = f" after {percent(warmup)} warm-up" if isinstance(warmup, int | float) and warmup else ""
    return _named(_SCHEDULES, schedule) + after


def _loss(loss: Table) -> str:
    parts = [] if loss.get("kind", "auto") == "auto" else [_named(_LOSSES, loss)]
    parts += [f"label smoothing {_short(loss['label_smoothing'])}"] if loss.get("label_smoothing") else []
    parts += [f"mixup {_short(loss['mixup'])}"] if loss.get("mixup") else []
    parts += [_named(_BALANCED, loss, "balanced")] if loss.get("balanced", "none") != "none" else []
    return ", ".join(parts) or ("the task’s own" if loss else "")


def _penalties(phase: Table) -> str:
    return ", ".join(f"{_named(_PENALTIES, p)} {_short(p.get('weight', DASH))}" for p in _tables(phase, "penalties"))


def _augmentation(plan: Table) -> str:
    policy, views = plan.get("augment"), plan.get("views")
    if policy is None:
        return ""
    if policy == "none":
        return "none: images as they are"
    drawn = f"{counted(views, 'view')} of each image, drawn once" if isinstance(views, int) and views else "new views"
    allowed = "what the safety test allows" if policy == "auto" else str(policy)
    return f"{allowed}; {drawn}"


def _mean_of_weights(ema: Any) -> str:
    return f"running mean, half-life {percent(ema)} of the steps" if isinstance(ema, int | float) and ema else ""


def _patience(patience: Any) -> str:
    return f"after {counted(patience, 'validation')} without improvement" if isinstance(patience, int) else ""
