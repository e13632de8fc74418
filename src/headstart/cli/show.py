"""What people see: progress and notes on stderr, the result on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headstart.base.errors import shown
from headstart.base.files import to_json
from headstart.base.progress import Advanced, Event, Finished, Measured, Said, Started

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


class Screen:
    """The observer of the command line: bars for what takes time, one line for what is said.

    quiet: only warnings.  Without a terminal there are no bars, just a line when a long step is done.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = console(stderr=True)
        self._progress: Progress | None = None
        self._bars: dict[str, TaskID] = {}
        self._last = 0.0
        self._numbers: Mapping[str, float] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, Said):
            self._say(event)
        elif self.quiet:
            return
        elif isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Advanced):
            self._advance(event)
        elif isinstance(event, Finished):
            self._finish(event)
        else:
            self._measure(event)

    def _say(self, event: Said) -> None:
        if event.kind == "warning":
            self.console.print("[yellow]![/yellow]", _plain(shown(event.text)))
        elif not self.quiet:
            self.console.print("[dim]·[/dim]", _plain(shown(event.text)))

    def _start(self, event: Started) -> None:
        if not self.console.is_terminal:
            return
        if self._progress is None:
            self._progress = _bars(self.console)
            self._progress.start()
        self._bars[event.what] = self._progress.add_task(event.what, total=event.total, unit=event.unit)

    def _advance(self, event: Advanced) -> None:
        now = time.monotonic()
        if self._progress is None or (now - self._last < 0.05 and event.done != event.total):
            return
        self._last = now
        if event.what in self._bars:
            self._progress.update(self._bars[event.what], completed=event.done)

    def _measure(self, event: Measured) -> None:
        """Loss, the last validation's score and speed, beside the bar of their training."""
        self._numbers = {**self._numbers, **event.values} if event.values else {}
        if self._progress is None or event.what not in self._bars or time.monotonic() - self._last > 0.05:
            return  # the bar itself moved a moment ago, or nobody would see the numbers
        names = {"loss": "loss", "validation_score": "score", "images_per_s": "images/s"}
        words = [f"{word} {self._numbers[name]:.3g}" for name, word in names.items() if name in self._numbers]
        self._progress.update(self._bars[event.what], description=f"{event.what}: {', '.join(words)}")

    def _finish(self, event: Finished) -> None:
        bar = self._bars.pop(event.what, None)
        if self._progress is not None and bar is not None:
            self._progress.remove_task(bar)
            if not self._bars:
                self._progress.stop()
                self._progress = None
        if event.seconds >= 2:
            rate = f", {event.done / event.seconds:.0f} a second" if event.done > 1 else ""
            self.console.print("[dim]·[/dim]", _plain(f"{event.what}: {event.done} in {event.seconds:.1f} s{rate}"))

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _bars(target: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    class Rate(TextColumn):
        def render(self, task: Any) -> Any:
            speed = f"{task.speed:,.0f} {task.fields.get('unit') or 'items'}/s" if task.speed else ""
            return self.get_text(speed)

        def get_text(self, speed: str) -> Any:
            from rich.text import Text

            return Text(speed, style="dim")

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(""),
        TimeRemainingColumn(),
        console=target,
        transient=True,
    )


def console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False, soft_wrap=True, emoji=False)
    if not made.is_terminal:
        made.width = max(made.width, 140)  # a file or a pipe has no edge
    return made


def _plain(text: str) -> Any:
    """Text in which square brackets are no mark-up."""
    from rich.text import Text

    return Text(text)


def emit(value: Any) -> None:
    """The one JSON object on stdout."""
    sys.stdout.write(to_json(value, indent=1) + "\n")


def error_object(error: Exception) -> str:
    code = str(error).partition(" ")[0]
    has_code = len(code) == 4 and code[:2].isalpha() and code[2:].isdigit()
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    return json.dumps(
        {
            "error": {
                "code": code if has_code else type(error).__name__,
                "kind": type(error).__name__,
                "message": message,
            }
        }
    )


def say_error(error: Exception) -> None:
    out = console(stderr=True)
    lines = str(error).splitlines() or [type(error).__name__]
    out.print("[bold red]error:[/bold red]", _plain(lines[0]))
    for line in lines[1:]:
        out.print(_plain("  " + line))


def table(title: str, columns: list[tuple[str, str]], rows: list[list[str]]) -> None:
    """Print a table to stdout. columns: (heading, 'left' | 'right')."""
    from rich import box
    from rich.table import Table

    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for at, (heading, side) in enumerate(columns):
        last = at == len(columns) - 1
        made.add_column(heading, justify="right" if side == "right" else "left", no_wrap=not last, overflow="fold")
    for row in rows:
        made.add_row(*[_plain(shown(cell)) for cell in row])
    console().print(made)


def line(text: str, style: str = "") -> None:
    """Print one line to stdout."""
    from rich.text import Text

    console().print(Text(shown(text), style=style))
