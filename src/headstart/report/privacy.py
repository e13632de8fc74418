"""The one door that every text passes on its way into the report (RELIABILITY E2, E4).

A report is made to be handed round. So paths lose everything above their last name, tokens and the names of the user
and the host are taken out, control characters become visible escapes, and no text can be longer than a few lines.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstart.base.errors import shown

LONGEST = 2000  # characters; a class name from a table can have any length
HIDDEN = "•••"
SECRET_KEY = re.compile(r"(?:token|secret|passw|api_?key|credential|auth)", re.IGNORECASE)
PERSONAL_KEY = re.compile(r"^(?:host|hostname|node|nodename|user|username|login|home|cwd|email)$", re.IGNORECASE)

_TOKEN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|gh[opsu]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|sk-[\w-]{16,}"
    r"|AKIA[0-9A-Z]{12,}|xox[abprs]-[\w-]{10,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]+)"
)
_URL_LOGIN = re.compile(r"(?<=://)[^\s/@]+@")
# Two names at least: '/2' in a sentence is no path, and a lone '/photos' tells nothing more than its name.
_ROOT = r"(?:file://)?(?:[A-Za-z]:[\\/]|\\\\|/|~[\w.-]*[\\/])"
_QUOTED_PATH = re.compile(rf"(?P<quote>['\"`])(?P<path>{_ROOT}[^'\"`\n]*)(?P=quote)")
_PATH = re.compile(
    rf"(?<![\w.:/\\…<~-])(?P<path>{_ROOT}[^\s'\"`<>|,;:()\[\]{{}}/\\]+(?:[/\\]+[^\s'\"`<>|,;:()\[\]{{}}/\\]*)+)"
)


class Picture(str):
    """A data URI that has been checked (pictures.py); not text, so it is let through."""

    __slots__ = ()


def private(value: Any) -> Any:
    """``value`` (nested dicts, lists, scalars) with every text in it fit to be handed round."""
    if isinstance(value, Picture):
        return value
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(k)): private(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [private(v) for v in value]
    return value


def clean(text: str) -> str:
    """One line without control characters, folders, tokens; at most LONGEST characters."""
    if len(text) > LONGEST:
        text = text[:LONGEST] + "…"
    return shown(_without_paths(_without_secrets(text)))


def settings(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested configuration as flat 'a.b' → text, with secrets masked."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= settings(value, f"{name}.")
        else:
            flat[name] = HIDDEN if SECRET_KEY.search(str(key)) and value else _setting(value)
    return flat


def _setting(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_setting(v) for v in value) or "none"
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def machine(facts: Mapping[str, str]) -> dict[str, str]:
    """Facts of the machine without those that name a person or a computer."""
    return {k: str(v) for k, v in facts.items() if not PERSONAL_KEY.match(str(k)) and not SECRET_KEY.search(str(k))}


def command(line: str) -> str:
    """A command line as it was given, each path outside the working folder cut to its last name."""
    try:
        words = shlex.split(line)
    except ValueError:  # an unclosed quote: treat it as prose
        return clean(line)
    return " ".join(_word(w) for w in words)


def _word(word: str) -> str:
    option, equals, value = word.rpartition("=")
    if not _is_absolute(value):
        return shlex.quote(word)
    return option + equals + "…/" + shlex.quote(base_name(value).removeprefix("…/"))


def base_name(path: str) -> str:
    """'…/photos' for any absolute path (POSIX or Windows), the path itself if it is relative."""
    if not _is_absolute(path):
        return path
    return "…/" + (re.split(r"[\\/]+", path.rstrip("\\/"))[-1] or "")


def _is_absolute(path: str) -> bool:
    return re.match(_ROOT, path) is not None


def _without_secrets(text: str) -> str:
    text = _TOKEN.sub(HIDDEN, text)
    return _URL_LOGIN.sub(f"{HIDDEN}@", text) if "://" in text else text


def _without_paths(text: str) -> str:
    if "/" not in text and "\\" not in text:
        return text
    home = str(Path.home())
    if len(home) > 1:  # catches home folders with a space in them, which no pattern can
        text = re.sub(rf"{re.escape(home)}(?=[\\/]|\b)", "~", text)
    text = _QUOTED_PATH.sub(lambda m: f"{m['quote']}{base_name(m['path'])}{m['quote']}", text)
    return _PATH.sub(lambda m: base_name(m["path"]), text)
