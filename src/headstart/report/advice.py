"""What to do next, in plain sentences derived from the records: one small rule a function.

A rule returns a step or None. Rules only compare numbers that stand in the records; they claim nothing new.
"""

from __future__ import annotations

from collections.abc import Callable

from headstart.base.config import to_dict
from headstart.records.evaluation import Verdict
from headstart.report import wording
from headstart.report.finetuning import PROBE, against_probe, done_in_words, is_asked, lacked_time, tried, untried
from headstart.report.reading import Records
from headstart.report.wording import counted, estimate_words, signed

MOST_STEPS = 6
WIDE = 0.05  # half an interval, above which we say that the number is vague
FEW = 20  # training images of a class
POORLY_CALIBRATED = 0.05
IMBALANCED = 10  # largest class over smallest
ENOUGH_TO_JUDGE = 5  # test images of a class before its recall is worth a sentence
ROOM = 0.9  # a share below which there is enough to gain to name fine-tuning
CLIMB = "headstart fit … --time 20m --out NEW-FOLDER"

Step = dict[str, str]

MANY_SUSPECTS = 0.05  # share of the training examples above which suspected labels say more about the model


def next_steps(records: Records) -> list[Step]:
    """At most MOST_STEPS steps, the weightiest first; the last one always says how to try the model elsewhere."""
    found = [step for rule in RULES if (step := rule(records)) is not None]
    closing = _try_elsewhere(records)
    steps = found[: MOST_STEPS - len(closing)] + closing
    return [{**step, "text": wording.spoken(step["text"], records.words)} for step in steps]


def _step(text: str, see: str = "") -> Step:
    """see: id of the section of the report where the evidence stands."""
    return {"text": text, "see": see}


def _unfinished(records: Records) -> Step | None:
    if records.run is None or records.run.status == "done":
        return None
    return _step("This run has not finished. Start the same command again: it goes on from what is there.", "repeat")


def _stops(records: Records) -> Step | None:
    found = [f for f in records.audit.findings if f.severity == "stop"] if records.audit else []
    if not found:
        return None
    return _step(f"Mend this first: {found[0].text}", "data")


def _leaks(records: Records) -> Step | None:
    n = len(records.audit.leaks) if records.audit else 0
    if not n:
        return None
    return _step(
        f"{counted(n, 'picture is', 'pictures are')} on two sides of your own split, so the score may be too good. "
        "Remove them from the test images, or let headstart divide the data.",
        "leaks",
    )


def _no_transfer(records: Records) -> Step | None:
    verdict = records.evaluation.verdict if records.evaluation else None
    if verdict is None or verdict.answer == "yes":
        return None
    if verdict.against in ("linear", "boosting"):
        return _behind_rivals(verdict)
    if verdict.answer == "no":
        return _step(
            "The pretrained network does not beat the simpler baseline. Try one that was trained on pictures closer to "
            "yours ('headstart models' lists them), or keep the baseline.",
            "answer",
        )
    return _step(
        "These test images cannot show whether the pretrained network helps: the interval of the gain includes 0. "
        "Judge again with more labelled images.",
        "answer",
    )


def _behind_rivals(verdict: Verdict) -> Step | None:
    """A model on columns that the usual ones beat."""
    if verdict.answer != "no":
        return None
    return _step(
        "One of the usual models does better here: use that one, or look at the columns that are worth most. A column "
        "made from two of them, such as a ratio, may close the gap.",
        "columns",
    )


def _tuned_in_vain(records: Records) -> Step | None:
    """The saved network was fine-tuned, and the test images do not show that this was worth it."""
    b, record = against_probe(records), records.ladder
    if b is None or record is None or b.gain.low > 0:
        return None
    gain = f"{signed(to_dict(b.gain))} on {counted(b.n, 'image')}"
    if b.gain.high < 0:
        return _step(
            f"The fine-tuned model is worse than the same network frozen ({gain}). "
            "Fit again without --strategy and --time, which keeps the network as it is.",
            "finetuning",
        )
    if not is_asked(record):
        return None  # held-back images showed a gain; that fewer test images do not is no reason to act
    return _step(
        f"It is not shown that ‘{record.kept}’ is better than the same network frozen ({gain}). With --strategy auto "
        "instead, fine-tuning is kept only where it is better by more than noise.",
        "finetuning",
    )


def _label_issues(records: Records) -> Step | None:
    n = len(records.evaluation.label_issues) if records.evaluation else 0
    if not n:
        return None
    learnt = len(records.split.train) if records.split else 0
    if learnt and n > MANY_SUSPECTS * learnt:
        return _step(
            f"{counted(n, 'training image')} of {learnt:,} look mislabelled to this model. So many are rarely wrong: "
            "the network may not see what tells these classes apart. Look at the surest few first; if their labels are "
            "right, try another network before you touch labels.",
            "labels",
        )
    return _step(
        f"Look through {counted(n, 'training image')} whose label may be wrong, the surest first. "
        "Correcting labels is usually the cheapest way to a better model.",
        "labels",
    )


def _conflicts(records: Records) -> Step | None:
    n = len(records.audit.conflicts) if records.audit else 0
    if not n:
        return None
    return _step(
        f"{counted(n, 'picture appears', 'pictures appear')} under more than one label. Decide which one is right.",
        "conflicts",
    )


def _worst_class(records: Records) -> Step | None:
    """Only a class whose recall is low beyond its own interval is worth a sentence."""
    e = records.evaluation
    if e is None or len(e.per_class) < 2:
        return None
    judged = [c for c in e.per_class if c.support >= ENOUGH_TO_JUDGE and not wording.is_nan(c.recall.value)]
    if len(judged) < 2:
        return None
    worst = min(judged, key=lambda c: c.recall.value)
    best = max(judged, key=lambda c: c.recall.value)
    if wording.is_nan(worst.recall.high) or worst.recall.high >= best.recall.value:
        return None
    text = (
        f"‘{worst.name}’ is found least often: recall {estimate_words(to_dict(worst.recall))} on "
        f"{counted(worst.support, 'image')}{_mistaken_for(records, worst.name)}. "
        "More varied examples of it should help most."
    )
    return _step(text, "classes")


def _mistaken_for(records: Records, name: str) -> str:
    e = records.evaluation
    if e is None or not e.confusion or name not in e.labels:
        return ""
    at = e.labels.index(name)
    row = [0 if j == at else n for j, n in enumerate(e.confusion[at])]
    if not max(row, default=0):
        return ""
    other = row.index(max(row))
    return f", most often taken for ‘{e.labels[other]}’ ({max(row)})"


def _quarantined(records: Records) -> Step | None:
    n = len(records.audit.quarantined) if records.audit else 0
    if not n:
        return None
    text = "1 file could not be used and was" if n == 1 else f"{n:,} files could not be used and were"
    return _step(f"{text} left out.", "quarantined")


def _vague(records: Records) -> Step | None:
    """Says so when the interval of the headline is wide for a share."""
    e = records.evaluation
    score = e.metrics.get(e.headline) if e else None
    if e is None or score is None or not wording.metric_words(e.headline).is_share:
        return None
    half = (score.high - score.low) / 2
    if not half > WIDE:  # NaN: no interval, nothing to say
        return None
    return _step(
        f"{counted(e.n, 'image')} leave the score uncertain by about ±{half:.2f}. "
        "Label more images before comparing it with another model.",
        "results",
    )


def _few_examples(records: Records) -> Step | None:
    counts = records.split.counts_train if records.split else {}
    few = sorted((n, name) for name, n in counts.items() if n < FEW)
    if not few:
        return None
    least = f"‘{few[0][1]}’ has {few[0][0]}"
    some = "One class has" if len(few) == 1 else f"{len(few)} of {counted(len(counts), 'class', 'classes')} have"
    return _step(f"{some} fewer than {FEW} training images ({least}). Label more of those first.", "data")


def _imbalance(records: Records) -> Step | None:
    counts = [n for n in records.audit.counts.values() if n] if records.audit else []
    if len(counts) < 2 or max(counts) < IMBALANCED * min(counts):
        return None
    return _step(
        f"The largest class has {max(counts) / min(counts):.0f} times as many images as the smallest: "
        "read the scores by class, not the accuracy alone.",
        "classes",
    )


def _calibration(records: Records) -> Step | None:
    metrics = records.evaluation.metrics if records.evaluation else {}
    ece = metrics.get("ece")
    if ece is None or not ece.low > POORLY_CALIBRATED:
        return None
    return _step(
        f"Confidence is off by {ece.value:.2f} on average even after scaling. Do not set thresholds on it yet.",
        "calibration",
    )


def _not_linear(records: Records) -> Step | None:
    """A head that is no linear layer scored best: the features need bending."""
    heads = records.heads
    if heads is None:
        return None
    best = [t for t in heads.trials if t.difference.value == 0]
    if not best or any(t.linear for t in best):
        return None
    more = f"Fine-tuning ({CLIMB}), or another network," if records.ladder is None else "Another network"
    return _step(
        f"{wording.head_name(best[0].name)} scored higher than every linear head: the classes are not separated by "
        f"straight lines in these features. {more} may gain more.",
        "heads",
    )


def _room_to_tune(records: Records) -> Step | None:
    """The network was not fine-tuned, and there is something to gain."""
    e = records.evaluation
    score = e.metrics.get(e.headline) if e else None
    if e is None or score is None or records.ladder is not None or _not_linear(records) is not None:
        return None
    if records.words.one != "image":
        return None  # other networks are used frozen, so far
    words = wording.metric_words(e.headline)
    if not (words.is_share and words.higher_is_better and score.value < ROOM):
        return None
    return _step(
        f"The network itself has learnt nothing yet. Whether fine-tuning it gains more is found out by {CLIMB}, which "
        "keeps the frozen network where it does not.",
        "heads",
    )


def _more_time(records: Records) -> Step | None:
    record = records.ladder
    if record is None or record.budget_s is None or not lacked_time(record):
        return None
    what = wording.capital(done_in_words(untried(record)[0]))
    return _step(
        f"{what} was not tried for want of time: {wording.seconds(record.budget_s)} were given. "
        "Give more with --time; the table of rungs says how much it takes.",
        "finetuning",
    )


def _labels_before_tuning(records: Records) -> Step | None:
    """Fine-tuning was tried and did not pay."""
    record = records.ladder
    if record is None or record.kept != PROBE or not tried(record):
        return None
    return _step(
        "Fine-tuning gained nothing beyond noise on these images. More labelled images are worth more now than more "
        "training.",
        "finetuning",
    )


def _try_elsewhere(records: Records) -> list[Step]:
    if records.evaluation is None or (records.run and records.run.status != "done"):
        return []
    return [
        _step(
            "Try the model on labelled images from another day or place before relying on it: "
            "headstart evaluate RUN NEW-DATA gives the same numbers there."
        )
    ]


RULES: tuple[Callable[[Records], Step | None], ...] = (
    _unfinished,
    _stops,
    _leaks,
    _no_transfer,
    _tuned_in_vain,
    _label_issues,
    _conflicts,
    _worst_class,
    _more_time,
    _labels_before_tuning,
    _few_examples,
    _vague,
    _calibration,
    _not_linear,
    _room_to_tune,
    _quarantined,
    _imbalance,
)
