"""Being asked to stop: by the scheduler, the terminal or the user.

The loop looks at ``asked`` between two steps, saves and ends; nothing is torn in the middle. Outside of it there is
nothing to save that is not in the cache, and work ends at once.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

SIGNALS = (
    "SIGTERM",
    "SIGINT",
    "SIGUSR1",
    "SIGHUP",
)  # Slurm and Kubernetes, Ctrl-C, Slurm's early warning, a lost terminal


class Interruption:
    """While it is open, the first of SIGNALS only sets ``asked``; a second SIGINT raises KeyboardInterrupt at once.

    asked: name of the signal that came first, '' while none has.

    Does nothing outside the main thread, where Python delivers no signals. A signal that is ignored stays ignored, so
    that a run under ``nohup`` outlives its terminal. One inside another tells the outer one too.

    >>> with Interruption() as interruption:
    ...     signal.raise_signal(signal.SIGTERM)
    >>> interruption.asked
    'SIGTERM'
    """

    def __init__(self) -> None:
        self.asked = ""
        self._before: dict[int, signal._HANDLER] = {}
        self._process = 0
        self._interrupted = False

    def __enter__(self) -> Interruption:
        if threading.current_thread() is not threading.main_thread():
            return self
        self._process = os.getpid()
        for name in SIGNALS:
            number = getattr(signal, name, None)  # Windows has neither SIGHUP nor SIGUSR1
            before = signal.getsignal(number) if number is not None else None
            if number is None or before is None or before is signal.SIG_IGN:  # None: a handler that is not Python's
                continue
            self._before[number] = before
            if isinstance(before, Interruption):
                self.asked = self.asked or before.asked
            signal.signal(number, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The handler."""
        if os.getpid() != self._process:  # a forked data worker; it must stay stoppable
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.asked = self.asked or signal.Signals(number).name
        if number == signal.SIGINT and self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = self._interrupted or number == signal.SIGINT
        outer = self._before.get(number)
        if isinstance(outer, Interruption):
            outer(number, frame)


class SignalledInterrupt(KeyboardInterrupt):
    """What Ctrl-C raises, for another of SIGNALS; its text is the name."""


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Inside, each of SIGNALS ends the work as Ctrl-C does: at once, through every ``finally``.

    Does nothing outside the main thread; a signal that is ignored stays ignored. An Interruption inside goes first.
    """
    before: dict[int, signal._HANDLER] = {}
    process = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a forked worker, which must stay stoppable
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        raise SignalledInterrupt(signal.Signals(number).name)

    if threading.current_thread() is threading.main_thread():
        for name in SIGNALS:
            number = getattr(signal, name, None)
            if name != "SIGINT" and number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
