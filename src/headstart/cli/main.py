"""``headstart``: the verbs, and what happens when something goes wrong.

Exit codes: 0 done, 2 the user's input, 3 refused for safety, 4 environment, 5 training fault, 75 stopped and resumable.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import typer

from headstart.base.errors import EnvironmentFault, HeadstartError, Stopped, shown
from headstart.cli import doctor, evaluate, fit, inspect, models, plan, predict, rank, report
from headstart.cli.show import error_object, say_error
from headstart.training.interrupt import ending_on_signals

INTERRUPTED = 130  # what typer makes of Ctrl-C
GO_ON = "stopped. Give the same command again to go on: what was computed is in the cache."

app = typer.Typer(
    name="headstart",
    help="Transfer learning you can trust: a folder of examples in, a model with its evidence out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def about(
    version: bool = typer.Option(False, "--version", help="Print the version and leave.", is_eager=True),
) -> None:
    if version:
        from headstart import __version__

        typer.echo(f"headstart {__version__}")
        raise typer.Exit


for verb in (inspect, rank, plan, fit, evaluate, predict, report, models, doctor):
    verb.add_to(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if "--debug" not in arguments:
        warnings.simplefilter("ignore")  # what libraries whisper to developers; ours to users go through the screen
    sys.exit(run(arguments))


def command() -> NoReturn:
    """``headstart`` as it is typed: ``main`` with a quick start and a quick end of the process."""
    gc.set_threshold(20_000)  # of half a million objects that importing makes none is garbage; looking took 0.4 s
    try:
        main()
    except SystemExit as leave:
        end(leave.code if isinstance(leave.code, int) else 1)
    raise AssertionError("main leaves by SystemExit")


def end(code: int) -> NoReturn:
    """End the process as multiprocessing ends its children.

    Threads are waited for, what was registered for the end is done, output is written. What is left out is to take half
    a million objects of torch and its kin apart, one by one, which takes a second and more.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(code)


def run(arguments: Sequence[str]) -> int:
    """The exit code of one command; errors are shown, tracebacks only with --debug."""
    debug, as_json = "--debug" in arguments, "--json" in arguments
    try:
        with ending_on_signals():
            code = app([a for a in arguments if a != "--debug"], standalone_mode=False)
        if code != INTERRUPTED:
            return code or 0
        problem: HeadstartError = Stopped(GO_ON)
    except HeadstartError as error:
        problem = error
    except MemoryError:
        problem = EnvironmentFault("EN73 the machine has no memory left. Close other programs, or use fewer examples.")
    except typer.Exit as leave:
        return leave.exit_code
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # click's own: a wrong option or argument
            return _usage(error, as_json)
        if debug:
            raise
        name = type(error).__name__
        problem = HeadstartError(
            f"an unexpected fault: {name}: {shown(error)}. This is a bug in headstart; give the command with --debug "
            "to see where, and please report it."
        )
    if debug:
        import traceback

        traceback.print_exc()
    say_error(problem)
    if as_json:
        sys.stdout.write(error_object(problem) + "\n")
    return problem.exit_code


def _usage(error: Exception, as_json: bool) -> int:
    """A wrong option or argument, in click's words; exit 2."""
    show = getattr(error, "show", None)
    if show is not None:
        show(sys.stderr)
    if as_json:
        sys.stdout.write(error_object(error) + "\n")
    return 2
