"""A table of ten million texts and labels, read, audited and divided: how much memory, and how many rows a second."""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.figure import MIB, Bench, Outcome, Row, peak_of

TITLE = "`headstart inspect` of a CSV of ten million texts and labels"
PREDICTED = (
    "I predicted 1,200 MiB: about 80 bytes a row (key, hash, lengths, places, groups, and what sorting them takes) on "
    "top of 250 MiB for Python, Arrow and what it reads at once; and 60,000 rows a second on an idle core."
)
EXCLUDED = (
    "Peak resident memory (VmHWM) and wall time of the whole process. The texts (157 characters in the middle, 1.6 GB "
    "in all) are three of 20,000 phrases of made-up words; a tenth repeats an earlier one, a third of it in capitals. "
    "Before columns were kept in a few bytes a row, one million of these rows took 1,258,836 KiB and 24 s."
)
LABELS = ("very bad", "bad", "fair", "good", "very good")
AT_ONCE = 10_000


def measure(bench: Bench) -> Outcome:
    rows = bench.pick(10_000_000, 500_000)
    path = table(bench.work / f"scale-{rows}.csv", rows)
    peak, took = peak_of(bench, ["inspect", path, "--text", "t", "--target", "y", "--quiet"])
    return Outcome(
        (
            Row("most memory", (peak / MIB,), "MiB", must=2048),
            Row("`inspect`, whole process", (took,), "s", must=600),
            Row("rows a second", (rows / took,), "rows/s"),
        ),
        details={"rows": rows, "bytes": path.stat().st_size},
    )


def table(path: Path, rows: int) -> Path:
    """A CSV of texts (column t) and labels (column y); the same one every time."""
    if path.exists():
        return path
    draw = random.Random(0)
    words = ["".join(draw.choices("etaoinshrdlcumwfgypb", k=draw.randint(2, 10))) for _ in range(20_000)]
    phrases = [" ".join(draw.choices(words, k=draw.randint(3, 12))) for _ in range(20_000)]
    seen: list[str] = []
    part = path.with_suffix(".part")
    with open(part, "w", encoding="utf-8") as file:
        file.write("t,y\n")
        for start in range(0, rows, AT_ONCE):
            lines = [
                f'"{_text(draw, phrases, seen)}",{draw.choice(LABELS)}\n' for _ in range(min(AT_ONCE, rows - start))
            ]
            file.write("".join(lines))
    part.replace(path)
    return path


def _text(draw: random.Random, phrases: list[str], seen: list[str]) -> str:
    kind = draw.random()
    if kind < 0.1 and seen:
        again = draw.choice(seen)
        return again.upper() if kind < 0.03 else again
    text = f"{draw.choice(phrases)}, {draw.choice(phrases)}. {draw.choice(phrases)}"
    if kind > 0.999:
        text += " — naïve café"
    if len(seen) < 100_000:
        seen.append(text)
    return text
