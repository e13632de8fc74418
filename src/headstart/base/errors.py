"""Every error that headstart raises on purpose.

    HeadstartError
    ├── DataError (ValueError)             the user's data or arguments             exit 2
    ├── PlanError (ValueError)             a plan that cannot be trained            exit 2
    ├── NotInCatalogue (LookupError)       no such backbone                         exit 2
    ├── CheckpointMismatch (RuntimeError)  weights that do not fit the network      exit 2
    ├── Refused (ValueError)               unsafe input: not opened, nothing run    exit 3
    │   └── BundleError                    a model folder that is not what was saved
    ├── EnvironmentFault (OSError)         disk, permission, memory, device         exit 4
    ├── MissingExtra (ImportError)         an optional package is not installed     exit 4
    ├── TrainingFault (RuntimeError)       the fit itself went wrong                exit 5
    └── Stopped                            interrupted, can be taken up again       exit 75

A message says what was wrong, with the value; where it came from; what would be right; what to do next.
It starts with a stable code where RELIABILITY gives one (``DA45 only one class …``).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HeadstartError(Exception):
    """The root; ``exit_code`` is what the command line ends with."""

    exit_code = 1


class DataError(HeadstartError, ValueError):
    exit_code = 2


class PlanError(HeadstartError, ValueError):
    exit_code = 2


class NotInCatalogue(HeadstartError, LookupError):
    exit_code = 2


class CheckpointMismatch(HeadstartError, RuntimeError):
    exit_code = 2


class Refused(HeadstartError, ValueError):
    exit_code = 3


class BundleError(Refused):
    pass


class EnvironmentFault(HeadstartError, OSError):
    exit_code = 4


class MissingExtra(HeadstartError, ImportError):
    exit_code = 4


class TrainingFault(HeadstartError, RuntimeError):
    exit_code = 5


class Stopped(HeadstartError):
    exit_code = 75


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """' Did you mean 'x'?' with a leading space, or nothing when no option is close."""
    near = difflib.get_close_matches(word, list(options), n=1, cutoff=0.6)
    return f" Did you mean '{shown(near[0])}'?" if near else ""


def shown(text: object) -> str:
    """``text`` with control characters, line breaks, direction marks and lone surrogates as escapes.

    Every name that comes from data goes through here before it reaches a terminal, a log or a message.
    """
    return "".join(_shown_char(c) for c in str(text))


def _shown_char(c: str) -> str:
    code = ord(c)
    control = code < 0x20 or 0x7F <= code < 0xA0
    direction = 0x200B <= code <= 0x200F or 0x2028 <= code <= 0x202E or 0x2066 <= code <= 0x2069 or code == 0xFEFF
    surrogate = 0xD800 <= code <= 0xDFFF
    if not (control or direction or surrogate):
        return c
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8 in a file name
        return f"\\x{code - 0xDC00:02x}"
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(c, f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def listed(names: Iterable[object], most: int = 3) -> str:
    """``a, b, c and 14 more`` for messages."""
    all_names = [shown(n) for n in names]
    more = len(all_names) - most
    return ", ".join(all_names[:most]) + (f" and {more} more" if more > 0 else "")
