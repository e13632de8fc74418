"""The section about what came after the probe: the ladder of rungs, or the one strategy that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headstart.base.config import to_dict
from headstart.records.estimate import Estimate
from headstart.records.evaluation import Baseline
from headstart.records.history import History
from headstart.records.ladder import Candidate, LadderRecord, Rung
from headstart.report import wording
from headstart.report.plans import changes_network, plan_words
from headstart.report.reading import Records
from headstart.report.wording import capital, counted, estimate_words, percent, signed, value_of

PROBE = "probe"  # name of the rung from which a climb starts, and key of the baseline that it is


def finetuning(records: Records) -> dict[str, Any] | None:
    """None where the fit was not asked to go beyond the probe."""
    record = records.ladder
    if record is None:
        return None
    words = wording.metric_words(record.metric)
    kept = kept_rung(record)
    found = {
        "lead": _asked(record.rungs[0]) if is_asked(record) else _climb(record),
        "on_test": _on_test(records),
        "is_asked": is_asked(record),
        "is_tuned": changed_network(record),
        "metric": words.name,
        "is_share": words.is_share,
        "higher_is_better": words.higher_is_better,
        "folds": record.folds,
        "has_test": records.split is not None and records.split.how != "cross-validation",
        "level": next((rung.gain.level for rung in record.rungs if rung.gain), None),
        "rungs": [_rung(rung, record) for rung in record.rungs],
        "stopped": _stopped(record),
        "time": _time(record),
        "screenings": [_screening(rung) for rung in record.rungs if rung.candidates],
        "saved": "" if kept is None or is_asked(record) else _saved(kept),
        "plan": plan_words(kept.plan) if kept and kept.plan else None,
        "curve": _curve(record.history) if record.history else None,
        "notes": list(record.notes),
    }
    return {key: _spoken(value, records) for key, value in found.items()}


def _spoken(value: Any, records: Records) -> Any:
    """Every sentence inside, said of the examples of this run."""
    if isinstance(value, str):
        return wording.spoken(value, records.words)
    if isinstance(value, dict):
        return {key: _spoken(part, records) for key, part in value.items()}
    return [_spoken(part, records) for part in value] if isinstance(value, list | tuple) else value


def kept_rung(record: LadderRecord) -> Rung | None:
    """The rung whose model was saved."""
    return next((rung for rung in record.rungs if rung.name == record.kept), None)


def changed_network(record: LadderRecord | None) -> bool:
    """Whether the saved network has other weights than the one that was loaded."""
    rung = kept_rung(record) if record and record.kept != PROBE else None
    return rung is not None and changes_network(rung.plan)


def is_asked(record: LadderRecord) -> bool:
    """A strategy was named by the user: carried out as it is, compared with nothing."""
    return len(record.rungs) == 1 and record.rungs[0].score is None and record.rungs[0].kept


def tried(record: LadderRecord) -> list[Rung]:
    """Rungs above the probe that were trained and compared with what was kept below."""
    return [rung for rung in record.rungs if rung.gain is not None]


def untried(record: LadderRecord) -> list[Rung]:
    return [rung for rung in record.rungs if rung.score is None and not rung.kept]


def lacked_time(record: LadderRecord) -> bool:
    """A rung was left untried under a limit of time, which is all that keeps a ladder from trying one."""
    return record.budget_s is not None and bool(untried(record))


def against_probe(records: Records) -> Baseline | None:
    """The same network frozen, on the examples that judge."""
    baselines = records.evaluation.baselines if records.evaluation else ()
    return next((b for b in baselines if b.key == PROBE), None)


def done_in_words(rung: Rung) -> str:
    """'fine-tuning the last 3 stages (L2-SP)', 'fine-tuning the whole network', 'fine-tuning by lora'."""
    what, _, how = rung.what.partition(", ")
    how = f" ({how})" if how else ""
    if what.startswith("last "):
        return f"fine-tuning the {what}{how}"
    return f"fine-tuning {'the whole network' if what == 'full' else f'by {what}'}{how}"


# --- sentences ----------------------------------------------------------------------------------------------------


def _asked(rung: Rung) -> str:
    return f"The strategy ‘{rung.name}’ was asked for by name and carried out: {rung.what.rstrip('.')}."


def _climb(record: LadderRecord) -> str:
    gained = [rung for rung in tried(record) if rung.kept]
    if gained:
        return "; ".join([*_gains(record, gained), *_above(record)]) + "."
    failed = tried(record)
    if not failed:
        return f"Fine-tuning was not tried{_for_want_of_time(record)}, so the frozen network with its head was kept."
    return (
        "Fine-tuning did not beat the frozen probe by more than noise, so the probe was kept: "
        + "; ".join(_attempt(rung, record) for rung in failed)
        + f"{_judged_on(failed[0])}."
    )


def _gains(record: LadderRecord, gained: Sequence[Rung]) -> list[str]:
    """A clause for each rung that was climbed."""
    first, *more = gained
    clauses = [f"{capital(done_in_words(first))} {_moved(first, record)} over the frozen probe{_judged_on(first)}"]
    return clauses + [f"{done_in_words(rung)} {_moved(rung, record)} beyond that" for rung in more]


def _moved(rung: Rung, record: LadderRecord) -> str:
    """'raised accuracy by 0.062 [0.031, 0.094]'; 'lowered RMSE by …' where less is better."""
    assert rung.gain is not None, "only rungs that were compared have moved anything"
    words = wording.metric_words(record.metric)
    is_lower_better = words.higher_is_better is False
    size = _turned(rung.gain) if is_lower_better else rung.gain
    return f"{'lowered' if is_lower_better else 'raised'} {_small(words.name)} by {estimate_words(to_dict(size))}"


def _attempt(rung: Rung, record: LadderRecord) -> str:
    name = _small(wording.metric_words(record.metric).name)
    return f"{done_in_words(rung)} changed {name} by {signed(to_dict(rung.gain))}"


def _above(record: LadderRecord) -> list[str]:
    """What became of the rungs above the one that was kept."""
    names = [rung.name for rung in record.rungs]
    rest = record.rungs[names.index(record.kept) + 1 :] if record.kept in names else ()
    fates = {True: f"was not tried{_for_want_of_time(record)}", False: "gained nothing beyond noise"}
    return [f"{done_in_words(rung)} {fates[rung.gain is None]}" for rung in rest]


def _for_want_of_time(record: LadderRecord) -> str:
    return " for want of time" if lacked_time(record) else ""


def _stopped(record: LadderRecord) -> str:
    """Why the climb ended; where that is the reason of a rung, it stands beside the rung already."""
    for rung in record.rungs:
        if rung.reason and record.stopped.endswith(rung.reason):
            return f"The climb ended at ‘{rung.name}’, for the reason given there."
    return record.stopped


def _judged_on(rung: Rung) -> str:
    if rung.score is None:
        return ""
    return f" on {counted(rung.score.n, 'training image')} it had not learnt from"


def _turned(e: Estimate) -> Estimate:
    return Estimate(-e.value, -e.high, -e.low, e.n, e.level)


def _small(name: str) -> str:
    """'accuracy', but 'RMSE' and 'F1 (macro)' as they are."""
    return name[:1].lower() + name[1:] if name[1:2].islower() else name


def _on_test(records: Records) -> str:
    """The saved model and the frozen network on the examples that judge; they had no say in the climb."""
    b, e = against_probe(records), records.evaluation
    if b is None or e is None:
        return ""
    name = _small(wording.metric_words(e.headline).name)
    p = f", McNemar p {_with_sign(wording.p_value(b.p_value))}" if b.p_value is not None else ""
    what = "gain" if b.gain.value > 0 else "difference"
    includes = "; the interval includes 0" if b.gain.low <= 0 <= b.gain.high else ""
    return (
        f"On {b.n:,} {wording.SIDES.get(e.how, e.how)}: {name} {value_of(to_dict(b.reference))}, and "
        f"{value_of(to_dict(b.score))} with the same network frozen, a {what} of "
        f"{signed(to_dict(b.gain))}{p}{includes}."
    )


def _with_sign(p: str) -> str:
    return p if p.startswith("<") else f"= {p}"


def _saved(rung: Rung) -> str:
    if rung.name == PROBE:
        return ""
    if rung.interpolation >= 1:
        return "The tuned weights are saved as they are: mixing in the loaded ones (WiSE-FT) did no better."
    return (
        f"What is saved lies {percent(rung.interpolation)} of the way from the loaded to the tuned weights (WiSE-FT): "
        "the share that did best on the images held back."
    )


def _time(record: LadderRecord) -> str:
    took = f"It took {wording.seconds(record.seconds)}"
    if record.budget_s is None:
        return f"{took}; no limit was set."
    given = wording.seconds(record.budget_s)
    return f"{took}; {given} were given." if record.seconds > record.budget_s else f"{took} of the {given} given."


# --- tables and the curve -----------------------------------------------------------------------------------------


def _rung(rung: Rung, record: LadderRecord) -> dict[str, Any]:
    return {
        "name": rung.name,
        "what": "" if rung.what == rung.name else rung.what,
        "score": to_dict(rung.score),
        "gain": to_dict(rung.gain),
        "is_kept": rung.name == record.kept,
        "is_tried": rung.score is not None or rung.kept,
        "seconds": rung.seconds,
        "reason": rung.reason,
    }


def _screening(rung: Rung) -> dict[str, Any]:
    """Candidates by round; the same way to fine-tune stands once in each round it took part in."""
    ways: dict[tuple[str, float], list[Candidate]] = {}
    for candidate in rung.candidates:
        ways.setdefault((candidate.name, candidate.factor), []).append(candidate)
    rounds = max(len(seen) for seen in ways.values())
    return {
        "rung": rung.name,
        "rounds": rounds,
        "lowest": [min(seen[i].loss for seen in ways.values() if len(seen) > i) for i in range(rounds)],
        "rows": [_way(seen, rounds) for seen in ways.values()],
    }


def _way(seen: Sequence[Candidate], rounds: int) -> dict[str, Any]:
    is_chosen = not seen[-1].dropped
    return {
        "name": seen[0].name,
        "factor": seen[0].factor,
        "rounds": [to_dict(seen[i]) if i < len(seen) else None for i in range(rounds)],
        "is_chosen": is_chosen,
        "fate": "trained in full" if is_chosen else f"dropped after round {len(seen)}",
    }


def _curve(history: History) -> dict[str, Any]:
    return {
        "steps": [{"step": s.step, "loss": s.loss} for s in history.steps],
        "phases": [{"name": p.name, "first": p.first} for p in history.phases],
        "validations": [to_dict(v) for v in history.validations],
        "highest": max((s.loss for s in history.steps), default=0.0),
        "best_step": history.best_step,
        "is_best_shown": any(v.step == history.best_step for v in history.validations),
        "sentence": _training(history),
    }


def _training(history: History) -> str:
    made = len(history.steps)
    at_once = (
        f", {history.micro_batch} at a time for want of memory" if history.micro_batch < history.batch_size else ""
    )
    steps = counted(made, "step") if made == history.planned else f"{made:,} of {history.planned:,} planned steps"
    ended = {
        "finished": "",
        "patience": " It ended early: the validations had stopped improving.",
        "time": " It ended at the limit of time.",
        "failed": " It had learnt less than a constant answer knows.",
    }[history.stopped_because]
    best = f" The weights after step {history.best_step:,} did best on held-back images and were kept."
    return (
        f"{steps} of {counted(history.batch_size, 'image')}{at_once}, in "
        f"{wording.seconds(history.seconds)} ({wording.number(history.images_per_s, 1)} images per second).{ended}"
        + (best if history.validations and history.best_step != made else "")
    )
