"""What every strategy does otherwise on texts and sounds: its defaults, as the choices that a user could have made.

The rates of METHODS B.4: lower than those of pictures and hardly lower towards the input, Adam with its bias
correction, a linear warm-up. MiniLM on 525 tweets of three moods, four passes, 225 tweets judge (seed 0): probe 0.627;
full at 2e-5 0.698, at 5e-5 0.684, at 1.5e-4 0.693: there is no finer choice to be had from so few.
Both are learnt from as they are: none of the changes of pictures has a counterpart whose harmlessness could be tested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from headstart.adapt.plan import Plan
from headstart.adapt.strategies.fields import Field
from headstart.adapt.strategies.options import Options, with_options
from headstart.base.errors import PlanError
from headstart.data.words import words_of

_PLAIN = Options(weight_decay=0.01, augment="none")
_OF_TEXTS = {
    "linear-probe": _PLAIN,
    "lp-ft": replace(_PLAIN, lr=2e-5, layer_decay=0.9),
    "gradual": replace(_PLAIN, lr=5e-5),
    "full": replace(_PLAIN, lr=2e-5, layer_decay=0.9),
    "last-stages": replace(_PLAIN, lr=1e-4, head_lr=1e-3),
    "bias": replace(_PLAIN, lr=1e-3),
    "lora": replace(_PLAIN, lr=5e-4),
    "setfit": _PLAIN,
    "surgical": replace(_PLAIN, lr=2e-5),
}
# METHODS B.4 has 3e-5 to 1e-4 for encoders of sounds; there are no pairs of sounds.
_OF_SOUNDS = {name: replace(o, lr=o.lr and max(o.lr, 5e-5)) for name, o in _OF_TEXTS.items() if name != "setfit"}
DEFAULTS: Mapping[str, Mapping[str, Options]] = {"text": _OF_TEXTS, "audio": _OF_SOUNDS}  # by modality
# LoRA on queries and values, as in its paper.
FIELDS: Mapping[str, Mapping[str, Field]] = {"lora": {"where": "attention"}}
LONGEST_EPOCHS = 20.0  # passes over the examples: so many for few, as Mosbach et al. 2021 found they need


def for_sequences(plan: Plan, stages: Sequence[str], *, of: str) -> Plan:
    """``plan`` as it is for texts or sounds. stages: those that may learn.  of: 'text' or 'audio'.

    PlanError PL15 for a strategy that pictures alone have, PL16 for pairs of what has none.
    """
    if plan.strategy == "setfit":
        check_setfit(of, "classification")
    if plan.strategy not in DEFAULTS[of]:
        raise PlanError(
            f"PL15 '{plan.strategy}' is for pictures: its branches are convolutions. "
            f"On {words_of(of).many} there are: {', '.join(DEFAULTS[of])}."
        )
    return with_options(plan, DEFAULTS[of][plan.strategy], stages)


def check_setfit(modality: str, task: str) -> None:
    """PlanError PL16 for examples or targets of which no pairs are made."""
    if modality != "text" or task != "classification":
        what = "texts" if modality == "text" else "other examples"
        raise PlanError(
            f"PL16 'setfit' learns from pairs of texts of one class or of two, and this is a {task} task on {what}. "
            "Choose another strategy, such as lp-ft."
        )


def check_options(options: Options, strategy: str = "", *, of: str = "text") -> None:
    """PlanError PL15 for choices that texts and sounds have no place for, PL16 for those that pairs have none for."""
    if options.augment not in (None, "none"):
        many = words_of(of).many
        raise PlanError(f"PL15 augment '{options.augment}' changes pictures; {many} are learnt from as they are.")
    if options.mixup:
        what = "the words of two texts cannot be added" if of == "text" else "sounds of any length are not mixed here"
        raise PlanError(f"PL15 mixup mixes pictures; {what}. Leave it out.")
    if strategy != "setfit":
        return
    names = ("head_lr", "label_smoothing", "patience", "hidden", "dropout")
    chosen = [name for name in names if getattr(options, name)]
    chosen += ["penalty"] if options.penalty not in (None, "none", "l2-sp") else []
    if chosen:
        raise PlanError(
            f"PL16 {chosen[0]} has no effect in 'setfit': its head is fitted after the training, and its loss knows "
            "pairs alone. Leave it out."
        )
