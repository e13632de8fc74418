"""From data to one page: a single file without script, network or anything that came from data as markup."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from headstart.base.files import write_text
from headstart.records.run import RunFolder
from headstart.report import plots, wording
from headstart.report.contents import contents

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


def write_report(run: RunFolder) -> Path:
    """Write ``report.html`` into the run folder, whole or not at all, and return its path."""
    write_text(run.report, render(contents(run)))
    return run.report


def render(page: Mapping[str, Any]) -> str:
    """The HTML of what ``contents`` gave."""
    return environment().get_template("page.html").render(page=page, **page_style())


@cache
def environment() -> Environment:
    """Jinja with autoescape on, undefined names as errors, and the words and plots that templates use."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    for word in (
        wording.count,
        wording.counted,
        wording.number,
        wording.interval,
        wording.value_of,
        wording.estimate_words,
        wording.signed,
        wording.capital,
        wording.sentence,
        wording.p_value,
        wording.percent,
        wording.seconds,
    ):
        env.filters[word.__name__] = word
    env.globals["plots"] = plots
    return env


@cache
def page_style() -> dict[str, Markup | str]:
    """The style sheet and the hash by which the content-security-policy lets it, and nothing else, in."""
    css = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return {"css": Markup(css), "css_hash": f"sha256-{digest}"}  # noqa: S704 - our own file
