"""A plan as a table that people read before they start: ``headstart plan`` and the report print it.

Nothing is built or trained for it; the numbers of parameters are handed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap

from headstart.adapt.plan import HEAD, Phase, Plan, Schedule, Surgery

_WHAT = {"all": "", "norm-and-bias": "norm and bias of ", "added": "additions to "}
_STATISTICS = {"moving": "where there is any, it follows the data", "fixed": "where there is any, as it was loaded"}
_SURGERY = {"lora": "LoRA", "adapter": "adapters"}
_OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
_AS_THEY_ARE = {
    "text": ("texts", "as they are; the table of words stays as it was loaded"),
    "audio": ("sounds", "as they are; the convolutions in front stay as they were loaded"),
}
_GAP = "  "  # between columns
_WIDTH = 100  # characters of a line


@dataclass(frozen=True)
class PhaseRow:
    """One phase as values.

    learns: in words.  parameters: how many of them learn, None where nobody counted those of ``only``.
    slowest, fastest: peak rates of the network's stages, None where the head learns alone; head_lr None: it is frozen.
    epochs: passes over the training examples.
    """

    name: str
    learns: str
    parameters: int | None
    slowest: float | None
    fastest: float | None
    head_lr: float | None
    steps: int
    epochs: float
    schedule: str
    penalties: tuple[str, ...]


@dataclass(frozen=True)
class Description:
    """sentence: the plan in one.  all_parameters: of network, head and what surgery adds, as they were counted.

    facts: (what, in words) of all that holds for the whole plan.
    """

    strategy: str
    sentence: str
    steps: int
    epochs: float
    all_parameters: int
    rows: tuple[PhaseRow, ...]
    facts: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """Plain text for a terminal of 100 columns (long names of stages make the table wider)."""
        head = ("phase", "learns", "parameters", "rate", "head", "steps", "epochs")
        table = [head, *(self._cells(row) for row in self.rows)]
        widths = [max(len(cells[column]) for cells in table) for column in range(len(head))]
        lines = [_line(cells, widths) for cells in table]
        wide = max(len(what) for what, _ in self.facts) + len(_GAP)
        facts = [wrap(f"{what:{wide}}{said}", _WIDTH, subsequent_indent=" " * wide) for what, said in self.facts]
        return "\n".join([*wrap(self.sentence, _WIDTH), "", *lines, "", *(line for fact in facts for line in fact)])

    def _cells(self, row: PhaseRow) -> tuple[str, ...]:
        share = f" ({_percent(row.parameters, self.all_parameters)})" if row.parameters is not None else ""
        return (
            row.name,
            row.learns,
            ("not counted" if row.parameters is None else counted(row.parameters)) + share,
            _rates(row.slowest, row.fastest),
            "–" if row.head_lr is None else _rate(row.head_lr),
            f"{row.steps:,}",
            f"{row.epochs:.1f}",
        )


def describe(
    plan: Plan,
    stages: Sequence[str],
    parameters: Mapping[str, int],
    n: int,
    *,
    partly: Mapping[str, Mapping[str, int]] | None = None,
    of: str = "image",
) -> Description:
    """The table of ``plan`` for a network with ``stages`` (input side first) and ``n`` training examples.

    parameters: stage (or HEAD) → how many it has, additions included.  partly: 'norm-and-bias' or 'added' → how many
    of each stage are of that kind; where it is missing a phase that trains only those says 'not counted'.
    of: the modality of the examples.
    """
    counts = {"all": parameters, **(partly or {})}
    rows = tuple(_row(plan, phase, stages, counts, n) for phase in plan.phases)
    return Description(
        strategy=plan.strategy,
        sentence=_sentence(plan, rows, n),
        steps=plan.steps,
        epochs=_epochs(plan.steps, plan, n),
        all_parameters=sum(parameters.values()),
        rows=rows,
        facts=tuple(_facts(plan, rows, of)),
    )


def counted(number: int) -> str:
    """4,125 · 41.3 k · 3.4 M."""
    if number < 10_000:
        return f"{number:,}"
    if number < 999_500:
        return f"{number / 1e3:.3g} k"
    return f"{number / 1e6:.3g} M" if number < 99_950_000 else f"{number / 1e6:,.0f} M"


def _row(plan: Plan, phase: Phase, stages: Sequence[str], counts: Mapping[str, Mapping[str, int]], n: int) -> PhaseRow:
    learning = [stage for stage in stages if stage in phase.lr]
    rates = [phase.lr[stage] for stage in learning]
    return PhaseRow(
        name=phase.name,
        learns=_learns(phase, learning, stages),
        parameters=_learning_parameters(phase, learning, counts),
        slowest=min(rates, default=None),
        fastest=max(rates, default=None),
        head_lr=phase.lr.get(HEAD),
        steps=phase.steps,
        epochs=_epochs(phase.steps, plan, n),
        schedule=_schedule(phase.schedule),
        penalties=tuple(f"{penalty.kind} {penalty.weight:g}" for penalty in phase.penalties),
    )


def _learning_parameters(phase: Phase, learning: Sequence[str], counts: Mapping[str, Mapping[str, int]]) -> int | None:
    """The head learns whole, the stages what ``phase.only`` says."""
    if learning and phase.only not in counts:
        return None
    head = counts["all"][HEAD] if HEAD in phase.lr else 0
    return head + sum(counts[phase.only].get(stage, 0) for stage in learning)


def _learns(phase: Phase, learning: Sequence[str], stages: Sequence[str]) -> str:
    """'head' · 'everything' · 'blocks.9 … top, head' · 'norm and bias of everything, head'."""
    if not learning:
        return HEAD
    head = [HEAD] if HEAD in phase.lr else []
    if len(learning) == len(stages):
        what = _WHAT[phase.only]
        return ", ".join([f"{what}the network" if what or not head else "everything", *(head if what else [])])
    first = stages.index(learning[0])
    in_a_row = list(stages[first : first + len(learning)]) == list(learning)
    named = f"{learning[0]} … {learning[-1]}" if in_a_row and len(learning) > 2 else _few(learning)
    return ", ".join([_WHAT[phase.only] + named, *head])


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} stages"


def _sentence(plan: Plan, rows: Sequence[PhaseRow], n: int) -> str:
    """'lp-ft: 212 steps of 12 examples, 51 passes over 50: first head (42 steps), then …'"""
    work = f"{_plural(plan.steps, 'step')} of {_plural(plan.batch_size, 'example')}"
    passes = f"{_epochs(plan.steps, plan, n):.3g} × the {_plural(n, 'training example')}"
    return f"{plan.strategy}: {work}, which is {passes}: {_order(rows)}."


def _order(rows: Sequence[PhaseRow]) -> str:
    """'everything learns' · 'first the head (42 steps), then everything (170 steps)'."""
    who = ["the head" if row.learns == HEAD else row.learns.replace(f", {HEAD}", " and the head") for row in rows]
    if len(rows) == 1:
        return who[0] + (" learn" if " and " in who[0] else " learns")
    parts = [f"{name} ({_plural(row.steps, 'step')})" for name, row in zip(who, rows, strict=True)]
    between = [f"{_plural(len(parts) - 2, 'phase')} between"] if len(parts) > 3 else parts[1:-1]
    return "first " + ", then ".join([parts[0], *between, parts[-1]])


def _facts(plan: Plan, rows: Sequence[PhaseRow], of: str) -> Iterator[tuple[str, str]]:
    yield "head", _head(plan)
    if plan.surgery:
        yield "surgery", "; ".join(_surgery(surgery) for surgery in plan.surgery)
    yield "optimiser", _optimizer(plan)
    yield "schedule", _by_phase([(row.name, row.schedule) for row in rows])
    loss = _loss(plan)
    if loss:
        yield "loss", loss
    tuned = [(row, phase) for row, phase in zip(rows, plan.phases, strict=True) if row.fastest is not None]
    if any(row.penalties for row, _ in tuned):
        yield "penalties", _by_phase([(row.name, ", ".join(row.penalties) or "none") for row, _ in tuned])
    if of in _AS_THEY_ARE:
        yield _AS_THEY_ARE[of]
    else:
        yield "views", _views(plan)
    if tuned and of not in _AS_THEY_ARE:
        yield "BatchNorm", _by_phase([(phase.name, _STATISTICS[phase.statistics]) for _, phase in tuned])
    if plan.ema is not None:
        yield "weights", f"running mean, half-life {plan.ema:.3g} of the steps"
    yield "validation", _validation(plan, {"text": "text", "audio": "sound"}.get(of, "image"))


def _head(plan: Plan) -> str:
    hidden = "".join(f", {width} hidden" for width in plan.head.hidden)
    dropout = f", dropout {plan.head.dropout:g}" if plan.head.dropout else ""
    if plan.head.start == "after":
        return "fitted after the training, on the features of the trained network"
    starts = "from the probe" if plan.head.start == "probe" and not plan.head.hidden else "at random"
    return f"starts {starts}{hidden}{dropout}"


def _surgery(surgery: Surgery) -> str:
    where = {"attention": "in attention", "all": "in all layers" if surgery.kind == "lora" else "beside each block"}
    return f"{_SURGERY[surgery.kind]} of rank {surgery.rank} {where[surgery.where]}, alpha {surgery.alpha:g}"


def _optimizer(plan: Plan) -> str:
    optimizer = plan.optimizer
    momentum = f", momentum {optimizer.momentum:g}" if optimizer.kind == "sgd" and optimizer.momentum else ""
    nesterov = " (Nesterov)" if momentum and optimizer.nesterov else ""
    decay = f", weight decay {optimizer.weight_decay:g}" if optimizer.weight_decay else ", no weight decay"
    clip = f", gradients clipped at {plan.clip_norm:g}" if plan.clip_norm is not None else ""
    return _OPTIMIZERS[optimizer.kind] + momentum + nesterov + decay + clip


def _schedule(schedule: Schedule) -> str:
    warm = f" after {schedule.warmup * 100:.3g} % warm-up" if schedule.warmup else ""
    if schedule.kind == "step":
        return f"× {schedule.factor:g} at {', '.join(f'{drop * 100:.3g} %' for drop in schedule.drops)}{warm}"
    return {"cosine": f"cosine to {schedule.floor:g}", "constant": "constant"}[schedule.kind] + warm


def _loss(plan: Plan) -> str:
    """What was changed about the task's own loss; empty for nothing."""
    loss = plan.loss
    parts: list[str] = [] if loss.kind == "auto" else [loss.kind]
    parts += [f"label smoothing {loss.label_smoothing:g}"] if loss.label_smoothing else []
    parts += [f"mixup {loss.mixup:g}"] if loss.mixup else []
    parts += {"none": [], "weights": ["classes weighted equally"], "softmax": ["balanced softmax"]}[loss.balanced]
    return ", ".join(parts)


def _views(plan: Plan) -> str:
    if plan.augment == "none":
        return "images as they are; frozen first stages run once over each"
    policy = "what the safety test allows" if plan.augment == "auto" else plan.augment
    drawn = f"{_plural(plan.views, 'view')} of each image, drawn once" if plan.views else "new ones in each step"
    return f"augmented ({policy}), {drawn}"


def _validation(plan: Plan, one: str) -> str:
    if not plan.validations:
        return f"none; the last weights are kept, so that no held-back {one} chooses them"
    stops = "" if plan.patience is None else f"; stops after {plan.patience} without improvement"
    return f"{_plural(plan.validations, 'time')}, the best weights are kept{stops}"


def _by_phase(said: Sequence[tuple[str, str]]) -> str:
    """Of (phase, words): the words once where all agree, else each with its phases."""
    phases: dict[str, list[str]] = {}
    for name, words in said:
        phases.setdefault(words, []).append(name)
    if len(phases) == 1:
        return said[0][1]
    return "; ".join(f"{', '.join(names)}: {words}" for words, names in phases.items())


def _epochs(steps: int, plan: Plan, n: int) -> float:
    return steps * plan.batch_size / max(1, n)


def _rates(slowest: float | None, fastest: float | None) -> str:
    if slowest is None or fastest is None:
        return "–"
    low, high = _rate(slowest), _rate(fastest)
    return low if low == high else f"{low} … {high}"


def _rate(rate: float) -> str:
    """0.01 · 7.7e-5."""
    if rate >= 0.01:
        return f"{rate:.2g}"
    mantissa, exponent = f"{rate:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def _percent(part: int, whole: int) -> str:
    share = 100 * part / max(1, whole)
    return "100 %" if part == whole else "> 99 %" if share > 99 else f"{share:.2g} %"


def _plural(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Words to the left, the last two columns, which are numbers, to the right."""
    words = [f"{cell:{width}}" for cell, width in zip(cells[:-2], widths[:-2], strict=True)]
    numbers = [f"{cell:>{width}}" for cell, width in zip(cells[-2:], widths[-2:], strict=True)]
    return _GAP.join([*words, *numbers]).rstrip()
