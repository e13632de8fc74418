"""Imports that are needed soon, begun while something else has to be waited for."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence


def import_ahead(*modules: str) -> threading.Thread:
    """The thread that imports ``modules`` in turn. Who needs one imports it as always, and waits where it must.

    What cannot be imported is passed over here, and met again by who needs it. The process does not end before the
    thread has: an exit in the middle of loading a library may crash.
    """
    thread = threading.Thread(target=_import, args=(modules,), name="import ahead")
    thread.start()
    return thread


def _import(modules: Sequence[str]) -> None:
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
