"""Every code block of README and docs is run, and what a page shows as output is compared with what comes out.

Slow-ish, so it is collected only when named: ``pytest tests/house/docs_code.py``, or ``make docs``. What a page's
blocks really print is shown by: ``python -m tests.house.docs_code docs/tutorial/first-model.md``

The blocks of a page run in order in one temporary folder that holds the sample files of ``desk`` below; python blocks
share their names. Remarks above a block, as HTML comments that readers do not see:

    <!-- not run: WHY -->    it needs what a test must not have: a network, another machine, minutes
    <!-- needs: MODULE -->   it is run only where that module is installed
    <!-- exits 2 -->         its last command ends with that code
    <!-- prints -->          (above a text block) what the python block before it prints
    <!-- starts with runs/first -->    anywhere in a page: a finished run on photos/ is there

In shown output any number stands for any other, blanks do not count, and '…' stands for anything.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from random import Random
from unittest import mock

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted(p for p in (ROOT / "examples").glob("*.py") if p.name != "demo.py")  # that one is `make demo`
RUN = ("python", "console", "bash")
SHELL = re.compile(r"[|<>;&$`*?]")  # what headstart's own words do not need, so a shell must read the line


@dataclass(frozen=True)
class Block:
    """line: of the opening fence, from 1.  remarks: name → words of the HTML comments right above it."""

    page: Path
    line: int
    language: str
    text: str
    remarks: dict[str, str]

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"

    @property
    def is_run(self) -> bool:
        return self.language in RUN and "not run" not in self.remarks

    @property
    def missing(self) -> str:
        """The module that the block needs and this machine lacks."""
        return next((m for m in self.remarks.get("needs", "").split() if find_spec(m) is None), "")


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    remarks: dict[str, str] = {}
    opened: tuple[int, str, list[str]] | None = None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if opened is not None:
            if line.rstrip() == "```":
                found.append(Block(page, opened[0], opened[1], "\n".join(opened[2]) + "\n", remarks))
                opened, remarks = None, {}
            else:
                opened[2].append(line)
        elif line.startswith("```"):
            opened = (number, line[3:].strip(), [])
        elif remark := re.fullmatch(r"<!-- (not run|needs|exits|prints):? ?(.*?) -->", line.strip()):
            remarks = {**remarks, remark[1]: remark[2]}
        elif line.strip():
            remarks = {}
    assert opened is None, f"{page}: the block that opens in line {opened and opened[0]} is never closed"
    return found


# --------------------------------------------------------------------------------------------------- the sample files

KINDS = ("circle", "square", "triangle")


def drawn(kinds: tuple[str, ...], random: Random, side: int = 64) -> tuple[object, int]:
    """A picture with one shape of each kind, and the radius of the last."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (side, side), tuple(random.randint(150, 255) for _ in range(3)))
    pen, r = ImageDraw.Draw(picture), 0
    for kind in kinds:
        colour = tuple(random.randint(0, 140) for _ in range(3))
        x, y, r = random.randint(20, side - 20), random.randint(20, side - 20), random.randint(8, 18)
        if kind == "circle":
            pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        elif kind == "square":
            pen.rectangle((x - r, y - r, x + r, y + r), fill=colour)
        else:
            pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=colour)
    return picture, r


def desk(folder: Path) -> Path:
    """What pages may take for granted: photos/ with photos.csv and sizes.csv, more-photos/, new-photos/, scenes/ with
    scenes.csv.
    """
    random = Random(0)
    rows, sizes, scenes = ["path,label,patient"], ["path,radius_mm"], ["path,tags"]
    for root, each in (("photos", 40), ("more-photos", 15)):
        for kind in KINDS:
            (folder / root / kind).mkdir(parents=True)
            for number in range(each):
                picture, radius = drawn((kind,), random)
                place = f"{root}/{kind}/p{number % 20:02}_{kind}_{'abc'[number // 20]}.png"
                picture.save(folder / place)
                if root == "photos":
                    rows.append(f"{place},{kind},p{number % 20:02}")
                    sizes.append(f"{place},{radius + random.random():.2f}")
    (folder / "new-photos").mkdir()
    (folder / "scenes").mkdir()
    for number in range(12):
        drawn((random.choice(KINDS),), random)[0].save(folder / "new-photos" / f"{number:02}.png")
    for number in range(90):
        kinds = tuple(sorted(random.sample(KINDS, random.randint(1, 2))))
        drawn(kinds, random)[0].save(folder / "scenes" / f"{number:02}.png")
        scenes.append(f"scenes/{number:02}.png,{'|'.join(kinds)}")
    for name, lines in (("photos.csv", rows), ("sizes.csv", sizes), ("scenes.csv", scenes)):
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def some_weights(path: Path) -> None:
    """Of toy/conv, as a training script leaves them: torch.save of a wrapped state dict, with a head of 10 classes."""
    import timm
    import torch

    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=10)
    torch.save({"state_dict": {f"module.{n}": t for n, t in network.state_dict().items()}, "epoch": 30}, path)


def a_run(folder: Path) -> None:
    """runs/first, as in: headstart fit photos/ --out runs/first"""
    with chdir(folder):
        code, said = headstart(["fit", "photos", "--backbone", "toy/conv", "--out", "runs/first"])
    assert code == 0, said


# ----------------------------------------------------------------------------------------------------------- running


def headstart(words: list[str]) -> tuple[int, str]:
    """(exit code, everything on the screen) of a command, in this process: importing torch each time takes seconds."""
    from headstart.cli.main import run

    screen = io.StringIO()
    with redirect_stdout(screen), redirect_stderr(screen), mock.patch.object(sys, "argv", ["headstart", *words]):
        code = run(words)
    return code, screen.getvalue()


def shell(line: str) -> tuple[int, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PATH": path},
        check=False,
        timeout=300,
    )
    return done.returncode, done.stdout.decode(errors="replace")


def commands(text: str) -> Iterator[tuple[str, str]]:
    """(command, shown output) of a console block: '$ ' begins a command, a backslash goes on with it."""
    assert text.startswith("$ "), f"a console block begins with a command: {text[:60]}"
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        lines = part.splitlines()
        last = next(i for i, line in enumerate(lines) if not line.endswith("\\"))
        yield " ".join(line.rstrip("\\").strip() for line in lines[: last + 1]), "\n".join(lines[last + 1 :])


@dataclass
class Desk:
    """Runs the blocks of one page. printed: by the last python block."""

    names: dict[str, object]
    printed: str = ""

    def run(self, block: Block) -> Iterator[str]:
        """What is wrong with the block, in words; nothing if all is well."""
        if block.language == "python":
            yield from self._python(block)
        elif block.language == "console":
            yield from self._console(block)
        elif block.language == "bash":
            code, said = shell(block.text)
            yield from _code_problem(block, block.text, code, said, int(block.remarks.get("exits", 0)))
        if "prints" in block.remarks:
            yield from _difference(block, "the block above", self.printed, block.text)

    def _python(self, block: Block) -> Iterator[str]:
        screen = io.StringIO()
        self.printed = ""
        try:
            with redirect_stdout(screen):
                exec(compile("\n" * block.line + block.text, str(block.page), "exec"), self.names)
        except Exception:
            yield f"{block.place}: {traceback.format_exc(limit=-3)}"
        self.printed = screen.getvalue()

    def _console(self, block: Block) -> Iterator[str]:
        every = list(commands(block.text))
        for at, (command, shown) in enumerate(every):
            own = command.startswith("headstart ") and not SHELL.search(command)
            code, said = headstart(shlex.split(command)[1:]) if own else shell(command)
            wanted = int(block.remarks.get("exits", 0)) if at == len(every) - 1 else 0
            yield from _code_problem(block, command, code, said, wanted)
            if shown.strip():
                yield from _difference(block, command, said, shown)


def _code_problem(block: Block, command: str, code: int, said: str, wanted: int) -> Iterator[str]:
    if code != wanted:
        yield f"{block.place}: {command}\nexit code {code}, not {wanted}\n{said}"


def _difference(block: Block, what: str, said: str, shown: str) -> Iterator[str]:
    if not alike(said, shown):
        yield f"{block.place}: {what}\n--- prints\n{said}\n--- and not, as the page shows,\n{shown}"


def alike(said: str, shown: str) -> bool:
    """Whether the output is what the page shows: same words, any numbers, '…' for anything."""
    parts = [re.escape(_words(part)) for part in shown.split("…")]
    return re.fullmatch(r".*?".join(parts), _words(said), re.S) is not None


_SLOW_STEP = re.compile(r"^· .+: \d+ in [\d.]+ s.*\n", re.M)  # is said of steps above two seconds only
_NUMBER = re.compile(r"(?<![\w-])[-+−]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?")


def _words(text: str) -> str:
    text = re.sub(r"[─━]+", "─", _SLOW_STEP.sub("", text)).replace("→", " ")
    text = re.sub(r"\s+", " ", _NUMBER.sub("0", text))
    return re.sub(r"0 \[0, 0\] (?=0 s)", "best ", text).strip()  # which head is best may differ in the last digit


# ------------------------------------------------------------------------------------------------------------- tests


@pytest.fixture(scope="session")
def drawer(tmp_path_factory):
    """(sample files without a run, the same with one), made once; features are cached for all pages."""
    cache = tmp_path_factory.mktemp("cache")
    with mock.patch.dict(os.environ, {"HEADSTART_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}):
        plain = desk(tmp_path_factory.mktemp("desk"))
        some_weights(plain / "my-weights.pth")
        with_run = tmp_path_factory.mktemp("desk-with-run") / "here"
        shutil.copytree(plain, with_run)
        a_run(with_run)
        yield plain, with_run


def starts_with_a_run(page: Path) -> bool:
    return "<!-- starts with runs/first -->" in page.read_text()


@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if p.exists() and any(b.is_run for b in blocks(p))],
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_the_code_of_the_page_does_what_the_page_says(page, drawer, tmp_path):
    folder = tmp_path / "here"
    shutil.copytree(drawer[starts_with_a_run(page)], folder)
    desk_of_page, problems = Desk({"__name__": "__main__"}), []
    with chdir(folder):
        for block in blocks(page):
            if block.is_run or "prints" in block.remarks:
                problems += [] if block.missing else desk_of_page.run(block)
    assert not problems, "\n\n".join(problems)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.name)
def test_the_example_runs(example, drawer, tmp_path):
    folder = tmp_path / "here"
    shutil.copytree(drawer[1], folder)
    done = subprocess.run(
        [sys.executable, str(example)], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "an example shows something"


def test_shown_output_may_differ_in_numbers_but_not_in_words():
    assert alike("accuracy 0.812 [0.7, 0.9], n = 72\n", "accuracy  0.770 [0.728, 0.810], n = 400")
    assert alike("· looking: 360 in 4.2 s\ndone: a, b, c", "done: a, … c")
    assert not alike("Yes, transfer helped", "No, transfer did harm")
    assert not alike("accuracy 0.5 and more", "accuracy 0.5")


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        os.environ |= {"HEADSTART_CACHE": os.environ.get("HEADSTART_CACHE", f"{temporary}/cache")}
        place = desk(Path(temporary))
        some_weights(place / "my-weights.pth")
        for name in sys.argv[1:]:
            asked = Path(name).resolve()
            here = place / asked.stem
            shutil.copytree(place, here, ignore=shutil.ignore_patterns(asked.stem, "cache"))
            if starts_with_a_run(asked):
                a_run(here)
            reader = Desk({"__name__": "__main__"})
            with chdir(here):
                for block in blocks(asked):
                    sys.stdout.write(f"\n=== {block.place} {block.remarks}\n")
                    if block.language == "console" and block.is_run:
                        for command, _ in commands(block.text):
                            own = command.startswith("headstart ") and not SHELL.search(command)
                            code, said = headstart(shlex.split(command)[1:]) if own else shell(command)
                            sys.stdout.write(f"$ {command}\n{said}({code})\n")
                    elif block.is_run:
                        sys.stdout.write("\n".join(reader.run(block)) + reader.printed + "\n")
