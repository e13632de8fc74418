"""Optional packages, asked for where they are used."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from headstart.base.errors import MissingExtra


def require(module: str, *, extra: str) -> ModuleType:
    """The module, or MissingExtra with the line that installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"This needs the package '{module}', which is not installed ({error}). "
            f'Install it with: pip install "headstart[{extra}]"'
        ) from error


def is_installed(module: str) -> bool:
    """Whether the module could be imported; does not import it."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
