"""Numbers of trainings, written down for other programs as they come; off unless asked for.

A log watches and can change nothing. Of a training that is taken up again it first forgets what it had after that
step, so that no step stands there twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from headstart.base.errors import DataError, did_you_mean, shown
from headstart.base.progress import Event, Measured, Observer, Said
from headstart.training.logs.lines import CsvLog, JsonlLog
from headstart.training.logs.mlflow import MlflowLog
from headstart.training.logs.tensorboard import TensorBoardLog


class Log(Protocol):
    def begin(self, what: str, step: int) -> None:
        """Forget what is there of the training ``what`` after ``step``; its rows follow."""
        ...

    def add(self, row: Measured) -> None: ...

    def close(self) -> None: ...


def open_log(wish: str) -> Log:
    """The log that 'csv:PATH', 'jsonl:PATH', 'tensorboard:FOLDER' or 'mlflow:URI' asks for.

    DataError for other words, MissingExtra where a package is missing.
    """
    kind, _, place = wish.partition(":")
    match kind if place else "":
        case "csv":
            return CsvLog(Path(place))
        case "jsonl":
            return JsonlLog(Path(place))
        case "tensorboard":
            return TensorBoardLog(Path(place))
        case "mlflow":
            return MlflowLog(place)
    raise DataError(
        f"EN86 --log {shown(wish)}: write csv:PATH, jsonl:PATH, tensorboard:FOLDER or mlflow:URI."
        f"{did_you_mean(kind, ['csv', 'jsonl', 'tensorboard', 'mlflow'])}"
    )


class Logged:
    """``observer``, with every Measured also in the logs. One that fails is said once and left alone from then on.

    A Measured without values announces a training; one of a name that was there before gets a number behind it.
    """

    def __init__(self, observer: Observer, wishes: Sequence[str]) -> None:
        self._observer = observer
        self._logs = {wish: open_log(wish) for wish in wishes}
        self._names: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def __call__(self, event: Event) -> None:
        self._observer(event)
        if not isinstance(event, Measured):
            return
        if not event.values:
            count = self._counts[event.what] = self._counts.get(event.what, 0) + 1
            self._names[event.what] = event.what if count == 1 else f"{event.what} ({count})"
        row = replace(event, what=self._names[event.what])
        for wish in list(self._logs):
            self._add(wish, row)

    def close(self) -> None:
        for wish, log in list(self._logs.items()):
            try:
                log.close()
            except Exception as error:  # whatever it is: what was learnt is worth more than its log
                self._give_up(wish, error)

    def _add(self, wish: str, row: Measured) -> None:
        try:
            if row.values:
                self._logs[wish].add(row)
            else:
                self._logs[wish].begin(row.what, row.step)
        except Exception as error:  # a full disk, a server that is gone, a library's own errors
            self._give_up(wish, error)

    def _give_up(self, wish: str, error: Exception) -> None:
        del self._logs[wish]
        why = f"{type(error).__name__}: {shown(error)}"
        self._observer(Said(f"--log {shown(wish)} failed ({why}); the training goes on without it.", "warning"))
