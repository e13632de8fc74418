"""The words of the command line change on purpose only: they are written down in cli_surface.txt."""

from pathlib import Path

import click
import typer.main

from headstart.cli.main import app

WRITTEN = Path(__file__).with_name("cli_surface.txt")


def surface() -> str:
    group = typer.main.get_command(app)
    lines = []
    for name, command in sorted(group.commands.items()):
        arguments = [p.name for p in command.params if isinstance(p, click.Argument) or p.param_type_name == "argument"]
        lines.append(f"{name} {' '.join(arguments)}".rstrip())
        flags = sorted(o for p in command.params if p.param_type_name == "option" for o in [*p.opts, *p.secondary_opts])
        lines += [f"    {flag}" for flag in flags]
    return "\n".join(lines) + "\n"


def test_the_command_line_is_what_is_written_down():
    assert surface() == WRITTEN.read_text(), "write it anew with: python -m tests.house.test_cli_surface"


if __name__ == "__main__":
    WRITTEN.write_text(surface())
