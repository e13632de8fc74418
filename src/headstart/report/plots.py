"""Charts as inline SVG, made by small functions.

Horizontal positions are percentages, so a chart fills whatever width it is given without shrinking its text; words
stand in HTML beside it. Colours come from classes in style.css: a style attribute would not pass the report's
content-security-policy. Every value is escaped by ``_tag``; nothing else here makes markup.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from markupsafe import Markup, escape

from headstart.report.wording import is_nan, number, percent

CELL = 10  # px, side of a cell of the large confusion matrix
LABEL = 118  # px, room for its class names
LABEL_LETTERS = 18
APART = 6.0  # per cent of a chart's width between two numbers under it, at least


@dataclass(frozen=True)
class Scale:
    """Values low … high → 0 … 100 percent. ticks: round numbers inside."""

    low: float
    high: float
    ticks: tuple[float, ...] = ()

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return 100 * min(1.0, max(0.0, share))


SHARES = Scale(0.0, 1.0, (0.0, 0.5, 1.0))


SMALLEST = 1e-8  # differences below this are rounding, not something to draw


def scale_for(estimates: Sequence[Mapping[str, Any] | None], *, most: float = math.inf) -> Scale:
    """A scale with round ends that holds every value and interval; it need not start at 0 (dots, not bars).

    most: no value can lie above this, e.g. 1.0 for shares.
    """
    values = [e[k] for e in estimates if e is not None for k in ("value", "low", "high") if not is_nan(e[k])]
    if not values:
        return SHARES
    low, high = min(values), max(values)
    step = _step_between(low, high)
    first, last = math.floor(low / step - 0.2), math.ceil(high / step + 0.2)
    if high <= most < last * step:
        last = math.ceil(most / step - 1e-9)
    return Scale(first * step, last * step, tuple(round(i * step, 10) for i in range(first, last + 1)))


def _step_between(low: float, high: float) -> float:
    return _round_step(next(span for span in (high - low, abs(high), 1.0) if span > SMALLEST))


def _round_step(span: float) -> float:
    """1, 2 or 5 times a power of ten, four to eight of them to the span."""
    power = 10.0 ** math.floor(math.log10(span / 4))
    return next(m * power for m in (1, 2, 5, 10) if span / (m * power) <= 6)


def dot(estimate: Mapping[str, Any] | None, scale: Scale, *, kind: str = "plain") -> Markup:
    """One row of a dot-and-interval chart. kind: 'model' is filled with the accent, 'plain' is an open circle."""
    marks = [_line(scale.at(t), 0, scale.at(t), "100%", "grid") for t in scale.ticks]
    if estimate is not None and not is_nan(estimate["value"]):
        if _has_interval(estimate):
            marks.append(_line(scale.at(estimate["low"]), "50%", scale.at(estimate["high"]), "50%", f"range {kind}"))
        place = {"cx": _pc(scale.at(estimate["value"])), "cy": "50%", "r": 5, "class": f"dot {kind}"}
        marks.append(_tag("circle", place))
    return _svg("track", marks)


def small(estimate: Mapping[str, Any] | None, scale: Scale = SHARES) -> Markup:
    """The same for a cell of a table: a band with a stroke at the value, so that narrow intervals show too."""
    marks = [_line(0, "50%", 100, "50%", "grid")]
    if estimate is not None and not is_nan(estimate["value"]):
        if _has_interval(estimate):
            low, high = scale.at(estimate["low"]), scale.at(estimate["high"])
            marks.append(_rect(low, max(high - low, 0.5), "band"))
        at = scale.at(estimate["value"])
        marks.append(_line(at, "10%", at, "90%", "stroke"))
    return _svg("small", marks)


def _has_interval(estimate: Mapping[str, Any]) -> bool:
    return not is_nan(estimate["low"]) and not is_nan(estimate["high"])


def axis(scale: Scale, *, ends_only: bool = False) -> Markup:
    """The numbers under a dot chart, or over a column of small ones (ends_only)."""
    digits = max((_digits(t) for t in scale.ticks), default=0)
    texts = []
    for n, tick in enumerate(scale.ticks):
        last = n == len(scale.ticks) - 1
        if ends_only and n and not last:
            continue
        anchor = "start" if n == 0 else "end" if last else "middle"
        words = {"x": _pc(scale.at(tick)), "y": 12, "text-anchor": anchor}
        texts.append(_tag("text", words, number(tick, digits)))
    return _svg("axis", texts)


def _digits(value: float) -> int:
    text = f"{value:.10f}".rstrip("0")
    return len(text.partition(".")[2])


def bar(first: float, second: float, largest: float) -> Markup:
    """Two amounts end to end: filled, then outlined, against the largest sum of all rows."""
    one, both = 100 * first / (largest or 1), 100 * (first + second) / (largest or 1)
    marks = [_rect(0, one, "filled")]
    if second:
        marks.append(_rect(one, both - one, "open"))
    return _svg("bar", marks)


def step_bar(start: float, length: float, total: float) -> Markup:
    """A step of a story on the time axis of the whole."""
    width = 100 * length / (total or 1)
    return _svg(
        "bar", [_line(0, "50%", 100, "50%", "grid"), _rect(100 * start / (total or 1), max(width, 0.4), "filled")]
    )


def reliability(bins: Sequence[Mapping[str, Any]], title: str) -> Markup:
    """Share correct against confidence; the area of a dot is the number of images in the bin."""
    filled = [b for b in bins if b["n"] and not is_nan(b["accuracy"]) and not is_nan(b["confidence"])]
    most = max((b["n"] for b in filled), default=1)
    marks = _square()
    marks.append(_path([_place(b["confidence"], b["accuracy"]) for b in filled], "curve"))
    for b in filled:
        x, y = _place(b["confidence"], b["accuracy"])
        words = f"confidence {percent(b['confidence'])}, correct {percent(b['accuracy'])}, n = {b['n']:,}"
        circle = {"cx": x, "cy": y, "r": f"{2 + 5 * math.sqrt(b['n'] / most):.1f}", "class": "bubble"}
        marks.append(_tag("circle", circle, _tag("title", {}, words)))
    spoken = "; ".join(f"{number(b['confidence'], 2)} → {number(b['accuracy'], 2)} ({b['n']})" for b in filled)
    return _figure("reliability", 268, 258, title, f"confidence → share correct (images): {spoken}", marks)


SIDE, LEFT, TOP = 200.0, 52.0, 12.0  # px, the square of a reliability diagram


def _place(x: float, y: float) -> tuple[float, float]:
    return round(LEFT + SIDE * x, 1), round(TOP + SIDE * (1 - y), 1)


def _square() -> list[Markup]:
    """Frame, diagonal and axes from 0 to 1."""
    marks = [_tag("rect", {"x": LEFT, "y": TOP, "width": SIDE, "height": SIDE, "class": "frame"})]
    marks.append(_path([_place(0, 0), _place(1, 1)], "diagonal"))
    for tick in (0.0, 0.5, 1.0):
        x, y = _place(tick, tick)
        marks.append(_tag("text", {"x": x, "y": TOP + SIDE + 17, "text-anchor": "middle"}, number(tick, 1)))
        marks.append(_tag("text", {"x": LEFT - 8, "y": y + 4, "text-anchor": "end"}, number(tick, 1)))
    middle = TOP + SIDE / 2
    turned = {"transform": f"translate(12,{middle}) rotate(-90)", "text-anchor": "middle"}
    marks.append(_tag("text", turned, "share correct"))
    marks.append(_tag("text", {"x": LEFT + SIDE / 2, "y": TOP + SIDE + 38, "text-anchor": "middle"}, "confidence"))
    return marks


def _path(points: Sequence[tuple[float, float]], words: str) -> Markup:
    return _tag("polyline", {"points": " ".join(f"{x},{y}" for x, y in points), "class": words})


# --- the curve of a training --------------------------------------------------------------------------------------

MOST_POINTS = 800  # steps that are drawn; of more, every second, third … one
SMOOTHED = 16  # a point of the line is the mean over about one 16th of its phase on either side
SHARE_INSIDE = 0.99  # of the steps; what lies above is drawn at the edge, so that one spike hides nothing


def loss_scale(curve: Mapping[str, Any]) -> Scale:
    """From a round number below the smallest loss, never below 0 where all are above it, to one above the others."""
    losses = sorted(s["loss"] for s in _finite(curve["steps"]))
    others = [v["loss"] for v in _finite(curve["validations"])]
    if not losses:
        return SHARES
    inside = losses[math.ceil(SHARE_INSIDE * len(losses)) - 1]
    low, high = min(losses[:1] + others), max([inside, *others])
    step = _step_between(low, high)
    first, last = math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)
    return Scale(first * step, last * step, tuple(round(i * step, 10) for i in range(first, last + 1)))


def levels(scale: Scale) -> Markup:
    """The numbers beside a curve, one at each of its horizontal lines."""
    digits = max((_digits(t) for t in scale.ticks), default=0)
    texts = [
        _tag("text", {"x": "100%", "y": _pc(100 - scale.at(t)), "dy": 4, "text-anchor": "end"}, number(t, digits))
        for t in scale.ticks
    ]
    return _svg("levels", texts)


def step_scale(curve: Mapping[str, Any]) -> Scale:
    """Updates made, from 0 to the last; three numbers at most."""
    last = max((s["step"] + 1 for s in curve["steps"]), default=1)
    return Scale(0.0, float(last), tuple(float(t) for t in sorted({0, last // 2, last})))


def losses(curve: Mapping[str, Any], scale: Scale, title: str) -> Markup:
    """Loss by step: points, their running mean, numbered phases, and a ring for each validation, the best one filled.

    The curve fills its width: an inner picture is stretched without its strokes, the rest stands at percentages.
    """
    across = step_scale(curve)
    points = [(s["step"], s["loss"]) for s in _finite(curve["steps"])]
    mean = _smoothed(points, [p["first"] for p in curve["phases"]])
    marks = [_line(0, _pc(100 - scale.at(t)), 100, _pc(100 - scale.at(t)), "grid") for t in scale.ticks]
    for n, phase in enumerate(curve["phases"] if len(curve["phases"]) > 1 else (), 1):
        marks += _phase(n, phase, across)
    stretched = {"viewBox": "0 0 100 100", "preserveAspectRatio": "none", "aria-hidden": "true"}
    raw = "".join(f"M{x} {y}h0" for x, y in _placed(_thinned(points), across, scale))
    inner = [_tag("path", {"d": raw, "class": "steps"})] if raw else []
    inner += [_path(_placed(_thinned(run), across, scale), "mean") for run in mean if run]
    marks.append(_tag("svg", stretched, *inner))
    marks += [_validation(v, curve["best_step"], across, scale) for v in _finite(curve["validations"])]
    size = {"class": "losses", "role": "img"}
    return _tag("svg", size, _tag("title", {}, title), _tag("desc", {}, _spoken(curve, mean)), *marks)


def _finite(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in rows if math.isfinite(row["loss"])]


def _smoothed(points: Sequence[tuple[int, float]], firsts: Sequence[int]) -> list[list[tuple[int, float]]]:
    """The running mean, a line for each phase: another phase has another loss, so no mean reaches across a border."""
    lines = []
    for first, end in zip(firsts, [*firsts[1:], math.inf], strict=True):
        run = [(step, loss) for step, loss in points if first <= step < end]
        reach = max(1, len(run) // SMOOTHED)
        sums = list(accumulate((loss for _, loss in run), initial=0.0))
        ends = [(max(0, i - reach), min(len(run), i + reach + 1)) for i in range(len(run))]
        lines.append([(s, (sums[b] - sums[a]) / (b - a)) for (s, _), (a, b) in zip(run, ends, strict=True)])
    return lines


def _thinned(points: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    return points[:: max(1, math.ceil(len(points) / MOST_POINTS))]


def _placed(points: Sequence[tuple[int, float]], across: Scale, scale: Scale) -> list[tuple[float, float]]:
    """In percent of the frame; a loss belongs to the middle of its step."""
    return [(round(across.at(step + 0.5), 2), round(100 - scale.at(loss), 2)) for step, loss in points]


def _phase(n: int, phase: Mapping[str, Any], across: Scale) -> list[Markup]:
    """The number of a phase above its first step, and a border where it is not the first."""
    at = across.at(phase["first"])
    words = {"x": _pc(at), "y": 0, "dy": -8, "text-anchor": "start" if n == 1 else "middle", "class": "phase"}
    named = _tag("text", words, _tag("title", {}, phase["name"]), str(n))
    return [_line(at, 0, at, "100%", "border"), named] if n > 1 else [named]


def _validation(v: Mapping[str, Any], best_step: int, across: Scale, scale: Scale) -> Markup:
    kind = "validation best" if v["step"] == best_step else "validation"
    place = {"cx": _pc(across.at(v["step"])), "cy": _pc(100 - scale.at(v["loss"])), "r": 4.5, "class": kind}
    return _tag("circle", place, _tag("title", {}, f"held-back loss after step {v['step']:,}: {number(v['loss'], 3)}"))


def _spoken(curve: Mapping[str, Any], mean: Sequence[Sequence[tuple[int, float]]]) -> str:
    said = "; ".join(
        f"phase {n} ({phase['name']}) from {number(run[0][1], 3)} to {number(run[-1][1], 3)}"
        for n, (phase, run) in enumerate(zip(curve["phases"], mean, strict=True), 1)
        if run
    )
    held = [f"{number(v['loss'], 3)} after {v['step']:,}" for v in _finite(curve["validations"])]
    return f"running mean of the loss over {len(curve['steps']):,} steps: {said}" + (
        f". On held-back images: {'; '.join(held)}" if held else ""
    )


# --- quality against cost ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LogScale:
    """Values low … high, both above 0 → 0 … 100 percent by their logarithm. ticks: round numbers inside."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return 100 * min(1.0, max(0.0, share))


def log_scale(values: Sequence[float]) -> LogScale:
    """From a little below the smallest to a little above the largest, with ticks at 1, 2 and 5 times powers of ten."""
    low, high = min(values) / 1.25, max(values) * 1.25
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = [m * 10.0**power for power in range(first, last + 1) for m in (1, 2, 5)]
    return LogScale(low, high, tuple(t for t in ticks if low <= t <= high))


def tradeoff(points: Sequence[Mapping[str, Any]], title: str) -> Markup:
    """Quality against cost: a numbered dot with its interval for each point, the Pareto front as a stepped line.

    points: number, name, cost (above 0), value, low, high, on_front, chosen. The picture fills its width.
    """
    across, up = log_scale([p["cost"] for p in points]), scale_for(points, most=1.0)
    marks = [_line(0, _pc(100 - up.at(t)), 100, _pc(100 - up.at(t)), "grid") for t in up.ticks]
    marks += [_line(across.at(t), 0, across.at(t), "100%", "grid") for t in across.ticks]
    stretched = {"viewBox": "0 0 100 100", "preserveAspectRatio": "none", "aria-hidden": "true"}
    marks.append(_tag("svg", stretched, _path(_steps(points, across, up), "reach")))
    for p in points:
        x, y = across.at(p["cost"]), 100 - up.at(p["value"])
        if _has_interval(p):
            ends = {"y1": _pc(100 - up.at(p["low"])), "y2": _pc(100 - up.at(p["high"]))}
            marks.append(_tag("line", {"x1": _pc(x), "x2": _pc(x), **ends, "class": "range"}))
        kind = "point chosen" if p["chosen"] else "point front" if p["on_front"] else "point"
        said = f"{p['name']}: {number(p['value'], 3)} at {number(p['cost'], 1)} ms"
        marks.append(_tag("circle", {"cx": _pc(x), "cy": _pc(y), "r": 10, "class": kind}, _tag("title", {}, said)))
        words = {"x": _pc(x), "y": _pc(y), "dy": 4, "text-anchor": "middle", "class": kind}
        marks.append(_tag("text", words, str(p["number"])))
    desc = "; ".join(f"{p['number']} {p['name']}: {number(p['value'], 3)} at {number(p['cost'], 1)} ms" for p in points)
    return _tag("svg", {"class": "tradeoff", "role": "img"}, _tag("title", {}, title), _tag("desc", {}, desc), *marks)


def tradeoff_levels(points: Sequence[Mapping[str, Any]]) -> Markup:
    """The numbers beside ``tradeoff``."""
    return levels(scale_for(points, most=1.0))


def tradeoff_axis(points: Sequence[Mapping[str, Any]]) -> Markup:
    """The numbers under ``tradeoff``, milliseconds."""
    across = log_scale([p["cost"] for p in points])
    texts = [
        _tag("text", {"x": _pc(across.at(t)), "y": 12, "text-anchor": "middle"}, number(t, _digits(t)))
        for t in across.ticks
    ]
    return _svg("axis", texts)


def _steps(points: Sequence[Mapping[str, Any]], across: LogScale, up: Scale) -> list[tuple[float, float]]:
    """The border of what is reachable: a step up at each point of the front."""
    found: list[tuple[float, float]] = []
    for p in sorted((p for p in points if p["on_front"]), key=lambda p: p["cost"]):
        x, y = round(across.at(p["cost"]), 2), round(100 - up.at(p["value"]), 2)
        found += [(x, found[-1][1])] if found else [(x, 100.0)]
        found.append((x, y))
    return [*found, (100.0, found[-1][1])] if found else []


# --- label efficiency ---------------------------------------------------------------------------------------------


def efficiency_scale(
    curves: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]], *, most: float = math.inf
) -> Scale:
    """A scale for the scores of all curves with their intervals, and of all lines across."""
    flat = [{"value": line["value"], "low": line["value"], "high": line["value"]} for line in lines]
    return scale_for([p["score"] for c in curves for p in c["points"]] + flat, most=most)


def efficiency(
    curves: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]], scale: Scale, title: str
) -> Markup:
    """Score by number of labels, doubling to the right: dots with intervals, fitted curves, and lines across.

    curves: key, name, points (n, score), fitted ((n, score) along the law).  lines: key, name, value.
    """
    across = _labels(curves)
    marks = [_line(0, _pc(100 - scale.at(t)), 100, _pc(100 - scale.at(t)), "grid") for t in scale.ticks]
    marks += [
        _line(0, _pc(100 - scale.at(line["value"])), 100, _pc(100 - scale.at(line["value"])), f"across {line['key']}")
        for line in lines
        if not is_nan(line["value"])
    ]
    stretched = {"viewBox": "0 0 100 100", "preserveAspectRatio": "none", "aria-hidden": "true"}
    laws = []
    for c in curves:
        path = [(round(across.at(math.log2(n)), 2), round(100 - scale.at(value), 2)) for n, value in c["fitted"]]
        laws += [_path(path, f"law {c['key']}")] if path else []
    marks.append(_tag("svg", stretched, *laws))
    for c in curves:
        marks += [mark for p in c["points"] for mark in _sized(c, p, across, scale)]
    size = {"class": "losses efficiency", "role": "img"}
    return _tag("svg", size, _tag("title", {}, title), _tag("desc", {}, _efficiency_spoken(curves, lines)), *marks)


def efficiency_axis(curves: Sequence[Mapping[str, Any]]) -> Markup:
    """The numbers of labels that were learnt from, under ``efficiency``; none is written over another."""
    across = _labels(curves)
    sizes = {round(p["n"]) for c in curves for p in c["points"]}
    written: list[tuple[float, int]] = []
    for n in sorted(sizes, reverse=True):  # the last is all of them, and always written
        x = across.at(math.log2(n))
        if not written or written[-1][0] - x >= APART:
            written.append((x, n))
    texts = [_tag("text", {"x": _pc(x), "y": 12, "text-anchor": "middle"}, f"{n:,}") for x, n in reversed(written)]
    return _svg("axis", texts)


def _labels(curves: Sequence[Mapping[str, Any]]) -> Scale:
    """Numbers of labels by their logarithm; each doubling is as wide as any other."""
    sizes = [math.log2(max(1.0, p["n"])) for c in curves for p in c["points"]]
    low, high = min(sizes), max(sizes)
    room = 0.04 * max(high - low, 1.0)
    return Scale(low - room, high + room)


def _sized(curve: Mapping[str, Any], point: Mapping[str, Any], across: Scale, scale: Scale) -> list[Markup]:
    """A dot with its interval."""
    score = point["score"]
    if is_nan(score["value"]):
        return []
    x, kind = _pc(across.at(math.log2(max(1.0, point["n"])))), curve["key"]
    marks = []
    if _has_interval(score):
        ends = {"y1": _pc(100 - scale.at(score["low"])), "y2": _pc(100 - scale.at(score["high"]))}
        marks.append(_tag("line", {"x1": x, "x2": x, **ends, "class": f"spread {kind}"}))
    words = f"{curve['name']}, {round(point['n']):,} labels: {number(score['value'], 3)}"
    place = {"cx": x, "cy": _pc(100 - scale.at(score["value"])), "r": 4.5, "class": f"size {kind}"}
    return [*marks, _tag("circle", place, _tag("title", {}, words))]


def _efficiency_spoken(curves: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]]) -> str:
    said = [
        f"{c['name']}: "
        + ", ".join(f"{number(p['score']['value'], 3)} with {round(p['n']):,} labels" for p in c["points"])
        for c in curves
    ]
    return "; ".join([*said, *(f"{line['name']}, all labels: {number(line['value'], 3)}" for line in lines)])


# --- a matrix for many classes ------------------------------------------------------------------------------------


def heat(labels: Sequence[str], rows: Sequence[Sequence[int]], totals: Sequence[int]) -> Markup:
    """A confusion matrix for many classes: one cell a pair, stronger with the share of its row; no cell for 0."""
    k = len(rows)
    cell = max(CELL, min(18, 640 // k))
    marks = [_tag("rect", {"x": LABEL, "y": LABEL, "width": k * cell, "height": k * cell, "class": "frame"})]
    for i, name in enumerate(labels[:k]):
        middle = LABEL + (i + 0.5) * cell
        words = _tag("title", {}, name)
        marks.append(_tag("text", {"x": LABEL - 4, "y": middle + 3, "text-anchor": "end"}, words, _cut(name)))
        turned = {"x": 0, "y": 0, "transform": f"translate({middle + 3},{LABEL - 4}) rotate(-90)"}
        marks.append(_tag("text", turned, words, _cut(name)))
    for i, row in enumerate(rows):
        for j, n in enumerate(row):
            if n:
                marks.append(_cell(labels, i, j, n, totals[i], cell))
    side = LABEL + k * cell + 1
    right = sum(row[i] for i, row in enumerate(rows))
    desc = f"{right} of {sum(totals)} on the diagonal. The commonest mistakes are listed in the table below."
    return _figure("heat", side, side, f"Confusion matrix of {k} classes", desc, marks)


def _cell(labels: Sequence[str], i: int, j: int, n: int, total: int, cell: int) -> Markup:
    said = f"{labels[i]} called {labels[j]}: {n} of {total}" if i != j else f"{labels[i]}: {n} of {total} right"
    place: dict[str, object] = {"x": LABEL + j * cell, "y": LABEL + i * cell, "width": cell - 1, "height": cell - 1}
    look = {"class": "right" if i == j else "wrong", "fill-opacity": f"{0.25 + 0.75 * n / (total or 1):.2f}"}
    return _tag("rect", place | look, _tag("title", {}, said))


def tint(n: int, total: int) -> int:
    """0 … 10, the class of a cell's background by its share of the row; any count at all is at least 1."""
    return 0 if n == 0 else max(1, round(10 * n / (total or 1)))


def _cut(name: str) -> str:
    return name if len(name) <= LABEL_LETTERS else name[: LABEL_LETTERS - 1] + "…"


def _pc(x: float) -> str:
    return f"{x:.2f}%"


def _line(x1: float, y1: object, x2: float, y2: object, words: str) -> Markup:
    return _tag("line", {"x1": _pc(x1), "y1": y1, "x2": _pc(x2), "y2": y2, "class": words})


def _rect(x: float, width: float, words: str) -> Markup:
    return _tag("rect", {"x": _pc(x), "y": "15%", "width": _pc(max(0.0, width)), "height": "70%", "class": words})


def _svg(words: str, marks: Sequence[Markup]) -> Markup:
    """A chart that repeats a number standing beside it: silent for screen readers."""
    return _tag("svg", {"class": words, "aria-hidden": "true"}, *marks)


def _figure(words: str, width: float, height: float, title: str, desc: str, marks: Sequence[Markup]) -> Markup:
    """A chart that speaks for itself, with a title and a description."""
    size = {"class": words, "role": "img", "width": width, "height": height, "viewBox": f"0 0 {width} {height}"}
    return _tag("svg", size, _tag("title", {}, title), _tag("desc", {}, desc), *marks)


def _tag(name: str, attributes: Mapping[str, object], *children: Markup | str) -> Markup:
    words = "".join(f' {key}="{escape(value)}"' for key, value in attributes.items())
    inside = "".join(escape(child) for child in children)
    return Markup(f"<{name}{words}>{inside}</{name}>")  # noqa: S704 - every part was escaped above
